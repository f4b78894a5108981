import type { LinkSpec } from '../../../common/wiring-spec.ts'
import type { Seen } from './look.ts'
import type { Made } from './state.ts'
import type { Wanted } from './wanted.ts'

/** Bytes that VXLAN puts around an Ethernet frame: its own header, UDP, IP and the frame's (RFC 7348, 4.3 and 5). */
const VXLAN_OVERHEAD = { ipv4: 50, ipv6: 70 } as const
/** IEEE 802.3. What an interface has unless something says otherwise. */
export const ETHERNET_MTU = 1500

/** The MTU that the interface is to have; null: whatever it has. */
export function mtuOf(wanted: Wanted, seen: Seen, made: Made | null): number | null {
  const { spec, link } = wanted
  if (spec.mtu !== undefined) return spec.mtu
  switch (link.kind) {
    case 'bridge':
      // A bridge that is yet to be made will follow its first port.
      return seen.base?.mtu ?? seen.outer?.mtu ?? ETHERNET_MTU
    case 'macvlan':
    case 'ipvlan':
    case 'vlan':
    case 'vxlan':
      return baseHop(link, seen)[0]?.mtu ?? null
    case 'physical':
      return made?.former?.mtu ?? null
    case 'ovs':
    case 'dummy':
    case 'veth':
      return ETHERNET_MTU
  }
}

/** How large packets may be on what the interface stands on. `overhead`: what is added to them there. */
export function baseHop(link: LinkSpec, { base }: Seen): { name: string; mtu: number; overhead: number }[] {
  if (base === null || link.kind === 'bridge') return []
  const overhead = link.kind === 'vxlan' ? VXLAN_OVERHEAD[link.remote.includes(':') ? 'ipv6' : 'ipv4'] : 0
  return [{ name: base.name, mtu: base.mtu - overhead, overhead }]
}
