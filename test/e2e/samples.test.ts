import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { stringify } from 'yaml'
import { DhcpClient } from '../../lab/clients.ts'
import { buildSamplesImage } from '../../lab/images.ts'
import { SAMPLES, SAMPLES_DIRECTORY, sampleRule } from '../../lab/samples.ts'
import type { Site } from '../../lab/site.ts'
import type { InstanceDetailShape, RuleTestShape } from '../../orchestrator/api/wire.ts'
import { instancesOf, openSite, reachableInstance } from '../support/site.ts'
import { until } from '../support/until.ts'

/** Each sample for a device that is called like it: a rule for each, by the name that the device tells. */
const names = Object.keys(SAMPLES)

describe('the samples, each used as its owner would', () => {
  let site: Site
  let close: () => Promise<void>
  const clients = new Map<string, DhcpClient>()
  before(async () => {
    ;({ site, close } = await openSite({ dnsmasq: { leaseTime: '10m' } }))
    await buildSamplesImage(site.engine, () => {})
    mkdirSync(site.path('rules'), { recursive: true })
    const rules = names.map((name) => sampleRule(name, { hostname: [name] }))
    writeFileSync(site.path('rules', 'rules.yaml'), stringify({ rules }))
    await site.orctl('apply', '-f', SAMPLES_DIRECTORY, '-f', site.path('rules'))
    for (const [index, name] of names.entries()) {
      clients.set(name, await new DhcpClient(site.prefix, index + 1, { hostname: name }).plug())
    }
  })
  after(() => close())

  it('are given by rules, which tell why the others do not match', async () => {
    const tested = await site.orctlJson<RuleTestShape>('rule', 'test', '--hostname', 'challenge')
    assert.equal(tested.template?.name, 'challenge')
    const at = names.indexOf('challenge')
    assert.equal(tested.considered.length, at + 1)
    for (const [index, { mismatch }] of tested.considered.entries()) assert.equal(mismatch === null, index === at)
  })

  for (const [name, visit] of Object.entries(SAMPLES)) {
    it(`${name} does what its first line says`, async (t) => {
      const client = clients.get(name) ?? assert.fail()
      await client.request()
      await client.lease()
      const { id } = await reachableInstance(site, client.duid, 60_000)
      const tells = ['personal-page', 'vpn', 'iot-broker'].includes(name)
      const detail = await until(`the outputs of ${name}`, async () => {
        const found = await site.orctlJson<InstanceDetailShape>('describe', 'instance', id)
        return !tells || found.outputs !== null ? found : undefined
      })
      t.diagnostic(await visit(client, detail))
    })
  }

  it('leave nothing when their leases end', async () => {
    for (const client of clients.values()) await client.release()
    // It outlives its lease by some minutes.
    const shell = (await instancesOf(site)).find((instance) => instance.template.name === 'web-shell')
    await site.orctl('rm', 'instance', shell?.name ?? '', '--yes')
    await until('the end of all instances', async () => (await instancesOf(site)).length === 0, { deadlineMs: 60_000 })
    assert.deepEqual(await site.engine.containers('org.orchestrator.role=service'), [])
    const { Volumes } = await site.engine.docker.listVolumes({ filters: { label: ['org.orchestrator.host'] } })
    assert.deepEqual(Volumes ?? [], [])
  })
})
