import { after, before } from 'node:test'
import { backendContract } from '../contract/backend.ts'
import { backendOf, HOST, orderOn, thingsOf } from '../support/docker-agents.ts'
import { createFaults } from '../support/faults.ts'
import { fakeHost } from '../support/orders.ts'
import { UnionizeHost } from '../support/unionize-host.ts'

let host: UnionizeHost
before(async () => {
  host = await UnionizeHost.open('dc')
})
after(() => host?.close())

backendContract('docker', async () => {
  const faults = createFaults()
  const backend = backendOf(host, faults)
  return {
    backend,
    host: fakeHost(HOST),
    absent: fakeHost('h2'),
    order: (n, generation) => orderOn(host, n, generation),
    // What outlives an orchestrator here is unionize; so it is killed in its place.
    async reopen() {
      await host.kill()
      await host.start()
      return backend
    },
    things: () => thingsOf(host),
    startsWithinMs: 60_000,
    // A host's list has one page.
    faults: { ...faults, faults: faults.faults.filter((fault) => fault !== 'wrong-page') },
  }
})
