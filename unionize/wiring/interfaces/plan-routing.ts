import { type Family, networkOf, prefixOf, prefixText } from '../kernel/ip.ts'
import { OUR_PROTOCOL, type Route } from '../kernel/routes.ts'
import type { Rule, RuleWish } from '../kernel/rules.ts'
import { addPath, dropPath, dropRule, putRule } from './act-inside.ts'
import { type Change, consequent, differing } from './change.ts'
import type { Scene } from './observe.ts'
import { type GatewayWish, MAIN_TABLE, type PathWish, type Wanted } from './wanted.ts'

const RTN_UNICAST = 1
const RTPROT_RA = 9
/**
 * Where the rules stand that keep two default routes apart, before main (32,766):
 *
 * 1. what main knows better than by a default route;
 * 2. what comes from an address of ours goes through the gateway beside it;
 * 3. what comes from the network of somebody else's interface goes as main says, so answers of published ports leave
 *    where the questions came in;
 * 4. everything else, so all that is begun inside, goes through the new gateway.
 */
const PRIORITY = { known: 20_000, own: 20_001, others: 20_002, rest: 20_003 } as const

/**
 * The routes of one interface. Its gateway is the default route in the main table, unless somebody else's interface has
 * one there already: then it is in a table of its own, and {@link planRules} leads there. All drops of a namespace come
 * before all adds, since a default route may take the place of another.
 */
export function planRoutes(
  wanted: Wanted,
  scene: Scene,
  state: { index: number; fresh: boolean; flushed: ReadonlySet<Family> },
): { drops: Change[]; adds: Change[] } {
  const { name } = wanted
  const wishes = [
    ...wanted.routes,
    ...wanted.gateways.map((gateway) => pathOf(gateway, isBeside(gateway, wanted, scene))),
  ]
  const there = state.fresh
    ? []
    : scene.routes.filter((route) => route.index === state.index && route.type === RTN_UNICAST)
  const found = there.filter((route) => route.protocol === OUR_PROTOCOL && !route.cloned)
  const lent = wanted.lent.has('ipv6') ? [] : there.filter((route) => route.protocol === RTPROT_RA)
  const keys = new Set(wishes.map(keyOfPath))
  const stay = found.filter((route) => keys.has(keyOfRoute(route)) && !state.flushed.has(route.family))
  const staying = new Set(stay.map(keyOfRoute))
  const drops = [...found, ...lent]
    .filter((route) => !stay.includes(route))
    .map((route) => {
      const path = pathOfRoute(route)
      const act = dropPath(name, path, route.protocol)
      if (keys.has(keyOfRoute(route))) return consequent(name, `remove the route ${path.text}`, act)
      return differing(
        name,
        { field: 'routes', wanted: 'nothing', found: path.text },
        `remove the route ${path.text}`,
        act,
      )
    })
  const adds = wishes
    .filter(
      (wish, i) =>
        !staying.has(keyOfPath(wish)) && wishes.findIndex((other) => keyOfPath(other) === keyOfPath(wish)) === i,
    )
    .map((wish) => {
      const text = `route ${wish.text}`
      const act = addPath(name, wish)
      const field = wanted.routes.includes(wish) ? 'routes' : 'gateways'
      return state.fresh
        ? consequent(name, text, act)
        : differing(name, { field, wanted: wish.text, found: 'nothing' }, text, act)
    })
  return { drops, adds }
}

/** The rules of all interfaces. Those that bear our number and are not wanted go. */
export function planRules(all: readonly Wanted[], scene: Scene, subject: string): { drops: Change[]; adds: Change[] } {
  const wishes = unique([
    ...all.flatMap((wanted) => wanted.rules),
    ...all.flatMap((wanted) => besideRules(wanted, scene, all)),
  ])
  const found = scene.rules.filter((rule) => rule.protocol === OUR_PROTOCOL)
  const keys = new Set(wishes.map(keyOfWish))
  const there = new Set(found.map(keyOfRule))
  const owner = (wish: RuleWish) =>
    all.find((one) => one.rules.includes(wish))?.name ?? all.find((one) => one.gateways.length > 0)?.name ?? subject
  return {
    drops: found
      .filter((rule) => !keys.has(keyOfRule(rule)))
      .map((rule) => {
        const text = textOfRule(rule)
        const act = dropRule(wishOfRule(rule), text)
        return differing(subject, { field: 'rules', wanted: 'nothing', found: text }, `remove the rule ${text}`, act)
      }),
    adds: wishes
      .filter((wish) => !there.has(keyOfWish(wish)))
      .map((wish) => {
        const text = textOfWish(wish)
        return differing(
          owner(wish),
          { field: 'rules', wanted: text, found: 'nothing' },
          `add the rule ${text}`,
          putRule(wish, text),
        )
      }),
  }
}

/** Whether main has a default route of this family through an interface that is not this one, and that we did not make. */
function isBeside(gateway: GatewayWish, wanted: Wanted, scene: Scene): boolean {
  const own = scene.links.find((link) => link.name === wanted.name)?.index
  return scene.routes.some(
    (route) =>
      route.family === gateway.family &&
      route.table === MAIN_TABLE &&
      route.type === RTN_UNICAST &&
      route.protocol !== OUR_PROTOCOL &&
      route.to.endsWith('/0') &&
      route.index !== own,
  )
}

function pathOf(gateway: GatewayWish, beside: boolean): PathWish {
  const { family, address, onlink, metric, table, text } = gateway
  const place = beside ? { table } : { table: MAIN_TABLE }
  return {
    ...{ family, to: null, via: address, metric, ...place, ...(onlink ? { onlink } : {}) },
    text: `default via ${text}${beside ? ` (table ${table})` : ''}`,
  }
}

function besideRules(wanted: Wanted, scene: Scene, all: readonly Wanted[]): RuleWish[] {
  const names = new Set(all.map((one) => one.name))
  return wanted.gateways
    .filter((gateway) => isBeside(gateway, wanted, scene))
    .flatMap(({ family, table, metric }) => {
      const others = scene.addresses.filter((address) => {
        const link = scene.links.find((candidate) => candidate.index === address.interfaceIndex)
        return address.family === family && address.scope === 0 && link !== undefined && !names.has(link.name)
      })
      const networks = others.map(({ address, prefixLength }) => {
        const prefix = prefixOf(`${address}/${prefixLength}`)
        return { address: networkOf(prefix.address, prefixLength), prefixLength }
      })
      const own = wanted.addresses.filter((address) => address.family === family)
      return [
        { family, suppressPrefixLength: 0, table: MAIN_TABLE, priority: PRIORITY.known },
        ...own.map(({ address }) => {
          const from = { address, prefixLength: address.length * 8 }
          return { family, from, table, priority: PRIORITY.own }
        }),
        ...networks.map((from) => ({ family, from, table: MAIN_TABLE, priority: PRIORITY.others })),
        { family, table, priority: PRIORITY.rest + metric },
      ]
    })
}

function unique(wishes: readonly RuleWish[]): RuleWish[] {
  return [...new Map(wishes.map((wish) => [keyOfWish(wish), wish])).values()]
}

function textOfWish(rule: RuleWish): string {
  return [
    `${rule.priority}: from ${rule.from === undefined ? 'all' : prefixText(rule.from.address, rule.from.prefixLength)}`,
    ...(rule.to === undefined ? [] : [`to ${prefixText(rule.to.address, rule.to.prefixLength)}`]),
    ...(rule.mark === undefined ? [] : [`fwmark ${rule.mark}`]),
    ...(rule.incoming === undefined ? [] : [`iif ${rule.incoming}`]),
    ...(rule.outgoing === undefined ? [] : [`oif ${rule.outgoing}`]),
    `lookup ${rule.table === MAIN_TABLE ? 'main' : rule.table}`,
    ...(rule.suppressPrefixLength === undefined ? [] : [`suppress_prefixlength ${rule.suppressPrefixLength}`]),
  ].join(' ')
}

function wishOfRule(rule: Rule): RuleWish {
  const { family, from, to, incoming, outgoing, mark, suppressPrefixLength, table, priority, protocol } = rule
  return {
    ...{ family, table, priority, protocol },
    ...(from === null ? {} : { from: prefixOf(from) }),
    ...(to === null ? {} : { to: prefixOf(to) }),
    ...(incoming === null ? {} : { incoming }),
    ...(outgoing === null ? {} : { outgoing }),
    ...(mark === null ? {} : { mark }),
    ...(suppressPrefixLength === null ? {} : { suppressPrefixLength }),
  }
}

function textOfRule(rule: Rule): string {
  return textOfWish(wishOfRule(rule))
}

function keyOfWish(wish: RuleWish): string {
  return `${wish.family} ${textOfWish(wish)}`
}

function keyOfRule(rule: Rule): string {
  return keyOfWish(wishOfRule(rule))
}

function keyOfPath(path: PathWish): string {
  const to =
    path.to === null
      ? path.family === 'ipv4'
        ? '0.0.0.0/0'
        : '::/0'
      : prefixText(path.to.address, path.to.prefixLength)
  const text = (address: Buffer | undefined) => (address === undefined ? '' : address.toString('hex'))
  return [
    path.family,
    to,
    path.table,
    path.metric,
    text(path.via),
    text(path.source),
    path.onlink ?? false,
    path.mtu ?? '',
  ].join(' ')
}

function keyOfRoute(route: Route): string {
  return keyOfPath(pathOfRoute(route))
}

function pathOfRoute(route: Route): PathWish {
  const { family, metric, table, onlink, mtu } = route
  const to = route.to.endsWith('/0') ? null : prefixOf(route.to)
  const text = `${to === null ? 'default' : route.to}${route.via === null ? '' : ` via ${route.via}`}`
  return {
    ...{ family, to, metric, table, text },
    ...(route.via === null ? {} : { via: prefixOf(route.via).address }),
    ...(route.source === null ? {} : { source: prefixOf(route.source).address }),
    ...(onlink ? { onlink } : {}),
    ...(mtu === null ? {} : { mtu }),
  }
}
