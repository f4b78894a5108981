import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InvalidInput } from '../../common/errors.ts'
import type { ServiceSpec } from '../../common/service-spec.ts'
import type { Agents } from '../../orchestrator/backends/docker/agents.ts'
import { dockerBackend } from '../../orchestrator/backends/docker/docker.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { orderShape } from '../../unionize/contract.ts'
import { service, template } from '../support/fixtures.ts'
import { fakeHost, order } from '../support/orders.ts'

const signal = new AbortController().signal
const observed: Observed = {
  instance: order(1).instance,
  generation: 1,
  state: 'running',
  address: order(1).address,
}
const asked: unknown[] = []
const agents: Agents = {
  async ensure(host, wire) {
    asked.push(['ensure', host, orderShape.parse(JSON.parse(JSON.stringify(wire)))])
    return observed
  },
  async remove(...what) {
    asked.push(['remove', ...what.slice(0, 3)])
  },
  async list() {
    return [observed]
  },
  async images(host, wanted) {
    asked.push(['images', host, wanted])
  },
  async *logs() {},
}
const backend = dockerBackend({ agents })

test('an order reaches the host as a message that it accepts, and its answer comes back', async () => {
  const given = order(1)
  // The host of its lease is the host itself.
  const { home: _home, ...sent } = given
  const answer = await backend.ensure({ ...given, entryPort: 80 }, fakeHost('h1'), signal)
  assert.equal(answer.address, 'fd00:1::1001')
  assert.deepEqual(asked.splice(0), [['ensure', 'h1', JSON.parse(JSON.stringify({ ...sent, entryPort: 80 }))]])
  assert.equal((await backend.list(fakeHost('h1'), signal))[0]?.address, 'fd00:1::1001')
  await backend.remove({ id: given.instance, generation: 3 }, fakeHost('h1'), signal)
  assert.deepEqual(asked.splice(0), [['remove', 'h1', 'i-test1', 3]])
})

test('an order that no host would accept is refused before it is sent, naming the field', async () => {
  const withService = (change: Partial<ServiceSpec>): Order => ({ ...order(1), services: [service(change)] })
  const cases: [Order, string][] = [
    [withService({ image: '' }), 'services.web.image'],
    [withService({ memoryBytes: 1024 }), 'services.web.memoryBytes'],
    [withService({ pids: 0 }), 'services.web.pids'],
    [withService({ capabilities: ['cap chown'] }), 'services.web.capabilities.0'],
    [withService({ name: 'Not A Name' }), 'services.Not A Name.name'],
    [{ ...order(1), services: [service(), service()] }, 'services'],
    [{ ...order(1), services: [] }, 'services'],
    [{ ...order(1), entryPort: 70_000 }, 'entryPort'],
  ]
  for (const [bad, field] of cases) {
    await assert.rejects(
      backend.ensure(bad, fakeHost('h1'), signal),
      (error) => error instanceof InvalidInput && error.field === field,
      field,
    )
  }
  assert.deepEqual(asked, [])
})

test('a template whose images Docker cannot name is refused', () => {
  backend.checkTemplate({ ...template, images: ['nginx', `registry.example:5000/team/x@sha256:${'a'.repeat(64)}`] })
  assert.throws(
    () => backend.checkTemplate({ ...template, images: ['nginx', 'not an image'] }),
    (error) => error instanceof InvalidInput && /not an image/.test(error.message),
  )
})

test('a host is told of the images that it is to have', async () => {
  const wanted = [{ image: 'nginx', from: { kind: 'registry' } }] as const
  await backend.prepare?.(fakeHost('h1'), wanted, signal)
  assert.deepEqual(asked.splice(0), [['images', 'h1', wanted]])
})
