import { parseIpv6 } from '../../common/ipv6.ts'
import type { Host, HostName } from '../../orchestrator/domain/host.ts'
import type { InstanceId, Order } from '../../orchestrator/domain/instance.ts'
import { owner, service } from './fixtures.ts'

export function fakeHost(name: string): Host {
  return { name: name as HostName, epoch: 1, connected: true, joinedAt: 0, seenAt: null, facts: {} }
}

/** The order of the n-th instance. */
export function order(n: number, generation = 1): Order {
  return {
    instance: `i-test${n}` as InstanceId,
    generation,
    owner: owner(n),
    name: `test${n}`,
    address: parseIpv6(`fd00:1::${(0x1000 + n).toString(16)}`),
    ownerAddress: parseIpv6(`fd00:c::${(0x1000 + n).toString(16)}`),
    services: [service()],
    outputs: false,
    entryPort: null,
    home: { name: 'h1' as HostName, address: null },
  }
}
