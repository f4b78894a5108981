import { ipBytes, ipText } from '../kernel/ip.ts'
import { adapt, bringUp, giveMac, giveMtu, renameOuter, withoutLinkLocal } from './act.ts'
import { type OuterEnd, outerEnd } from './action.ts'
import { type Change, consequent, differing } from './change.ts'
import type { Seen } from './look.ts'
import { mtuOf } from './mtu.ts'
import { planSupport } from './plan-making.ts'
import { planPort } from './plan-port.ts'
import type { Made } from './state.ts'
import type { Wanted } from './wanted.ts'

/** What of the link itself can be changed in place. */
export function planLink(wanted: Wanted, made: Made, seen: Seen): Change[] {
  const { name, link } = wanted
  const changes: Change[] = []
  const outer = outerEnd(wanted)
  if (outer !== null && seen.outer !== null) {
    const now = { outer: seen.outer.name, to: outer.to }
    if (seen.outer.name !== outer.outer) {
      const difference = { field: 'hostName', wanted: outer.outer, found: seen.outer.name }
      changes.push(differing(name, difference, `rename its outer end to ${outer.outer}`, renameOuter(now, outer.outer)))
    }
    changes.push(
      ...planSupport(wanted, seen),
      ...planRoom(wanted, seen, made, outer),
      ...planPort(wanted, outer, seen, false),
    )
    if (link.kind !== 'veth' && seen.outer.addrGenMode !== null && seen.outer.addrGenMode !== NO_LINK_LOCAL) {
      changes.push(consequent(name, `keep ${outer.outer} without a link-local address`, withoutLinkLocal(outer)))
    }
    if (!seen.outer.up) {
      const difference = { field: 'up', wanted: `${outer.outer} up`, found: `${outer.outer} down` }
      changes.push(differing(name, difference, `set ${outer.outer} up`, bringUp(outer)))
    }
  }
  return [...changes, ...planMode(wanted, seen), ...planSize(wanted, made, seen, outer)]
}

/**
 * The outer end takes what the inner one sends. It grows first; of a bridge it shrinks never, since that follows its
 * smallest port.
 */
function planRoom(wanted: Wanted, seen: Seen, made: Made, outer: OuterEnd): Change[] {
  const mtu = mtuOf(wanted, seen, made)
  const room = wanted.link.kind === 'bridge' ? Math.max(mtu ?? 0, seen.base?.mtu ?? 0) : (mtu ?? 0)
  if (seen.outer === null || seen.outer.mtu === room) return []
  if (wanted.link.kind !== 'veth' && seen.outer.mtu > room) return []
  return [consequent(wanted.name, `set the MTU of ${outer.outer} to ${room}`, giveMtu(outer, room))]
}

/** IN6_ADDR_GEN_MODE_NONE */
const NO_LINK_LOCAL = 1

function planMode({ name, link }: Wanted, seen: Seen): Change[] {
  const device = seen.inner?.device ?? null
  const end = { inner: name }
  if (link.kind === 'macvlan' && device?.kind === 'macvlan' && device.mode !== link.mode) {
    const difference = { field: 'link.mode', wanted: link.mode, found: String(device.mode) }
    return [
      differing(name, difference, `set its mode to ${link.mode}`, adapt(end, { kind: 'macvlan', mode: link.mode })),
    ]
  }
  if (
    link.kind === 'ipvlan' &&
    device?.kind === 'ipvlan' &&
    (device.mode !== link.mode || device.isolation !== link.isolation)
  ) {
    const { mode, isolation } = link
    const difference = {
      field: 'link.mode',
      wanted: `${mode} ${isolation}`,
      found: `${device.mode} ${device.isolation}`,
    }
    return [
      differing(
        name,
        difference,
        `set its mode to ${mode} ${isolation}`,
        adapt(end, { kind: 'ipvlan', mode, isolation }),
      ),
    ]
  }
  if (link.kind !== 'vxlan' || device?.kind !== 'vxlan') return []
  const remote = ipText(ipBytes(link.remote))
  if (device.remote === remote && device.learning === link.learning) return []
  const difference = {
    field: 'link.remote',
    wanted: `${remote}, learning ${link.learning}`,
    found: `${device.remote}, learning ${device.learning}`,
  }
  const change = { kind: 'vxlan', remote: ipBytes(remote), learning: link.learning } as const
  return [differing(name, difference, `lead it to ${remote}`, adapt(end, change))]
}

function planSize(wanted: Wanted, made: Made, seen: Seen, outer: OuterEnd | null): Change[] {
  const { name, link, mac } = wanted
  const { inner } = seen
  if (inner === null) return []
  const changes: Change[] = []
  const mtu = mtuOf(wanted, seen, made)
  if (mtu !== null && inner.mtu !== mtu) {
    changes.push(
      differing(
        name,
        { field: 'mtu', wanted: mtu, found: inner.mtu },
        `set its MTU to ${mtu}`,
        giveMtu({ inner: name }, mtu),
      ),
    )
  }
  const station = mac ?? (link.kind === 'physical' ? (made.former?.mac ?? null) : null)
  if (station !== null && inner.mac !== station) {
    changes.push(
      differing(
        name,
        { field: 'mac', wanted: station, found: inner.mac },
        `give it the MAC ${station}`,
        giveMac({ inner: name }, station),
      ),
    )
  }
  const far = link.kind === 'veth' ? link.peer.mac : undefined
  if (far !== undefined && outer !== null && seen.outer !== null && seen.outer.mac !== far) {
    changes.push(
      differing(
        name,
        { field: 'link.peer.mac', wanted: far, found: seen.outer.mac },
        `give ${outer.outer} the MAC ${far}`,
        giveMac(outer, far),
      ),
    )
  }
  return changes
}
