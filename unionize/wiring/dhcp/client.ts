import { existsSync, type FSWatcher, readFileSync, statSync, watch } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { wording } from '../../../common/errors.ts'
import { WiringError } from '../errors.ts'
import { OWN_FOLDER } from '../kernel/seclusion.ts'
import type { ProcessExits } from '../lasting/exits.ts'
import type { WiringLog } from '../wiring.ts'
import { launchClient } from './launch.ts'
import { awaitInFolder, type Note, readNote } from './notes.ts'
import { identify, namespaceId, type ProcessId, pathOf, runs } from './processes.ts'
import type { ClientRecord } from './records.ts'

/** Milliseconds before a client that ended by itself is started again: doubled each time up to the most. */
const RESTART = { first: 1_000, most: 60_000 }
/** Milliseconds that a client gets to end before it is killed. */
const ENDING_MS = 5_000
/** Milliseconds that servers get, before a release, to confirm what a client holds: once after its start, once more by a renewal. */
const CONFIRMING_MS = { start: 3_000, renewal: 1_000 }

/** How a client is ended: `release` gives the lease back and takes its addresses and routes away; `leave` keeps all. */
export type Ending = 'release' | 'leave'

/** What dhcpcd does on these signals (dhcpcd(8)); with `persistent` SIGTERM leaves addresses and routes. */
const SIGNALS = { release: 'SIGALRM', leave: 'SIGTERM', renew: 'SIGUSR1' } as const

/** One running dhcpcd: found again or started, and started again when it ends by itself. */
export class Client {
  readonly record: ClientRecord
  readonly #folder: string
  readonly #exits: ProcessExits
  readonly #log: WiringLog
  readonly #leaseChanged: () => void
  readonly #ownerEnded: () => void
  #process: ProcessId | null = null
  #unwatch: (() => void)[] = []
  #restart: NodeJS.Timeout | null = null
  #failures = 0
  #launching: Promise<void> = Promise.resolve()
  #over = false

  constructor(
    record: ClientRecord,
    parts: {
      folder: string
      exits: ProcessExits
      log: WiringLog
      /** Called when a server said something new, or a lease ended. */
      leaseChanged: () => void
      /** Called once, when the process or the name that the namespace belonged to is gone. */
      ownerEnded: () => void
    },
  ) {
    this.record = record
    this.#folder = parts.folder
    this.#exits = parts.exits
    this.#log = parts.log
    this.#leaseChanged = parts.leaseChanged
    this.#ownerEnded = parts.ownerEnded
  }

  /** Takes over what runs already, or starts it. @throws WiringError see launchClient */
  async begin(): Promise<void> {
    this.#watchOwner()
    this.#watchLeases()
    const found = this.#find()
    if (found !== null) this.#attend(found)
    else await this.#launch()
  }

  /** Whether it runs, in the namespace that it is for. */
  get running(): boolean {
    const found = this.#process
    return found !== null && runs(found) && namespaceId(`/proc/${found.pid}/ns/net`) === this.record.namespaceId
  }

  /** Ends it and resolves when its process is gone, and with it its hold on the namespace. */
  async end(how: Ending): Promise<void> {
    this.letGo()
    await this.#launching.catch(() => {}) // whoever launched it has the error
    if (how === 'release') await this.#confirm()
    const found = this.#present()
    if (found === null) return
    const { promise: gone, resolve } = Promise.withResolvers<void>()
    this.#exits.watch(found.pid, resolve)
    signal(found, SIGNALS[how])
    const timer = setTimeout(() => {
      this.#tell('warn', `dhcpcd did not end within ${ENDING_MS / 1000} s and is killed`)
      signal(found, 'SIGKILL')
    }, ENDING_MS)
    await gone
    clearTimeout(timer)
  }

  /**
   * Makes sure that a release will reach its server. A client gives back only what it has been confirmed since its start,
   * so one that died is started for it; and it gives back nothing of DHCPv6 while a renewal is under way (9.4.1). DHCPv4's
   * release is one packet that nobody acknowledges: when it has to wait for the server's MAC it is lost, since dhcpcd takes
   * the address away at once. A renewal that has ended leaves neither to chance.
   */
  async #confirm(): Promise<void> {
    const lost = (why: string) => this.#tell('warn', 'a lease may not be given back; it ends by its time', { why })
    // One that is about to die may still look alive; the second time it is no accident.
    for (let attempt = 0; attempt < 2 && this.#held().length > 0; attempt++) {
      try {
        if (this.#present() === null) await this.#launch()
      } catch (error) {
        return lost(wording(error))
      }
      const found = this.#present()
      if (found === null || !(await this.#renewed(found))) {
        if (this.#present() !== null) return lost('no server answers')
      } else if (this.#present() !== null) return
    }
    if (this.#held().length > 0) lost('its client does not live')
  }

  /** Whether servers have confirmed to this process what it holds, and again just now. */
  async #renewed(found: ProcessId): Promise<boolean> {
    const wait = (holds: () => boolean, withinMs: number) =>
      awaitInFolder(this.#folder, () => !runs(found) || holds(), withinMs)
    const confirmed = () => this.#held().every((note) => note?.client === found.pid)
    if (!(await wait(confirmed, CONFIRMING_MS.start))) return false
    const former = new Set(this.#held().map((note) => note?.version))
    signal(found, SIGNALS.renew)
    return wait(() => this.#held().every((note) => !former.has(note?.version)), CONFIRMING_MS.renewal)
  }

  /**
   * What servers have granted and not taken back, to this client or one before it. null: dhcpcd has kept it, but it comes
   * to our hook a moment later.
   */
  #held(): (Note | null)[] {
    const kept = join(this.#folder, 'db', `${this.record.wanted.name}.lease`)
    return (['ipv4', 'ipv6'] as const).flatMap((family) => {
      const note = readNote(this.#folder, family)
      return note !== null || existsSync(family === 'ipv4' ? kept : `${kept}6`) ? [note] : []
    })
  }

  /** Its process, if it runs. */
  #present(): ProcessId | null {
    const found = this.#process ?? this.#find()
    return found !== null && runs(found) ? found : null
  }

  /** Watches no more; the client goes on. */
  letGo(): void {
    this.#over = true
    if (this.#restart !== null) clearTimeout(this.#restart)
    for (const unwatch of this.#unwatch.splice(0)) unwatch()
  }

  /** The dhcpcd whose folder is ours: by its pid file, since its record may not have been written. */
  #find(): ProcessId | null {
    const { name } = this.record.wanted
    try {
      const pid = Number(readFileSync(join(this.#folder, 'run', 'dhcpcd', `${name}.pid`), 'utf8'))
      const found = identify(pid)
      const theirs = statSync(`/proc/${pid}/root${OWN_FOLDER}`)
      const ours = statSync(this.#folder)
      return found !== null && theirs.ino === ours.ino && theirs.dev === ours.dev ? found : null
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ESRCH') return null
      throw error
    }
  }

  #launch(): Promise<void> {
    this.#launching = this.#start()
    return this.#launching
  }

  async #start(): Promise<void> {
    const { namespace, namespaceId: id, owner, label } = this.record
    // Its path may lead to somebody else's by now.
    if (namespaceId(pathOf(namespace)) !== id || (owner !== null && !runs(owner))) {
      throw new WiringError('namespace-gone', `${label} has no longer the network namespace of its DHCP client`)
    }
    const pid = await launchClient(pathOf(namespace), this.#folder, this.record.wanted)
    const found = identify(pid)
    if (found === null) this.#ended()
    else if (this.#over) this.#process = found
    else this.#attend(found)
  }

  #attend(found: ProcessId): void {
    this.#process = found
    this.#unwatch.push(this.#exits.watch(found.pid, () => this.#ended()))
  }

  #ended(): void {
    if (this.#over) return
    this.#process = null
    const delay = Math.min(RESTART.first * 2 ** this.#failures++, RESTART.most)
    this.#tell('warn', 'dhcpcd ended by itself and is started again', { inMs: delay })
    this.#restart = setTimeout(() => {
      this.#launch().catch((error) => {
        this.#tell('error', 'dhcpcd could not be started again', { error: wording(error) })
        this.#ended()
      })
    }, delay)
  }

  #watchOwner(): void {
    const { owner, namespace, namespaceId: id } = this.record
    let told = false
    const gone = (): void => {
      if (told) return
      told = true
      this.#ownerEnded()
    }
    if (owner !== null) {
      this.#unwatch.push(this.#exits.watch(owner.pid, gone))
      if (!runs(owner)) gone()
      return
    }
    const path = pathOf(namespace)
    const look = (): void => {
      if (namespaceId(path) !== id) gone()
    }
    this.#keepWatch(watch(dirname(path), (_, name) => name === basename(path) && look()))
    look()
  }

  #watchLeases(): void {
    this.#keepWatch(watch(this.#folder, (_, name) => (name === 'lease4' || name === 'lease6') && this.#leaseChanged()))
  }

  #keepWatch(watcher: FSWatcher): void {
    watcher.on('error', (error) => this.#tell('error', 'a folder can no longer be watched', { error: wording(error) }))
    this.#unwatch.push(() => watcher.close())
  }

  #tell(level: 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown> = {}): void {
    this.#log(level, message, { target: this.record.label, interface: this.record.wanted.name, ...fields })
  }
}

/** One that has ended by now needs no signal. */
function signal(to: ProcessId, name: NodeJS.Signals): void {
  if (!runs(to)) return
  try {
    process.kill(to.pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
