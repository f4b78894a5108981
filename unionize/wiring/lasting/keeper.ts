import { wording } from '../../../common/errors.ts'
import type { InterfaceSpec, WiringSpec } from '../../../common/wiring-spec.ts'
import { createSequence } from '../../instances/sequence.ts'
import type { DhcpInterface } from '../dhcp/configuration.ts'
import type { Dhcp } from '../dhcp/dhcp.ts'
import { WiringError } from '../errors.ts'
import type { Interfaces, Target, Wired } from '../interfaces/interfaces.ts'
import { safeName } from '../interfaces/names.ts'
import type { LinkWatch, LinkWatcher } from '../kernel/monitor.ts'
import type { WiringLog } from '../wiring.ts'
import type { ProcessExits } from './exits.ts'
import { createRepairDelay } from './repair-delay.ts'

/** What became of a wired target: where it is now, that it does not run at present, or that it will never run again. */
export type Whereabouts = Target | 'stopped' | 'gone'

/**
 * Declared wiring that lasts: the same verbs, and between them whatever takes something of it away is answered by making
 * it anew. A container that restarts is wired again, a bridge that returns gets its ports back, DHCP leases are kept, and
 * what is left of a target that is gone for good is undone. Told by events; nothing is looked at regularly.
 */
export interface Keeper extends Interfaces {
  /** Something happened to this target, or to any of them: look at it soon. */
  look(key?: string): void
}

/** Milliseconds that events gather before anything is looked at: a restart or a bridge made anew is many of them. */
const GATHER_MS = 50
/** How a hostname of DHCP may look (RFC 1035, 2.3.1). */
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

export function startKeeper(options: {
  readonly interfaces: Interfaces
  readonly dhcp: Dhcp
  readonly exits: ProcessExits
  /** Finds a target again. @throws when that cannot be told now */
  readonly whereabouts: (wired: Wired) => Promise<Whereabouts>
  readonly watchLinks: (watcher: LinkWatcher) => LinkWatch
  readonly log: WiringLog
  readonly now?: () => number
}): Keeper {
  const { interfaces, dhcp, exits, log } = options
  const sequence = createSequence()
  const now = options.now ?? Date.now
  const failures = createRepairDelay(now)
  const repairs = createRepairDelay(now)
  /** When a wiring that did not hold may be mended again. */
  const notBefore = new Map<string, number>()
  /** Keys by the names of the host's links that they stand on. */
  const standing = new Map<string, Set<string>>()
  const unwatch = new Map<string, { readonly pid: number; end(): void }>()
  const retries = new Map<string, NodeJS.Timeout>()
  const dirty = new Set<string>()
  let all = true
  let gathering: NodeJS.Timeout | null = null
  let rounds: Promise<void> = Promise.resolve()
  let stopped = false

  const look = (key?: string): void => {
    if (stopped) return
    if (key === undefined) all = true
    else dirty.add(key)
    gathering ??= setTimeout(() => {
      gathering = null
      rounds = rounds.then(round)
    }, GATHER_MS)
  }
  const links = options.watchLinks({
    onChange: (changes) => {
      for (const { link } of changes) for (const key of standing.get(link.name) ?? []) look(key)
    },
    onLost: () => look(),
  })

  const round = async (): Promise<void> => {
    const keys = all ? null : new Set(dirty)
    all = false
    dirty.clear()
    try {
      const wired = await interfaces.show(keys === null ? undefined : [...keys])
      await Promise.all(wired.map((one) => sequence.run(one.key, undefined, () => mend(one))))
    } catch (error) {
      log('error', 'the wirings could not be looked at', { error: wording(error) })
      lookLater('', failures.next(''))
    }
  }

  /** One target becomes what it is to be, or it is tried again later. */
  const mend = async (wired: Wired): Promise<void> => {
    const { key, label } = wired
    if (stopped) return
    clearTimeout(retries.get(key))
    retries.delete(key)
    try {
      const found = await options.whereabouts(wired)
      if (found === 'stopped') return unwatchProcess(key)
      if (found === 'gone') {
        await unwire(key)
        log('info', 'a target is gone for good; what was left of its wiring is undone', { target: label })
        return
      }
      const again = !wired.alive
      if (again) await repair(found, wired.spec)
      else if ((await interfaces.check(key)).length > 0) {
        const inMs = (notBefore.get(key) ?? 0) - now()
        if (inMs > 0) return lookLater(key, inMs)
        await repair(found, wired.spec)
        // Whoever undoes it again and again is met less and less often.
        notBefore.set(key, now() + repairs.next(key))
      }
      attend(found, again ? ((await interfaces.show([key]))[0] ?? wired) : wired)
      await keepLeases(found, wired.spec)
      failures.forget(key)
    } catch (error) {
      const inMs = failures.next(key)
      const fields = { target: label, error: wording(error), againInMs: inMs }
      log('warn', 'a wiring could not be mended; it is tried again', fields)
      lookLater(key, inMs)
    }
  }
  const lookLater = (key: string, inMs: number): void => {
    clearTimeout(retries.get(key))
    retries.set(
      key,
      setTimeout(() => look(key === '' ? undefined : key), inMs),
    )
  }

  const repair = async (target: Target, spec: WiringSpec): Promise<void> => {
    // Its former namespace, if a DHCP client alone kept it, has to go first: links are named after the target.
    await dhcp.leaveFormer(target)
    const done = await interfaces.wire(target, spec)
    const [left] = await interfaces.check(target.key)
    if (left !== undefined) {
      const { field, wanted, found } = left
      throw new WiringError(
        'repair-undone',
        `${left.interface}: ${field} is ${found} again right after it was made ${wanted}; something else changes it`,
        { retryable: true },
      )
    }
    const steps = done.map((step) => `${step.interface}: ${step.text}`)
    log('info', 'a wiring was mended', { target: target.label, steps })
  }

  const keepLeases = async (target: Target, spec: WiringSpec): Promise<void> => {
    const wanted = spec.interfaces.filter((one) => familiesOf(one).length > 0)
    if (wanted.length === 0 && dhcp.leases(target.key).size === 0) return
    const [found] = await interfaces.show([target.key])
    const macs = new Map(found?.interfaces.map((one) => [one.name, one.mac]))
    const clients = wanted.flatMap((one): DhcpInterface[] => {
      const mac = macs.get(safeName(one.name))
      return mac === undefined ? [] : [dhcpOf(one, mac, target.label)]
    })
    await dhcp.keep(target, clients)
  }

  const attend = (target: Target, wired: Wired): void => {
    forget(target.key)
    for (const name of hostLinksOf(wired)) {
      standing.set(name, (standing.get(name) ?? new Set()).add(target.key))
    }
    if ('pid' in target.namespace) {
      const { pid } = target.namespace
      unwatch.set(target.key, { pid, end: exits.watch(pid, () => look(target.key)) })
    }
  }
  const forget = (key: string): void => {
    for (const [name, keys] of standing) if (keys.delete(key) && keys.size === 0) standing.delete(name)
    unwatchProcess(key)
  }
  const unwatchProcess = (key: string): void => {
    unwatch.get(key)?.end()
    unwatch.delete(key)
  }
  const unwire = async (key: string, names?: readonly string[]) => {
    await dhcp.release(key, names?.map(safeName))
    const done = await interfaces.unwire(key, names)
    if ((await interfaces.show([key])).length === 0) forget(key)
    return done
  }

  look()
  return {
    plan: (target, spec) => interfaces.plan(target, spec),
    wire: (target, spec) =>
      sequence.run(target.key, undefined, async () => {
        await dhcp.leaveFormer(target)
        const done = await interfaces.wire(target, spec)
        const [wired] = await interfaces.show([target.key])
        if (wired !== undefined) attend(target, wired)
        await keepLeases(target, spec)
        return done
      }),
    check: (key) => interfaces.check(key),
    unwire: (key, names) => sequence.run(key, undefined, () => unwire(key, names)),
    show: (keys) => interfaces.show(keys),
    look,
    async stop() {
      stopped = true
      if (gathering !== null) clearTimeout(gathering)
      await links.stop()
      await rounds
      await sequence.settled()
      for (const timer of retries.values()) clearTimeout(timer)
      for (const key of [...unwatch.keys()]) forget(key)
      await dhcp.stop()
      await interfaces.stop()
    },
  }
}

function familiesOf({ addressing }: InterfaceSpec): DhcpInterface['families'] {
  if (addressing === 'dhcp') return ['ipv4', 'ipv6']
  return addressing === 'dhcp4' ? ['ipv4'] : addressing === 'dhcp6' ? ['ipv6'] : []
}

function dhcpOf(spec: InterfaceSpec, mac: string, label: string): DhcpInterface {
  const hostname = label.toLowerCase()
  return {
    name: safeName(spec.name),
    mac,
    families: familiesOf(spec),
    hostname: LABEL.test(hostname) ? hostname : null,
    gateway: !spec.gateways.some((gateway) => gateway.includes('.')),
  }
}

/** Links of the host whose coming and going matters to a target: outer ends, bridges, parents that are named. */
function hostLinksOf({ spec, interfaces }: Wired): string[] {
  const outer = interfaces.flatMap(({ hostName }) => (hostName === null ? [] : [hostName]))
  const below = spec.interfaces.flatMap(({ link }) => {
    if (link.kind === 'bridge' || link.kind === 'ovs') return [safeName(link.bridge)]
    return 'parent' in link && link.parent !== undefined && !link.parent.includes(':') ? [link.parent] : []
  })
  return [...new Set([...outer, ...below])]
}
