import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../common/errors.ts'
import { type Provider, type ProviderContext, TAG } from '../../orchestrator/backends/cloud/provider.ts'
import {
  createHetzner,
  hetznerSettings,
  provider as kind,
} from '../../orchestrator/backends/cloud/providers/hetzner/hetzner.ts'
import { machineName } from '../../orchestrator/backends/cloud/providers/named.ts'
import { INSTALLATION, orderOf, type ProviderSubject, providerContract, swept } from '../contract/provider.ts'
import { providerContext } from '../support/clouds.ts'
import { type FaultProxy, faultProxy } from '../support/fault-proxy.ts'
import { type HetznerServer, hetznerServer, TOKEN } from '../support/hetzner-server.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const PAGE = 3

describe('hetzner against a server made from its reference', () => {
  let server: HetznerServer
  let faults: FaultProxy
  before(async () => {
    server = await hetznerServer()
    faults = await faultProxy(server.url)
  })
  after(async () => {
    await faults.close()
    await server.close()
  })
  beforeEach(() => {
    const usual = {
      serverLimit: 1000,
      remaining: 100_000,
      readOnly: false,
      refuse: null,
      actionFails: null,
      locks: false,
    }
    Object.assign(server.state, usual, { now: Date.now })
  })

  const open = (
    installation = INSTALLATION,
    settings: Record<string, unknown> = {},
    context: Partial<ProviderContext> = {},
  ): Provider =>
    createHetzner(
      hetznerSettings.parse({ location: 'fsn1', endpoint: faults.url, ...settings }),
      providerContext({ target: 'falkenstein', installation, credential: async () => ({ token: TOKEN }), ...context }),
      PAGE,
    )
  const subject: ProviderSubject = {
    get faults() {
      return faults
    },
    open,
    size: 'cx22',
    image: 'debian-12',
    unknownSize: 'cx99',
    unknownImage: 'debian-1',
    pageSize: PAGE,
    refusal: {
      kind: 'answered',
      status: 401,
      body: '{"error":{"code":"unauthorized","message":"unable to authenticate","details":null}}',
    },
    listCalls: (path) => path.startsWith('/v1/servers?label_selector='),
    belongings: async () => [...server.firewalls.values()].map(({ name }) => name).sort(),
  }
  providerContract('hetzner', async () => subject)

  const emptied = async (provider: Provider) => {
    await swept(provider)
    await until('no firewall is left', async () => {
      await provider.tidy(never)
      return server.firewalls.size === 0
    })
  }

  it('makes a server behind a firewall that admits one address alone, without IPv4', async () => {
    const provider = open()
    const made = await provider.create(orderOf(subject, 1), never)
    const one = server.servers.get(Number(made.id))
    const [firewall, ...more] = [...server.firewalls.values()]
    assert.deepEqual([one?.firewalls, more], [[firewall?.id], []])
    assert.deepEqual(
      firewall?.rules.map(({ direction, protocol, source_ips }) => [direction, protocol, source_ips]),
      ['tcp', 'udp', 'icmp'].map((protocol) => ['in', protocol, ['2001:db8:1::1/128']]),
    )
    assert.equal(one?.ipv4, false)
    assert.equal(one?.userData, orderOf(subject, 1).bootData)
    assert.equal(one?.labels[TAG.owner], 'owner-1')
    await emptied(provider)
  })

  it('makes one of a request that reaches the provider twice: the name is the token', async () => {
    const provider = open()
    const order = orderOf(subject, 2)
    faults.reset()
    faults.next({ kind: 'twice' }, ({ method, path }) => method === 'POST' && path === '/v1/servers')
    await assert.rejects(
      provider.create(order, never),
      (error) => error instanceof OrchestratorError && error.retryable,
    )
    const { id } = await provider.create(order, never)
    assert.deepEqual(
      [...server.servers.values()].filter(({ endedAt }) => endedAt === null).map((s) => String(s.id)),
      [id],
    )
    await emptied(provider)
  })

  it('leaves a server alone that somebody else has given our name', async () => {
    const order = orderOf(subject, 3)
    const answer = await fetch(`${server.url}/v1/servers`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ name: machineName(order, INSTALLATION), server_type: 'cx22', image: 'debian-12' }),
    })
    const { server: theirs } = (await answer.json()) as { server: { id: number } }
    await assert.rejects(open().create(order, never), /not ours/)
    assert.equal(server.servers.get(theirs.id)?.endedAt, null)
    await open().delete(String(theirs.id), never)
  })

  it('says that there is no room for the codes that mean it', async () => {
    for (const [status, code] of [
      [403, 'resource_limit_exceeded'],
      [422, 'resource_unavailable'],
      [422, 'placement_error'],
    ] as const) {
      server.state.refuse = { status, code, message: 'no' }
      await assert.rejects(open().create(orderOf(subject, 4), never), NoRoom, code)
    }
    await emptied(open())
  })

  it('says that it could not ask while the provider is being maintained', async () => {
    for (const [status, code] of [
      [503, 'unavailable'],
      [503, 'maintenance'],
      [504, 'timeout'],
      [502, 'bad_gateway'],
    ] as const) {
      server.state.refuse = { status, code, message: 'no' }
      await assert.rejects(open().create(orderOf(subject, 5), never), HostUnreachable, code)
    }
    await emptied(open())
  })

  it('comes again to a server that is locked', async () => {
    const provider = open()
    server.state.locks = true
    const { id } = await provider.create(orderOf(subject, 6), never)
    await assert.rejects(provider.delete(id, never), (error) => error instanceof OrchestratorError && error.retryable)
    await until('it is unlocked', () => provider.delete(id, never).then(() => true))
    await emptied(provider)
  })

  it('tells a server whose creation failed, and that it was for want of room', async () => {
    const provider = open()
    server.state.actionFails = 'resource_unavailable'
    server.state.now = () => Date.now() - 120_000
    const { id } = await provider.create(orderOf(subject, 7), never)
    const failed = (await open().list(never)).find((machine) => machine.id === id)
    assert.deepEqual([failed?.state, failed?.noRoom], ['failed', true])
    assert.match(failed?.detail ?? '', /resource_unavailable/)
    await emptied(provider)
  })

  it('says that a token may only read', async () => {
    server.state.readOnly = true
    await assert.rejects(open().create(orderOf(subject, 8), never), (error) => {
      assert.ok(error instanceof OrchestratorError && error.code === 'not-permitted')
      assert.match(error.message, /Read & Write/)
      return true
    })
  })

  it('waits for the limit to refill, and says how long', async () => {
    server.state.remaining = 0
    await assert.rejects(open().list(never), (error) => {
      assert.ok(error instanceof OrchestratorError && error.code === 'rate-limited')
      assert.ok(error.retryAfterMs !== undefined && error.retryAfterMs > 0 && error.retryAfterMs <= 10_000)
      return true
    })
  })

  it('knows what types cost in its location after its first list', async () => {
    const provider = open(INSTALLATION, { location: 'nbg1' })
    assert.equal(provider.price('cx22'), null)
    await provider.list(never)
    assert.deepEqual(provider.price('cx22'), { perHour: 0.0061, currency: 'EUR' })
  })

  it('says which setting is wrong', async () => {
    const wrong = [
      ['settings.provider.location', { location: 'xyz9' }],
      ['settings.provider.location', {}],
      ['settings.provider.sshKey', { location: 'fsn1', sshKey: 'a' }],
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
  })
})
