import { contains, formatPrefix, parseIpv6, parsePrefix, prefixOf } from '../../../common/ipv6.ts'
import { addressOf, getAllAddresses } from '../kernel/addresses.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import { outermost } from '../policy-input.ts'
import { find } from '../wires.ts'
import { REACHABLE, type Surroundings } from './path-rules.ts'

const PASSING = REACHABLE.map((text) => parsePrefix(text))

/** What the rules must know of this host, as it is now; null: the bridge is away. @throws KernelRefusal */
export function surroundingsOf(host: RouteSocket, bridge: string): Surroundings | null {
  const link = find(host, bridge)
  if (link === null) return null
  const prefixes = host
    .dump({ purpose: 'read the addresses of this host', bytes: getAllAddresses() })
    .map(addressOf)
    .filter((found) => found.family === 'ipv6' && !found.linkLocal)
    .map((found) => prefixOf(parseIpv6(found.address), found.prefixLength))
    .filter((own) => PASSING.some((wide) => contains(wide, own.base)))
  return { gatewayMac: link.mac, networks: outermost(prefixes).map(formatPrefix) }
}
