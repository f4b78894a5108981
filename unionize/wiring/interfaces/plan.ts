import { WiringError } from '../errors.ts'
import type { Family } from '../kernel/ip.ts'
import { familyOf, prefixOf, prefixText } from '../kernel/ip.ts'
import { bringDown, bringUp } from './act.ts'
import { settle, tell } from './act-inside.ts'
import { removeInner, removeSupport, takeOut } from './act-making.ts'
import type { HostAction } from './action.ts'
import { outerEnd } from './action.ts'
import { type Change, consequent, differing, type HostChange, silent } from './change.ts'
import { OUR_GROUP, OVS_PREFIX, type Support, supportsOf } from './host-view.ts'
import type { Seen } from './look.ts'
import { mtuOf } from './mtu.ts'
import { describe, isOfKind, newNature } from './nature.ts'
import { type Scene, seenOf } from './observe.ts'
import { planAddresses, planSettings } from './plan-addresses.ts'
import { planLink } from './plan-link.ts'
import { planMaking } from './plan-making.ts'
import { planQueues } from './plan-queues.ts'
import { planRoutes, planRules } from './plan-routing.ts'
import { checkGround } from './prerequisites.ts'
import type { Kept, Made } from './state.ts'
import { restoreDevice } from './undo.ts'
import { type AddressWish, IPV6_MIN_MTU, type Wanted } from './wanted.ts'

/** What is to be done in the kernel, and what is to be remembered while and after it is done. */
export interface Plan {
  /** Come first, under what was remembered before. */
  readonly removals: readonly Change[]
  readonly changes: readonly Change[]
  /** Last: bridges and VLAN sub-interfaces that nothing stands on any more. */
  readonly cleanup: readonly Change[]
  /** Remembered before `changes`: everything that may exist from then on. */
  readonly during: Pick<Kept, 'made' | 'supports'>
  /** Remembered when all is done. */
  readonly after: Pick<Kept, 'made' | 'supports'>
  /** Names of interfaces that `removals` take away. */
  readonly leaving: readonly string[]
  /** Names of interfaces that `changes` make. */
  readonly making: readonly string[]
}

/**
 * Compares what is wanted with what the kernel has and what was made before. Changes nothing.
 * @param on.isClaimed whether another wiring needs a bridge or VLAN sub-interface
 * @throws WiringError what cannot be had: `interface-in-use`, `device-missing`, `bridge-missing`, `path-mtu`, …
 */
export function plan(
  wanted: readonly Wanted[],
  former: Pick<Kept, 'made' | 'supports'>,
  scene: Scene,
  on: { readonly label: string; readonly isClaimed: (support: string) => boolean },
): Plan {
  const { label, isClaimed } = on
  const removals: Change[] = []
  const drops: Change[] = []
  const changes: Change[] = []
  const making: string[] = []
  const leaving: string[] = []
  const during: Record<string, Made> = {}
  const after: Record<string, Made> = {}
  const names = new Set(wanted.map((one) => one.name))
  const subject = wanted[0]?.name ?? Object.keys(former.made)[0] ?? ''
  const rules = planRules(wanted, scene, subject)
  for (const [name, made] of Object.entries(former.made)) {
    if (names.has(name)) continue
    removals.push(...planRemoval(name, made, seenOf(scene, name)))
    leaving.push(name)
  }
  for (const one of wanted) {
    const seen = seenOf(scene, one.name)
    const made = former.made[one.name] ?? null
    checkOwner(one, made, seen, label)
    checkGround(one, seen)
    const nature = made === null || seen.inner === null ? null : newNature(one, made, seen)
    const homecoming = made !== null && nature === null && seen.inner === null && isAnother(one, made)
    if (made !== null && (nature !== null || homecoming)) {
      removals.push(...planRemoval(one.name, made, seen))
      leaving.push(one.name)
    }
    const fresh = seen.inner === null || nature !== null
    const kept = nature === null && !homecoming ? made : null
    const record = recordOf(one, { kept, settings: made?.sysctls ?? {} }, seen)
    during[one.name] = record.during
    after[one.name] = record.after
    if (fresh) making.push(one.name)
    changes.push(
      ...(fresh ? planMaking(one, seen, label, nature?.found ?? 'nothing') : planLink(one, record.during, seen)),
    )
    const inside = planInside(one, kept, seen, scene, fresh)
    drops.push(...inside.drops)
    changes.push(...inside.changes)
  }
  const supports = [...new Set(wanted.flatMap((one) => supportsOf(one.link)))]
  const still = [...new Set([...former.supports, ...supports])]
  return {
    removals: [...rules.drops, ...removals],
    changes: [...drops, ...onceEach(changes), ...rules.adds],
    cleanup: planCleanup(
      still.filter((name) => !supports.includes(name) && !isClaimed(name)),
      new Set(Object.values(former.made).flatMap((made) => made.hostName ?? [])),
      scene.supports,
    ),
    during: { made: during, supports: still },
    after: { made: after, supports },
    leaving,
    making,
  }
}

/** What is done to the host for several interfaces is done for the first of them. */
function onceEach(changes: readonly Change[]): Change[] {
  const done = new Set<string>()
  return changes.filter(({ interface: on, text }) => {
    const key = `${on} ${text}`
    if (text !== null && done.has(key)) return false
    done.add(key)
    return true
  })
}

/** Takes one interface away: a device of the host returns to it. */
export function planRemoval(name: string, made: Made, seen: Seen): Change[] {
  const { inner } = seen
  const { former } = made
  const difference = { field: 'link', wanted: 'nothing', found: describe(made.link) }
  const ours = inner !== null && isOfKind(made, inner)
  if (former !== null) {
    if (!ours && seen.returned === null) return []
    const text = `return it to the host as ${former.name}`
    const steps = ours ? [differing(name, difference, text, takeOut(name, former.name))] : []
    return [...steps, consequent(name, `make ${former.name} what it was`, ({ host }) => restoreDevice(host, former))]
  }
  const port = made.link.kind === 'ovs' ? made.hostName : null
  const unport =
    port === null ? [] : [consequent(name, `take the port ${port} away`, ({ ovs }) => void ovs.removePort(port))]
  return ours ? [...unport, differing(name, difference, 'remove it', removeInner(name))] : []
}

/** Everything in the namespace: settings, state, addresses, routes, queues. */
function planInside(
  wanted: Wanted,
  made: Made | null,
  seen: Seen,
  scene: Scene,
  fresh: boolean,
): { drops: Change[]; changes: Change[] } {
  const { name, spec, link } = wanted
  const inner = fresh ? null : seen.inner
  const mtu = mtuOf(wanted, seen, made)
  // With fewer octets than IPv6 needs the kernel had taken it away, with addresses and settings.
  const reborn = inner !== null && mtu !== null && inner.mtu < IPV6_MIN_MTU && mtu >= IPV6_MIN_MTU
  const goesDown = inner?.up === true && !spec.up
  const goesUp = spec.up && inner?.up !== true
  const found = inner === null ? [] : scene.addresses.filter((address) => address.interfaceIndex === inner.index)
  const kept = found.filter((address) => address.family === 'ipv4' || !(reborn || goesDown))
  const on = { name, field: 'addresses', end: { inner: name }, fresh }
  const addresses = planAddresses(on, wanted.addresses, kept, wanted.lent)
  const power = goesUp
    ? [
        fresh
          ? consequent(name, 'set it up', bringUp({ inner: name }))
          : differing(name, { field: 'up', wanted: 'up', found: 'down' }, 'set it up', bringUp({ inner: name })),
      ]
    : goesDown
      ? [differing(name, { field: 'up', wanted: 'down', found: 'up' }, 'set it down', bringDown({ inner: name }))]
      : []
  const flushed = new Set<Family>([...addresses.flushed])
  const far = planFar(wanted, seen, fresh)
  const outer = outerEnd(wanted)
  const remade = fresh && seen.inner !== null
  const routes = planRoutes(wanted, scene, { index: inner?.index ?? 0, fresh: inner === null, flushed })
  const changes = [
    ...planSettings(wanted, made, seen.settings, { fresh, known: !reborn && !remade }),
    ...power,
    ...addresses.changes,
    ...far,
    ...routes.adds,
    ...planQueues(name, spec.shaping, {
      inner: fresh ? EMPTY : seen.queues,
      outer: outer === null ? null : fresh ? EMPTY : seen.outerQueues,
      outerEnd: outer,
      fresh,
    }),
  ]
  const virtual = link.kind !== 'physical'
  if (spec.up && (goesUp || addresses.given.length > 0) && virtual) {
    changes.push(silent(name, settle(name, outer, addresses.given)))
  }
  const moved = changes.length > 0 && inner !== null && wanted.mac !== null && inner.mac !== wanted.mac
  if (spec.up && spec.announce && wanted.addresses.length > 0 && (goesUp || moved || addresses.given.length > 0)) {
    changes.push(consequent(name, 'announce its addresses', tell(name, wanted.addresses)))
  }
  return { drops: routes.drops, changes }
}

const EMPTY = { qdiscs: [], police: null }

/** Addresses of a veth pair's other end, which is a wired interface too. */
function planFar(wanted: Wanted, seen: Seen, fresh: boolean): Change[] {
  const { name, link } = wanted
  const outer = outerEnd(wanted)
  if (link.kind !== 'veth' || outer === null) return []
  const wishes = link.peer.addresses.map((text): AddressWish => {
    const { address, prefixLength } = prefixOf(text)
    return { address, prefixLength, family: familyOf(address), text: prefixText(address, prefixLength) }
  })
  const on = { name, field: 'link.peer.addresses', end: outer, fresh }
  return [...planAddresses(on, wishes, fresh ? [] : seen.outerAddresses, new Set()).changes]
}

/**
 * Takes away what on the host nothing stands on any more.
 * @param leaving names of ports that are on their way out, or to another bridge
 */
export function planCleanup(
  names: readonly string[],
  leaving: ReadonlySet<string>,
  supports: ReadonlyMap<string, Support>,
): HostChange[] {
  return names.flatMap((name) => {
    if (name.startsWith(OVS_PREFIX)) {
      const bridge = name.slice(OVS_PREFIX.length)
      const text = 'remove the bridge, if we made it and no port is left'
      const act: HostAction = ({ ovs }) => void ovs.removeBridge(bridge)
      return [{ ...consequent(bridge, text, act), act }]
    }
    const support = supports.get(name)
    if (support === undefined || support.link.group !== OUR_GROUP) return []
    if (support.dependents.some((port) => !leaving.has(port))) return []
    const difference = { field: 'link', wanted: 'nothing', found: name }
    const act = removeSupport(name)
    return [{ ...differing(name, difference, 'remove it, as nothing stands on it any more', act), act }]
  })
}

/** @throws WiringError `interface-in-use` */
function checkOwner(wanted: Wanted, made: Made | null, seen: Seen, label: string): void {
  if (seen.inner === null || (made !== null && isOfKind(made, seen.inner))) return
  throw new WiringError(
    'interface-in-use',
    `${label} already has an interface ${wanted.name} that is not ours: choose another name, or remove it`,
  )
}

/** Whether what was made and is gone was a device of the host other than the one wanted now. */
function isAnother(wanted: Wanted, made: Made): boolean {
  if (made.link.kind !== 'physical') return false
  return wanted.link.kind !== 'physical' || wanted.link.device !== made.link.device
}

/** What is remembered of one interface: settings as they were before the first change of ours. */
function recordOf(
  wanted: Wanted,
  before: { kept: Made | null; settings: Made['sysctls'] },
  seen: Seen,
): { during: Made; after: Made } {
  const { link, hostName } = wanted
  const former = link.kind === 'physical' ? (before.kept?.former ?? seen.former) : null
  const found = wanted.settings.flatMap(({ path }) => {
    const value = before.settings[path] ?? seen.settings.get(path) ?? null
    return value === null ? [] : [[path, value] as const]
  })
  const sysctls = Object.fromEntries(found)
  return {
    during: { link, hostName, sysctls: { ...before.kept?.sysctls, ...sysctls }, former },
    after: { link, hostName, sysctls, former },
  }
}
