/**
 * Why the firewall of `unionize` drops a packet: label `reason` of the metric. What each means is in docs/isolation.md.
 */
export const DROP_REASONS = [
  // What an instance sends: rates.
  'packet-rate',
  'connection-rate',
  'bandwidth',
  // Frames that are not plain IPv6.
  'vlan',
  'arp',
  'ipv4',
  'ethertype',
  'reserved-group',
  'malformed',
  'extension-header',
  'fragment',
  // Sources that are not its own.
  'mac',
  'address',
  'link-local',
  'unspecified-source',
  // What only routers, servers and other neighbours may say.
  'router-advertisement',
  'router-solicitation',
  'redirect',
  'neighbour-solicitation',
  'neighbour-advertisement',
  'multicast-listener',
  'icmpv6-type',
  'dhcp-server',
  // Where it may not go.
  'multicast',
  'other-instance',
  'host',
  'egress',
  // What others send to an instance.
  'stranger',
] as const

export type DropReason = (typeof DROP_REASONS)[number]

/** Packets dropped since the host's kernel began to count, by reason; a reason that is absent has none. */
export type DropCounts = { readonly [R in DropReason]?: number }
