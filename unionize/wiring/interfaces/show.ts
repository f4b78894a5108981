import type { Route } from '../kernel/routes.ts'
import { type Ground, ifAlive, type Places } from './ground.ts'
import type { FoundInterface, Wired } from './interfaces.ts'
import { isOfKind } from './nature.ts'
import { observe, type Scene } from './observe.ts'
import type { Kept } from './state.ts'

const RTN_UNICAST = 1
const MAIN_TABLE = 254

/** One wiring as it was asked for and as the kernel has it. */
export function describeKept(places: Places, kept: Kept): Wired {
  const { key, label, spec } = kept
  const interfaces = ifAlive(places, kept, (ground) => foundIn(ground, kept))
  return { key, label, alive: interfaces !== null, spec, interfaces: interfaces ?? [] }
}

function foundIn(ground: Ground, kept: Kept): FoundInterface[] {
  const scene = observe(ground, { made: kept.made, supports: [] }, [])
  return Object.entries(kept.made).flatMap(([name, made]) => {
    const seen = scene.seen.get(name)
    const inner = seen?.inner ?? null
    if (inner === null || !isOfKind(made, inner)) return []
    const addresses = scene.addresses.filter((address) => address.interfaceIndex === inner.index)
    return [
      {
        name,
        hostName: seen?.outer?.name ?? null,
        kind: made.link.kind,
        mac: inner.mac,
        mtu: inner.mtu,
        up: inner.up,
        running: inner.running,
        addresses: addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`),
        routes: routesOf(scene, inner.index),
      },
    ]
  })
}

function routesOf(scene: Scene, index: number): string[] {
  return scene.routes
    .filter((route) => route.index === index && route.type === RTN_UNICAST && !route.cloned)
    .map(textOf)
}

function textOf(route: Route): string {
  return [
    route.to.endsWith('/0') ? 'default' : route.to,
    ...(route.via === null ? [] : [`via ${route.via}`]),
    ...(route.metric === 0 ? [] : [`metric ${route.metric}`]),
    ...(route.table === MAIN_TABLE ? [] : [`table ${route.table}`]),
  ].join(' ')
}
