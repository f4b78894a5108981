import { after, before } from 'node:test'
import type { LabSwarm } from '../../lab/swarm.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { memoryRecords, openSwarm, SWARM, swarmBackend, swarmOrder, thingsIn } from '../support/swarm.ts'

let swarm: LabSwarm
let backend: Backend
const records = memoryRecords()

before(async () => {
  swarm = await openSwarm({ prefix: 'swc', managers: 3, workers: 1 })
  backend = await swarmBackend(swarm.managers, { context: { records } })
})
after(async () => {
  await backend?.close()
  await swarm?.close()
})

backendContract('swarm', async () => ({
  get backend() {
    return backend
  },
  host: { name: SWARM },
  absent: { name: 'elsewhere' as HostName },
  order: (n, generation) => swarmOrder(n, generation),
  async reopen() {
    await backend.close()
    backend = await swarmBackend(swarm.managers, { context: { records } })
    return backend
  },
  another: () => swarmBackend(swarm.managers, { context: { installation: 'fedcba9876543210' } }),
  things: () => thingsIn(swarm),
}))
