import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe } from 'node:test'
import { backendFaults } from '../contract/faults.ts'
import { backendOf, HOST, orderOn, thingsOf } from '../support/docker-agents.ts'
import { createFaults } from '../support/faults.ts'
import { fakeHost } from '../support/orders.ts'
import { type TargetProxy, targetProxy } from '../support/target-proxy.ts'
import { UnionizeHost } from '../support/unionize-host.ts'

/** Each call of a host's unionize to its engine goes wrong, while it runs on: what is asked again ends well. */
describe('docker, calls of a host to its engine going wrong', () => {
  const folder = mkdtempSync(join(tmpdir(), 'docker-faults-'))
  const faults = createFaults()
  let host: UnionizeHost
  let proxy: TargetProxy | undefined

  before(async () => {
    host = await UnionizeHost.open('df', async (socketPath) => {
      const path = join(folder, 'docker.sock')
      proxy = await targetProxy({ faults, target: { socketPath }, listen: { path } })
      return path
    })
  })
  after(async () => {
    await host?.close()
    await proxy?.[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })

  backendFaults(async () => ({
    backend: backendOf(host),
    host: fakeHost(HOST),
    absent: fakeHost('h2'),
    order: (n, generation) => orderOn(host, n, generation),
    things: () => thingsOf(host),
    startsWithinMs: 60_000,
    faults,
    faultsMs: 120_000,
  }))
})
