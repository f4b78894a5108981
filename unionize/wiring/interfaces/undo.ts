import { WiringError } from '../errors.ts'
import { putAddress } from '../kernel/addresses.ts'
import { familyOf, ipBytes, prefixOf } from '../kernel/ip.ts'
import { type Link, linkOf } from '../kernel/link.ts'
import { deleteLink, getLinks, rename, setDown, setMac, setMaster, setMtu, setUp } from '../kernel/links.ts'
import type { Request, RouteSocket } from '../kernel/route-socket.ts'
import { addRoute } from '../kernel/routes.ts'
import { waitUntil } from '../waiting.ts'
import { OUTER_ALIAS } from './act-making.ts'
import type { HostAction } from './action.ts'
import { consequent, type HostChange, stepsOf } from './change.ts'
import { findFormer } from './device.ts'
import type { Places } from './ground.ts'
import { findLink } from './host-view.ts'
import type { Step } from './interfaces.ts'
import type { FormerDevice, Kept } from './state.ts'

/** A route that cannot be had any more because the address or the gateway that it needs has expired. */
const OUTDATED: readonly string[] = ['EEXIST', 'ENETUNREACH', 'EHOSTUNREACH']

/** Makes a device that is on the host what it was before it moved in. May be repeated. @throws KernelRefusal */
export function restoreDevice(host: RouteSocket, former: FormerDevice, now = Date.now()): void {
  const all = linksOf(host)
  const device = findFormer(former, { all: () => all, find: (ref) => findLink(host, ref) })
  if (device === null) return
  const { index } = device
  const master = former.master === null ? 0 : (all.find((link) => link.name === former.master)?.index ?? 0)
  const renamed = device.name !== former.name
  const ask = (...requests: Request[]) => {
    if (requests.length > 0) host.ask(...requests.map((request) => ({ ...request, interface: former.name })))
  }
  ask(
    ...(renamed && device.up ? [{ purpose: 'set it down', bytes: setDown(index) }] : []),
    ...(renamed ? [{ purpose: `give it back its name`, bytes: rename(index, former.name) }] : []),
    ...(device.mac === former.mac ? [] : [{ purpose: 'give it back its MAC', bytes: setMac(index, former.mac) }]),
    ...(device.mtu === former.mtu ? [] : [{ purpose: 'give it back its MTU', bytes: setMtu(index, former.mtu) }]),
    ...(device.master === master
      ? []
      : [{ purpose: `return it to ${former.master}`, bytes: setMaster(index, master) }]),
    ...(former.up
      ? [{ purpose: 'set it up', bytes: setUp(index) }]
      : [{ purpose: 'set it down', bytes: setDown(index) }]),
  )
  ask(...former.addresses.flatMap((address) => addressRequest(index, address, now)))
  // Those on the link come first: they are how gateways are reached.
  const routes = [...former.routes].sort((a, b) => Number(a.via !== null) - Number(b.via !== null))
  ask(...routes.map((route) => routeRequest(index, route)))
}

function addressRequest(index: number, address: FormerDevice['addresses'][number], now: number): Request[] {
  const left = address.until === null ? null : Math.floor((address.until - now) / 1000)
  if (left !== null && left <= 0) return []
  const bytes = putAddress({
    index,
    ...prefixOf(address.prefix),
    ...(left === null ? {} : { validSeconds: left, preferredSeconds: left }),
    ...(address.broadcast === null ? {} : { broadcast: ipBytes(address.broadcast) }),
    ...(address.label === '' ? {} : { label: address.label }),
  })
  return [{ purpose: `give it back ${address.prefix}`, bytes }]
}

function routeRequest(index: number, route: FormerDevice['routes'][number]): Request {
  const to = prefixOf(route.to)
  const bytes = addRoute({
    family: familyOf(to.address),
    to: to.prefixLength === 0 ? null : to,
    index,
    ...{ metric: route.metric, table: route.table, protocol: route.protocol },
    ...(route.via === null ? {} : { via: ipBytes(route.via) }),
    ...(route.source === null ? {} : { source: ipBytes(route.source) }),
    ...(route.onlink ? { onlink: true } : {}),
    ...(route.mtu === null ? {} : { mtu: route.mtu }),
  })
  return { purpose: `give it back its route to ${route.to}`, bytes, fine: OUTDATED }
}

/**
 * Cleans what a namespace that is no more has left on the host: devices that the kernel returned, outer ends that it has not
 * removed yet, ports of Open vSwitch.
 * @throws WiringError `device-missing` while a device has not returned (retryable)
 */
export function clearLeftovers(places: Places, made: Kept['made']): Step[] {
  const returns = Object.entries(made).flatMap(([name, { former }]) =>
    former === null ? [] : returned(places.host, name, former),
  )
  const ends = planOuterEnds(places, made)
  for (const { act } of ends) act(places)
  return [...returns, ...stepsOf(ends)]
}

/**
 * Takes away outer ends on the host whose namespace is no more, or was replaced by another: the kernel removes them some
 * time later, and not while somebody still lives there.
 */
export function planOuterEnds(places: Pick<Places, 'host' | 'ovs'>, made: Kept['made']): HostChange[] {
  return Object.entries(made).flatMap(([name, { link, hostName }]) => {
    // The outer end in another namespace is none of the host's, whatever here has its name.
    if (hostName === null || (link.kind === 'veth' && link.to !== undefined)) return []
    const outer = findLink(places.host, hostName)
    const there = outer?.kind === 'veth' && outer.alias.startsWith(OUTER_ALIAS)
    const port = link.kind === 'ovs' && places.ovs.portOf(hostName) !== null
    if (!there && !port) return []
    const text = there ? `remove its outer end ${hostName}` : `take the port ${hostName} away`
    const act: HostAction = ({ host, ovs }) => {
      if (port) ovs.removePort(hostName)
      if (!there) return
      host.ask({ interface: hostName, purpose: 'remove it', bytes: deleteLink(outer.index), fine: ['ENODEV'] })
    }
    return [{ ...consequent(name, text, act), act }]
  })
}

/** The kernel returns a real device a moment after its namespace ended; one that stood in for one ends with it. */
function returned(host: RouteSocket, name: string, former: FormerDevice): Step[] {
  let all: readonly Link[] = []
  const there = () => {
    all = linksOf(host)
    return findFormer(former, { all: () => all, find: (ref) => findLink(host, ref) }) !== null
  }
  if (former.kind === '' ? !waitUntil(there) : !there()) {
    if (former.kind !== '') return []
    throw new WiringError(
      'device-missing',
      `${former.name}, which was ${name}, has not come back to the host: another process is still in that network ` +
        'namespace, or the device was taken out; end that process, or put the device back',
      { retryable: true },
    )
  }
  restoreDevice(host, former)
  return [{ interface: name, text: `make ${former.name} on the host what it was` }]
}

function linksOf(host: RouteSocket): Link[] {
  return host.dump({ purpose: 'list the interfaces of the host', bytes: getLinks() }).map(linkOf)
}
