import { after } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import type { Backend, Records } from '../../orchestrator/backends/backend.ts'
import { loadBackends } from '../../orchestrator/backends/load.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { installPackage } from '../support/backend-packages.ts'

import { createFaults } from '../support/faults.ts'
import { silent } from '../support/fixtures.ts'
import { order } from '../support/orders.ts'
import { memoryRecords } from '../support/records.ts'
import { targetProxy } from '../support/target-proxy.ts'
import { startTargetServer } from '../support/target-server.ts'
import { backendContract, type Subject } from './backend.ts'

const ends: (() => Promise<void>)[] = []
after(async () => {
  for (const end of ends.reverse()) await end()
})

/** A backend that lives in a package, was written from the docs alone, and speaks HTTP. */
async function subject(): Promise<Subject> {
  const installed = installPackage()
  ends.push(async () => installed[Symbol.dispose]())
  const target = await startTargetServer({ bootMs: 150 })
  ends.push(async () => await target[Symbol.asyncDispose]())
  const faults = createFaults()
  const proxy = await targetProxy({ faults, target: { host: '127.0.0.1', port: target.port } })
  ends.push(async () => await proxy[Symbol.asyncDispose]())

  const setting = { mine: { package: installed.name, settings: { url: `http://127.0.0.1:${proxy.port}` } } }
  const open = async (installation: string, records: Records): Promise<Backend> => {
    const contextFor = (name: string) => {
      return { name, installation, records, clock: systemClock, log: silent, credential: async () => ({}) }
    }
    const [backend] = await loadBackends(setting, {}, contextFor, installed.directory)
    if (backend === undefined) throw new Error('nothing was loaded')
    return backend
  }
  const records = memoryRecords()
  return {
    backend: await open('1111111111111111', records),
    host: { name: 'rack-1' as HostName },
    absent: { name: 'rack-2' as HostName },
    order,
    reopen: () => open('1111111111111111', records),
    another: () => open('2222222222222222', memoryRecords()),
    things: async () => target.things(),
    faults,
  }
}

let shared: Promise<Subject> | undefined
backendContract('a package', () => {
  shared ??= subject()
  return shared
})
