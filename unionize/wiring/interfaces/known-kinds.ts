import { PROBE_REFUSAL, probeBridgeVlans, probeKind } from '../kernel/probes.ts'
import type { Request, RouteSocket } from '../kernel/route-socket.ts'
import { OUR_GROUP } from './host-view.ts'
import type { Seen } from './look.ts'
import type { Wanted } from './wanted.ts'

/**
 * Asks the kernel whether it knows all that is to be made, so that nothing which is there is taken away for something that
 * cannot be. Makes nothing.
 * @throws KernelRefusal `not-supported`, naming the interface and what the kernel was built without
 */
export function checkKinds(host: RouteSocket, wanted: readonly (readonly [Wanted, Seen])[]): void {
  const requests = wanted.flatMap(([one, seen]) =>
    probesOf(one, seen).map((probe): Request => ({ ...probe, interface: one.name, fine: [PROBE_REFUSAL] })),
  )
  if (requests.length > 0) host.ask(...requests)
}

function probesOf({ link }: Wanted, { base, subInterfaceMissing }: Seen): Pick<Request, 'purpose' | 'bytes'>[] {
  const make = (kind: Parameters<typeof probeKind>[0]) => ({ purpose: `make the ${kind}`, bytes: probeKind(kind) })
  switch (link.kind) {
    case 'macvlan':
    case 'ipvlan':
      return [make(link.kind), ...(subInterfaceMissing ? [make('vlan')] : [])]
    case 'vlan':
    case 'vxlan':
    case 'dummy':
      return [make(link.kind)]
    case 'bridge': {
      const filters = base?.device?.kind === 'bridge' && base.device.vlanFiltering === true
      if (link.vlan === undefined || filters || (base !== null && base.group !== OUR_GROUP)) return []
      return [{ purpose: `let ${link.bridge} tell VLANs apart`, bytes: probeBridgeVlans() }]
    }
    case 'ovs':
    case 'physical':
    case 'veth':
      return []
  }
}
