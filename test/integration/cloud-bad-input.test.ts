import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { InvalidInput, OrchestratorError, wording } from '../../common/errors.ts'
import { checkTargets } from '../../orchestrator/backends/checks.ts'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import { explained } from '../../orchestrator/backends/cloud/providers/ec2/failures.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { digitaloceanServer, TOKEN as OCEAN } from '../support/digitalocean-server.ts'
import { type FaultProxy, faultProxy } from '../support/fault-proxy.ts'
import { TOKEN as HETZNER, hetznerServer } from '../support/hetzner-server.ts'

const never = new AbortController().signal
const here = { name: 'here' as HostName }

/** What an operator or a provider has wrong, and what is told of it. The other providers: OpenStack's scenarios, EC2's refusals. */
interface Mistake {
  readonly what: string
  readonly token?: string
  readonly provider?: object
  readonly size?: string
  readonly image?: string
  /** At the provider; the next mistake begins with all well. */
  readonly there?: () => void
  readonly code: string
  readonly field?: string
  /** The reason and the remedy. */
  readonly says: RegExp
  /** Whether the same again can succeed without anybody changing anything. */
  readonly again?: boolean
  /** Found by a check, too. */
  readonly checked?: boolean
}

interface Place {
  readonly name: string
  readonly token: string
  readonly url: string
  readonly well: () => void
  readonly settings: { readonly provider: object; readonly size: string; readonly image: string }
  readonly mistakes: readonly Mistake[]
  close(): Promise<void>
}

async function ocean(): Promise<Place> {
  const server = await digitaloceanServer()
  const { state } = server
  const full = /have the quota raised.*second choice/
  return {
    ...{ name: 'DigitalOcean', token: OCEAN, url: server.url, close: server.close },
    well: () => Object.assign(state, { dropletLimit: 10, scopes: null, soldOut: false, remaining: 100_000 }),
    settings: { provider: { kind: 'digitalocean', region: 'fra1' }, size: 's-1vcpu-1gb', image: 'debian-12-x64' },
    mistakes: [
      // The reference knows one answer to a token that is wrong, revoked or has expired.
      ...['wrong', 'expired'].map((what) => ({
        ...{ what: `a token that is ${what}`, token: `dop_v1_${what}_0123456789`, checked: true },
        ...{ code: 'credential-refused', says: /does not accept the credential.*Unable to auth.*orctl credential/ },
      })),
      {
        ...{ what: 'a missing right', code: 'not-permitted', says: /the token lacks the scope droplet:create: add it/ },
        there: () => Object.assign(state, { scopes: OCEAN_SCOPES.filter((scope) => scope !== 'droplet:create') }),
      },
      {
        ...{ what: 'a quota that is reached', code: 'no-room', says: full, again: true },
        there: () => Object.assign(state, { dropletLimit: 0 }),
      },
      {
        ...{ what: 'a size that is sold out', code: 'no-room', says: full, again: true },
        there: () => Object.assign(state, { soldOut: true }),
      },
      { what: 'an unknown size', size: 's-0', code: 'invalid-input', field: 'options.size', says: /invalid size/ },
      { what: 'an unknown image', image: 'deb', code: 'invalid-input', field: 'options.image', says: /invalid image/ },
      {
        ...{ what: 'an unknown region', provider: { kind: 'digitalocean', region: 'xyz9' }, checked: true },
        ...{ code: 'invalid-input', field: 'settings.provider.region', says: /DigitalOcean has no xyz9/ },
      },
    ],
  }
}
const OCEAN_SCOPES = ['droplet', 'firewall', 'tag', 'size', 'region', 'account'].flatMap((thing) =>
  ['read', 'create', 'delete'].map((verb) => `${thing}:${verb}`),
)

async function hetzner(): Promise<Place> {
  const server = await hetznerServer()
  const { state } = server
  const full = /have the quota raised.*second choice/
  return {
    ...{ name: 'Hetzner Cloud', token: HETZNER, url: server.url, close: server.close },
    well: () => Object.assign(state, { serverLimit: 10, readOnly: false, refuse: null, remaining: 100_000 }),
    settings: { provider: { kind: 'hetzner', location: 'fsn1' }, size: 'cx22', image: 'debian-12' },
    mistakes: [
      ...['wrong', 'expired'].map((what) => ({
        ...{ what: `a token that is ${what}`, token: `hcloud-${what}-0123456789`, checked: true },
        ...{ code: 'credential-refused', says: /does not accept the credential.*unable to auth.*orctl credential/ },
      })),
      {
        ...{ what: 'a missing right', code: 'not-permitted', says: /may only read: make one with Read & Write/ },
        there: () => Object.assign(state, { readOnly: true }),
      },
      {
        ...{ what: 'a quota that is reached', code: 'no-room', says: full, again: true },
        there: () => Object.assign(state, { serverLimit: 0 }),
      },
      {
        ...{ what: 'a type that is sold out', code: 'no-room', says: full, again: true },
        there: () =>
          Object.assign(state, { refuse: { status: 422, code: 'resource_unavailable', message: 'sold out' } }),
      },
      { what: 'an unknown type', size: 'cx0', code: 'invalid-input', field: 'options.size', says: /cx0|type/ },
      { what: 'an unknown image', image: 'deb', code: 'invalid-input', field: 'options.image', says: /image/ },
      {
        ...{ what: 'an unknown location', provider: { kind: 'hetzner', location: 'xyz9' }, checked: true },
        ...{ code: 'invalid-input', field: 'settings.provider.location', says: /Hetzner Cloud has no such location/ },
      },
    ],
  }
}

for (const make of [ocean, hetzner]) {
  const place = await make()
  describe(`${place.name}: what an operator has wrong`, () => {
    let proxy: FaultProxy
    before(async () => {
      proxy = await faultProxy(place.url)
    })
    after(async () => {
      await proxy.close()
      await place.close()
    })
    for (const mistake of place.mistakes) {
      it(`${mistake.what} is told once, with its remedy, and tried again only if that can help`, async () => {
        place.well()
        mistake.there?.()
        const { provider, size, image } = { ...place.settings, ...mistake }
        const fields = { token: mistake.token ?? place.token }
        const backend = await kind.create(
          {
            ...{ provider, regions: { here: { endpoint: proxy.url } }, credential: 'keys', size, image },
            ...{ boot: 'cloud-init', machines: 5, callsPerSecond: 1000 },
          },
          cloudContext(() => fields),
        )
        proxy.reset()
        await assert.rejects(backend.ensure(cloudOrder(1), here, never), (error) => {
          assert.ok(error instanceof OrchestratorError, String(error))
          assert.deepEqual([error.code, error.retryable], [mistake.code, mistake.again ?? false], error.message)
          if (mistake.field !== undefined) assert.equal((error as InvalidInput).field, mistake.field)
          assert.match(error.message, mistake.says)
          assert.ok(!wording(error).includes(fields.token), 'it shows the token')
          return true
        })
        const called = proxy.seen.map(({ method, path }) => `${method} ${path}`)
        const refused = called.at(-1) ?? assert.fail('nothing was asked')
        assert.equal(
          called.indexOf(refused),
          called.length - 1,
          `what was refused was sent again: ${called.join(', ')}`,
        )
        const [report] = await checkTargets(backend, [here], never)
        assert.ok(!JSON.stringify(report).includes(fields.token), 'the check shows the token')
        if (mistake.checked) assert.equal(report?.error?.code, mistake.code)
        else assert.equal(report?.error, null)
        place.well()
        await backend.remove({ id: cloudOrder(1).instance, generation: 2 }, here, never).catch((error) => {
          assert.equal(error.code, mistake.code, 'what refuses to make also refuses to look')
        })
        await backend.close()
      })
    }
  })
}

describe('EC2: what an operator has wrong', () => {
  const asked = { target: 'here', region: 'eu-nowhere-9', credential: 'aws', foreign: false, action: 'RunInstances' }

  it('an unknown region has no endpoint: the setting is named, and no retry helps', () => {
    const thrown = Object.assign(new Error('getaddrinfo ENOTFOUND ec2.eu-nowhere-9.amazonaws.com'), {
      code: 'ENOTFOUND',
    })
    const error = explained(thrown, asked)
    assert.ok(error instanceof InvalidInput && !error.retryable)
    assert.deepEqual([error.field, error.message.includes('"eu-nowhere-9"')], ['settings.provider.region', true])
    assert.equal(explained(thrown, { ...asked, foreign: true }).code, 'host-unreachable', 'their own endpoint is away')
  })

  it('each other mistake says what to change', () => {
    const of = (name: string, message = 'no') => explained(Object.assign(new Error(message), { name }), asked)
    for (const [name, code, says] of [
      ['AuthFailure', 'credential-refused', /Set aws anew with orctl credential/],
      ['ExpiredToken', 'credential-refused', /it has expired\. Set aws anew with orctl credential/],
      ['UnauthorizedOperation', 'not-permitted', /lacks the right ec2:RunInstances: add it to its policy/],
      ['InvalidAMIID.NotFound', 'invalid-input', /options\.image/],
      ['OptInRequired', 'not-permitted', /enable the region/],
    ] as const) {
      const error = of(name)
      assert.deepEqual([error.code, error.retryable], [code, false], name)
      assert.match(error.message, says)
    }
    assert.deepEqual([of('InstanceLimitExceeded').code, of('InstanceLimitExceeded').retryable], ['no-room', true])
  })
})
