import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Registry } from '@prometheus-io/client'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { controlMetrics } from '../../orchestrator/metrics.ts'
import { fromHost } from '../../unionize/contract.ts'

const HOST = 'h1' as HostName

function metrics() {
  const registry = new Registry()
  const control = controlMetrics(registry, { counts: async () => ({ pending: 0, running: 0, leases: 0, refused: 0 }) })
  const line = async (host: string, reason: string) =>
    (await registry.metrics()).split('\n').find((text) => text.includes(`{host="${host}",reason="${reason}"}`))
  return { control, line }
}

describe('the metric of dropped packets', () => {
  it('has what each host said, by reason', async () => {
    const { control, line } = metrics()
    control.dropped(HOST, { mac: 3, host: 0 })
    control.dropped('h2' as HostName, { mac: 8 })
    control.dropped(HOST, { mac: 5, host: 1 })
    assert.equal(await line('h1', 'mac'), 'orchestrator_dropped_packets_total{host="h1",reason="mac"} 5')
    assert.equal(await line('h1', 'host'), 'orchestrator_dropped_packets_total{host="h1",reason="host"} 1')
    assert.equal(await line('h2', 'mac'), 'orchestrator_dropped_packets_total{host="h2",reason="mac"} 8')
  })

  it('never shrinks: after a restart of the host its new counts are added', async () => {
    const { control, line } = metrics()
    for (const mac of [100, 4, 4, 10]) control.dropped(HOST, { mac })
    assert.equal(await line('h1', 'mac'), 'orchestrator_dropped_packets_total{host="h1",reason="mac"} 110')
  })

  it('takes known reasons and whole numbers from hosts, and nothing else', () => {
    const accepts = (packets: unknown) => fromHost.safeParse({ type: 'dropped', packets }).success
    assert.ok(accepts({}))
    assert.ok(accepts({ mac: 1, 'router-advertisement': 2 ** 40 }))
    for (const packets of [{ weather: 1 }, { mac: -1 }, { mac: 1.5 }, { mac: '1' }, null, [1]]) {
      assert.ok(!accepts(packets), JSON.stringify(packets))
    }
  })
})
