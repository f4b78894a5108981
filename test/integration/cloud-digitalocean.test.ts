import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { InvalidInput, NoRoom, OrchestratorError, wording } from '../../common/errors.ts'
import { createPace } from '../../orchestrator/backends/cloud/pace.ts'
import { type Provider, type ProviderContext, TAG } from '../../orchestrator/backends/cloud/provider.ts'
import {
  createDigitalocean,
  digitaloceanSettings,
  provider as kind,
} from '../../orchestrator/backends/cloud/providers/digitalocean/digitalocean.ts'
import { INSTALLATION, orderOf, type ProviderSubject, providerContract, swept } from '../contract/provider.ts'
import { providerContext } from '../support/clouds.ts'
import { type DigitaloceanServer, digitaloceanServer, TOKEN } from '../support/digitalocean-server.ts'
import { type FaultProxy, faultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const PAGE = 3

describe('digitalocean against a server made from its reference', () => {
  let server: DigitaloceanServer
  let faults: FaultProxy
  before(async () => {
    server = await digitaloceanServer()
    faults = await faultProxy(server.url)
  })
  after(async () => {
    await faults.close()
    await server.close()
  })
  beforeEach(() => {
    faults.reset()
    const { state } = server
    Object.assign(state, {
      dropletLimit: 1000,
      remaining: 100_000,
      scopes: null,
      soldOut: false,
      creationFails: false,
      now: Date.now,
    })
  })

  const open = (
    installation = INSTALLATION,
    settings: Record<string, unknown> = {},
    context: Partial<ProviderContext> = {},
  ): Provider =>
    createDigitalocean(
      digitaloceanSettings.parse({ region: 'fra1', endpoint: faults.url, ...settings }),
      providerContext({ target: 'frankfurt', installation, credential: async () => ({ token: TOKEN }), ...context }),
      PAGE,
    )
  const subject: ProviderSubject = {
    get faults() {
      return faults
    },
    open,
    size: 's-1vcpu-1gb',
    image: 'debian-12-x64',
    unknownSize: 's-99vcpu',
    unknownImage: 'debian-1',
    pageSize: PAGE,
    refusal: { kind: 'answered', status: 401, body: '{"id":"unauthorized","message":"Unable to authenticate you"}' },
    listCalls: (path) => path.startsWith('/v2/droplets?tag_name='),
    belongings: async () =>
      [...server.firewalls.values()]
        .map(({ name }) => name)
        .concat([...server.tags])
        .sort(),
  }
  providerContract('digitalocean', async () => subject)

  const emptied = async (provider: Provider) => {
    await swept(provider)
    await provider.tidy(never)
  }
  const codeIs = (code: string) => (error: unknown) => error instanceof OrchestratorError && error.code === code

  it('makes a droplet behind a firewall that admits one address alone, and that holds before it runs', async () => {
    const provider = open()
    const { id } = await provider.create(orderOf(subject, 1), never)
    const droplet = server.droplets.get(Number(id))
    const [firewall, ...more] = [...server.firewalls.values()]
    assert.equal(more.length, 0)
    assert.ok(firewall !== undefined)
    assert.ok(firewall.tags.every((tag) => droplet?.tags.includes(tag)))
    assert.deepEqual(
      firewall.inbound.map(({ protocol, ports, sources }) => [protocol, ports, sources.addresses]),
      ['tcp', 'udp', 'icmp'].map((protocol) => [protocol, '0', ['2001:db8:1::1']]),
    )
    assert.equal(droplet?.userData, orderOf(subject, 1).bootData)
    await emptied(provider)
  })

  it('deletes the younger when a request that was repeated has made two', async () => {
    const provider = open()
    faults.reset()
    faults.next({ kind: 'twice' }, ({ method, path }) => method === 'POST' && path === '/v2/droplets')
    const order = orderOf(subject, 2)
    await provider.create(order, never)
    assert.equal([...server.droplets.values()].filter(({ endedAt }) => endedAt === null).length, 2)
    const { id } = await open().create(order, never)
    const left = [...server.droplets.values()].filter(({ endedAt }) => endedAt === null)
    assert.deepEqual(
      left.map((droplet) => String(droplet.id)),
      [id],
    )
    await emptied(provider)
  })

  it('says that there is no room at the limit of the account, and where a size is sold out', async () => {
    const provider = open()
    server.state.dropletLimit = 0
    await assert.rejects(provider.create(orderOf(subject, 3), never), NoRoom)
    server.state.dropletLimit = 10
    server.state.soldOut = true
    await assert.rejects(provider.create(orderOf(subject, 3), never), NoRoom)
    await emptied(provider)
  })

  it('names the scope that the token lacks', async () => {
    server.state.scopes = ['droplet:read', 'size:read', 'firewall:read', 'tag:create']
    await assert.rejects(open().create(orderOf(subject, 4), never), (error) => {
      assert.ok(codeIs('not-permitted')(error))
      assert.match((error as Error).message, /firewall:create/)
      return true
    })
    server.state.scopes = null
    await open().tidy(never)
  })

  it('waits as long as the provider says when its limit is used up, and asks nothing meanwhile', async () => {
    const provider = open(INSTALLATION, {}, { pace: createPace(1000, { now: Date.now, wait: async () => {} }) })
    server.state.remaining = 0
    server.state.reset = Math.floor(Date.now() / 1000) + 120
    const limited = (error: unknown) => {
      assert.ok(error instanceof OrchestratorError && error.code === 'rate-limited' && error.retryable)
      assert.ok(error.retryAfterMs !== undefined && error.retryAfterMs > 100_000 && error.retryAfterMs <= 120_000)
      return true
    }
    await assert.rejects(provider.list(never), limited)
    faults.reset()
    server.state.remaining = 100
    await assert.rejects(provider.list(never), limited)
    assert.equal(faults.seen.length, 0)
  })

  it('tells a droplet that could not be created, and keeps others apart', async () => {
    const provider = open()
    server.state.creationFails = true
    server.state.now = () => Date.now() - 120_000
    const { id } = await provider.create(orderOf(subject, 5), never)
    const failed = await until('it is known', async () =>
      (await open().list(never)).find((machine) => machine.id === id),
    )
    assert.equal(failed.state, 'failed')
    assert.match(failed.detail ?? '', /could not create/)
    await emptied(provider)
  })

  it('knows what sizes cost after its first list, and believes the settings before that', async () => {
    const provider = open()
    assert.equal(provider.price('s-1vcpu-1gb'), null)
    await provider.list(never)
    assert.deepEqual(provider.price('s-1vcpu-1gb'), { perHour: 0.00893, currency: 'USD' })
    assert.equal(provider.price('s-99vcpu'), null)
    const stated = { 's-1vcpu-1gb': { perHour: 0.01, currency: 'EUR' } }
    assert.deepEqual(open(INSTALLATION, {}, { prices: stated }).price('s-1vcpu-1gb'), stated['s-1vcpu-1gb'])
  })

  it('leaves tags and firewalls of others alone, also those that look like ours', async () => {
    const foreign = open('ffeeddccbbaa9988')
    const theirs = await foreign.create(orderOf(subject, 6, 1, 'ffeeddccbbaa9988'), never)
    await foreign.delete(theirs.id, never)
    const before = await subject.belongings()
    await open().tidy(never)
    assert.deepEqual(await subject.belongings(), before)
    await emptied(foreign)
  })

  it('finds a droplet again whose tags are not set yet', async () => {
    const order = orderOf(subject, 7)
    const first = await open().create(order, never)
    assert.deepEqual((await open().create(order, never)).id, first.id)
    await emptied(open())
  })

  it('says which setting is wrong', async () => {
    const wrong = [
      ['settings.provider.region', { region: 'xyz9' }],
      ['settings.provider.region', { region: 'Frankfurt' }],
      ['settings.provider.tokn', { region: 'fra1', tokn: TOKEN }],
      ['settings.provider.vpc', { region: 'fra1', vpc: 'default' }],
    ] as const
    for (const [field, settings] of wrong) {
      const context = providerContext({
        target: 't',
        installation: INSTALLATION,
        credential: async () => ({ token: TOKEN }),
      })
      await assert.rejects(
        async () => kind.create({ endpoint: server.url, ...settings }, context).check(never),
        (error) => error instanceof InvalidInput && error.field === field,
        field,
      )
    }
    await assert.rejects(
      open().create({ ...orderOf(subject, 8), spot: true }, never),
      (error) => error instanceof InvalidInput && error.field === 'options.spot',
    )
  })

  it('tells what is missing: a token, IPv6 in the region', async () => {
    await assert.rejects(
      open(INSTALLATION, {}, { credential: async () => ({}) }).list(never),
      codeIs('credential-missing'),
    )
    const told = await open(INSTALLATION, { region: 'nyc2' }).check(never)
    assert.equal(told.missing.length, 2)
    assert.ok(told.abilities.some((text) => text.includes('1000 droplets')))
  })

  it('never tells its token, whatever is answered', async () => {
    faults.reset()
    faults.next(
      { kind: 'answered', status: 422, body: JSON.stringify({ id: 'x', message: `bad Bearer ${TOKEN}` }) },
      undefined,
      { always: true },
    )
    await assert.rejects(open().list(never), (error) => /\*\*\*/.test(String(error)) && !wording(error).includes(TOKEN))
    faults.reset()
  })

  it('takes no firewall away because a list was empty that should not have been', async () => {
    const provider = open()
    await provider.create(orderOf(subject, 10), never)
    await until('its tags are set', async () => (await open().list(never)).length === 1)
    faults.next({ kind: 'answered', status: 200, body: '{"droplets":[],"links":{},"meta":{"total":0}}' }, ({ path }) =>
      path.startsWith('/v2/droplets?tag_name=orchestrator-installation'),
    )
    await open().tidy(never)
    assert.equal(server.firewalls.size, 1)
    await emptied(provider)
    assert.equal(server.firewalls.size, 0)
  })

  it('comes again with a later list to what could not be tidied away', async () => {
    let now = Date.now()
    const clock = { now: () => now, wait: async () => {} }
    const provider = open(INSTALLATION, {}, { clock })
    const { id } = await provider.create(orderOf(subject, 11), never)
    await until('its tags are set', async () => (await open().list(never)).length === 1)
    await open().delete(id, never)
    now += 61_000
    await until('a later list tidies', async () => {
      await provider.list(never)
      now += 10_000
      return server.firewalls.size === 0
    })
  })

  it('carries its tags', async () => {
    const { id } = await open().create(orderOf(subject, 9), never)
    assert.ok(server.droplets.get(Number(id))?.tags.includes(`${TAG.owner}:${INSTALLATION}:owner-9`))
    await emptied(open())
  })
})
