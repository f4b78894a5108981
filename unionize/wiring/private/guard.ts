import { EXTENSION_HEADERS, FRAGMENT } from '../firewall/port-rules.ts'
import { TCP, UDP } from '../firewall/rules.ts'
import { addressBytes } from '../input.ts'
import type { HubShare } from './share.ts'

const SCTP = 132

/** Nothing gets from a bridge of the hub into the hub itself, nor out of it: it is a switch, not a router. */
const HUB = [
  'add table bridge hub',
  'delete table bridge hub',
  'add table bridge hub',
  'add chain bridge hub input { type filter hook input priority 0; policy drop; }',
  'add chain bridge hub output { type filter hook output priority 0; policy drop; }',
]

/**
 * The rules of one instance's ports in the hub, in place of any former ones and in one transaction. A port sends from its
 * own MAC and address only, and as neighbour names only itself; no VLAN tags, router advertisements, redirects or DHCPv6
 * server answers, extension headers, and nothing that is not IPv6. A port without an address here sends nothing.
 */
export function guardRules(share: HubShare): string {
  const { scope } = share
  const members = share.networks.flatMap((network) => network.members)
  const own = members.map((m) => `"${m.port}" . ${m.mac} . ${m.address}`)
  const targets = members.map((m) => `"${m.port}" . ${m.mac} . 0x${addressBytes(m.address).toString('hex')}`)
  const elements = (list: readonly string[]) => (list.length === 0 ? '' : ` elements = { ${list.join(', ')} };`)
  return [
    ...HUB,
    ...removal(scope),
    `add table bridge ${scope}`,
    `add set bridge ${scope} sources { type ifname . ether_addr . ipv6_addr;${elements(own)} }`,
    `add set bridge ${scope} targets { typeof iifname . ether saddr . @th,64,128;${elements(targets)} }`,
    `add chain bridge ${scope} advertisement`,
    `add rule bridge ${scope} advertisement iifname . ether saddr . @th,64,128 @targets return`,
    `add rule bridge ${scope} advertisement drop`,
    `add chain bridge ${scope} from_port`,
    `add rule bridge ${scope} from_port ether type { 8021q, 8021ad } drop`,
    // Behind a header that may be left out, or in a fragment, an advertisement would hide (RFC 7113).
    `add rule bridge ${scope} from_port ip6 nexthdr { ${EXTENSION_HEADERS.join(', ')} } drop`,
    `add rule bridge ${scope} from_port ip6 nexthdr ${FRAGMENT} meta l4proto != { ${TCP}, ${UDP}, ${SCTP} } drop`,
    `add rule bridge ${scope} from_port icmpv6 type { nd-router-advert, nd-redirect } drop`,
    `add rule bridge ${scope} from_port udp sport 547 drop`,
    `add rule bridge ${scope} from_port icmpv6 type nd-neighbor-advert jump advertisement`,
    `add rule bridge ${scope} from_port iifname . ether saddr . ip6 saddr @sources accept`,
    `add rule bridge ${scope} from_port drop`,
    `add chain bridge ${scope} prerouting { type filter hook prerouting priority -300; policy accept; }`,
    `add rule bridge ${scope} prerouting iifname "${scope}*" jump from_port`,
  ].join('\n')
}

/** Takes the rules of one instance's ports away, also where there are none. */
export function guardRemoval(scope: string): string {
  return removal(scope).join('\n')
}

function removal(scope: string): string[] {
  return [`add table bridge ${scope}`, `delete table bridge ${scope}`]
}
