import type { WiringSpec } from '../../../common/wiring-spec.ts'
import { WiringError } from '../errors.ts'
import { Namespaces } from '../kernel/namespaces.ts'
import { RouteSocket } from '../kernel/route-socket.ts'
import { type OpenVswitch, openVswitch } from '../ovs/open-vswitch.ts'
import { type Change, stepsOf } from './change.ts'
import { type Ground, identityOf, ifAlive, onGround, type Places } from './ground.ts'
import { observeSupports, supportsOf } from './host-view.ts'
import type { Difference, Namespace, Step, Target, Wired } from './interfaces.ts'
import { checkKinds } from './known-kinds.ts'
import { locked } from './lock.ts'
import { safeName } from './names.ts'
import { describe } from './nature.ts'
import { observe, type Scene, seenOf } from './observe.ts'
import { type Plan, plan, planCleanup, planRemoval } from './plan.ts'
import { planRoutes, planRules } from './plan-routing.ts'
import { describeKept } from './show.ts'
import { type Kept, State } from './state.ts'
import { clearLeftovers, planOuterEnds } from './undo.ts'
import { type Wanted, wantedOf } from './wanted.ts'

/** The verbs of `Interfaces`, carried out on the calling thread before they return. */
export interface Engine {
  plan(target: Target, spec: WiringSpec): readonly Step[]
  wire(target: Target, spec: WiringSpec): readonly Step[]
  check(key: string): readonly Difference[]
  unwire(key: string, names?: readonly string[]): readonly Step[]
  show(keys?: readonly string[]): readonly Wired[]
}

export interface EngineOptions {
  /** Where is kept what is needed to find and undo every wiring. Made if it is missing. */
  readonly stateDirectory: string
  /** Told of each step before it is taken. */
  readonly before?: (step: Step) => void
  /** Absent: the one of this host. */
  readonly ovs?: OpenVswitch
}

/** Needs CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE and, to announce addresses, CAP_NET_RAW. */
export function createEngine(options: EngineOptions): Engine {
  const { stateDirectory: directory, before = () => {} } = options
  const state = new State(directory)
  let opened: Places | null = null
  const places = (): Places => {
    opened ??= {
      host: new RouteSocket().configure(),
      namespaces: new Namespaces(),
      ovs: options.ovs ?? openVswitch(),
    }
    return opened
  }
  const run = <P extends Pick<Ground, 'host' | 'ovs'>>(
    place: P,
    changes: readonly (Pick<Change, 'interface' | 'text'> & { readonly act: (place: P) => void })[],
  ): Step[] =>
    changes.flatMap(({ interface: on, text, act }) => {
      const steps = text === null ? [] : [{ interface: on, text }]
      for (const step of steps) before(step)
      act(place)
      return steps
    })
  const isClaimedBeside = (key: string) => (support: string) =>
    state.readAll().some((kept) => kept.key !== key && kept.supports.includes(support))

  /** All that `wire` would do, and what it would remember, given what is known of before. */
  const prepare = (
    ground: Ground,
    target: Target,
    spec: WiringSpec,
    known: Pick<Kept, 'made' | 'supports'>,
    going: ReadonlySet<string> = new Set(),
  ) => {
    const wanted = wantedOf(target.key, spec)
    const scene = withFree(observe(ground, known, wanted), wanted, going)
    const decided = plan(wanted, known, scene, { label: target.label, isClaimed: isClaimedBeside(target.key) })
    const { key, label, namespace } = target
    const identity = identityOf(ground.sandbox)
    const common = { version: 1 as const, key, label, namespace, identity, peers: peersOf(target, spec), spec }
    const made = wanted.flatMap((one) =>
      decided.making.includes(one.name) ? [[one, seenOf(scene, one.name)] as const] : [],
    )
    return {
      wanted,
      made,
      plan: decided,
      during: { ...common, ...decided.during },
      after: { ...common, ...decided.after },
    }
  }

  const unmake = (ground: Ground, wanted: readonly Wanted[], during: Kept, made: Plan, former: Kept | null): void => {
    const names = new Set(made.making)
    const scene = observe(ground, { made: during.made, supports: during.supports }, wanted)
    for (const [name, record] of Object.entries(during.made)) {
      if (names.has(name)) run(ground, planRemoval(name, record, seenOf(scene, name)))
    }
    if (former === null) run(ground, planRules([], scene, '').drops)
    const supports = former?.supports ?? []
    const added = during.supports.filter((name) => !supports.includes(name) && !isClaimedBeside(during.key)(name))
    run(ground, planCleanup(added, new Set(), observeSupports(ground.host, added)))
    if (former === null) state.remove(during.key)
    else state.write({ ...during, spec: former.spec, made: without(during.made, made.making), supports })
  }

  return {
    plan: (target, spec) => {
      const former = state.read(target.key)
      return onGround(places(), { ...target, peers: peersOf(target, spec) }, (ground) => {
        const identity = identityOf(ground.sandbox)
        const orphans = orphansOf(former, identity)
        const ends = planOuterEnds(places(), orphans)
        const going = new Set(ends.flatMap((end) => orphans[end.interface]?.hostName ?? []))
        const { plan } = prepare(ground, target, spec, knownOf(former, identity), going)
        return stepsOf([...ends, ...plan.removals, ...plan.changes, ...plan.cleanup])
      })
    },
    wire: (target, spec) => {
      state.prepare()
      return locked(directory, () => {
        const former = state.read(target.key)
        return onGround(places(), { ...target, peers: peersOf(target, spec) }, (ground) => {
          const identity = identityOf(ground.sandbox)
          const known = knownOf(former, identity)
          const buried = run(ground, planOuterEnds(ground, orphansOf(former, identity)))
          const first = prepare(ground, target, spec, known)
          if (former !== null) checkKinds(places().host, first.made)
          const removed = run(ground, first.plan.removals)
          // What went may have been in the way of what comes, or is needed for it on the host.
          const rest = { ...known, made: without(known.made, first.plan.leaving) }
          const again = removed.length > 0 ? prepare(ground, target, spec, rest) : first
          const { wanted, plan, during, after } = again
          write(state, former, during)
          let changed: Step[]
          try {
            changed = run(ground, plan.changes)
          } catch (thrown) {
            unmake(ground, wanted, during, plan, former)
            throw thrown
          }
          const cleaned = run(ground, plan.cleanup)
          if (isEmpty(after)) state.remove(after.key)
          else write(state, during, after)
          return [...buried, ...removed, ...changed, ...cleaned]
        })
      })
    },
    check: (key) => {
      const kept = mustKnow(state, key)
      const missing = (found: string) =>
        wantedOf(key, kept.spec).map((one) => ({
          interface: one.name,
          field: 'link',
          wanted: describe(one.link),
          found,
        }))
      return ifAlive(places(), kept, (ground) => differencesOf(ground, kept)) ?? missing('no namespace')
    },
    unwire: (key, names) => {
      state.prepare()
      return locked(directory, () => {
        const kept = state.read(key)
        if (kept === null) return []
        const chosen = names === undefined ? null : new Set(names.map(safeName))
        const leaves = (name: string) => chosen === null || chosen.has(name)
        const interfaces = kept.spec.interfaces.filter((one) => !leaves(safeName(one.name)))
        const made = without(kept.made, Object.keys(kept.made).filter(leaves))
        const leaving = without(kept.made, Object.keys(made))
        const supports = [...new Set(Object.values(made).flatMap((one) => supportsOf(one.link)))]
        const remaining = { ...kept, spec: { ...kept.spec, interfaces }, made, supports }
        const unneeded = kept.supports.filter((name) => !supports.includes(name) && !isClaimedBeside(key)(name))
        const steps = removeInterfaces(places(), kept, leaving, remaining, run)
        const cleanup = planCleanup(unneeded, new Set(), observeSupports(places().host, unneeded))
        steps.push(...run(places(), cleanup))
        if (isEmpty(remaining)) state.remove(key)
        else write(state, kept, remaining)
        return steps
      })
    },
    show: (keys) => {
      const kept = keys === undefined ? state.readAll() : keys.flatMap((key) => state.read(key) ?? [])
      return kept.map((one) => describeKept(places(), one))
    },
  }
}

/** Removes `leaving` where the namespace lives, and what is left of it on the host where it does not. */
function removeInterfaces(
  places: Places,
  kept: Kept,
  leaving: Kept['made'],
  remaining: Kept,
  run: (ground: Ground, changes: readonly Change[]) => Step[],
): Step[] {
  const removed = ifAlive(places, kept, (ground) => {
    const wanted = wantedOf(kept.key, remaining.spec)
    const scene = observe(ground, { made: leaving, supports: [] }, wanted)
    const rules = planRules(wanted, scene, Object.keys(leaving)[0] ?? '')
    const removals = Object.entries(leaving).flatMap(([name, made]) => planRemoval(name, made, seenOf(scene, name)))
    // Default routes stand in the order of the interfaces, so those that stay may move up.
    const routes = wanted.flatMap((one) => {
      const index = scene.links.find((link) => link.name === one.name && link.name in remaining.made)?.index
      return index === undefined ? [] : [planRoutes(one, scene, { index, fresh: false, flushed: new Set() })]
    })
    const [drops, adds] = [routes.flatMap((one) => one.drops), routes.flatMap((one) => one.adds)]
    return run(ground, [...rules.drops, ...removals, ...drops, ...adds, ...rules.adds])
  })
  return removed ?? clearLeftovers(places, leaving)
}

/** In what the kernel differs; what cannot be had at all is told in the words of the error. */
function differencesOf(ground: Ground, kept: Kept): Difference[] {
  const differences = (wanted: readonly Wanted[], former: Pick<Kept, 'made' | 'supports'>): Difference[] => {
    const decided = plan(wanted, former, observe(ground, former, wanted), { label: kept.label, isClaimed: () => true })
    return [...decided.removals, ...decided.changes, ...decided.cleanup].flatMap((change) =>
      change.difference === null ? [] : [{ interface: change.interface, ...change.difference }],
    )
  }
  const all = wantedOf(kept.key, kept.spec)
  try {
    return differences(all, kept)
  } catch (thrown) {
    if (!(thrown instanceof WiringError) || all.length === 0) throw thrown
    if (all.length === 1) {
      return all.map((one) => ({
        interface: one.name,
        field: 'link',
        wanted: describe(one.link),
        found: thrown.message,
      }))
    }
    return all.flatMap((one) => {
      const made = kept.made[one.name]
      const alone = {
        ...kept,
        spec: { ...kept.spec, interfaces: [one.spec] },
        made: made === undefined ? {} : { [one.name]: made },
      }
      return differencesOf(ground, alone)
    })
  }
}

/** What was made in this namespace. Of one that is no more only what is on the host again, or was there always. */
function knownOf(former: Kept | null, identity: string): Pick<Kept, 'made' | 'supports'> {
  if (former === null || bootOf(former.identity) !== bootOf(identity)) return { made: {}, supports: [] }
  if (former.identity === identity) return former
  const made = Object.entries(former.made).filter(([, one]) => one.former !== null)
  return { made: Object.fromEntries(made), supports: former.supports }
}

/**
 * What was made in a namespace that another has replaced, such as that of a container that restarted: the kernel may be
 * burying it still, and its outer ends have the names that those of the new one are to have.
 */
function orphansOf(former: Kept | null, identity: string): Kept['made'] {
  if (former === null || former.identity === identity || bootOf(former.identity) !== bootOf(identity)) return {}
  return Object.fromEntries(Object.entries(former.made).filter(([, one]) => one.former === null))
}

/** The scene as it will be when outer ends of these names have gone. */
function withFree(scene: Scene, wanted: readonly Wanted[], going: ReadonlySet<string>): Scene {
  const free = new Set(wanted.flatMap(({ name, hostName }) => (hostName !== null && going.has(hostName) ? [name] : [])))
  if (free.size === 0) return scene
  const seen = [...scene.seen].map(
    ([name, one]) => [name, free.has(name) ? { ...one, outerNameTaken: false } : one] as const,
  )
  return { ...scene, seen: new Map(seen) }
}

function without(made: Kept['made'], names: readonly string[]): Kept['made'] {
  return Object.fromEntries(Object.entries(made).filter(([name]) => !names.includes(name)))
}

function bootOf(identity: string): string {
  return identity.split(':')[0] ?? ''
}

/** Those of the target's peers that the spec leads to. */
function peersOf(target: Target, spec: WiringSpec): Record<string, Namespace> {
  const named = new Set(
    spec.interfaces.flatMap(({ link }) => (link.kind === 'veth' && link.to !== undefined ? [link.to] : [])),
  )
  return Object.fromEntries(Object.entries(target.peers ?? {}).filter(([to]) => named.has(to)))
}

function write(state: State, former: Kept | null, kept: Kept): void {
  if (JSON.stringify(former) !== JSON.stringify(kept)) state.write(kept)
}

/** Nothing is wanted and nothing there. */
function isEmpty({ made, spec }: Kept): boolean {
  return Object.keys(made).length === 0 && spec.interfaces.length === 0
}

function mustKnow(state: State, key: string): Kept {
  const kept = state.read(key)
  if (kept === null) throw new WiringError('not-wired', `${key} is not wired: see "unionize show"`)
  return kept
}
