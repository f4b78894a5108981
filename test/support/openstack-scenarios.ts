import assert from 'node:assert/strict'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import { cloudOrder } from './cloud-backend.ts'
import type { OpenStackSite } from './openstack-site.ts'

/** One story between our backend and an OpenStack, told by the real one and replayed without it. */
export interface Scenario {
  readonly name: string
  /** What an operator of that cloud does before. Only with the real one. */
  before?(site: OpenStackSite): Promise<void>
  /** Only with the real one. */
  after?(site: OpenStackSite): Promise<void>
  /** The credential; the member's unless told. */
  credential?(site: OpenStackSite): Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>
  /** Beside the usual settings. */
  settings?(site: OpenStackSite): { readonly provider?: object; readonly size?: string; readonly image?: string }
  /** Alike each time: all that it does follows from the answers. */
  run(backend: Backend): Promise<void>
}

const never = new AbortController().signal
const one = { name: 'one' as HostName }
/** Keys that no scenario is about. */
export const IRRELEVANT = ['user_data', 'adminPass']

async function untilRunning(backend: Backend, generation = 1, given: Partial<Order> = {}) {
  for (let look = 0; look < 400; look++) {
    const observed = await backend.ensure(cloudOrder(1, generation, given), one, never)
    if (observed.state === 'running') return observed
    assert.equal(observed.state, 'starting', observed.detail)
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
  throw new Error('it does not come up')
}
/** Milliseconds between two looks; a replay has no need to wait. */
let pause = 2000
export function withoutPauses(): void {
  pause = 0
}

/** An attempt that ends with one clear reason. @param field of InvalidInput */
function refused(code: string, words: RegExp, field?: string): Scenario['run'] {
  return async (backend) => {
    const attempt = async () => {
      // A machine that fails does so some time after it was taken.
      await untilRunning(backend)
    }
    await assert.rejects(attempt, (error) => {
      assert.ok(error instanceof OrchestratorError, String(error))
      assert.deepEqual([error.code, error.retryable], [code, code === 'no-room'], error.message)
      if (code === 'no-room') assert.match(error.message, /have the quota raised, .* or name a second choice/)
      if (field !== undefined) assert.equal(error instanceof InvalidInput && error.field, field)
      assert.match(error.message, words)
      return true
    })
    await backend.remove({ id: cloudOrder(1).instance, generation: 2 }, one, never).catch((error: unknown) => {
      assert.ok(error instanceof OrchestratorError && error.code === code, 'what refuses to make also refuses to look')
    })
  }
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'life',
    credential: (site) => site.applicationCredential(),
    async run(backend) {
      const { version, abilities, missing } = (await backend.check?.(one, never)) ?? assert.fail()
      assert.match(version, /^OpenStack Nova 2\.\d+ \(we speak 2\.52\) in RegionOne$/)
      assert.ok(abilities.includes('10 of 10 instances left'), abilities.join())
      assert.deepEqual(missing, [])
      const running = await untilRunning(backend)
      assert.ok(running.reach?.kind === 'translated' && /^fd00:9:80/.test(running.reach.address))
      assert.deepEqual(await backend.list(one, never), [running])
      assert.equal((await untilRunning(backend, 2)).generation, 2)
      await backend.remove({ id: cloudOrder(1).instance, generation: 3 }, one, never)
      assert.deepEqual(await backend.list(one, never), [])
    },
  },
  {
    name: 'given-network',
    settings: ({ network }) => ({ provider: { network, router: undefined, subnetPool: undefined } }),
    async run(backend) {
      const running = await untilRunning(backend)
      assert.ok(running.reach?.kind === 'translated' && running.reach.address.startsWith('fd00:9:1:'))
      await backend.remove({ id: cloudOrder(1).instance, generation: 2 }, one, never)
      assert.deepEqual(await backend.list(one, never), [])
    },
  },
  {
    name: 'console',
    settings: ({ network }) => ({ provider: { network, router: undefined, subnetPool: undefined } }),
    async run(backend) {
      const running = await untilRunning(backend, 1, { outputs: true })
      // What the fake driver prints has no outputs in it.
      assert.deepEqual(await backend.list(one, never), [running])
      await backend.remove({ id: cloudOrder(1).instance, generation: 2 }, one, never)
    },
  },
  {
    name: 'wrong-password',
    credential: ({ member }) => ({ ...member, password: 'wrong' }),
    run: refused('credential-refused', /does not accept the credential .*orctl credential/),
  },
  {
    name: 'expired',
    async credential(site) {
      const soon = new Date(Date.now() + 3000)
      const credential = await site.applicationCredential(soon)
      await new Promise((resolve) => setTimeout(resolve, 4000))
      return credential
    },
    run: refused('credential-refused', /orctl credential/),
  },
  {
    name: 'missing-right',
    credential: ({ reader }) => reader,
    run: refused('not-permitted', /give it that right \(Policy doesn't allow os_compute_api:servers:create/),
  },
  {
    name: 'check-of-a-reader',
    credential: ({ reader }) => reader,
    async run(backend) {
      const { missing } = (await backend.check?.(one, never)) ?? assert.fail()
      assert.deepEqual(missing, ['the credential may only read (role reader): give it the role member'])
    },
  },
  {
    name: 'quota-of-instances',
    before: (site) => site.setInstances(0),
    after: (site) => site.setInstances(10),
    run: refused('no-room', /Quota exceeded for instances/),
  },
  {
    name: 'quota-of-ports',
    before: (site) => site.setPorts(0),
    after: (site) => site.setPorts(500),
    settings: ({ network }) => ({ provider: { network, router: undefined, subnetPool: undefined } }),
    run: refused('no-room', /Quota exceeded for resources: \['port'\]/),
  },
  {
    name: 'no-valid-host',
    settings: () => ({ size: 'm1.huge' }),
    before: (site) => site.setMemory(-1),
    run: refused('no-room', /one has no room: No valid host was found/),
  },
  {
    name: 'unknown-region',
    settings: () => ({ provider: { region: 'RegionTwo' } }),
    run: refused('invalid-input', /has no region RegionTwo; its catalog has RegionOne/, 'settings.provider.region'),
  },
  {
    name: 'unknown-flavor',
    settings: () => ({ size: 'm1.tini' }),
    run: refused(
      'invalid-input',
      /no flavor m1.tini \(did you mean m1.tiny\?\); it has m1.huge, m1.tiny/,
      'options.size',
    ),
  },
  {
    name: 'unknown-image',
    settings: () => ({ image: 'debiam' }),
    run: refused('invalid-input', /no active image of name or id debiam/, 'options.image'),
  },
  {
    name: 'unknown-network',
    settings: () => ({ provider: { network: 'nowhere', router: undefined, subnetPool: undefined } }),
    run: refused('invalid-input', /none of name or id nowhere/, 'settings.provider.network'),
  },
]
