import { WiringError } from '../errors.ts'
import { OUR_GROUP } from './host-view.ts'
import type { Seen } from './look.ts'
import { baseHop } from './mtu.ts'
import { safeName } from './names.ts'
import type { Wanted } from './wanted.ts'

/** What must be there, or free, before an interface can be made or changed. @throws WiringError */
export function checkGround(wanted: Wanted, seen: Seen): void {
  const { name, link, hostName, spec } = wanted
  if (seen.outerNameTaken) {
    const where = link.kind === 'veth' && link.to !== undefined ? link.to : 'the host'
    throw new WiringError(
      'interface-in-use',
      `${name}: ${where} already has an interface ${hostName}: choose another name for the outer end`,
    )
  }
  checkBridge(wanted, seen)
  if (['macvlan', 'ipvlan', 'vlan'].includes(link.kind) && 'parent' in link && seen.base === null)
    throw noDevice(name, link.parent ?? '')
  if (link.kind === 'vxlan' && link.parent !== undefined && seen.base === null) throw noDevice(name, link.parent)
  const wish = spec.mtu
  if (wish === undefined) return
  const small = [...seen.hops, ...baseHop(link, seen)].find((hop) => hop.mtu < wish)
  if (small !== undefined) {
    throw new WiringError(
      'path-mtu',
      `${name}: packets of ${wish} bytes do not fit through ${small.name}, which takes ${small.mtu}: lower the MTU of ` +
        `${name}, or run "ip link set ${small.name} mtu ${wish + small.overhead}"`,
    )
  }
}

function checkBridge({ name, link }: Wanted, seen: Seen): void {
  if (link.kind === 'ovs' && !link.create && seen.ovs?.bridgeThere !== true) {
    const bridge = safeName(link.bridge)
    const remedy = `run "ovs-vsctl add-br ${bridge}", or let it be made`
    throw new WiringError('bridge-missing', `${name}: Open vSwitch has no bridge ${bridge}: ${remedy}`)
  }
  if (link.kind !== 'bridge') return
  const { bridge, create, vlan } = link
  const { base } = seen
  if (base === null) {
    if (create) return
    const remedy = `run "ip link add ${bridge} type bridge && ip link set ${bridge} up", or let it be made`
    throw new WiringError('bridge-missing', `${name}: bridge ${bridge} does not exist: ${remedy}`)
  }
  if (base.device?.kind !== 'bridge') {
    throw new WiringError('bridge-missing', `${name}: ${bridge} is not a bridge but ${base.kind || 'a device'}`)
  }
  if (vlan !== undefined && base.device.vlanFiltering !== true && base.group !== OUR_GROUP) {
    throw new WiringError(
      'vlans-not-filtered',
      `${name}: bridge ${bridge} does not tell VLANs apart: run "ip link set ${bridge} type bridge vlan_filtering 1", ` +
        'which changes what its other ports hear',
    )
  }
}

export function noDevice(name: string, device: string): WiringError {
  return new WiringError('device-missing', `${name}: the host has no ${device}: see "ip link"`)
}
