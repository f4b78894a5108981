// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these texts are of Compose, not of JavaScript
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { parse } from 'yaml'
import { InvalidInput } from '../../common/errors.ts'
import { bootData } from '../../orchestrator/backends/cloud/boot/boot.ts'
import { cloudBackend } from '../../orchestrator/backends/cloud/cloud.ts'
import { parseSettings } from '../../orchestrator/backends/cloud/settings.ts'
import { checkContent, checkOrder } from '../../orchestrator/backends/coreos/options.ts'
import { type UnitGround, unitsOf } from '../../orchestrator/backends/coreos/units.ts'
import { compile } from '../../orchestrator/compose/compile.ts'
import { faultText } from '../../orchestrator/compose/faults.ts'
import { orderFor } from '../../orchestrator/compose/order.ts'
import { versionOf } from '../../orchestrator/compose/version.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import { mergeLease } from '../../orchestrator/domain/lease.ts'
import type { Parameters } from '../../orchestrator/domain/parameter.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { cloudContext } from '../support/cloud-backend.ts'
import { leaseEvent } from '../support/fixtures.ts'
import { instance } from '../support/instances.ts'
import { memoryCloud } from '../support/memory-cloud.ts'

/** A template as the operator's file means it: web is the entry, db the other service. */
function template({ web = '', db = '', more = '' }: { web?: string; db?: string; more?: string } = {}): Template {
  return compiled(`x-orchestrator:
  summary: two services
  entry: web
  parameters: {HOW: {default: 'service:web'}}
services:
  web: {image: nginx, ports: [80]${web}}
  db: {image: postgres${db}}
${more}`)
}

function compiled(text: string): Template {
  const source = { name: 'pair', file: 'pair.yaml', text, files: new Map() }
  const { content, faults } = compile(source, { base: () => null, trusted: () => false })
  assert.deepEqual(faults.map(faultText), [])
  assert.ok(content !== null)
  return { name: 'pair', version: versionOf(content), number: 1, ...content }
}

function orderOf(from: Template, given: Parameters = {}): Order {
  const begun = mergeLease(null, leaseEvent(1, 1000), 1000)
  assert.ok(begun.kind === 'begun')
  return orderFor(instance(1), from, begun.lease, { name: 'h1' as HostName, facts: {} }, given)
}

const cloud = cloudBackend(
  parseSettings({
    ...{ provider: { kind: 'openstack' }, regions: { one: null }, credential: 'lab', size: 'small', image: 'debian' },
    ...{ boot: 'cloud-init', machines: 3, callsPerSecond: 1000 },
  }),
  cloudContext(() => ({})),
  memoryCloud().kind,
)
const format = { boot: 'cloud-init', engine: 'docker', packages: [], mostBytes: 65_536 } as const
const ground: UnitGround = {
  ...{ installation: '0123456789abcdef', engine: 'podman', program: '/usr/bin/podman', quadlet: false, systemd: 252 },
  dns: [],
}

/** How each of them checks a template, and an order. */
const backends = [
  ['a cloud', (one: Template) => cloud.checkTemplate(one), (one: Order) => void bootData(one, format)],
  ['machines', (one: Template) => checkContent('metal', one), (one: Order) => checkOrder(one)],
] as const

/** `NAME=ADDRESS` of what a service finds on a machine of a cloud, in order. */
function foundInCloud(order: Order, service: string): string[] {
  const { write_files: files } = parse(bootData(order, format)) as {
    write_files: { path: string; encoding: string; content: string }[]
  }
  const create = files.find(({ path }) => path.endsWith(`/${service}/create`)) ?? assert.fail()
  const bytes = Buffer.from(create.content, 'base64')
  const script = create.encoding === 'b64' ? bytes.toString() : gunzipSync(bytes).toString()
  return [...script.matchAll(/--add-host=([^ :']+):([0-9a-f:.]+)/g)].map(([, name, address]) => `${name}=${address}`)
}

/** The lines of the hosts file that a service has on a machine; null: that of its engine. */
function hostsOnMachine(order: Order, service: string): string[] | null {
  const { files } = unitsOf(order, ground)
  const path = `/var/lib/orchestrator/instances/${order.instance}/${service}.hosts`
  const hosts = files.find((one) => one.path === path)
  const unit = files.find((one) => one.path.endsWith(`-s-${service}.service`)) ?? assert.fail()
  const isMounted = String(unit.content).includes(`type=bind,source=${path},ro,target=/etc/hosts`)
  assert.equal(isMounted, hosts !== undefined)
  return hosts === undefined ? null : String(hosts.content).trimEnd().split('\n')
}

const forms = {
  'no networks': template(),
  'the default one in a list': template({ web: ', networks: [default]', db: ', networks: [default]' }),
  'the default one in a map, and declared with options that change nothing': template({
    db: ', networks: {default: }',
    more: 'networks: {default: {driver: bridge, enable_ipv6: true, internal: false, x-note: ours}}',
  }),
}

describe('several services in one network', () => {
  for (const [form, pair] of Object.entries(forms)) {
    it(`are taken, and find each other by name, where a template says: ${form}`, () => {
      const order = orderOf(pair)
      for (const [, checkTemplate, checkWanted] of backends) {
        assert.doesNotThrow(() => checkTemplate(pair))
        assert.doesNotThrow(() => checkWanted(order))
      }
      for (const service of ['web', 'db']) {
        assert.deepEqual(foundInCloud(order, service), ['web=::1', 'db=::1'])
        const hosts = hostsOnMachine(order, service) ?? assert.fail('it has the file of its engine')
        for (const line of ['::1 web', '::1 db', '127.0.0.1 localhost']) assert.ok(hosts.includes(line), line)
      }
    })
  }

  it('find each other by alias and container_name, too, and by what extra_hosts says after that', () => {
    const pair = template({
      web: ', extra_hosts: [printer=192.0.2.7]',
      db: ', container_name: store, networks: {default: {aliases: [database, database.example]}}',
    })
    const order = orderOf(pair)
    const names = ['web', 'db', 'database', 'database.example', 'store'].map((name) => `${name}=::1`)
    assert.deepEqual(foundInCloud(order, 'db'), names)
    assert.deepEqual(foundInCloud(order, 'web'), [...names, 'printer=192.0.2.7'])
    const lines = names.map((one) => `::1 ${one.replace('=::1', '')}`)
    assert.deepEqual(hostsOnMachine(order, 'db')?.slice(-names.length), lines)
    assert.deepEqual(hostsOnMachine(order, 'web')?.slice(-names.length - 1), [...lines, '192.0.2.7 printer'])
  })

  it('find each other where one says that it has the network of the entry', () => {
    const order = orderOf(template({ db: ', network_mode: service:web' }))
    assert.deepEqual(foundInCloud(order, 'web'), ['web=::1', 'db=::1'])
    assert.ok(hostsOnMachine(order, 'web')?.includes('::1 db'))
  })

  it('leave a service that is alone as it was: with the file of its engine, or its own further lines', () => {
    const alone = (more: string) =>
      orderOf(compiled(`x-orchestrator: {summary: one}\nservices: {web: {image: nginx, ports: [80]${more}}}\n`))
    assert.equal(hostsOnMachine(alone(''), 'web'), null)
    const own = hostsOnMachine(alone(', extra_hosts: [printer=192.0.2.7]'), 'web')
    assert.deepEqual(own, ['127.0.0.1 localhost', '::1 localhost ip6-localhost', '192.0.2.7 printer'])
    assert.deepEqual(foundInCloud(alone(''), 'web'), ['web=::1'])
  })
})

/** What one network cannot give, and the key at which that is told. */
const refusals = [
  ['services.db.network_mode', { db: ', network_mode: none' }],
  ['networks.lan', { db: ', networks: [default, lan]', more: 'networks: {lan: }' }],
  ['networks.lan', { db: ', networks: {lan: {aliases: [a]}}', more: 'networks: {lan: {internal: true}}' }],
  ['networks.default.ipam', { more: 'networks: {default: {ipam: {config: [{subnet: "fd00:9::/64"}]}}}' }],
  ['networks.default.internal', { more: 'networks: {default: {internal: true}}' }],
] as const

describe('what one network for all services cannot give', () => {
  for (const [who, checkTemplate, checkWanted] of backends) {
    for (const [key, parts] of refusals) {
      it(`is refused by ${who} when the template is checked: ${key} of ${JSON.stringify(parts)}`, () => {
        assert.throws(() => checkTemplate(template(parts)), isRefusedAt(key))
      })
    }

    it(`is refused by ${who} where a service joins what it must not, whoever compiled it`, () => {
      const forged = (networks: object) => ({
        ...template(),
        stack: { services: { db: { networks: networks as never } } },
      })
      assert.throws(() => checkTemplate(forged(['default', 'lan'])), isRefusedAt('services.db.networks[1]'))
      assert.throws(() => checkTemplate(forged({ lan: null })), isRefusedAt('services.db.networks.lan'))
      const addressed = { default: { ipv6_address: 'fd00:9::5' } }
      assert.throws(() => checkTemplate(forged(addressed)), isRefusedAt('services.db.networks.default.ipv6_address'))
    })

    it(`is refused by ${who} with the order, where only a parameter says it`, () => {
      const pair = template({ db: ', network_mode: "${HOW}"' })
      assert.doesNotThrow(() => checkTemplate(pair))
      assert.doesNotThrow(() => checkWanted(orderOf(pair, { HOW: 'service:web' })))
      assert.throws(() => checkWanted(orderOf(pair, { HOW: 'none' })), isRefusedAt('services.db.network_mode'))
    })

    it(`is refused by ${who} with the order of a template that was rolled out before it was checked so`, () => {
      const lan = template({ db: ', networks: [default, lan]', more: 'networks: {lan: }' })
      assert.throws(() => checkWanted(orderOf(lan)), isRefusedAt('networks.lan'))
      const [subnet, db] = ['networks: {default: {ipam: {config: [{subnet: "fd00:9::/64"}]}}}', ', networks: [default]']
      assert.throws(() => checkWanted(orderOf(template({ db, more: subnet }))), isRefusedAt('networks.default.ipam'))
    })
  }
})

function isRefusedAt(key: string) {
  return (error: unknown) =>
    error instanceof InvalidInput &&
    error.field === key &&
    /leave it out, or use the backend docker$/.test(error.message)
}
