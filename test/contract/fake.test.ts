import { systemClock } from '../../common/clock.ts'
import { fakeBackend } from '../../orchestrator/backends/fake/fake.ts'
import { createFakeWorld } from '../../orchestrator/backends/fake/world.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { fakeHost, order } from '../support/orders.ts'
import { memoryRecords } from '../support/records.ts'
import { backendContract, type Subject } from './backend.ts'

/** The fake with a world that outlives it, as real targets do. */
function subject(options: { startsAfterMs: number; targets?: HostName[] }): Subject {
  const world = createFakeWorld({ clock: systemClock, startsAfterMs: options.startsAfterMs })
  world.setReachable('absent', false)
  const open = (installation: string, records = memoryRecords()) => {
    const context = { name: 'fake', installation, clock: systemClock, records }
    return fakeBackend({ world, context, pricePerHour: 0.01, ...(options.targets && { targets: options.targets }) })
  }
  const records = memoryRecords()
  const backend = open('1111111111111111', records)
  return {
    backend,
    host: fakeHost('h1'),
    absent: fakeHost('absent'),
    order,
    reopen: async () => open('1111111111111111', records),
    another: async () => open('2222222222222222'),
    things: async () => world.standing.map(({ id, spec }) => `machine ${id} of ${spec.instance}`),
    faults: world.mishaps,
  }
}

backendContract('fake, on the hosts of the leases', async () => subject({ startsAfterMs: 0 }))
backendContract('fake, with slow targets of its own', async () =>
  subject({ startsAfterMs: 120, targets: ['h1', 'h2', 'absent'] as HostName[] }),
)
