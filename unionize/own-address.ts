import { BlockList, isIPv6 } from 'node:net'
import { parseIpv6 } from '../common/ipv6.ts'

/** Unspecified, loopback, IPv4 in disguise, link-local and site-local, multicast (RFC 4291, 2.4 and 2.5.5.2): nobody elsewhere sends there. */
const NOT_REACHABLE = new BlockList()
for (const [base, bits] of [
  ['::', 128],
  ['::1', 128],
  ['::ffff:0:0', 96],
  ['fe80::', 9],
  ['ff00::', 8],
] as const) {
  NOT_REACHABLE.addSubnet(base, bits, 'ipv6')
}

/**
 * The IPv6 address at which others reach this host: the one that is set, or else the one that its connection to the
 * orchestrator comes from, in canonical text. Undefined: that is none that others can send to.
 * @param local as the socket tells it
 */
export function ownAddress(set: string | null, local: string | undefined): string | undefined {
  if (set !== null) return parseIpv6(set)
  if (local === undefined || !isIPv6(local) || local.includes('%')) return undefined
  return NOT_REACHABLE.check(local, 'ipv6') ? undefined : parseIpv6(local)
}
