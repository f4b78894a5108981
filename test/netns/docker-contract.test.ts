import { after, before } from 'node:test'
import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { Agents } from '../../orchestrator/backends/docker/agents.ts'
import { dockerBackend } from '../../orchestrator/backends/docker/docker.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { LABEL } from '../../unionize/contract.ts'
import { backendContract } from '../contract/backend.ts'
import { order as anyOrder, fakeHost } from '../support/orders.ts'
import { service, UnionizeHost } from '../support/unionize-host.ts'
import { RemoteError } from '../support/wiring-remote.ts'

let host: UnionizeHost
before(async () => {
  host = await UnionizeHost.open('dc')
})
after(() => host?.close())

/** The one host that there is, asked without a connection between: what the messages add is tried by the hosts' tests. */
async function ask<T>(name: string, signal: AbortSignal, question: () => Promise<unknown>): Promise<T> {
  signal.throwIfAborted()
  if (name !== 'h1') throw new HostUnreachable(name, 'it has not joined')
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return (await Promise.race([question(), aborted.promise])) as T
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error
    throw new OrchestratorError(error.code, error.message, { retryable: error.retryable })
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

const agents: Agents = {
  ensure: (name, order, signal) => ask<Observed>(name, signal, () => host.ensure(order)),
  remove: (name, instance, generation, signal) =>
    ask(name, signal, () => host.unionize.ask('remove', instance, generation)),
  list: (name, signal) => ask(name, signal, () => host.list()),
  images: (name, _wanted, signal) => ask(name, signal, async () => {}),
  async *logs() {},
}

function order(n: number, generation = 1): Order {
  const given = anyOrder(n, generation)
  const ownerAddress = parseIpv6(host.owner.address)
  return { ...given, ownerAddress, services: [service('web'), service('log')] }
}

backendContract('docker', async () => {
  // Images and output are the business of other tests: the test's host has neither.
  const { logs: _, prepare: __, ...backend } = dockerBackend({ agents })
  return {
    backend,
    host: fakeHost('h1'),
    absent: fakeHost('h2'),
    order,
    // What outlives an orchestrator here is unionize; so it is killed in its place.
    async reopen() {
      await host.kill()
      await host.start()
      return backend
    },
    async things() {
      const labels = { label: [LABEL.instance, host.label] }
      const containers = await host.engine.docker.listContainers({ all: true, filters: labels })
      return containers.map(({ Names }) => `container ${Names.join()}`)
    },
    startsWithinMs: 60_000,
  }
})
