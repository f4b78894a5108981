import { ipText } from './ip.ts'
import { attributesIn, be16Of, sized, u8Of, u16Of, u32Of } from './netlink.ts'

/** What only devices of one kind have: IFLA_INFO_DATA of linux/if_link.h, as words of the spec. */

export type MacvlanMode = 'bridge' | 'vepa' | 'private' | 'passthru'
export type IpvlanMode = 'l2' | 'l3' | 'l3s'
export type IpvlanIsolation = 'bridge' | 'private' | 'vepa'
export type VlanProtocol = '802.1Q' | '802.1ad'

/** MACVLAN_MODE_ */
export const MACVLAN_MODES: Readonly<Record<MacvlanMode, number>> = { private: 1, vepa: 2, bridge: 4, passthru: 8 }
/** IPVLAN_MODE_ */
export const IPVLAN_MODES: Readonly<Record<IpvlanMode, number>> = { l2: 0, l3: 1, l3s: 2 }
/** IPVLAN_F_ */
export const IPVLAN_ISOLATIONS: Readonly<Record<IpvlanIsolation, number>> = { bridge: 0, private: 1, vepa: 2 }
/** EtherTypes: ETH_P_8021Q and ETH_P_8021AD of linux/if_ether.h. */
export const VLAN_PROTOCOLS: Readonly<Record<VlanProtocol, number>> = { '802.1Q': 0x8100, '802.1ad': 0x88a8 }

export const IFLA_BR_STP_STATE = 5
export const IFLA_BR_VLAN_FILTERING = 7
export const IFLA_BR_VLAN_DEFAULT_PVID = 39
export const IFLA_MACVLAN_MODE = 1
export const IFLA_IPVLAN_MODE = 1
export const IFLA_IPVLAN_FLAGS = 2
export const IFLA_VLAN_ID = 1
export const IFLA_VLAN_PROTOCOL = 5
export const IFLA_VXLAN_ID = 1
export const IFLA_VXLAN_GROUP = 2
export const IFLA_VXLAN_LINK = 3
export const IFLA_VXLAN_LOCAL = 4
export const IFLA_VXLAN_LEARNING = 7
export const IFLA_VXLAN_PORT = 15
export const IFLA_VXLAN_GROUP6 = 16
export const IFLA_VXLAN_LOCAL6 = 17

/** What is special about a device; a mode that we do not know is null. */
export type DeviceData =
  | {
      readonly kind: 'bridge'
      readonly vlanFiltering: boolean
      readonly stp: boolean
      /** VLAN of untagged frames at a new port; 0: none; null: this kernel has none (CONFIG_BRIDGE_VLAN_FILTERING). */
      readonly defaultPvid: number | null
    }
  | { readonly kind: 'macvlan'; readonly mode: MacvlanMode | null }
  | { readonly kind: 'ipvlan'; readonly mode: IpvlanMode | null; readonly isolation: IpvlanIsolation | null }
  | { readonly kind: 'vlan'; readonly id: number; readonly protocol: VlanProtocol | null }
  | {
      readonly kind: 'vxlan'
      readonly id: number
      /** The other end or the multicast group; null: none. */
      readonly remote: string | null
      readonly local: string | null
      readonly port: number
      readonly learning: boolean
      /** Index of the device it sends through; 0: any. */
      readonly parent: number
    }
  | { readonly kind: 'veth' }
  | { readonly kind: 'dummy' }

/**
 * Reads IFLA_INFO_DATA; null for a kind that we do not make.
 * @throws WiringError `answer-unreadable`
 */
export function deviceDataOf(kind: string, payload: Buffer | undefined): DeviceData | null {
  const data = attributesIn(payload)
  switch (kind) {
    case 'bridge':
      return {
        kind,
        vlanFiltering: readOr(data.get(IFLA_BR_VLAN_FILTERING), 0, u8Of) !== 0,
        stp: readOr(data.get(IFLA_BR_STP_STATE), 0, u32Of) !== 0,
        defaultPvid: readOr(data.get(IFLA_BR_VLAN_DEFAULT_PVID), null, u16Of),
      }
    case 'macvlan':
      return { kind, mode: named(MACVLAN_MODES, readOr(data.get(IFLA_MACVLAN_MODE), null, u32Of)) }
    case 'ipvlan':
      return {
        kind,
        mode: named(IPVLAN_MODES, readOr(data.get(IFLA_IPVLAN_MODE), null, u16Of)),
        isolation: named(IPVLAN_ISOLATIONS, readOr(data.get(IFLA_IPVLAN_FLAGS), 0, u16Of)),
      }
    case 'vlan':
      return {
        kind,
        id: readOr(data.get(IFLA_VLAN_ID), 0, u16Of),
        protocol: named(VLAN_PROTOCOLS, readOr(data.get(IFLA_VLAN_PROTOCOL), VLAN_PROTOCOLS['802.1Q'], be16Of)),
      }
    case 'vxlan':
      return {
        kind,
        id: readOr(data.get(IFLA_VXLAN_ID), 0, u32Of),
        remote: addressIn(data.get(IFLA_VXLAN_GROUP), data.get(IFLA_VXLAN_GROUP6)),
        local: addressIn(data.get(IFLA_VXLAN_LOCAL), data.get(IFLA_VXLAN_LOCAL6)),
        port: readOr(data.get(IFLA_VXLAN_PORT), 0, be16Of),
        learning: readOr(data.get(IFLA_VXLAN_LEARNING), 0, u8Of) !== 0,
        parent: readOr(data.get(IFLA_VXLAN_LINK), 0, u32Of),
      }
    case 'veth':
    case 'dummy':
      return { kind }
    default:
      return null
  }
}

function readOr<T, N>(payload: Buffer | undefined, absent: N, read: (payload: Buffer) => T): T | N {
  return payload === undefined ? absent : read(payload)
}

function named<T extends string>(names: Readonly<Record<T, number>>, number: number | null): T | null {
  return (Object.keys(names) as T[]).find((name) => names[name] === number) ?? null
}

/** The kernel tells an address that is not set as one without bits, or not at all. */
function addressIn(v4: Buffer | undefined, v6: Buffer | undefined): string | null {
  const bytes = v6 === undefined ? v4 && sized(v4, 4) : sized(v6, 16)
  return bytes?.some((byte) => byte !== 0) ? ipText(bytes) : null
}
