import { randomUUID } from 'node:crypto'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { deleteAddress, putAddress } from '../kernel/addresses.ts'
import { announce } from '../kernel/announce.ts'
import { deletePortVlans, setPortVlans, type VlanRange } from '../kernel/bridge-vlans.ts'
import { changeDevice, createDevice, type DeviceChange, type NewDevice } from '../kernel/devices.ts'
import type { Link } from '../kernel/link.ts'
import {
  deleteLink,
  moveLink,
  rename,
  setAlias,
  setDown,
  setMac,
  setMaster,
  setMtu,
  setNoLinkLocal,
  setPortOptions,
  setUp,
} from '../kernel/links.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import { addRoute, deleteRoute, endsHere, getRoute, OUR_PROTOCOL } from '../kernel/routes.ts'
import { addRule, deleteRule, type RuleWish } from '../kernel/rules.ts'
import { waitUntil } from '../waiting.ts'
import type { FarEnd, Ground } from './ground.ts'
import { stationMac } from './names.ts'
import { findLink, OUR_GROUP, settingFile } from './observe.ts'
import type { AddressWish, PathWish } from './wanted.ts'

/** Does one thing in the kernel. @throws WiringError */
export type Action = (ground: Ground) => void

/** One that needs nothing of the namespace. */
export type HostAction = (places: Pick<Ground, 'host' | 'ovs'>) => void

/** Which end of an interface: the inner one of this name, or the outer one, which may be in another namespace. */
export type End = { readonly inner: string } | { readonly outer: string; readonly to: string | undefined }

/** IFF_LOWER_UP of linux/if.h: there is a carrier. */
const IFF_LOWER_UP = 0x10000
/** Kinds that never tell of a carrier: their operational state remains unknown. */
const CARRIERLESS: readonly string[] = ['vxlan', 'dummy']
/** BR_STATE_LISTENING and BR_STATE_LEARNING of linux/if_bridge.h: the spanning tree decides when to go on. */
const SPANNING: readonly number[] = [1, 2]
/** How the alias of an outer end begins, for people and for us. */
export const OUTER_ALIAS = 'unionize: '
/** For people who look at the host. */
const SUPPORT_ALIAS = 'made by unionize for its wirings'
/** IFALIASZ of linux/if.h, less the NUL. */
const ALIAS_LENGTH = 255
const OWN_NAMESPACE = '/proc/thread-self/ns/net'

/** Makes a bridge, up, that goes again with the last port. With a MAC of its own, which it keeps whatever ports come and go. */
export function makeBridge(name: string): Action {
  return ({ host }) =>
    makeSupport(host, {
      name,
      mac: stationMac(randomUUID()),
      device: { kind: 'bridge' },
    })
}

/** Makes a VLAN sub-interface of the host, up, that goes again with the last of those who use it. */
export function makeSubInterface(name: string, parent: string, vlan: number): Action {
  return ({ host }) =>
    makeSupport(host, {
      name,
      parent: mustFind(host, parent).index,
      device: { kind: 'vlan', id: vlan, protocol: '802.1Q' },
    })
}

function makeSupport(host: RouteSocket, device: NewDevice): void {
  const { name } = device
  host.ask({
    interface: name,
    purpose: `make the ${device.device.kind}`,
    bytes: createDevice({ ...device, group: OUR_GROUP }),
  })
  host.ask(
    { interface: name, purpose: 'say what it is', bytes: setAlias(name, SUPPORT_ALIAS) },
    { interface: name, purpose: 'set it up', bytes: setUp(name) },
  )
}

/** Sets up what was made for wirings. */
export function bringSupportUp(name: string): Action {
  return ({ host }) => void host.ask({ interface: name, purpose: 'set it up', bytes: setUp(name) })
}

/** Removes what only wirings stood on. */
export function removeSupport(name: string): HostAction {
  return ({ host }) => {
    host.ask({ interface: name, purpose: 'remove it', bytes: deleteLink(name), fine: ['ENODEV'] })
  }
}

export function filterVlans(bridge: string): Action {
  const bytes = changeDevice(bridge, { kind: 'bridge', vlanFiltering: true })
  return ({ host }) => void host.ask({ interface: bridge, purpose: 'let it tell VLANs apart', bytes })
}

/** A veth pair whose outer end is up, and without an address of its own making. */
export function makePair(pair: {
  name: string
  mac: string | null
  mtu: number | null
  outer: { name: string; mac?: string; mtu: number | null; to: string | undefined; linkLocal: boolean }
  label: string
}): Action {
  const { name, mac, mtu, outer } = pair
  return (ground) =>
    ground.far(outer.to, ({ route }) => {
      const peer = {
        name,
        ...(mac === null ? {} : { mac }),
        ...(mtu === null ? {} : { mtu }),
        namespace: ground.sandbox.namespace,
      }
      const ends = { name: outer.name, ...(outer.mac === undefined ? {} : { mac: outer.mac }) }
      const size = outer.mtu === null ? {} : { mtu: outer.mtu }
      const bytes = createDevice({ ...ends, ...size, device: { kind: 'veth', peer } })
      route.ask({ interface: name, purpose: `make it and its outer end ${outer.name}`, bytes })
      const alias = `${OUTER_ALIAS}${name} of ${pair.label}`.slice(0, ALIAS_LENGTH)
      route.ask(
        { interface: outer.name, purpose: 'say whose outer end it is', bytes: setAlias(outer.name, alias) },
        ...(outer.linkLocal
          ? []
          : [
              {
                interface: outer.name,
                purpose: 'keep it without a link-local address',
                bytes: setNoLinkLocal(outer.name),
              },
            ]),
      )
    })
}

/** Any other kind, made in the namespace on top of what the host has. `parent`: its name on the host. */
export function makeDevice(device: NewDevice, parent: string | null): Action {
  return ({ host, sandbox }) => {
    const below = parent === null ? {} : { parent: mustFind(host, parent).index }
    const bytes = createDevice({ ...device, ...below, namespace: sandbox.namespace })
    host.ask({ interface: device.name, purpose: `make the ${device.device.kind}`, bytes })
  }
}

/** Moves a device of the host in. */
export function bringIn(device: string, name: string): Action {
  return ({ host, sandbox }) => {
    const bytes = moveLink(mustFind(host, device).index, { namespace: sandbox.namespace, name })
    host.ask({ interface: name, purpose: `move ${device} of the host in`, bytes })
  }
}

/** Moves a device to the host, where its name must be free. */
export function takeOut(name: string, formerName: string): Action {
  return (ground) => {
    const link = findLink(ground.sandbox.route, name)
    if (link === null) return
    if (findLink(ground.host, formerName) !== null) {
      throw new WiringError(
        'interface-in-use',
        `${name} cannot return to the host: something else is called ${formerName} there; rename that first`,
      )
    }
    const home = openSync(OWN_NAMESPACE, 'r')
    try {
      const bytes = moveLink(link.index, { namespace: home, name: formerName })
      ground.sandbox.route.ask({ interface: name, purpose: `return it to the host as ${formerName}`, bytes })
    } finally {
      closeSync(home)
    }
  }
}

export function removeInner(name: string): Action {
  return ({ sandbox }) => {
    sandbox.route.ask({ interface: name, purpose: 'remove it', bytes: deleteLink(name), fine: ['ENODEV'] })
  }
}

export function change(end: End, device: DeviceChange): Action {
  return atEnd(end, (route, link) => {
    route.ask({
      interface: link.name,
      purpose: 'change what is special about it',
      bytes: changeDevice(link.index, device),
    })
  })
}

export function giveMac(end: End, mac: string): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: `give it the MAC ${mac}`, bytes: setMac(link.index, mac) })
  })
}

export function giveMtu(end: End, mtu: number): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: `set its MTU to ${mtu}`, bytes: setMtu(link.index, mtu) })
  })
}

export function bringUp(end: End): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: 'set it up', bytes: setUp(link.index) })
  })
}

export function bringDown(end: End): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: 'set it down', bytes: setDown(link.index) })
  })
}

/** Before Linux 6 only what is down can be renamed. */
export function renameOuter(end: Extract<End, { outer: string }>, name: string): Action {
  return atEnd(end, (route, link) => {
    route.ask(
      { interface: link.name, purpose: 'set it down', bytes: setDown(link.index) },
      { interface: link.name, purpose: `rename it to ${name}`, bytes: rename(link.index, name) },
      { interface: name, purpose: 'set it up', bytes: setUp(link.index) },
    )
  })
}

export function withoutLinkLocal(end: End): Action {
  return atEnd(end, (route, link) => {
    const bytes = setNoLinkLocal(link.index)
    route.ask({ interface: link.name, purpose: 'keep it without a link-local address', bytes })
  })
}

/** Makes an end a port of the bridge of this name. */
export function enslave(outer: string, bridge: string): Action {
  return ({ host }) => {
    const master = findLink(host, bridge)
    if (master === null) throw new WiringError('bridge-missing', `bridge ${bridge} went away`, { retryable: true })
    host.ask({ interface: outer, purpose: `make it a port of ${bridge}`, bytes: setMaster(outer, master.index) })
  }
}

export function isolate(outer: string, isolated: boolean): Action {
  const purpose = isolated ? 'isolate it from other isolated ports' : 'let it reach isolated ports'
  return ({ host }) => void host.ask({ interface: outer, purpose, bytes: setPortOptions(outer, { isolated }) })
}

export function portVlans(outer: string, drop: readonly VlanRange[], put: readonly VlanRange[]): Action {
  return ({ host }) => {
    const link = mustFind(host, outer)
    const requests = [
      ...(drop.length === 0 ? [] : [{ purpose: 'take VLANs from it', bytes: deletePortVlans(link.index, drop) }]),
      ...(put.length === 0 ? [] : [{ purpose: 'give it its VLANs', bytes: setPortVlans(link.index, put) }]),
    ]
    if (requests.length > 0) host.ask(...requests.map((request) => ({ ...request, interface: outer })))
  }
}

/** Writes a setting below /proc/sys/net. `optional`: a kernel without it is fine. */
export function writeSetting(name: string, path: string, value: string, optional: boolean): Action {
  return ({ sandbox }) =>
    sandbox.inside(() => {
      try {
        writeFileSync(settingFile(name, path), value)
      } catch (thrown) {
        const errno = (thrown as NodeJS.ErrnoException).code ?? 'EIO'
        if (errno === 'ENOENT' && optional) return
        const missing = errno === 'ENOENT' ? ': this kernel has no such setting' : ''
        const code = errno === 'EACCES' || errno === 'EROFS' ? 'not-permitted' : 'kernel-refused'
        throw new WiringError(code, `${name}: cannot set ${path} to ${JSON.stringify(value)} (${errno})${missing}`)
      }
    })
}

export function giveAddress(end: End, wish: AddressWish): Action {
  return atEnd(end, (route, link) => {
    const { address, prefixLength, text } = wish
    const bytes = putAddress({ index: link.index, address, prefixLength, protocol: OUR_PROTOCOL })
    route.ask({ interface: link.name, purpose: `give it ${text}`, bytes })
  })
}

/** IPv4: the others of the network stay, which is not the kernel's own way. */
export function takeAddress(end: End, address: Buffer, prefixLength: number, text: string): Action {
  return (ground) => {
    if (address.length === 4 && 'inner' in end)
      writeSetting(end.inner, 'ipv4.conf.promote_secondaries', '1', true)(ground)
    atEnd(end, (route, link) => {
      const bytes = deleteAddress(link.index, address, prefixLength)
      route.ask({ interface: link.name, purpose: `take ${text} from it`, bytes, fine: ['EADDRNOTAVAIL'] })
    })(ground)
  }
}

export function addPath(name: string, wish: PathWish): Action {
  return atEnd({ inner: name }, (route, link) => {
    const { text, ...path } = wish
    const bytes = addRoute({ ...path, index: link.index })
    route.ask({ interface: name, purpose: `route ${text}`, bytes })
  })
}

export function dropPath(name: string, wish: PathWish, protocol: number): Action {
  return atEnd({ inner: name }, (route, link) => {
    const { text, ...path } = wish
    const bytes = deleteRoute({ ...path, protocol, index: link.index })
    route.ask({ interface: name, purpose: `remove the route ${text}`, bytes, fine: ['ESRCH'] })
  })
}

export function putRule(wish: RuleWish, text: string): Action {
  return ({ sandbox }) =>
    void sandbox.route.ask({ purpose: `add the rule ${text}`, bytes: addRule(wish), fine: ['EEXIST'] })
}

export function dropRule(wish: RuleWish, text: string): Action {
  return ({ sandbox }) =>
    void sandbox.route.ask({ purpose: `remove the rule ${text}`, bytes: deleteRule(wish), fine: ['ENOENT'] })
}

/**
 * Waits until packets pass, so that the first one is not lost: until both ends have come up, and the kernel takes packets
 * to new IPv6 addresses, which it does a moment after it acknowledges them (addrconf_dad_work in net/ipv6/addrconf.c).
 * Without a carrier there is nothing to wait for. @throws WiringError `link-not-up`
 */
export function settle(
  name: string,
  outer: Extract<End, { outer: string }> | null,
  addresses: readonly AddressWish[],
): Action {
  return (ground) => {
    let slow = name
    const passing = waitUntil(() => {
      const inner = mustFind(ground.sandbox.route, name)
      slow = name
      if (!isSettled(inner)) return false
      if (outer !== null) {
        slow = outer.outer
        if (!ground.far(outer.to, ({ route }) => isSettled(mustFind(route, outer.outer)))) return false
      }
      const waiting = addresses.find((wish) => wish.family === 'ipv6' && !isTaken(ground.sandbox.route, wish))
      slow = `${name} (${waiting?.text})`
      return waiting === undefined
    })
    if (!passing) throw new WiringError('link-not-up', `${slow} did not come up in time`, { retryable: true })
  }
}

/** Tells the neighbours where the addresses are now. Without a carrier nobody hears it. */
export function tell(name: string, addresses: readonly AddressWish[]): Action {
  return atEnd({ inner: name }, (_, link, ground) => {
    if ((link.flags & IFF_LOWER_UP) === 0) return
    announce(
      ground.sandbox,
      link.index,
      link.mac,
      addresses.map((wish) => wish.address),
    )
  })
}

/** Something that needs the socket and the number of an interface. */
export function atEnd(end: End, work: (route: RouteSocket, link: Link, ground: Ground) => void): Action {
  return (ground) => {
    if ('inner' in end) work(ground.sandbox.route, mustFind(ground.sandbox.route, end.inner), ground)
    else ground.far(end.to, ({ route }: FarEnd) => work(route, mustFind(route, end.outer), ground))
  }
}

function isSettled(link: Link): boolean {
  if (!link.up || (link.flags & IFF_LOWER_UP) === 0 || link.passing) return true
  if (link.running && CARRIERLESS.includes(link.kind)) return true
  return link.port !== null && SPANNING.includes(link.port.state)
}

function isTaken(route: RouteSocket, wish: AddressWish): boolean {
  const request = { purpose: `look whether packets to ${wish.text} are taken`, bytes: getRoute(wish.address) }
  const [answer] = route.ask({ ...request, fine: ['ENETUNREACH', 'EHOSTUNREACH'] })
  return answer?.messages.some(endsHere) ?? false
}

function mustFind(route: RouteSocket, name: string): Link {
  const link = findLink(route, name)
  if (link !== null) return link
  throw new WiringError('link-gone', `${name} went away while it was being wired: wire it again`, { retryable: true })
}
