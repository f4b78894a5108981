import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe } from 'node:test'
import type { LabSwarm } from '../../lab/swarm.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendFaults } from '../contract/faults.ts'
import type { Subject } from '../contract/subject.ts'
import { createFaults } from '../support/faults.ts'
import { service } from '../support/fixtures.ts'
import { memoryRecords, openSwarm, SWARM, swarmBackend, swarmOrder, thingsIn } from '../support/swarm.ts'
import { targetProxy } from '../support/target-proxy.ts'

/** Its file is a secret of the swarm. */
const withFile = service({
  ...{ image: 'orchestrator/pause:1', memoryBytes: 16 << 20, pids: 8 },
  files: [{ target: '/run/word', content: Buffer.from('secret').toString('base64'), mode: 0o444 }],
})

// Most of the time is the swarm's, which waits before it ends a task: every kind of fault has orchestrators of its own.
describe('calls to a manager that go wrong', { concurrency: true }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'swarm-faults-'))
  const ends: (() => Promise<void>)[] = []
  let swarm: LabSwarm
  let orchestrators = 0

  before(async () => {
    swarm = await openSwarm({ prefix: 'swf', managers: 1, workers: 0 })
  })
  after(async () => {
    for (const end of ends.reverse()) await end()
    await swarm?.close()
    rmSync(folder, { recursive: true })
  })

  backendFaults(async (): Promise<Subject> => {
    const installation = String(++orchestrators).padStart(6, '0').padEnd(16, '0')
    const path = join(folder, `${installation}.sock`)
    const context = { installation, records: memoryRecords() }
    const faults = createFaults()
    const open = () => swarmBackend([], { settings: { managers: [`unix://${path}`] }, context })
    let backend = await open()
    ends.push(() => backend.close())
    const proxy = await targetProxy({
      ...{ faults, listen: { path } },
      target: { socketPath: swarm.node('n1').engine.socket },
    })
    ends.push(async () => await proxy[Symbol.asyncDispose]())
    return {
      get backend() {
        return backend
      },
      host: { name: SWARM },
      absent: { name: 'elsewhere' as HostName },
      order: (n, generation) => swarmOrder(n, generation, { services: [withFile] }),
      async reopen() {
        await backend.close()
        backend = await open()
        return backend
      },
      things: () => thingsIn(swarm, installation),
      faults,
      // However busy the machine is, no call is left out.
      faultsMs: 400_000,
    }
  })
})
