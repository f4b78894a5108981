import type { LinkSpec } from '../../../common/wiring-spec.ts'
import { WiringError } from '../errors.ts'
import type { VlanRange } from '../kernel/bridge-vlans.ts'
import type { NewKind } from '../kernel/devices.ts'
import { ipBytes, ipText } from '../kernel/ip.ts'
import * as act from './act.ts'
import { type Change, consequent, differing } from './change.ts'
import { safeName } from './names.ts'
import { describe } from './nature.ts'
import { OUR_GROUP, type Seen, subInterface } from './observe.ts'
import type { Made } from './state.ts'
import type { Wanted } from './wanted.ts'

type OuterEnd = Extract<act.End, { outer: string }>

/** Bytes that VXLAN puts around an Ethernet frame: its own header, UDP, IP and the frame's (RFC 7348, 4.3 and 5). */
const VXLAN_OVERHEAD = { ipv4: 50, ipv6: 70 } as const
/** IEEE 802.3. What an interface has unless something says otherwise. */
const ETHERNET_MTU = 1500

/** The outer end of a wish as it is to be called. */
export function outerEnd(wanted: Wanted): OuterEnd | null {
  const { link, hostName } = wanted
  return hostName === null ? null : { outer: hostName, to: link.kind === 'veth' ? link.to : undefined }
}

/** What must be there, or free, before an interface can be made or changed. @throws WiringError */
export function checkGround(wanted: Wanted, seen: Seen): void {
  const { name, link, hostName, spec } = wanted
  if (seen.outerNameTaken) {
    const where = link.kind === 'veth' && link.to !== undefined ? link.to : 'the host'
    throw new WiringError(
      'interface-in-use',
      `${name}: ${where} already has an interface ${hostName}: choose another name for the outer end`,
    )
  }
  checkBridge(wanted, seen)
  if (['macvlan', 'ipvlan', 'vlan'].includes(link.kind) && 'parent' in link && seen.base === null)
    throw noDevice(name, link.parent ?? '')
  if (link.kind === 'vxlan' && link.parent !== undefined && seen.base === null) throw noDevice(name, link.parent)
  const wish = spec.mtu
  if (wish === undefined) return
  const small = [...seen.hops, ...baseHop(link, seen)].find((hop) => hop.mtu < wish)
  if (small !== undefined) {
    throw new WiringError(
      'path-mtu',
      `${name}: packets of ${wish} bytes do not fit through ${small.name}, which takes ${small.mtu}: lower the MTU of ` +
        `${name}, or run "ip link set ${small.name} mtu ${wish + small.overhead}"`,
    )
  }
}

function checkBridge({ name, link }: Wanted, seen: Seen): void {
  if (link.kind !== 'bridge') return
  const { bridge, create, vlan } = link
  const { base } = seen
  if (base === null) {
    if (create) return
    const remedy = `run "ip link add ${bridge} type bridge && ip link set ${bridge} up", or let it be made`
    throw new WiringError('bridge-missing', `${name}: bridge ${bridge} does not exist: ${remedy}`)
  }
  if (base.device?.kind !== 'bridge') {
    throw new WiringError('bridge-missing', `${name}: ${bridge} is not a bridge but ${base.kind || 'a device'}`)
  }
  if (vlan !== undefined && base.device.vlanFiltering !== true && base.group !== OUR_GROUP) {
    throw new WiringError(
      'vlans-not-filtered',
      `${name}: bridge ${bridge} does not tell VLANs apart: run "ip link set ${bridge} type bridge vlan_filtering 1", ` +
        'which changes what its other ports hear',
    )
  }
}

/** The MTU that the interface is to have; null: whatever it has. */
export function mtuOf(wanted: Wanted, seen: Seen, made: Made | null): number | null {
  const { spec, link } = wanted
  if (spec.mtu !== undefined) return spec.mtu
  switch (link.kind) {
    case 'bridge':
      // A bridge that is yet to be made will follow its first port.
      return seen.base?.mtu ?? seen.outer?.mtu ?? ETHERNET_MTU
    case 'macvlan':
    case 'ipvlan':
    case 'vlan':
    case 'vxlan':
      return baseHop(link, seen)[0]?.mtu ?? null
    case 'physical':
      return made?.former?.mtu ?? null
    case 'ovs':
    case 'dummy':
    case 'veth':
      return ETHERNET_MTU
  }
}

/** How large packets may be on what the interface stands on. `overhead`: what is added to them there. */
function baseHop(link: LinkSpec, { base }: Seen): { name: string; mtu: number; overhead: number }[] {
  if (base === null || link.kind === 'bridge') return []
  const overhead = link.kind === 'vxlan' ? VXLAN_OVERHEAD[link.remote.includes(':') ? 'ipv6' : 'ipv4'] : 0
  return [{ name: base.name, mtu: base.mtu - overhead, overhead }]
}

/** What makes the interface, down, with name, MAC and MTU, and its outer end a port, up. */
export function planMaking(wanted: Wanted, seen: Seen, label: string, found: string): Change[] {
  const { name, link, mac } = wanted
  const mtu = mtuOf(wanted, seen, null)
  const make = (action: act.Action): Change => {
    const difference = { field: 'link', wanted: describe(link), found }
    return differing(name, difference, `make it: ${describe(link)}`, action)
  }
  const outer = outerEnd(wanted)
  if (outer !== null) {
    const size = link.kind === 'bridge' ? Math.max(mtu ?? 0, seen.base?.mtu ?? ETHERNET_MTU) : mtu
    const far = link.kind === 'veth' ? link.peer.mac : outerMac(mac)
    const end = { name: outer.outer, ...(far === undefined ? {} : { mac: far }), mtu: size, to: outer.to }
    const pair = act.makePair({ name, mac, mtu, outer: { ...end, linkLocal: link.kind === 'veth' }, label })
    return [
      ...planSupport(wanted, seen),
      make(pair),
      ...planPort(wanted, outer, seen, true),
      consequent(name, `set ${outer.outer} up`, act.bringUp(outer)),
    ]
  }
  if (link.kind === 'physical') {
    const { device } = seen
    if (device === null) throw noDevice(name, link.device)
    const end = { inner: name }
    return [
      make(act.bringIn(device.name, name)),
      ...(mtu === null || mtu === device.mtu ? [] : [consequent(name, `set its MTU to ${mtu}`, act.giveMtu(end, mtu))]),
      ...(mac === null || mac === device.mac
        ? []
        : [consequent(name, `give it the MAC ${mac}`, act.giveMac(end, mac))]),
    ]
  }
  const kind = newKind(link)
  const base = ['macvlan', 'ipvlan', 'vlan'].includes(link.kind) || (link.kind === 'vxlan' && link.parent !== undefined)
  const on = link.kind === 'macvlan' || link.kind === 'ipvlan' ? link : undefined
  const parent = on?.vlan === undefined ? undefined : subInterface(on.parent, on.vlan)
  return [
    ...planSupport(wanted, seen),
    make(
      act.makeDevice(
        { name, device: kind, ...(mac === null ? {} : { mac }), ...(mtu === null ? {} : { mtu }) },
        base ? (parent ?? seen.base?.name ?? null) : null,
      ),
    ),
  ]
}

/** Bridges and VLAN sub-interfaces that are missing, or were made and not set up. */
function planSupport(wanted: Wanted, seen: Seen): Change[] {
  const { link } = wanted
  const { base } = seen
  if (base?.group === OUR_GROUP && !base.up) return [consequent(base.name, 'set it up', act.bringSupportUp(base.name))]
  if (link.kind === 'ovs') {
    const bridge = safeName(link.bridge)
    if (!link.create || seen.ovs?.bridgeThere === true) return []
    return [consequent(bridge, 'make the Open vSwitch bridge', ({ ovs }) => void ovs.ensureBridge(bridge))]
  }
  if (link.kind === 'bridge') {
    if (seen.base === null) return [consequent(link.bridge, 'make the bridge', act.makeBridge(link.bridge))]
    return []
  }
  if (!seen.subInterfaceMissing || seen.base === null || !('vlan' in link) || link.vlan === undefined) return []
  const name = subInterface(link.parent, link.vlan)
  return [
    consequent(name, `make VLAN ${link.vlan} of ${link.parent}`, act.makeSubInterface(name, seen.base.name, link.vlan)),
  ]
}

/** The outer end as a port: of which bridge, and how. */
export function planPort(wanted: Wanted, outer: OuterEnd, seen: Seen, fresh: boolean): Change[] {
  const { name, link } = wanted
  if (link.kind === 'ovs') return planOvsPort(wanted, outer, seen, fresh)
  if (link.kind !== 'bridge') return []
  const { base } = seen
  const port = fresh ? null : seen.outer
  const changes: Change[] = []
  const filters = base?.device?.kind === 'bridge' && base.device.vlanFiltering === true
  if (link.vlan !== undefined && !filters) {
    changes.push(consequent(link.bridge, 'let it tell VLANs apart', act.filterVlans(link.bridge)))
  }
  const enslaved = port !== null && base !== null && port.master === base.index
  if (!enslaved) {
    const text = `make ${outer.outer} a port of ${link.bridge}`
    const action = act.enslave(outer.outer, link.bridge)
    const found = port === null || port.master === 0 ? 'no bridge' : 'another bridge'
    const difference = { field: 'link.bridge', wanted: link.bridge, found }
    changes.push(fresh ? consequent(name, text, action) : differing(name, difference, text, action))
  }
  const isolated = enslaved && port.port?.isolated === true
  if (isolated !== link.isolated) {
    const text = link.isolated ? 'isolate it from other isolated ports' : 'let it reach isolated ports'
    const action = act.isolate(outer.outer, link.isolated)
    const difference = { field: 'link.isolated', wanted: String(link.isolated), found: String(isolated) }
    changes.push(enslaved ? differing(name, difference, text, action) : consequent(name, text, action))
  }
  return [...changes, ...planVlans(wanted, outer, enslaved ? seen.vlans : null)]
}

/** `found` null: the bridge gives a new port its default VLAN, and all that is not wanted goes. */
function planVlans(wanted: Wanted, outer: OuterEnd, found: readonly VlanRange[] | null): Change[] {
  const { name, link } = wanted
  if (link.kind !== 'bridge' || link.vlan === undefined) return []
  const wishes = rangesOf(link.vlan)
  const now = expanded(found ?? [{ from: 1, to: 1, pvid: true, untagged: true }])
  const then = expanded(wishes)
  const drop = [...now].filter(([id]) => !then.has(id)).map(([id]) => single(id))
  const put = [...then].filter(([id, how]) => now.get(id) !== how).map(([id, how]) => single(id, how))
  if (found !== null && drop.length === 0 && put.length === 0) return []
  const text = `give it ${vlanText(wishes)}`
  const action = act.portVlans(outer.outer, drop, put)
  if (found === null) return [consequent(name, text, action)]
  return [differing(name, { field: 'link.vlan', wanted: vlanText(wishes), found: vlanText(found) }, text, action)]
}

function planOvsPort(wanted: Wanted, outer: OuterEnd, seen: Seen, fresh: boolean): Change[] {
  const { name, link } = wanted
  if (link.kind !== 'ovs') return []
  const bridge = safeName(link.bridge)
  const wish = { bridge, port: outer.outer, tag: link.tag, trunks: link.trunks, externalIds: link.externalIds }
  const text = `make ${outer.outer} a port of ${bridge}`
  const port = fresh ? null : (seen.ovs?.port ?? null)
  const words = (of: {
    bridge: string
    tag?: number | null | undefined
    trunks?: readonly number[] | undefined
    externalIds?: object | undefined
  }) =>
    JSON.stringify([
      of.bridge,
      of.tag ?? null,
      [...(of.trunks ?? [])].sort((a, b) => a - b),
      Object.entries(of.externalIds ?? {}).sort(),
    ])
  if (port !== null && words(port) === words(wish) && port.number !== null) return []
  const action: act.Action = ({ ovs }) => void ovs.ensurePort(wish)
  if (fresh) return [consequent(name, text, action)]
  const found = port === null ? 'no port' : words(port)
  return [differing(name, { field: 'link', wanted: words(wish), found }, text, action)]
}

/** What of the link itself can be changed in place. */
export function planLink(wanted: Wanted, made: Made, seen: Seen): Change[] {
  const { name, link } = wanted
  const changes: Change[] = []
  const outer = outerEnd(wanted)
  if (outer !== null && seen.outer !== null) {
    const now = { outer: seen.outer.name, to: outer.to }
    if (seen.outer.name !== outer.outer) {
      const difference = { field: 'hostName', wanted: outer.outer, found: seen.outer.name }
      changes.push(
        differing(name, difference, `rename its outer end to ${outer.outer}`, act.renameOuter(now, outer.outer)),
      )
    }
    changes.push(
      ...planSupport(wanted, seen),
      ...planRoom(wanted, seen, made, outer),
      ...planPort(wanted, outer, seen, false),
    )
    if (link.kind !== 'veth' && seen.outer.addrGenMode !== null && seen.outer.addrGenMode !== NO_LINK_LOCAL) {
      changes.push(consequent(name, `keep ${outer.outer} without a link-local address`, act.withoutLinkLocal(outer)))
    }
    if (!seen.outer.up) {
      const difference = { field: 'up', wanted: `${outer.outer} up`, found: `${outer.outer} down` }
      changes.push(differing(name, difference, `set ${outer.outer} up`, act.bringUp(outer)))
    }
  }
  return [...changes, ...planMode(wanted, seen), ...planSize(wanted, made, seen, outer)]
}

/**
 * The outer end takes what the inner one sends. It grows first; of a bridge it shrinks never, since that follows its
 * smallest port.
 */
function planRoom(wanted: Wanted, seen: Seen, made: Made, outer: OuterEnd): Change[] {
  const mtu = mtuOf(wanted, seen, made)
  const room = wanted.link.kind === 'bridge' ? Math.max(mtu ?? 0, seen.base?.mtu ?? 0) : (mtu ?? 0)
  if (seen.outer === null || seen.outer.mtu === room) return []
  if (wanted.link.kind !== 'veth' && seen.outer.mtu > room) return []
  return [consequent(wanted.name, `set the MTU of ${outer.outer} to ${room}`, act.giveMtu(outer, room))]
}

/** IN6_ADDR_GEN_MODE_NONE */
const NO_LINK_LOCAL = 1

function planMode({ name, link }: Wanted, seen: Seen): Change[] {
  const device = seen.inner?.device ?? null
  const end = { inner: name }
  if (link.kind === 'macvlan' && device?.kind === 'macvlan' && device.mode !== link.mode) {
    const difference = { field: 'link.mode', wanted: link.mode, found: String(device.mode) }
    return [
      differing(
        name,
        difference,
        `set its mode to ${link.mode}`,
        act.change(end, { kind: 'macvlan', mode: link.mode }),
      ),
    ]
  }
  if (
    link.kind === 'ipvlan' &&
    device?.kind === 'ipvlan' &&
    (device.mode !== link.mode || device.isolation !== link.isolation)
  ) {
    const { mode, isolation } = link
    const difference = {
      field: 'link.mode',
      wanted: `${mode} ${isolation}`,
      found: `${device.mode} ${device.isolation}`,
    }
    return [
      differing(
        name,
        difference,
        `set its mode to ${mode} ${isolation}`,
        act.change(end, { kind: 'ipvlan', mode, isolation }),
      ),
    ]
  }
  if (link.kind !== 'vxlan' || device?.kind !== 'vxlan') return []
  const remote = ipText(ipBytes(link.remote))
  if (device.remote === remote && device.learning === link.learning) return []
  const difference = {
    field: 'link.remote',
    wanted: `${remote}, learning ${link.learning}`,
    found: `${device.remote}, learning ${device.learning}`,
  }
  const change = { kind: 'vxlan', remote: ipBytes(remote), learning: link.learning } as const
  return [differing(name, difference, `lead it to ${remote}`, act.change(end, change))]
}

function planSize(wanted: Wanted, made: Made, seen: Seen, outer: OuterEnd | null): Change[] {
  const { name, link, mac } = wanted
  const { inner } = seen
  if (inner === null) return []
  const changes: Change[] = []
  const mtu = mtuOf(wanted, seen, made)
  if (mtu !== null && inner.mtu !== mtu) {
    changes.push(
      differing(
        name,
        { field: 'mtu', wanted: mtu, found: inner.mtu },
        `set its MTU to ${mtu}`,
        act.giveMtu({ inner: name }, mtu),
      ),
    )
  }
  const station = mac ?? (link.kind === 'physical' ? (made.former?.mac ?? null) : null)
  if (station !== null && inner.mac !== station) {
    changes.push(
      differing(
        name,
        { field: 'mac', wanted: station, found: inner.mac },
        `give it the MAC ${station}`,
        act.giveMac({ inner: name }, station),
      ),
    )
  }
  const far = link.kind === 'veth' ? link.peer.mac : undefined
  if (far !== undefined && outer !== null && seen.outer !== null && seen.outer.mac !== far) {
    changes.push(
      differing(
        name,
        { field: 'link.peer.mac', wanted: far, found: seen.outer.mac },
        `give ${outer.outer} the MAC ${far}`,
        act.giveMac(outer, far),
      ),
    )
  }
  return changes
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

/** Higher than any other on a bridge, which takes the lowest MAC of its ports unless it has one of its own. */
function outerMac(inner: string | null): string | undefined {
  return inner === null ? undefined : `fe${inner.slice(2)}`
}

function rangesOf(vlan: NonNullable<Extract<LinkSpec, { kind: 'bridge' }>['vlan']>): VlanRange[] {
  const own = (id: number) => ({ from: id, to: id, pvid: true, untagged: true })
  if ('access' in vlan) return [own(vlan.access)]
  const tagged = vlan.trunk.map((entry) => {
    const [from = 0, to = from] = String(entry).split('-').map(Number)
    return { from, to, pvid: false, untagged: false }
  })
  return vlan.native === undefined ? tagged : [...tagged, own(vlan.native)]
}

/** By VLAN: how frames of it are treated. */
function expanded(ranges: readonly VlanRange[]): Map<number, string> {
  const all = new Map<number, string>()
  for (const { from, to, pvid, untagged } of ranges) {
    for (let id = from; id <= to; id++) all.set(id, `${pvid ? 'p' : ''}${untagged ? 'u' : ''}`)
  }
  return all
}

function single(id: number, how = ''): VlanRange {
  return { from: id, to: id, pvid: how.includes('p'), untagged: how.includes('u') }
}

function vlanText(ranges: readonly VlanRange[]): string {
  const parts = ranges.map(({ from, to, pvid }) => `${from === to ? from : `${from}-${to}`}${pvid ? ' untagged' : ''}`)
  return parts.length === 0 ? 'no VLAN' : `VLAN ${parts.join(', ')}`
}

function noDevice(name: string, device: string): WiringError {
  return new WiringError('device-missing', `${name}: the host has no ${device}: see "ip link"`)
}
