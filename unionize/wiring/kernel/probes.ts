import { IFLA_BR_VLAN_DEFAULT_PVID, IFLA_BR_VLAN_FILTERING } from './device-data.ts'
import { linkHeader, RTM_NEWLINK } from './links.ts'
import {
  attribute,
  attributeText,
  attributeU8,
  attributeU16,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
} from './netlink.ts'

/** Of linux/if_link.h. */
const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
/** Above VLAN_N_VID of linux/if_vlan.h. */
const NO_VLAN = 5000

/**
 * What a kernel refuses that knows the thing asked for (PROBE_REFUSAL), and otherwise too, but then because it does not
 * know it. Nothing is ever made.
 */
export const PROBE_REFUSAL = 'EINVAL'

/**
 * Asks for a device of this kind that no kernel makes: with a MAC of one octet, without a parent and without data. Who
 * does not know the kind says so before it looks at that (`__rtnl_newlink` in net/core/rtnetlink.c).
 */
export function probeKind(kind: 'dummy' | 'ipvlan' | 'macvlan' | 'vlan' | 'vxlan'): Buffer {
  return probe(attribute(IFLA_ADDRESS, Buffer.of(2)), info(kind))
}

/** Asks for a bridge that tells VLANs apart, with a default one that cannot be (`br_changelink` in net/bridge/br_netlink.c). */
export function probeBridgeVlans(): Buffer {
  const data = [attributeU8(IFLA_BR_VLAN_FILTERING, 1), attributeU16(IFLA_BR_VLAN_DEFAULT_PVID, NO_VLAN)]
  return probe(info('bridge', attribute(IFLA_INFO_DATA, ...data)))
}

function probe(...attributes: readonly Buffer[]): Buffer {
  const flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
  return message(RTM_NEWLINK, flags, linkHeader({}), attributeText(IFLA_IFNAME, 'un-probe'), ...attributes)
}

function info(kind: string, ...data: readonly Buffer[]): Buffer {
  return attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, Buffer.from(kind)), ...data)
}
