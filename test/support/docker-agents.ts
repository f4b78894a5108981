import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { Agents } from '../../orchestrator/backends/docker/agents.ts'
import { dockerBackend } from '../../orchestrator/backends/docker/docker.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { LABEL } from '../../unionize/contract.ts'
import type { Faults } from './faults.ts'
import { order as anyOrder } from './orders.ts'
import { service, type UnionizeHost } from './unionize-host.ts'
import { RemoteError } from './wiring-remote.ts'

/** Name of the one host that there is. */
export const HOST = 'h1'

/**
 * The backend on one host that is asked without a connection between: what the messages add is tried by the hosts' tests.
 * Images and output are the business of other tests: the host has neither.
 * @param faults makes questions go wrong
 */
export function backendOf(host: UnionizeHost, faults?: Faults): Backend {
  const ask = <T>(name: string, verb: string, signal: AbortSignal, question: () => Promise<unknown>): Promise<T> => {
    signal.throwIfAborted()
    if (name !== HOST) throw new HostUnreachable(name, 'it has not joined')
    return unlessAborted(signal, struck(faults, verb, question)) as Promise<T>
  }
  const agents: Agents = {
    ensure: async (name, order, signal) => await ask<Observed>(name, 'ensure', signal, () => host.ensure(order)),
    remove: async (name, instance, generation, signal) =>
      await ask(name, 'remove', signal, () => host.unionize.ask('remove', instance, generation)),
    list: async (name, signal) => await ask(name, 'list', signal, () => host.list()),
    images: async (name, _wanted, signal) => await ask(name, 'images', signal, async () => {}),
    async *logs() {},
  }
  const { logs: _, prepare: __, ...backend } = dockerBackend({ agents })
  return backend
}

/** An order of two services that do nothing. */
export function orderOn(host: UnionizeHost, n: number, generation = 1): Order {
  const ownerAddress = parseIpv6(host.owner.address)
  return { ...anyOrder(n, generation), ownerAddress, services: [service('web'), service('log')] }
}

/** Containers of instances on it, in a few words each. */
export async function thingsOf(host: UnionizeHost): Promise<readonly string[]> {
  const filters = { label: [LABEL.instance, host.label] }
  const containers = await host.engine.docker.listContainers({ all: true, filters })
  return containers.map(({ Names }) => `container ${Names.join()}`)
}

async function struck(faults: Faults | undefined, verb: string, question: () => Promise<unknown>): Promise<unknown> {
  const strike = faults?.strike({ method: 'POST', path: verb, body: '' }) ?? null
  if (strike?.fault === 'refuse') {
    strike.hit()
    throw new HostUnreachable(HOST, 'the test refused')
  }
  const answer = await question()
  if (strike === null) return answer
  const second = strike.fault === 'repeat' ? await question() : null
  strike.hit()
  if (strike.fault === 'repeat') return second
  if (strike.fault === 'hang') await strike.over
  throw new HostUnreachable(HOST, 'the test lost the answer')
}

async function unlessAborted(signal: AbortSignal, work: Promise<unknown>): Promise<unknown> {
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, aborted.promise])
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error
    throw new OrchestratorError(error.code, error.message, { retryable: error.retryable })
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
