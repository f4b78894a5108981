import { connect, type Socket } from 'node:net'
import { received, WiringError } from '../errors.ts'
import type { Interfaces } from '../interfaces/interfaces.ts'
import type { HostNetwork, Wiring, WiringLog } from '../wiring.ts'
import { encode, Lines, parseAnswer, parseGreeting, WIRING_PROTOCOL } from './messages.ts'

/** How it stands with the wiring process, told at every change. */
export type WiringState =
  /** It takes calls. `again`: another process than the one before; what it was told is lost, the kernel's state is not. */
  | { readonly there: true; readonly again: boolean }
  /** It has been away for longer than a restart takes; calls fail at once. */
  | { readonly there: false; readonly error: WiringError }

/**
 * The wiring process as its clients see it: the same faces as in one process. Calls under way when it dies are rejected
 * with `worker-died`; calls while it is away wait for the next one for a while, then fail with `wiring-away`. Both are
 * retryable. A new process is told the last `prepare` before anything else.
 */
export interface RemoteWiring {
  readonly wiring: Wiring
  /** Its `stop` does nothing: the connection ends with {@link wiring}'s. */
  readonly interfaces: Interfaces
}

/** Milliseconds that a call waits for a process that is away: systemd starts it again in less. */
const PATIENCE_MS = 5_000
/** Milliseconds between attempts to connect: doubled, from the first to the most. */
const RECONNECT = { first: 20, most: 1_000 }

/** Begins to connect at once, and connects again whenever the connection ends, until `stop`. */
export function connectWiring(options: {
  /** Path of the socket. */
  readonly socket: string
  readonly version: string
  readonly log: WiringLog
  readonly changed?: (state: WiringState) => void
}): RemoteWiring {
  const line = new Connection(options)
  const call = <T>(verb: string, ...args: readonly unknown[]) => line.call(verb, args) as Promise<T>
  const wiring: Wiring = {
    async prepare(network) {
      await call('prepare', network)
      line.greeting = network
    },
    attach: (sandbox) => call('attach', sandbox),
    place: (placement) => call('place', placement),
    open: (passage) => call('open', passage),
    close: (passage) => call('close', passage),
    lead: (way) => call('lead', way),
    unlead: (way) => call('unlead', way),
    unplace: (placement) => call('unplace', placement),
    detach: (link) => call('detach', link),
    connect: (share) => call('connect', share),
    links: () => call('links'),
    replacePassages: (paths, sources) => call('replacePassages', paths, sources),
    guard: () => call('guard'),
    counters: () => call('counters'),
    async teardown() {
      await call('teardown')
      line.greeting = null
    },
    stop: () => line.stop(),
  }
  const interfaces: Interfaces = {
    plan: (target, spec) => call('interfaces.plan', target, spec),
    wire: (target, spec) => call('interfaces.wire', target, spec),
    check: (key) => call('interfaces.check', key),
    unwire: (key, names) => call('interfaces.unwire', key, ...(names === undefined ? [] : [names])),
    show: (keys) => call('interfaces.show', ...(keys === undefined ? [] : [keys])),
    stop: async () => {},
  }
  line.connect()
  return { wiring, interfaces }
}

interface Pending {
  readonly verb: string
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: WiringError) => void
}

class Connection {
  /** What a new process is told first. */
  greeting: HostNetwork | null = null
  readonly #path: string
  readonly #version: string
  readonly #log: WiringLog
  readonly #changed: (state: WiringState) => void
  readonly #pending = new Map<number, Pending>()
  /** Calls that wait for a process, each with what sends it. */
  #held: { send: () => void; fail: (error: WiringError) => void }[] = []
  #socket: Socket | null = null
  #ready = false
  #lastId = 0
  #pause = RECONNECT.first
  #timer: NodeJS.Timeout | undefined
  #patience: NodeJS.Timeout | undefined
  #everReady = false
  #stopped = false
  #idle: (() => void) | null = null
  /** Why there is no connection. */
  #reason: WiringError

  constructor(options: { socket: string; version: string; log: WiringLog; changed?: (state: WiringState) => void }) {
    this.#path = options.socket
    this.#version = options.version
    this.#log = options.log
    this.#changed = options.changed ?? (() => {})
    this.#reason = away(this.#path, 'it has not answered yet')
    this.#waitForIt()
  }

  call(verb: string, args: readonly unknown[]): Promise<unknown> {
    if (this.#stopped) {
      return Promise.reject(new WiringError('wiring-stopped', `"${verb}" came after the wiring stopped`))
    }
    if (this.#ready) return this.#post(verb, args)
    if (this.#patience === undefined) return Promise.reject(this.#reason)
    return new Promise((resolve, reject) => {
      const send = () => {
        this.#post(verb, args).then(resolve, reject)
      }
      this.#held.push({ send, fail: reject })
    })
  }

  connect(): void {
    const socket = connect(this.#path)
    const lines = new Lines()
    let greeted = false
    this.#socket = socket
    socket.on('connect', () => {
      socket.write(encode({ hello: { protocol: WIRING_PROTOCOL, version: this.#version } }))
    })
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const line of lines.add(chunk)) {
          if (greeted) this.#answered(line)
          else {
            parseGreeting(line)
            greeted = true
            void this.#begin(socket)
          }
        }
      } catch (thrown) {
        socket.destroy(thrown as Error)
      }
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#reason = error instanceof WiringError ? error : away(this.#path, error.code ?? error.message)
    })
    socket.on('close', () => this.#ended())
  }

  /** Waits for the calls under way, then hangs up. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    clearTimeout(this.#patience)
    this.#failHeld(new WiringError('wiring-stopped', 'the wiring stopped'))
    if (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    this.#socket?.destroy()
  }

  /** The process is there: it is told what the one before knew, and then what has waited. */
  async #begin(socket: Socket): Promise<void> {
    const again = this.#everReady
    if (this.greeting !== null) {
      const prepared = await this.#post('prepare', [this.greeting]).then(
        () => null,
        (error: WiringError) => error,
      )
      if (this.#socket !== socket || socket.destroyed) return
      if (prepared !== null) {
        this.#log('error', 'a new wiring process could not "prepare"', { code: prepared.code, error: prepared.message })
      }
    }
    this.#ready = true
    this.#everReady = true
    this.#pause = RECONNECT.first
    clearTimeout(this.#patience)
    this.#patience = undefined
    for (const { send } of this.#held.splice(0)) send()
    this.#changed({ there: true, again })
  }

  #post(verb: string, args: readonly unknown[]): Promise<unknown> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const line = encode({ id, verb, args })
      this.#pending.set(id, { verb, resolve, reject })
      this.#socket?.write(line)
    })
  }

  #answered(line: string): void {
    const message = parseAnswer(line)
    if ('bye' in message) throw received(message.bye)
    const pending = this.#pending.get(message.id)
    this.#pending.delete(message.id)
    if ('error' in message) pending?.reject(received(message.error))
    else pending?.resolve(message.answer)
    if (this.#pending.size === 0) this.#idle?.()
  }

  #ended(): void {
    this.#socket = null
    const lost = [...this.#pending.values()]
    this.#pending.clear()
    for (const { verb, reject } of lost) {
      reject(new WiringError('worker-died', `the wiring process ended during "${verb}"`, { retryable: true }))
    }
    this.#idle?.()
    if (this.#stopped) return
    if (this.#ready) {
      this.#ready = false
      this.#reason = away(this.#path, 'it hung up')
      this.#log('error', 'the connection to the wiring process ended', { calls: lost.length })
      this.#waitForIt()
    }
    this.#timer = setTimeout(() => this.connect(), this.#pause)
    this.#pause = Math.min(this.#pause * 2, RECONNECT.most)
  }

  /** From now on calls wait, for a while. */
  #waitForIt(): void {
    this.#patience = setTimeout(() => {
      this.#patience = undefined
      this.#failHeld(this.#reason)
      this.#log('error', this.#reason.message, { code: this.#reason.code })
      this.#changed({ there: false, error: this.#reason })
    }, PATIENCE_MS)
  }

  #failHeld(error: WiringError): void {
    for (const { fail } of this.#held.splice(0)) fail(error)
  }
}

function away(path: string, why: string): WiringError {
  const remedy =
    why === 'EACCES'
      ? 'only its own user and root may use that socket'
      : 'is it running? See "systemctl status unionize-wiring"'
  return new WiringError('wiring-away', `the wiring process cannot be reached on ${path} (${why}): ${remedy}`, {
    retryable: true,
  })
}
