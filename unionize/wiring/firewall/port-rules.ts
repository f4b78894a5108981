import { LINK_PREFIX } from '../input.ts'
import { chain, countersOf, drop, ICMPV6, TCP, UDP } from './rules.ts'

/** Next header of a fragment (RFC 8200, 4.5). */
export const FRAGMENT = 44
/** What an instance may put right behind the IPv6 header, beside TCP, UDP and ICMPv6: IP in IP, GRE, ESP, SCTP, UDP-Lite. */
const OTHER_PROTOCOLS = [4, 41, 47, 50, 132, 136]
/** Extension headers (IANA, IPv6 Extension Header Types). */
export const EXTENSION_HEADERS = [0, 43, 51, 60, 135, 139, 140, 253, 254]
/** Errors and echo (RFC 4443): what remains of ICMPv6 for one who is neither router nor neighbour of anybody. */
const PLAIN_ICMPV6 = '{ 1, 2, 3, 4, 128, 129 }'
const MULTICAST_LISTENER = '{ 130, 131, 132, 143 }'
/** Lowest bit of the first byte of a MAC (IEEE 802): a group. */
const GROUP_MAC = '01:00:00:00:00:00'

/**
 * What a port of ours may send, judged as its frames enter the bridge: table `bridge unionize`.
 *
 * The first header decides, together with the last one that the kernel finds (`meta l4proto`): with no extension header
 * between them they are the same, so that nothing hides behind one (RFC 7113). A fragment may carry anything but neighbour
 * discovery (RFC 6980), whose type stands in the first fragment, or the whole is never put together.
 *
 * @param gatewayMac the bridge's MAC: all that instances ever talk to
 */
export function portRules(gatewayMac: string): string[] {
  const rules = [...discovery(), ...carrying(gatewayMac), ...entering()]
  return [
    'add table bridge unionize',
    'add set bridge unionize sources { type ifname . ether_addr . ipv6_addr; }',
    'add set bridge unionize targets { typeof iifname . ether saddr . @th,64,128; }',
    'add set bridge unionize macs { typeof iifname . @ll,48,48; }',
    'add set bridge unionize excess_packets { type ifname; limit rate over 1/second burst 1 packets; }',
    'add set bridge unionize excess_upload { type ifname; limit rate over 1 bytes/second burst 1 bytes; }',
    ...countersOf('bridge', rules),
    ...rules,
  ]
}

/** Neighbour discovery (RFC 4861): only of itself, with no other MAC than its own in it. */
function discovery(): string[] {
  return [
    ...chain('bridge', 'sender', null, [
      'iifname . ether saddr . ip6 saddr @sources accept',
      `iifname . @ll,48,48 != @macs ${drop('mac')}`,
      `ip6 saddr fe80::/10 ${drop('link-local')}`,
      `ip6 saddr :: ${drop('unspecified-source')}`,
      drop('address'),
    ]),
    ...chain('bridge', 'not_gateway', null, [
      `ether daddr & ${GROUP_MAC} == 00:00:00:00:00:00 ${drop('other-instance')}`,
      drop('multicast'),
    ]),
    ...chain('bridge', 'neighbourhood', null, [
      'ip6 daddr { ff02::1, ff02::2, ff02::1:ff00:0/104 } return',
      'goto not_gateway',
    ]),
    // Duplicate address detection (RFC 4862, 5.4.2) has no source yet; Linux adds a nonce (RFC 7527).
    ...chain('bridge', 'solicitation', null, [
      'ip6 saddr :: iifname . ether saddr . @th,64,128 @targets ip6 length 24 accept',
      'ip6 saddr :: iifname . ether saddr . @th,64,128 @targets ip6 length 32 @th,192,16 0x0e01 accept',
      'ip6 saddr != :: ip6 length 24 goto sender',
      'ip6 saddr != :: ip6 length 32 @th,192,16 0x0101 iifname . @th,208,48 @macs goto sender',
      drop('neighbour-solicitation'),
    ]),
    ...chain('bridge', 'advertisement', null, [
      'iifname . ether saddr . @th,64,128 @targets ip6 length 24 goto sender',
      'iifname . ether saddr . @th,64,128 @targets ip6 length 32 @th,192,16 0x0201 iifname . @th,208,48 @macs goto sender',
      drop('neighbour-advertisement'),
    ]),
    ...chain('bridge', 'router_solicitation', null, [
      'ip6 length 8 goto sender',
      'ip6 length 16 @th,64,16 0x0101 iifname . @th,80,48 @macs goto sender',
      drop('router-solicitation'),
    ]),
    ...chain('bridge', 'never', null, [
      `icmpv6 type nd-router-advert ${drop('router-advertisement')}`,
      `icmpv6 type nd-redirect ${drop('redirect')}`,
      `icmpv6 type ${MULTICAST_LISTENER} ${drop('multicast-listener')}`,
    ]),
  ]
}

/** By what is in a packet, which has no extension header but that of a fragment. */
function carrying(gatewayMac: string): string[] {
  const elsewhere = `ether daddr != ${gatewayMac}`
  return [
    ...chain('bridge', 'packet', null, [`${elsewhere} goto not_gateway`, 'goto sender']),
    ...chain('bridge', 'datagram', null, [
      `udp sport 547 ${drop('dhcp-server')}`,
      `udp dport 546 ${drop('dhcp-server')}`,
      'goto packet',
    ]),
    ...chain('bridge', 'control', null, [
      `icmpv6 type ${PLAIN_ICMPV6} goto packet`,
      'jump never',
      `${elsewhere} jump neighbourhood`,
      'ip6 hoplimit 255 icmpv6 code 0 icmpv6 type vmap { nd-neighbor-solicit : goto solicitation, ' +
        'nd-neighbor-advert : goto advertisement, nd-router-solicit : goto router_solicitation }',
      `icmpv6 type nd-neighbor-solicit ${drop('neighbour-solicitation')}`,
      `icmpv6 type nd-neighbor-advert ${drop('neighbour-advertisement')}`,
      `icmpv6 type nd-router-solicit ${drop('router-solicitation')}`,
      drop('icmpv6-type'),
    ]),
    ...chain('bridge', 'fragmented_control', null, [
      '@nh,336,13 != 0 goto packet',
      `icmpv6 type ${PLAIN_ICMPV6} goto packet`,
      'jump never',
      drop('fragment'),
    ]),
    ...chain('bridge', 'not_ipv6', null, [
      `ether type { 8021q, 8021ad } ${drop('vlan')}`,
      `ether type arp ${drop('arp')}`,
      `ether type ip udp sport 67 ${drop('dhcp-server')}`,
      `ether type ip ${drop('ipv4')}`,
      drop('ethertype'),
    ]),
    ...chain('bridge', 'odd', null, [
      `meta l4proto ${ICMPV6} jump never`,
      `ip6 nexthdr { ${EXTENSION_HEADERS.join(', ')} } ${drop('extension-header')}`,
      drop('malformed'),
    ]),
  ]
}

/** Where frames come in, and where they would go out to another port. */
function entering(): string[] {
  const plain = [TCP, ...OTHER_PROTOCOLS]
  const leads = [
    ...plain.map((protocol) => `${protocol} . ${protocol} : goto packet`),
    `${UDP} . ${UDP} : goto datagram`,
    `${ICMPV6} . ${ICMPV6} : goto control`,
    ...plain.map((protocol) => `${FRAGMENT} . ${protocol} : goto packet`),
    `${FRAGMENT} . ${UDP} : goto datagram`,
    `${FRAGMENT} . ${ICMPV6} : goto fragmented_control`,
  ]
  return [
    ...chain('bridge', 'from_port', null, [
      `iifname @excess_packets ${drop('packet-rate')}`,
      `iifname @excess_upload ${drop('bandwidth')}`,
      'ether type != ip6 goto not_ipv6',
      `ip6 nexthdr . meta l4proto vmap { ${leads.join(', ')} }`,
      'goto odd',
    ]),
    ...chain('bridge', 'prerouting', 'filter hook prerouting priority -300', [
      `iifname "${LINK_PREFIX}*" jump from_port`,
    ]),
    ...chain('bridge', 'forward', 'filter hook forward priority 0', [
      `iifname "${LINK_PREFIX}*" ${drop('other-instance')}`,
      `oifname "${LINK_PREFIX}*" ${drop('stranger')}`,
    ]),
  ]
}
