import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe } from 'node:test'
import type { LabSwarm } from '../../lab/swarm.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendFaults } from '../contract/faults.ts'
import { createFaults } from '../support/faults.ts'
import { type SocketFaults, socketFaults } from '../support/socket-faults.ts'
import { memoryRecords, openSwarm, SWARM, swarmBackend, swarmOrder, thingsIn } from '../support/swarm.ts'

describe('calls to a manager that go wrong', () => {
  const folder = mkdtempSync(join(tmpdir(), 'swarm-faults-'))
  const path = join(folder, 'manager.sock')
  const records = memoryRecords()
  const faults = createFaults()
  let swarm: LabSwarm
  let proxy: SocketFaults
  let backend: Backend

  const open = () =>
    swarmBackend([], { settings: { managers: [`unix://${path}`], callSeconds: 5 }, context: { records } })

  before(async () => {
    swarm = await openSwarm({ prefix: 'swf', managers: 1, workers: 0 })
    proxy = await socketFaults(path, swarm.node('n1').engine.socket, faults)
    backend = await open()
  })
  after(async () => {
    await backend?.close()
    await proxy?.[Symbol.asyncDispose]()
    await swarm?.close()
    rmSync(folder, { recursive: true })
  })

  backendFaults(async () => ({
    get backend() {
      return backend
    },
    host: { name: SWARM },
    absent: { name: 'elsewhere' as HostName },
    order: (n, generation) => swarmOrder(n, generation),
    async reopen() {
      await backend.close()
      backend = await open()
      return backend
    },
    things: () => thingsIn(swarm),
    faults,
    faultsMs: 14_000,
  }))
})
