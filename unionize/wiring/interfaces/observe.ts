import { WiringError } from '../errors.ts'
import { type Address, addressOf, getAllAddresses } from '../kernel/addresses.ts'
import { type Link, linkOf } from '../kernel/link.ts'
import { getLinks } from '../kernel/links.ts'
import { getRoutes, type Route, routeOf } from '../kernel/routes.ts'
import { getRules, type Rule, ruleOf } from '../kernel/rules.ts'
import { type Ground, identityOf } from './ground.ts'
import { FAMILIES, ghostsOf, HostView, type Support, supportsIn, supportsOf } from './host-view.ts'
import { look, type Seen } from './look.ts'
import type { Kept } from './state.ts'
import type { Wanted } from './wanted.ts'

/** What the kernel has, as far as it matters for one wiring. */
export interface Scene {
  readonly identity: string
  readonly links: readonly Link[]
  readonly addresses: readonly Address[]
  readonly routes: readonly Route[]
  readonly rules: readonly Rule[]
  readonly seen: ReadonlyMap<string, Seen>
  /** By name, without those that are wanted: what may have to go when nothing stands on it any more. */
  readonly supports: ReadonlyMap<string, Support>
}

/** Looks at everything that a comparison with `wanted` and with what was made before needs. @throws WiringError */
export function observe(ground: Ground, former: Pick<Kept, 'made' | 'supports'>, wanted: readonly Wanted[]): Scene {
  const { made } = former
  const { route } = ground.sandbox
  const links = route.dump({ purpose: 'list its interfaces', bytes: getLinks() }).map(linkOf)
  const read = {
    links,
    addresses: route.dump({ purpose: 'read its addresses', bytes: getAllAddresses() }).map(addressOf),
    routes: FAMILIES.flatMap((family) =>
      route.dump({ purpose: `read its ${family} routes`, bytes: getRoutes(family) }).map(routeOf),
    ),
    rules: FAMILIES.flatMap((family) =>
      route.dump({ purpose: `read its ${family} rules`, bytes: getRules(family) }).map(ruleOf),
    ),
  }
  const host = new HostView(ground.host, ghostsOf(made, links, wanted))
  const seen = new Map<string, Seen>()
  for (const name of new Set([...wanted.map((one) => one.name), ...Object.keys(made)])) {
    const wish = wanted.find((one) => one.name === name) ?? null
    seen.set(name, look({ ground, host, links, name, wish, made: made[name] ?? null }))
  }
  const needed = new Set(wanted.flatMap((one) => supportsOf(one.link)))
  const supports = supportsIn(
    host,
    former.supports.filter((name) => !needed.has(name)),
  )
  return { identity: identityOf(ground.sandbox), ...read, seen, supports }
}

/** What was seen of an interface that was asked for. */
export function seenOf(scene: Scene, name: string): Seen {
  const seen = scene.seen.get(name)
  if (seen === undefined) throw new WiringError('wiring-fault', `${name} was not looked at`)
  return seen
}
