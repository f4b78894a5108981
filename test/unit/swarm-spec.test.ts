import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { NoRoom } from '../../common/errors.ts'
import { taskPlaceShape } from '../../common/task-place.ts'
import type { Node, Service, Task } from '../../orchestrator/backends/swarm/answers.ts'
import { LABEL } from '../../orchestrator/backends/swarm/names.ts'
import { mustStart, observe } from '../../orchestrator/backends/swarm/observing.ts'
import { planOf, specification } from '../../orchestrator/backends/swarm/service-spec.ts'
import { parseSettings, readTls } from '../../orchestrator/backends/swarm/settings.ts'
import { checkTemplate } from '../../orchestrator/backends/swarm/support.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Json } from '../../orchestrator/domain/template.ts'
import { template } from '../support/fixtures.ts'
import { order } from '../support/orders.ts'

const settings = parseSettings({ managers: ['unix:///run/docker.sock'] })
const home = { name: 'home' as HostName, address: null }
const plan = (change: object = {}) => planOf({ ...order(1), home, ...change }, '0123456789abcdef', settings, '1.44')

describe('settings of a swarm', () => {
  const refusals: [string, unknown, RegExp][] = [
    ['no manager', { managers: [] }, /^settings\.managers:/],
    ['a manager that is no URL', { managers: ['10.0.0.1:2376'] }, /^settings\.managers\.0: expected tcp:/],
    ['tcp without TLS', { managers: ['tcp://[fd00::1]:2376'] }, /^settings\.tls: .* needs it/],
    ['a key that is not known', { managers: ['unix:///x'], manager: 1 }, /^settings\.manager:/],
    ['a constraint that is none', { managers: ['unix:///x'], constraints: ['zone=a'] }, /^settings\.constraints\.0:/],
    ['nothing', undefined, /^settings:/],
  ]
  for (const [what, given, message] of refusals) {
    it(`refuses ${what}, by name`, () => {
      assert.throws(() => parseSettings(given), { code: 'invalid-input', message })
    })
  }
})

describe('certificates for a swarm', () => {
  const managers = ['tcp://manager.example.net:2376']
  const read = (fields: Record<string, string>) =>
    readTls(parseSettings({ managers, tls: { credential: 'swarm' } }), { credential: async () => fields })
  const whole = { ca: 'A', cert: 'C', key: 'K' }

  it('come from a credential, asked anew each time', async () => {
    assert.deepEqual(await read({ ...whole, note: 'more' }), whole)
    const { key: _, ...rest } = whole
    await assert.rejects(read(rest), { code: 'credential-incomplete', message: /swarm lacks key/ })
  })

  it('come from files, and name the one that cannot be read', async () => {
    const tls = { ca: '/nowhere/ca.pem', cert: '/nowhere/cert.pem', key: '/nowhere/key.pem' }
    const reading = readTls(parseSettings({ managers, tls }), { credential: async () => ({}) })
    await assert.rejects(reading, { code: 'tls-unreadable', message: /^settings\.tls\.(ca|cert|key): \/nowhere/ })
  })
})

describe('a template for a swarm', () => {
  const withService = (service: { [key: string]: Json }, more: object = {}) => ({
    ...template,
    ...more,
    stack: { services: { web: { image: 'page', ...service } } },
  })
  it('is taken as it usually is', () => {
    checkTemplate(withService({ security_opt: ['no-new-privileges:true'], networks: {} }), 'swarm')
  })
  const refusals: [{ [key: string]: Json }, object, RegExp][] = [
    [{ privileged: true }, {}, /^services\.web\.privileged:/],
    [{ depends_on: ['db'] }, {}, /^services\.web\.depends_on:/],
    [{ pull_policy: 'never' }, {}, /^services\.web\.pull_policy:/],
    [{ security_opt: ['seccomp=unconfined'] }, {}, /^services\.web\.security_opt:/],
    [{}, { options: { swarm: { network: ['x'] } } }, /^x-orchestrator\.options\.swarm\.network:/],
    [{}, { outputs: [{ name: 'url' }] }, /^x-orchestrator\.outputs:/],
  ]
  for (const [service, more, message] of refusals) {
    it(`is refused where it says ${JSON.stringify({ ...service, ...more })}`, () => {
      assert.throws(() => checkTemplate(withService(service, more), 'swarm'), { code: 'invalid-input', message })
    })
  }
})

describe('the service of an order', () => {
  it('has another spec when its task would be another, and the same when only its generation is', () => {
    assert.equal(plan({ generation: 7 }).spec, plan().spec)
    const { services } = order(1)
    const changed = services.map((one) => ({ ...one, environment: { WORD: 'other' } }))
    assert.notEqual(plan({ services: changed }).spec, plan().spec)
    assert.notEqual(plan({ ownerAddress: 'fd00:c::9' }).spec, plan().spec)
  })

  it('tells the node where its task belongs, in a label that unionize reads', () => {
    const { TaskTemplate: task } = specification(plan(), settings, '1.44', () => 'id')
    const labels = task.ContainerSpec['Labels'] as Record<string, string>
    const { instance, address, ownerAddress } = order(1)
    assert.deepEqual(taskPlaceShape.parse(JSON.parse(labels[LABEL.place] ?? '')), {
      ...{ instance, address, owner: ownerAddress, home },
    })
    assert.deepEqual(task.ContainerSpec['Privileges'], { NoNewPrivileges: true })
  })
})

describe('what a swarm says of a service', () => {
  const service: Service = {
    ...{ ID: 's', Version: { Index: 1 }, CreatedAt: '2026-01-01T00:00:00Z', UpdatedAt: '2026-01-01T00:00:00Z' },
    Spec: specification(plan(), settings, '1.44', () => 'id'),
  }
  const { spec: ordered } = plan()
  const task = (
    State: string,
    change: Partial<Task['Status']> = {},
    DesiredState = 'running',
    spec = ordered,
  ): Task => ({
    ...{ ID: 't', Version: { Index: 1 }, CreatedAt: '2026-01-01T00:00:01Z', ServiceID: 's', NodeID: 'n', DesiredState },
    Status: { Timestamp: '2026-01-01T00:00:02Z', State, ...change },
    Spec: { ContainerSpec: { Labels: { [LABEL.spec]: spec } } },
  })
  const node = (change: object): ReadonlyMap<string, Node> =>
    new Map([
      [
        'n',
        {
          ...{ ID: 'n', Version: { Index: 1 }, Spec: { Availability: 'active' }, Status: { State: 'ready' } },
          ...{ Description: { Hostname: 'n1', Engine: { EngineVersion: '1' } }, ...change },
        } as Node,
      ],
    ])

  it('is running with a way through the node, by its label before what the swarm knows it by', () => {
    const label = { Spec: { Availability: 'active', Labels: { 'orchestrator.address': 'fd00::7' } } }
    const found = observe(service, [task('running')], node({ ...label, Status: { State: 'ready', Addr: 'fd00::8' } }))
    assert.deepEqual([found.state, found.reach], ['running', { kind: 'routed', via: 'fd00::7' }])
    const managing = { ManagerStatus: { Addr: '[fd00::9]:2377', Reachability: 'reachable' } }
    const leader = observe(
      service,
      [task('running')],
      node({ ...managing, Status: { State: 'ready', Addr: '0.0.0.0' } }),
    )
    assert.deepEqual(leader.reach, { kind: 'routed', via: 'fd00::9' })
  })

  it('has no way where the node is its home, by its name or by its label', () => {
    for (const change of [
      { Description: { Hostname: 'home.example.net', Engine: { EngineVersion: '1' } } },
      { Spec: { Availability: 'active', Labels: { 'orchestrator.host': 'home' } } },
    ]) {
      const found = observe(service, [task('running')], node(change))
      assert.deepEqual([found.state, found.reach], ['running', undefined])
    }
  })

  it('is not running yet while its task is that of before', () => {
    const before = observe(service, [task('running', {}, 'running', 'another')], node({}))
    assert.deepEqual([before.state, before.detail], ['starting', 'the swarm is about to replace its task'])
  })

  it('names the node and the remedy where no IPv6 address of it is known', () => {
    const { state, detail } = observe(
      service,
      [task('running')],
      node({ Status: { State: 'ready', Addr: '10.0.0.1' } }),
    )
    assert.equal(state, 'partial')
    assert.match(detail ?? '', /node n1 .* docker node update --label-add orchestrator\.address=/)
  })

  it('starts with the words of its task, is stopped with the last fault, and has no room where no node fits', () => {
    const preparing = observe(service, [task('preparing', { Message: 'preparing' })], node({}))
    assert.deepEqual([preparing.state, preparing.detail], ['starting', 'preparing: preparing'])
    const failed = task('failed', { Err: 'task: non-zero exit (3)' }, 'shutdown')
    const stopped = observe(service, [failed], node({}))
    assert.deepEqual([stopped.state, stopped.detail], ['stopped', 'its task ended: task: non-zero exit (3)'])
    assert.throws(() => mustStart(service, [failed]), { code: 'task-failed' })
    const rejected = task('rejected', { Err: 'No such image: page:1' }, 'shutdown')
    assert.throws(() => mustStart(service, [rejected]), { code: 'image-missing', message: /push it to a registry/ })
    const waiting = task('pending', { Err: 'no suitable node (insufficient resources on 3 nodes)' })
    assert.throws(() => mustStart(service, [waiting]), NoRoom)
  })
})
