import { WiringError } from '../errors.ts'
import { type Address, FROM_ADVERTISEMENT } from '../kernel/addresses.ts'
import type { Link } from '../kernel/link.ts'
import type { Route } from '../kernel/routes.ts'
import type { FormerDevice } from './state.ts'

/** The interfaces of the host, as far as they are asked for. */
export interface HostLinks {
  find(ref: string | number): Link | null
  all(): readonly Link[]
}

/** rtm_protocol of linux/rtnetlink.h: routes that come and go by themselves. */
const RTPROT_KERNEL = 2
const RTPROT_RA = 9
const RTN_UNICAST = 1

/**
 * The device that a spec means by its name, `mac:…` or `pci:…`, or null. Of several with one MAC it is the real one,
 * since bridges and VLANs take the MAC of what they stand on.
 * @throws WiringError `device-missing` when several could be meant
 */
export function findDevice(wish: string, host: HostLinks): Link | null {
  if (wish.startsWith('mac:')) {
    const mac = wish.slice('mac:'.length).toLowerCase()
    const of = (candidates: readonly Link[]) => only(wish, candidates)
    const bearing = host.all().filter((link) => link.mac === mac || link.permanentMac === mac)
    const real = bearing.filter((link) => link.kind === '' && link.master === 0)
    return of(real.length > 0 ? real : bearing)
  }
  if (wish.startsWith('pci:')) {
    const bus = wish.slice('pci:'.length).toLowerCase()
    return only(
      wish,
      host.all().filter((link) => link.parentBus === 'pci' && link.parentDevice === bus),
    )
  }
  return host.find(wish)
}

/** A device that moved in once and is on the host again: by us, or by the kernel when its namespace ended. */
export function findFormer(former: FormerDevice, host: HostLinks): Link | null {
  return host.all().find((link) => isFormer(link, former)) ?? null
}

/** Whether an interface is the device that was remembered, wherever it is and whatever it is called now. */
export function isFormer(link: Link, former: FormerDevice): boolean {
  if (link.kind !== former.kind) return false
  if (former.bus !== '') return busOf(link) === former.bus
  if (former.permanentMac !== null) return link.permanentMac === former.permanentMac
  return link.mac === former.mac || link.name === former.name
}

/** All that is needed to make a device what it is now. `now`: milliseconds since 1970. */
export function formerOf(
  device: Link,
  on: { master: string | null; addresses: readonly Address[]; routes: readonly Route[]; now: number },
): FormerDevice {
  return {
    name: device.name,
    kind: device.kind,
    mac: device.mac,
    permanentMac: device.permanentMac,
    bus: busOf(device),
    mtu: device.mtu,
    up: device.up,
    master: on.master,
    addresses: on.addresses
      .filter((address) => address.interfaceIndex === device.index && !address.linkLocal)
      .filter((address) => address.protocol !== FROM_ADVERTISEMENT && !address.temporary)
      .map((address) => ({
        prefix: `${address.address}/${address.prefixLength}`,
        until: address.validSeconds === null ? null : on.now + address.validSeconds * 1000,
        broadcast: address.broadcast,
        label: address.label === device.name ? '' : address.label,
      })),
    routes: on.routes
      .filter((route) => route.index === device.index && route.type === RTN_UNICAST && !route.cloned)
      .filter((route) => route.protocol !== RTPROT_KERNEL && route.protocol !== RTPROT_RA)
      .map(({ to, via, metric, table, source, onlink, mtu, protocol, scope }) => ({
        ...{ to, via, metric, table, source, onlink, mtu, protocol, scope },
      })),
  }
}

function busOf(link: Link): string {
  return link.parentDevice === '' ? '' : `${link.parentBus}/${link.parentDevice}`
}

function only(wish: string, candidates: readonly Link[]): Link | null {
  if (candidates.length > 1) {
    const names = candidates.map((link) => link.name).join(', ')
    throw new WiringError('device-missing', `several devices are ${wish} (${names}): say which by its name`)
  }
  return candidates[0] ?? null
}
