import { linkHeader, RTM_DELLINK } from './links.ts'
import {
  attribute,
  attributeList,
  attributesIn,
  attributeU32,
  type Message,
  message,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  sized,
  u16Of,
  u32Of,
} from './netlink.ts'

/** Messages about the VLANs of a bridge's ports: linux/if_bridge.h. */
const RTM_GETLINK = 18
const RTM_SETLINK = 19

const AF_BRIDGE = 7
const IFINFOMSG = 16
const IFLA_MASTER = 10
const IFLA_AF_SPEC = 26
const IFLA_EXT_MASK = 29
const IFLA_BRIDGE_VLAN_INFO = 2
const BRIDGE_VLAN_INFO_PVID = 2
const BRIDGE_VLAN_INFO_UNTAGGED = 4
const BRIDGE_VLAN_INFO_RANGE_BEGIN = 8
const BRIDGE_VLAN_INFO_RANGE_END = 0x10
const RTEXT_FILTER_BRVLAN_COMPRESSED = 4

const CHANGE = NLM_F_REQUEST | NLM_F_ACK

/** VLANs of one port that follow each other and are treated alike. */
export interface VlanRange {
  /** 1 to 4094. */
  readonly from: number
  readonly to: number
  /** Untagged frames that come in belong to it; for one VLAN only. */
  readonly pvid: boolean
  /** Its frames go out without a tag. */
  readonly untagged: boolean
}

/** The VLANs of one port. */
export interface PortVlans {
  readonly index: number
  /** Index of the bridge; of a bridge itself, its own. */
  readonly master: number
  readonly vlans: readonly VlanRange[]
}

/** Adds VLANs to a port of a bridge, or changes how it treats them. Others that it has stay. */
export function setPortVlans(index: number, ranges: readonly VlanRange[]): Buffer {
  return message(RTM_SETLINK, CHANGE, portHeader(index), attribute(IFLA_AF_SPEC, ...ranges.flatMap(infoOf)))
}

/** Takes VLANs from a port; those that it does not have do not matter. */
export function deletePortVlans(index: number, ranges: readonly Pick<VlanRange, 'from' | 'to'>[]): Buffer {
  const plain = ranges.flatMap(({ from, to }) => infoOf({ from, to, pvid: false, untagged: false }))
  return message(RTM_DELLINK, CHANGE, portHeader(index), attribute(IFLA_AF_SPEC, ...plain))
}

/** Asks for the VLANs of all ports of all bridges. Where the kernel has none, no port tells any. */
export function getBridgeVlans(): Buffer {
  const mask = attributeU32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED)
  return message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, portHeader(0), mask)
}

/** Reads an RTM_NEWLINK that answers `getBridgeVlans`. @throws WiringError `answer-unreadable` */
export function vlansOf(reply: Message): PortVlans {
  const header = sized(reply.body, IFINFOMSG)
  const index = header.readInt32LE(4)
  const attributes = attributesIn(header.subarray(IFINFOMSG))
  const master = attributes.get(IFLA_MASTER)
  const vlans: VlanRange[] = []
  let begin = 0
  for (const [type, payload] of attributeList(attributes.get(IFLA_AF_SPEC))) {
    if (type !== IFLA_BRIDGE_VLAN_INFO) continue
    const flags = u16Of(payload)
    const id = u16Of(payload.subarray(2))
    if (flags & BRIDGE_VLAN_INFO_RANGE_BEGIN) {
      begin = id
      continue
    }
    vlans.push({
      from: flags & BRIDGE_VLAN_INFO_RANGE_END ? begin : id,
      to: id,
      pvid: (flags & BRIDGE_VLAN_INFO_PVID) !== 0,
      untagged: (flags & BRIDGE_VLAN_INFO_UNTAGGED) !== 0,
    })
  }
  return { index, master: master === undefined ? index : u32Of(master), vlans }
}

function infoOf(range: VlanRange): Buffer[] {
  const flags = (range.pvid ? BRIDGE_VLAN_INFO_PVID : 0) | (range.untagged ? BRIDGE_VLAN_INFO_UNTAGGED : 0)
  if (range.from === range.to) return [vlanInfo(flags, range.from)]
  return [
    vlanInfo(flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, range.from),
    vlanInfo(flags | BRIDGE_VLAN_INFO_RANGE_END, range.to),
  ]
}

/** struct bridge_vlan_info. */
function vlanInfo(flags: number, id: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt16LE(flags, 0)
  payload.writeUInt16LE(id, 2)
  return attribute(IFLA_BRIDGE_VLAN_INFO, payload)
}

function portHeader(index: number): Buffer {
  const header = linkHeader({ index })
  header[0] = AF_BRIDGE
  return header
}
