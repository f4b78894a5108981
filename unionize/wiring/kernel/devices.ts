import {
  IFLA_BR_STP_STATE,
  IFLA_BR_VLAN_FILTERING,
  IFLA_IPVLAN_FLAGS,
  IFLA_IPVLAN_MODE,
  IFLA_MACVLAN_MODE,
  IFLA_VLAN_ID,
  IFLA_VLAN_PROTOCOL,
  IFLA_VXLAN_GROUP,
  IFLA_VXLAN_GROUP6,
  IFLA_VXLAN_ID,
  IFLA_VXLAN_LEARNING,
  IFLA_VXLAN_LINK,
  IFLA_VXLAN_LOCAL,
  IFLA_VXLAN_LOCAL6,
  IFLA_VXLAN_PORT,
  IPVLAN_ISOLATIONS,
  IPVLAN_MODES,
  type IpvlanIsolation,
  type IpvlanMode,
  MACVLAN_MODES,
  type MacvlanMode,
  VLAN_PROTOCOLS,
  type VlanProtocol,
} from './device-data.ts'
import { changeLink, type LinkRef, linkHeader, RTM_NEWLINK } from './links.ts'
import { macBytes } from './mac.ts'
import {
  attribute,
  attributeBe16,
  attributeText,
  attributeU8,
  attributeU16,
  attributeU32,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
} from './netlink.ts'

/** The making of interfaces: linux/if_link.h, linux/veth.h. */
const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_LINKINFO = 18
const IFLA_GROUP = 27
const IFLA_NET_NS_FD = 28
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const VETH_INFO_PEER = 1

/** One end of a veth pair, or any other device, but for its kind. */
export interface DeviceEnd {
  readonly name: string
  /** Absent: a random one. */
  readonly mac?: string
  readonly mtu?: number
  /** File descriptor of the namespace in which it is made; absent: where the socket is, or the other end. */
  readonly namespace?: number
}

/** What kind of device, and what is special about it. */
export type NewKind =
  | { readonly kind: 'bridge'; readonly vlanFiltering?: boolean; readonly stp?: boolean }
  | { readonly kind: 'veth'; readonly peer: DeviceEnd }
  | { readonly kind: 'macvlan'; readonly mode: MacvlanMode }
  | { readonly kind: 'ipvlan'; readonly mode: IpvlanMode; readonly isolation: IpvlanIsolation }
  | { readonly kind: 'vlan'; readonly id: number; readonly protocol: VlanProtocol }
  | {
      readonly kind: 'vxlan'
      readonly id: number
      /** The other end, or a multicast group, which needs a parent. */
      readonly remote?: Buffer
      readonly local?: Buffer
      /** UDP. */
      readonly port: number
      readonly learning: boolean
    }
  | { readonly kind: 'dummy' }

/** A device to be made. */
export interface NewDevice extends DeviceEnd {
  readonly device: NewKind
  /** Index of the bridge that it is to be a port of, in its own namespace. */
  readonly master?: number
  /** Unlike the alias it is there from the first moment, so that a crash leaves nothing unmarked. */
  readonly group?: number
  /** Index of the device below it, in the namespace of the socket, also if it is made in another. */
  readonly parent?: number
}

/** What can be changed without making a device anew. The kernel refuses the rest, and macvlan from or to `passthru`. */
export type DeviceChange =
  | Extract<NewKind, { kind: 'bridge' | 'macvlan' | 'ipvlan' }>
  | { readonly kind: 'vxlan'; readonly remote?: Buffer; readonly learning?: boolean }

/** Makes a device, down, with its final name and MAC, in its namespace. A device of that name is EEXIST. */
export function createDevice(wish: NewDevice): Buffer {
  const { device, group, master, parent } = wish
  const below = device.kind === 'vxlan' ? undefined : parent
  const data = device.kind === 'vxlan' ? vxlanData(device, parent) : kindData(device)
  return message(
    RTM_NEWLINK,
    NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    linkHeader({}),
    ...endAttributes(wish),
    ...(master === undefined ? [] : [attributeU32(IFLA_MASTER, master)]),
    ...(group === undefined ? [] : [attributeU32(IFLA_GROUP, group)]),
    ...(below === undefined ? [] : [attributeU32(IFLA_LINK, below)]),
    attributeText(IFLA_IFNAME, wish.name),
    linkInfo(device.kind, data),
  )
}

/** Changes what is special about a device. */
export function changeDevice(ref: LinkRef, change: DeviceChange): Buffer {
  return changeLink(ref, linkInfo(change.kind, change.kind === 'vxlan' ? vxlanData(change) : kindData(change)))
}

function endAttributes(end: DeviceEnd): Buffer[] {
  return [
    ...(end.mac === undefined ? [] : [attribute(IFLA_ADDRESS, macBytes(end.mac))]),
    ...(end.mtu === undefined ? [] : [attributeU32(IFLA_MTU, end.mtu)]),
    ...(end.namespace === undefined ? [] : [attributeU32(IFLA_NET_NS_FD, end.namespace)]),
  ]
}

/** Like ip-link(8), the kind without a NUL and no empty IFLA_INFO_DATA. */
function linkInfo(kind: string, data: readonly Buffer[]): Buffer {
  const payload = data.length === 0 ? [] : [attribute(IFLA_INFO_DATA, ...data)]
  return attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, Buffer.from(kind)), ...payload)
}

function kindData(device: Exclude<NewKind, { kind: 'vxlan' }>): Buffer[] {
  switch (device.kind) {
    case 'bridge':
      return [
        ...(device.stp === undefined ? [] : [attributeU32(IFLA_BR_STP_STATE, Number(device.stp))]),
        ...(device.vlanFiltering === undefined
          ? []
          : [attributeU8(IFLA_BR_VLAN_FILTERING, Number(device.vlanFiltering))]),
      ]
    case 'veth':
      return [
        attribute(
          VETH_INFO_PEER,
          linkHeader({}),
          ...endAttributes(device.peer),
          attributeText(IFLA_IFNAME, device.peer.name),
        ),
      ]
    case 'macvlan':
      return [attributeU32(IFLA_MACVLAN_MODE, MACVLAN_MODES[device.mode])]
    case 'ipvlan':
      return [
        attributeU16(IFLA_IPVLAN_MODE, IPVLAN_MODES[device.mode]),
        attributeU16(IFLA_IPVLAN_FLAGS, IPVLAN_ISOLATIONS[device.isolation]),
      ]
    case 'vlan':
      return [attributeBe16(IFLA_VLAN_PROTOCOL, VLAN_PROTOCOLS[device.protocol]), attributeU16(IFLA_VLAN_ID, device.id)]
    case 'dummy':
      return []
  }
}

/** The device below a VXLAN is not its IFLA_LINK but one of its own attributes. */
function vxlanData(
  device: { id?: number; remote?: Buffer; local?: Buffer; port?: number; learning?: boolean },
  parent?: number,
): Buffer[] {
  const { id, remote, local, port, learning } = device
  return [
    ...(parent === undefined ? [] : [attributeU32(IFLA_VXLAN_LINK, parent)]),
    ...(id === undefined ? [] : [attributeU32(IFLA_VXLAN_ID, id)]),
    ...(local === undefined ? [] : [attribute(local.length === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local)]),
    ...(remote === undefined ? [] : [attribute(remote.length === 4 ? IFLA_VXLAN_GROUP : IFLA_VXLAN_GROUP6, remote)]),
    ...(learning === undefined ? [] : [attributeU8(IFLA_VXLAN_LEARNING, Number(learning))]),
    ...(port === undefined ? [] : [attributeBe16(IFLA_VXLAN_PORT, port)]),
  ]
}
