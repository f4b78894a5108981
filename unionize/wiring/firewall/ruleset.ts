import { addressBytes, LINK_PREFIX } from '../input.ts'
import type { HostNetwork, Passage, Source } from '../wiring.ts'

/** The two tables that are ours, and the only ones ever touched. */
export const TABLES = ['inet unionize', 'bridge unionize'] as const

/** Protocols by number: their names are looked up in /etc/protocols, which a small system does not have. */
const TCP = 6
const UDP = 17
const ICMPV6 = 58

/**
 * The rules that stay the same whatever instances there are, as one transaction that leaves the elements of the sets
 * alone. What it lets through:
 *
 * - to an instance: its owner, and ICMPv6 errors about the owner's own connections;
 * - from an instance: answers to its owner; to the host only neighbour discovery, DNS at the gateway, and answers to
 *   connections that the host itself opened;
 * - from a port of ours: only its own MAC and address, and as neighbour only itself;
 * - from one port of ours to another port: nothing.
 *
 * Everything else on the host passes as if these tables were not there. Taking an element away cuts established
 * connections too, because every packet is looked up.
 */
export function baseRules(network: HostNetwork): string {
  return [
    'add table inet unionize',
    'add set inet unionize passages { type ipv6_addr . ipv6_addr; }',
    'add map inet unionize mine { type ipv6_addr : ipv6_addr; }',
    ...chain('inet', 'to_instances', null, [
      'ip6 saddr . ip6 daddr @passages accept',
      `ct state related meta l4proto ${ICMPV6} ct reply ip6 daddr . ct reply ip6 saddr @passages accept`,
      'drop',
    ]),
    ...chain('inet', 'from_instances', null, [
      'ct state established,related ip6 daddr . ip6 saddr @passages accept',
      'drop',
    ]),
    ...chain('inet', 'to_host', null, [
      'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept',
      `ip6 daddr ${network.gateway} meta l4proto { ${TCP}, ${UDP} } th dport 53 accept`,
      'ct state established,related ct direction reply accept',
      'drop',
    ]),
    ...chain('inet', 'forward', 'filter hook forward priority 0', [
      `iifname "${network.bridge}" jump from_instances`,
      `oifname "${network.bridge}" jump to_instances`,
    ]),
    ...chain('inet', 'input', 'filter hook input priority 0', [`iifname "${network.bridge}" jump to_host`]),
    ...chain('inet', 'my_instance', 'nat hook prerouting priority -100', [
      `ip6 daddr ${network.myAddress} dnat ip6 to ip6 saddr map @mine`,
    ]),
    ...chain('inet', 'no_instance', 'filter hook prerouting priority -90', [
      `ip6 daddr ${network.myAddress} meta l4proto ${TCP} reject with tcp reset`,
      `ip6 daddr ${network.myAddress} reject with icmpv6 port-unreachable`,
    ]),
    'add table bridge unionize',
    'add set bridge unionize sources { type ifname . ether_addr . ipv6_addr; }',
    'add set bridge unionize targets { typeof iifname . ether saddr . @th,64,128; }',
    ...chain('bridge', 'advertisement', null, ['iifname . ether saddr . @th,64,128 @targets return', 'drop']),
    ...chain('bridge', 'from_port', null, [
      'ether type { 8021q, 8021ad } drop',
      'icmpv6 type { nd-router-advert, nd-redirect } drop',
      'udp sport 547 drop',
      'icmpv6 type nd-neighbor-advert jump advertisement',
      'iifname . ether saddr . ip6 saddr @sources accept',
      'drop',
    ]),
    ...chain('bridge', 'prerouting', 'filter hook prerouting priority -300', [
      `iifname "${LINK_PREFIX}*" jump from_port`,
    ]),
    ...chain('bridge', 'forward', 'filter hook forward priority 0', [
      `iifname "${LINK_PREFIX}*" drop`,
      `oifname "${LINK_PREFIX}*" drop`,
    ]),
  ].join('\n')
}

/** Removes both tables, also where they are not there. */
export function removeTables(): string {
  return TABLES.map((table) => `add table ${table}\ndelete table ${table}`).join('\n')
}

export type Verb = 'add' | 'delete'

/** Lets the owner of each passage through to its instance, or no longer. */
export function passageElements(verb: Verb, passages: readonly Passage[]): string[] {
  return elements(
    verb,
    'inet unionize passages',
    passages.map((passage) => `${passage.owner} . ${passage.instance}`),
  )
}

/** Leads owners from the well-known address to their instance, or no longer. */
export function mineElements(verb: Verb, leads: readonly Passage[]): string[] {
  return elements(
    verb,
    'inet unionize mine',
    leads.map((lead) => `${lead.owner} : ${lead.instance}`),
  )
}

/** Lets these ports send with their MAC and address, or no longer. */
export function sourceElements(verb: Verb, sources: readonly Source[]): string[] {
  const port = (source: Source) => `"${source.link}" . ${source.mac}`
  return [
    ...elements(
      verb,
      'bridge unionize sources',
      sources.map((source) => `${port(source)} . ${source.address}`),
    ),
    ...elements(
      verb,
      'bridge unionize targets',
      sources.map((source) => `${port(source)} . 0x${addressBytes(source.address).toString('hex')}`),
    ),
  ]
}

/** Empties all sets. */
export function flushElements(): string[] {
  return [
    'flush set inet unionize passages',
    'flush map inet unionize mine',
    'flush set bridge unionize sources',
    'flush set bridge unionize targets',
  ]
}

function elements(verb: Verb, set: string, list: readonly string[]): string[] {
  return list.length === 0 ? [] : [`${verb} element ${set} { ${list.join(', ')} }`]
}

function chain(family: string, name: string, hook: string | null, rules: readonly string[]): string[] {
  const specification = hook === null ? '' : ` { type ${hook}; policy accept; }`
  return [
    `add chain ${family} unionize ${name}${specification}`,
    `flush chain ${family} unionize ${name}`,
    ...rules.map((rule) => `add rule ${family} unionize ${name} ${rule}`),
  ]
}
