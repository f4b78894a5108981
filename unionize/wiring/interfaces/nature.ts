import type { LinkSpec } from '../../../common/wiring-spec.ts'
import { ipBytes, ipText } from '../kernel/ip.ts'
import type { Link } from '../kernel/link.ts'
import type { Seen } from './look.ts'
import type { Made } from './state.ts'
import type { Wanted } from './wanted.ts'

/** An interface in a few words. */
export function describe(link: LinkSpec): string {
  switch (link.kind) {
    case 'bridge':
      return `port of bridge ${link.bridge}`
    case 'ovs':
      return `port of Open vSwitch bridge ${link.bridge}`
    case 'macvlan':
      return `macvlan (${link.mode}) on ${parentText(link)}`
    case 'ipvlan':
      return `ipvlan (${link.mode}, ${link.isolation}) on ${parentText(link)}`
    case 'vlan':
      return `VLAN ${link.id} (${link.protocol}) of ${link.parent}`
    case 'vxlan':
      return `VXLAN ${link.id} to ${link.remote}`
    case 'dummy':
      return 'dummy'
    case 'physical':
      return `device ${link.device}`
    case 'veth':
      return `veth to ${link.to ?? 'the host'}`
  }
}

/** Whether an interface can be what was made here: if not, somebody put something else in its place. */
export function isOfKind(made: Made, inner: Link): boolean {
  switch (made.link.kind) {
    case 'bridge':
    case 'ovs':
    case 'veth':
      return inner.kind === 'veth'
    case 'physical':
      return inner.kind === made.former?.kind
    case 'macvlan':
    case 'ipvlan':
    case 'vlan':
    case 'vxlan':
    case 'dummy':
      return inner.kind === made.link.kind
  }
}

/**
 * In what an interface that we made differs from the wish so that it has to be made anew: the kernel cannot change that.
 * Null: in nothing.
 */
export function newNature(wanted: Wanted, made: Made, seen: Seen): { wanted: string; found: string } | null {
  const { link } = wanted
  const differs = { wanted: describe(link), found: describe(made.link) }
  if (link.kind !== made.link.kind) return differs
  const device = seen.inner?.device ?? null
  const onBase = seen.base !== null && !seen.subInterfaceMissing && seen.inner?.peer === seen.base.index
  switch (link.kind) {
    case 'bridge':
      return seen.outer === null ? { ...differs, found: 'a pair without its outer end' } : null
    case 'ovs': {
      if (seen.outer === null) return { ...differs, found: 'a pair without its outer end' }
      // Open vSwitch knows ports by their names.
      const { name } = seen.outer
      return name === wanted.hostName ? null : { ...differs, found: `${differs.found} by the name ${name}` }
    }
    case 'veth':
      if (made.link.kind === 'veth' && made.link.to !== link.to) return differs
      return seen.outer === null ? { ...differs, found: 'a pair without its outer end' } : null
    case 'macvlan': {
      const passing = device?.kind === 'macvlan' && device.mode === 'passthru'
      return onBase && passing === (link.mode === 'passthru') ? null : differs
    }
    case 'ipvlan':
      return onBase ? null : differs
    case 'vlan':
      return onBase && device?.kind === 'vlan' && device.id === link.id && device.protocol === link.protocol
        ? null
        : differs
    case 'vxlan': {
      if (device?.kind !== 'vxlan') return differs
      const parent = link.parent === undefined ? 0 : seen.base?.index
      const local = link.local === undefined ? null : ipText(ipBytes(link.local))
      const alike = device.id === link.id && device.port === link.port && device.local === local
      return alike && device.parent === parent ? null : differs
    }
    case 'physical':
      return seen.sameDevice ? null : differs
    case 'dummy':
      return null
  }
}

function parentText(link: { parent: string; vlan?: number | undefined }): string {
  return link.vlan === undefined ? link.parent : `VLAN ${link.vlan} of ${link.parent}`
}
