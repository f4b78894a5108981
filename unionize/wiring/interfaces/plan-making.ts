import type { LinkSpec } from '../../../common/wiring-spec.ts'
import { WiringError } from '../errors.ts'
import type { NewKind } from '../kernel/devices.ts'
import { ipBytes } from '../kernel/ip.ts'
import { bringUp, giveMac, giveMtu } from './act.ts'
import { bringIn, bringSupportUp, makeBridge, makeDevice, makePair, makeSubInterface } from './act-making.ts'
import type { Action } from './action.ts'
import { outerEnd } from './action.ts'
import { type Change, consequent, differing } from './change.ts'
import { OUR_GROUP, subInterface } from './host-view.ts'
import type { Seen } from './look.ts'
import { ETHERNET_MTU, mtuOf } from './mtu.ts'
import { outerMac, safeName } from './names.ts'
import { describe } from './nature.ts'
import { planPort } from './plan-port.ts'
import { noDevice } from './prerequisites.ts'
import type { Wanted } from './wanted.ts'

/** What makes the interface, down, with name, MAC and MTU, and its outer end a port, up. */
export function planMaking(wanted: Wanted, seen: Seen, label: string, found: string): Change[] {
  const { name, link, mac } = wanted
  const mtu = mtuOf(wanted, seen, null)
  const make = (action: Action): Change => {
    const difference = { field: 'link', wanted: describe(link), found }
    return differing(name, difference, `make it: ${describe(link)}`, action)
  }
  const outer = outerEnd(wanted)
  if (outer !== null) {
    const size = link.kind === 'bridge' ? Math.max(mtu ?? 0, seen.base?.mtu ?? ETHERNET_MTU) : mtu
    const far = link.kind === 'veth' ? link.peer.mac : mac === null ? undefined : outerMac(mac)
    const end = { name: outer.outer, ...(far === undefined ? {} : { mac: far }), mtu: size, to: outer.to }
    const pair = makePair({ name, mac, mtu, outer: { ...end, linkLocal: link.kind === 'veth' }, label })
    return [
      ...planSupport(wanted, seen),
      make(pair),
      ...planPort(wanted, outer, seen, true),
      consequent(name, `set ${outer.outer} up`, bringUp(outer)),
    ]
  }
  if (link.kind === 'physical') {
    const { device } = seen
    if (device === null) throw noDevice(name, link.device)
    const end = { inner: name }
    return [
      make(bringIn(device.name, name)),
      ...(mtu === null || mtu === device.mtu ? [] : [consequent(name, `set its MTU to ${mtu}`, giveMtu(end, mtu))]),
      ...(mac === null || mac === device.mac ? [] : [consequent(name, `give it the MAC ${mac}`, giveMac(end, mac))]),
    ]
  }
  const kind = newKind(link)
  const base = ['macvlan', 'ipvlan', 'vlan'].includes(link.kind) || (link.kind === 'vxlan' && link.parent !== undefined)
  const on = link.kind === 'macvlan' || link.kind === 'ipvlan' ? link : undefined
  const parent = on?.vlan === undefined ? undefined : subInterface(on.parent, on.vlan)
  return [
    ...planSupport(wanted, seen),
    make(
      makeDevice(
        { name, device: kind, ...(mac === null ? {} : { mac }), ...(mtu === null ? {} : { mtu }) },
        base ? (parent ?? seen.base?.name ?? null) : null,
      ),
    ),
  ]
}

/** Bridges and VLAN sub-interfaces that are missing, or were made and not set up. */
export function planSupport(wanted: Wanted, seen: Seen): Change[] {
  const { link } = wanted
  const { base } = seen
  if (base?.group === OUR_GROUP && !base.up) return [consequent(base.name, 'set it up', bringSupportUp(base.name))]
  if (link.kind === 'ovs') {
    const bridge = safeName(link.bridge)
    if (!link.create || seen.ovs?.bridgeThere === true) return []
    return [consequent(bridge, 'make the Open vSwitch bridge', ({ ovs }) => void ovs.ensureBridge(bridge))]
  }
  if (link.kind === 'bridge') {
    if (seen.base === null) return [consequent(link.bridge, 'make the bridge', makeBridge(link.bridge))]
    return []
  }
  if (!seen.subInterfaceMissing || seen.base === null || !('vlan' in link) || link.vlan === undefined) return []
  const name = subInterface(link.parent, link.vlan)
  return [
    consequent(name, `make VLAN ${link.vlan} of ${link.parent}`, makeSubInterface(name, seen.base.name, link.vlan)),
  ]
}

function newKind(link: LinkSpec): NewKind {
  switch (link.kind) {
    case 'macvlan':
      return { kind: 'macvlan', mode: link.mode }
    case 'ipvlan':
      return { kind: 'ipvlan', mode: link.mode, isolation: link.isolation }
    case 'vlan':
      return { kind: 'vlan', id: link.id, protocol: link.protocol }
    case 'vxlan': {
      const local = link.local === undefined ? {} : { local: ipBytes(link.local) }
      return {
        kind: 'vxlan',
        id: link.id,
        remote: ipBytes(link.remote),
        ...local,
        port: link.port,
        learning: link.learning,
      }
    }
    case 'dummy':
      return { kind: 'dummy' }
    case 'bridge':
    case 'ovs':
    case 'physical':
    case 'veth':
      throw new WiringError('wiring-fault', `a ${link.kind} is not made as one device`)
  }
}
