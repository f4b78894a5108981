import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InvalidInput } from '../../common/errors.ts'
import type { Agents } from '../../orchestrator/backends/docker/agents.ts'
import { dockerBackend } from '../../orchestrator/backends/docker/docker.ts'
import type { Observed } from '../../orchestrator/domain/instance.ts'
import type { Service, Template } from '../../orchestrator/domain/template.ts'
import { orderShape } from '../../unionize/contract.ts'
import { template } from '../support/fixtures.ts'
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
  async *logs() {},
}
const backend = dockerBackend({ agents })

test('an order reaches the host as a message that it accepts, and its answer comes back', async () => {
  const given = order(1)
  const answer = await backend.ensure({ ...given, entryPort: 80 }, fakeHost('h1'), signal)
  assert.equal(answer.address, 'fd00:1::1001')
  assert.deepEqual(asked.splice(0), [['ensure', 'h1', JSON.parse(JSON.stringify({ ...given, entryPort: 80 }))]])
  assert.equal((await backend.list(fakeHost('h1'), signal))[0]?.address, 'fd00:1::1001')
  await backend.remove({ id: given.instance, generation: 3 }, fakeHost('h1'), signal)
  assert.deepEqual(asked.splice(0), [['remove', 'h1', 'i-test1', 3]])
})

test('a template that no host would accept is refused, naming the field', () => {
  const service = template.services[0] as Service
  const withService = (change: Partial<Service>): Template => ({ ...template, services: [{ ...service, ...change }] })
  backend.checkTemplate(template)
  backend.checkTemplate(withService({ image: `registry.example:5000/team/x@sha256:${'a'.repeat(64)}` }))
  const cases: [Template, string][] = [
    [withService({ image: 'not an image' }), 'services.web.image'],
    [withService({ image: '' }), 'services.web.image'],
    [withService({ memoryBytes: 1024 }), 'services.web.memory'],
    [withService({ pids: 0 }), 'services.web.pids'],
    [withService({ capabilities: ['CAP_CHOWN'] }), 'services.web.capabilities'],
    [withService({ name: 'Not A Name' }), 'services.Not A Name.name'],
    [{ ...template, services: [service, service] }, 'services.web.name'],
    [{ ...template, services: [] }, 'services'],
    [{ ...template, entryPort: 70_000 }, 'entryPort'],
  ]
  for (const [bad, field] of cases) {
    assert.throws(
      () => backend.checkTemplate(bad),
      (error) => error instanceof InvalidInput && error.field === field,
      field,
    )
  }
})
