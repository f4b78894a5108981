import { addressBytes, LINK_PREFIX } from '../input.ts'
import { networkOf, prefixText } from '../kernel/ip.ts'
import type { HostNetwork } from '../wiring.ts'
import { chain, countersOf, drop, ICMPV6, TCP, UDP } from './rules.ts'

/** The chain that lets through to the internet; those of prefixes are made as they are needed. */
export const INTERNET = 'egress_internet'

/** Global unicast (IANA), and IPv4 behind a translator (RFC 6052). */
export const REACHABLE = ['2000::/3', '64:ff9b::/96']
/**
 * Of these, what is not the internet: protocol assignments (with Teredo, RFC 4380), documentation (RFC 3849, RFC 9637), 6to4
 * (RFC 7526), and, translated, the private and special networks of IPv4 (RFC 6890).
 */
const NOT_INTERNET = [
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
  '64:ff9b::/104',
  '64:ff9b::a00:0/104',
  '64:ff9b::6440:0/106',
  '64:ff9b::7f00:0/104',
  '64:ff9b::a9fe:0/112',
  '64:ff9b::ac10:0/108',
  '64:ff9b::c000:0/120',
  '64:ff9b::c0a8:0/112',
  '64:ff9b::c612:0/111',
  '64:ff9b::e000:0/99',
]

/** What the rules must know of the host as it is now. */
export interface Surroundings {
  /** MAC of the instances' bridge. */
  readonly gatewayMac: string
  /** Prefixes of the host's own addresses that would pass for the internet, none within another. */
  readonly networks: readonly string[]
}

/**
 * Whose packets are routed to and from instances, and what of the host they reach: tables `inet unionize` and `arp
 * unionize`. Everything is looked up for every packet, so that taking an element away cuts established connections too.
 *
 * What an instance begins, and what everybody begins with it, is judged by the first packet's addresses (`ct original`):
 * the same chains hold for both directions.
 */
export function pathRules(network: HostNetwork, surroundings: Surroundings): string[] {
  const rules = [...policies(), ...paths(network), ...stray('inet')]
  const networks = surroundings.networks.join(', ')
  return [
    'add table inet unionize',
    'add table arp unionize',
    'add set inet unionize passages { type ipv6_addr . ipv6_addr; }',
    'add map inet unionize mine { type ipv6_addr : ipv6_addr; }',
    // Which next hop answers to an owner take: not for rules, but to be read back.
    'add map inet unionize returns { type ipv6_addr . ipv6_addr : ipv6_addr; }',
    'add set inet unionize ways { type ipv6_addr . ipv6_addr; }',
    // By owner and instance, the next hop (to be read back as well), and the address that stands for the instance.
    'add map inet unionize routed { type ipv6_addr . ipv6_addr : ipv6_addr; }',
    'add map inet unionize translated { type ipv6_addr . ipv6_addr : ipv6_addr; }',
    'add set inet unionize elsewhere { type ipv6_addr; }',
    'add set inet unionize outside { type ipv6_addr; }',
    'add set inet unionize masked { type ipv6_addr . ipv6_addr; }',
    'add map inet unionize disguised { type ipv6_addr . ipv6_addr : ipv6_addr; }',
    'add map inet unionize public { type ipv6_addr : verdict; }',
    'add map inet unionize egress { type ipv6_addr : verdict; }',
    'add set inet unionize excess_begun { type ipv6_addr; limit rate over 1/second burst 1 packets; }',
    'add set inet unionize excess_opened { type ipv6_addr; limit rate over 1/second burst 1 packets; }',
    'add set inet unionize excess_download { type ipv6_addr; limit rate over 1 bytes/second burst 1 bytes; }',
    'add set inet unionize own_networks { type ipv6_addr; flags interval; }',
    'flush set inet unionize own_networks',
    ...(networks === '' ? [] : [`add element inet unionize own_networks { ${networks} }`]),
    ...countersOf('inet', rules),
    ...countersOf('arp', stray('arp')),
    ...rules,
    ...stray('arp'),
  ]
}

/** What follows once addresses and ports are found to be allowed. */
function policies(): string[] {
  return [
    ...chain('inet', 'admitted', null, [`ip6 daddr @excess_download ${drop('bandwidth')}`, 'accept']),
    ...chain('inet', 'opened', null, [
      `ct state new ip6 daddr @excess_opened ${drop('connection-rate')}`,
      'goto admitted',
    ]),
    ...chain('inet', 'begun', null, [
      `ct state new ip6 saddr @excess_begun ${drop('connection-rate')}`,
      'goto admitted',
    ]),
    ...chain('inet', INTERNET, null, [
      `ct original ip6 daddr { ${NOT_INTERNET.join(', ')} } return`,
      'ct original ip6 daddr @own_networks return',
      `ct original ip6 daddr { ${REACHABLE.join(', ')} } goto begun`,
    ]),
  ]
}

function paths(network: HostNetwork): string[] {
  return [
    ...chain('inet', 'to_instances', null, [
      'ip6 saddr . ip6 daddr @passages goto admitted',
      `ct state related meta l4proto ${ICMPV6} ct reply ip6 daddr . ct reply ip6 saddr @passages accept`,
      `ip6 saddr @elsewhere ${drop('other-instance')}`,
      'ct direction original ct original ip6 daddr vmap @public',
      'ct direction reply ct state established,related ct original ip6 saddr vmap @egress',
      drop('stranger'),
    ]),
    // An ICMPv6 error goes to the owner only if it is about a connection of the owner's.
    ...chain('inet', 'from_instances', null, [
      'ct state established ip6 daddr . ip6 saddr @passages accept',
      `ct state related meta l4proto ${ICMPV6} ip6 daddr . ip6 saddr @passages ` +
        'ct reply ip6 daddr . ct reply ip6 saddr @passages accept',
      `oifname "${network.bridge}" ${drop('other-instance')}`,
      `ip6 daddr @elsewhere ${drop('other-instance')}`,
      `ct direction original ip6 daddr @outside ${drop('other-instance')}`,
      'ct direction reply ct state established ct original ip6 daddr vmap @public',
      'ct direction original ct state new,established ct original ip6 saddr vmap @egress',
      drop('egress'),
    ]),
    ...chain('inet', 'to_host', null, [
      'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept',
      `ct state new ip6 saddr @excess_begun ${drop('connection-rate')}`,
      `ip6 daddr ${network.gateway} meta l4proto { ${TCP}, ${UDP} } th dport 53 accept`,
      'ct state established ct direction reply accept',
      `ip6 daddr ff00::/8 ${drop('multicast')}`,
      drop('host'),
    ]),
    ...chain('inet', 'forward', 'filter hook forward priority 0', [
      `iifname "${network.bridge}" jump from_instances`,
      `oifname "${network.bridge}" jump to_instances`,
      ...elsewhere(network),
    ]),
    ...chain('inet', 'input', 'filter hook input priority 0', [`iifname "${network.bridge}" jump to_host`]),
    ...chain('inet', 'my_instance', 'nat hook prerouting priority -100', [
      `ip6 daddr ${network.myAddress} dnat ip6 to ip6 saddr map @mine`,
      'dnat ip6 to ip6 saddr . ip6 daddr map @translated',
    ]),
    // Only what was sent to a name of ours: a way that is closed would leave other connections masqueraded.
    ...chain('inet', 'own_source', 'nat hook postrouting priority 100', [
      'ct status dnat snat ip6 to ip6 saddr . ip6 daddr map @disguised',
      'ct status dnat ip6 saddr . ip6 daddr @masked masquerade',
    ]),
    ...chain('inet', 'no_instance', 'filter hook prerouting priority -90', [
      `ip6 daddr ${network.myAddress} meta l4proto ${TCP} reject with tcp reset`,
      `ip6 daddr ${network.myAddress} reject with icmpv6 port-unreachable`,
    ]),
  ]
}

/**
 * What is neither from nor to an instance on this host: connections of owners with instances elsewhere, with the errors about
 * them, both ways. The connection of a way that was closed is known by its first packet's destination.
 */
function elsewhere({ gateway, prefixLength, myAddress }: HostNetwork): string[] {
  const instances = prefixText(networkOf(addressBytes(gateway), prefixLength), prefixLength)
  return [
    'ct original ip6 saddr . ct reply ip6 saddr @ways accept',
    `ip6 daddr @elsewhere ${drop('stranger')}`,
    `ip6 saddr @elsewhere ${drop('egress')}`,
    `ct direction original ip6 daddr @outside ${drop('stranger')}`,
    `ct original ip6 daddr ${instances} ${drop('stranger')}`,
    `ct original ip6 daddr ${myAddress} ${drop('stranger')}`,
  ]
}

/**
 * Frames to some group addresses (01:80:c2:00:00:0X, IEEE 802.1D) never enter a bridge: the kernel hands them to the port
 * itself, and what they hold to the protocols of the host (`br_handle_frame` in net/bridge/br_input.c).
 */
function stray(family: 'inet' | 'arp'): string[] {
  const hook = family === 'inet' ? 'filter hook prerouting priority -300' : 'filter hook input priority 0'
  return chain(family, 'stray', hook, [`iifname "${LINK_PREFIX}*" ${drop('reserved-group')}`])
}
