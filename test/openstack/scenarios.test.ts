import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { OPENSTACK_KEYSTONE } from '../../lab/openstack/machine.ts'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import { cloudContext } from '../support/cloud-backend.ts'
import { recorded } from '../support/exchanges.ts'
import { IRRELEVANT, scenarios } from '../support/openstack-scenarios.ts'
import { type OpenStackSite, openStackSite } from '../support/openstack-site.ts'

const FIXTURES = join(import.meta.dirname, '../fixtures/openstack')
/** Set by `npm run test:openstack -- --record`: what passes becomes what the ordinary tests replay. */
const RECORD = process.env['RECORD_OPENSTACK'] === '1'
const HOST = 'openstack.example'

describe('a real OpenStack', () => {
  let site: OpenStackSite
  before(async () => {
    site = await openStackSite(RECORD ? 'lab' : `scenarios-${Date.now()}`)
  })
  for (const scenario of scenarios) {
    it(scenario.name, async () => {
      const { router, subnetPool, flavor, image } = site
      const { provider, ...more } = scenario.settings?.(site) ?? {}
      const common = { kind: 'openstack', authUrl: OPENSTACK_KEYSTONE, region: 'RegionOne', router, subnetPool }
      const settings = {
        provider: { ...common, ...provider },
        regions: { one: null },
        ...{ credential: 'lab', size: flavor, image, boot: 'cloud-init', machines: 5, callsPerSecond: 1000 },
        ...more,
      }
      const credential = (await scenario.credential?.(site)) ?? site.member
      await scenario.before?.(site)
      const recordedAt = Date.now()
      const address = new URL(OPENSTACK_KEYSTONE).hostname
      const secrets = Object.entries(credential).filter(([name]) => /secret|password$/.test(name))
      const texts = [[address, HOST], ...secrets.map(([name, value]) => [value, `<${name}>`])] as [string, string][]
      try {
        const exchanges = await recorded(
          () => ({ texts, keys: IRRELEVANT }),
          async () => {
            const backend = await kind.create(
              settings,
              cloudContext(() => credential),
            )
            await scenario.run(backend)
            await backend.close()
          },
        )
        assert.deepEqual(await site.things(), [], 'nothing is left of it')
        if (!RECORD) return
        mkdirSync(FIXTURES, { recursive: true })
        const shown = Object.fromEntries(
          Object.entries(credential).map(([name, value]) => [
            name,
            secrets.some(([s]) => s === name) ? `<${name}>` : value,
          ]),
        )
        const told = { recordedAt, credential: shown, settings, exchanges }
        const text = JSON.stringify(told, null, 2).replaceAll(address, HOST)
        writeFileSync(join(FIXTURES, `${scenario.name}.json`), `${text}\n`)
      } finally {
        await scenario.after?.(site)
      }
    })
  }
})
