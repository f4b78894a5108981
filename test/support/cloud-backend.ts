import { systemClock } from '../../common/clock.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { BackendContext, Records } from '../../orchestrator/backends/backend.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { InstanceId, Order } from '../../orchestrator/domain/instance.ts'
import { owner, service } from './fixtures.ts'

const silent = { debug() {}, info() {}, warn() {}, error() {} }

export function memoryRecords(): Records {
  const all = new Map<string, string>()
  return {
    all: async () => new Map(all),
    async put(key, value) {
      if (value === null) all.delete(key)
      else all.set(key, value)
    },
  }
}

/** What the orchestrator would give to a cloud backend. @param credential its fields, under whatever name */
export function cloudContext(
  credential: () => Readonly<Record<string, string>>,
  given: Partial<BackendContext> = {},
): BackendContext {
  return {
    name: 'cloud',
    installation: '0123456789abcdef',
    log: silent,
    clock: systemClock,
    credential: async () => credential(),
    records: memoryRecords(),
    ...given,
  }
}

/** The order of the n-th instance, from a host that has told its address. */
export function cloudOrder(n: number, generation = 1, given: Partial<Order> = {}): Order {
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
    home: { name: 'h1' as HostName, address: parseIpv6('fd00:feed::1') },
    ...given,
  }
}
