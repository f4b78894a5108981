import { parseIpv6 } from '../../common/ipv6.ts'
import type { Instance, InstanceId } from '../../orchestrator/domain/instance.ts'
import { owner, template } from './fixtures.ts'

/** The n-th instance as stored: pending, due at 1000, made by host h1's lease server, unless told otherwise. */
export function instance(n: number, change: Partial<Instance> = {}): Instance {
  return {
    id: `i-stored${n}` as InstanceId,
    owner: owner(n),
    name: `name${n}`,
    template: { name: template.name, version: template.version },
    parameters: {},
    rule: null,
    backend: 'fake',
    otherwise: [],
    host: null,
    reach: null,
    price: null,
    wanted: 'running',
    generation: 1,
    state: 'pending',
    settled: 0,
    address: parseIpv6(`fd00:1::${(0x1000 + n).toString(16)}`),
    ownerAddress: parseIpv6(`fd00:c::${(0x1000 + n).toString(16)}`),
    source: 'h1',
    failures: 0,
    dueAt: 1000,
    lastError: null,
    graceMs: 0,
    endsAt: null,
    outputs: null,
    marks: {},
    createdAt: n,
    updatedAt: n,
    ...change,
  }
}
