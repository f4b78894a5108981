import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../common/errors.ts'
import type { LabSwarm } from '../../lab/swarm.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { nameOf } from '../../orchestrator/backends/swarm/names.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { service } from '../support/fixtures.ts'
import { INSTALLATION, openSwarm, SWARM, swarmBackend, swarmOrder, TINY, thingsIn } from '../support/swarm.ts'
import { until } from '../support/until.ts'

const never = new AbortController().signal
const target = { name: SWARM }
const base64 = (text: string) => Buffer.from(text).toString('base64')

describe('a service of a swarm over its life', () => {
  let swarm: LabSwarm
  let backend: Backend

  const tiny = (n: number, generation: number, change: Parameters<typeof service>[0], rest: Partial<Order> = {}) =>
    swarmOrder(n, generation, {
      services: [service({ image: TINY, memoryBytes: 16 << 20, pids: 8, command: ['/bin/sleep', '1000'], ...change })],
      ...rest,
    })
  const running = (order: Order): Promise<Observed> =>
    until(
      'it runs',
      async () => {
        const found = await backend.ensure(order, target, never)
        return found.state === 'running' && found
      },
      { deadlineMs: 40_000 },
    )
  /** Why it does not start. */
  const refusal = (order: Order): Promise<OrchestratorError> =>
    until(
      'it is refused',
      () =>
        backend.ensure(order, target, never).then(
          () => null,
          (error) => error as OrchestratorError,
        ),
      { deadlineMs: 20_000 },
    )
  const listed = async (order: Order) =>
    (await backend.list(target, never)).find(({ instance }) => instance === order.instance)
  const remove = (order: Order, generation: number) => backend.remove({ id: order.instance, generation }, target, never)
  const serviceOf = (order: Order) => swarm.first.getService(nameOf(INSTALLATION, order.instance)).inspect()
  /** What a command prints inside its container. */
  const inside = async (order: Order, ...Cmd: string[]): Promise<string> => {
    const filters = { label: [`org.orchestrator.instance=${order.instance}`] }
    const [found] = await swarm.first.listContainers({ filters })
    const exec = await swarm.first.getContainer(found?.Id ?? '').exec({ Cmd, AttachStdout: true, Tty: true })
    const parts: Buffer[] = []
    for await (const part of await exec.start({ Tty: true })) parts.push(part as Buffer)
    return Buffer.concat(parts).toString().trim()
  }

  before(async () => {
    swarm = await openSwarm({ prefix: 'swu', managers: 1, workers: 0 })
    backend = await swarmBackend(swarm.managers)
  })
  after(async () => {
    await backend?.close()
    await swarm?.close()
  })

  it('a new generation of the same keeps its task; one that differs updates the service, and its old secret goes', async () => {
    const file = (text: string) => [{ target: '/run/word', content: base64(text), mode: 0o444 as const }]
    const order = tiny(1, 1, { files: file('one') })
    await running(order)
    assert.equal(await inside(order, '/bin/cat', '/run/word'), 'one')
    const first = await serviceOf(order)
    const [container] = await swarm.first.listContainers()
    await running({ ...order, generation: 2 })
    assert.equal((await swarm.first.listContainers())[0]?.Id, container?.Id, 'its task was not touched')
    await running(tiny(1, 3, { files: file('two') }))
    assert.equal(await inside(order, '/bin/cat', '/run/word'), 'two')
    assert.equal((await serviceOf(order)).ID, first.ID)
    assert.equal((await listed(order))?.generation, 3)
    assert.equal((await thingsIn(swarm)).filter((one) => one.startsWith('secret')).length, 1)
    await remove(order, 4)
    assert.deepEqual(await thingsIn(swarm), [], 'secrets and networks go with it')
  })

  it('an update that fails is taken back by the swarm, is told with its reason, and is not tried again by itself', async () => {
    const order = tiny(2, 1, {})
    await running(order)
    const broken = tiny(2, 2, { command: ['/bin/sh', '-c', 'exit 3'] })
    const failure = await until(
      'the swarm has gone back',
      async () => {
        try {
          const { state } = await backend.ensure(broken, target, never)
          assert.equal(state, 'starting')
          return null
        } catch (error) {
          assert.ok(error instanceof OrchestratorError)
          return error.code === 'update-rolled-back' ? error : null
        }
      },
      { deadlineMs: 40_000 },
    )
    assert.match(failure.message, /non-zero exit \(3\)/)
    const back = await until('the former runs again', async () => {
      const found = await listed(order)
      return found?.state === 'running' && found
    })
    assert.equal(back.generation, 1)
    const { Version: version } = (await serviceOf(order)) as { Version: { Index: number } }
    await assert.rejects(backend.ensure(broken, target, never), { code: 'update-rolled-back' })
    assert.deepEqual(((await serviceOf(order)) as { Version: object }).Version, version, 'nothing was changed again')
    await running(tiny(2, 3, { command: ['/bin/sleep', '999'] }))
    await remove(order, 4)
  })

  it('a service that ends at once is told with the reason, and runs when it is corrected', async () => {
    const order = tiny(3, 1, { command: ['/bin/sh', '-c', 'exit 4'] })
    const fault = await refusal(order)
    assert.equal(fault.code, 'task-failed')
    assert.match(fault.message, /non-zero exit \(4\)/)
    await running(tiny(3, 2, {}))
    await remove(order, 3)
  })

  it('names an image that is nowhere, and what to do', async () => {
    const image = 'registry.example.net/nowhere:1'
    const fault = await refusal(tiny(10, 1, { image }))
    assert.equal(fault.code, 'image-missing')
    assert.match(fault.message, /registry\.example\.net\/nowhere:1 .* push it to a registry/)
    await remove(tiny(10, 1, {}), 2)
    assert.deepEqual(await thingsIn(swarm), [])
  })

  it('says that there is no room where no node fits, and leaves nothing waiting for one', async () => {
    const options = { placement: { constraints: ['node.labels.nowhere==true'] } }
    assert.ok((await refusal(tiny(4, 1, {}, { options }))) instanceof NoRoom)
    assert.deepEqual(await thingsIn(swarm), [])
  })

  it('runs on the overlay networks that the template asks for, and names one that is not there', async () => {
    const network = (await swarm.first.createNetwork({ Name: 'shared', Driver: 'overlay', Internal: true } as never)).id
    const order = tiny(5, 1, {}, { options: { networks: ['shared'] } })
    await running(order)
    const [container] = await swarm.first.listContainers()
    const found = Object.keys(container?.NetworkSettings.Networks ?? {})
    assert.deepEqual(found.toSorted(), [nameOf(INSTALLATION, order.instance), 'shared'].toSorted())
    await remove(order, 2)
    const wrong = tiny(6, 1, {}, { options: { networks: ['absent'] } })
    await assert.rejects(backend.ensure(wrong, target, never), /options\.networks: the swarm has no network absent/)
    await swarm.first.getNetwork(network).remove()
    assert.deepEqual(await thingsIn(swarm), [])
  })

  it('names what a swarm cannot give, instead of leaving it out', async () => {
    const refused: [Parameters<typeof service>[0], RegExp][] = [
      [{ privileged: true }, /services\.web\.privileged/],
      [{ devices: [{ host: '/dev/null', container: '/dev/x', permissions: 'r' }] }, /services\.web\.devices/],
      [{ cpuset: '0' }, /services\.web\.cpuset/],
      [{ oomScoreAdjust: 5 }, /services\.web\.oomScoreAdjust/],
      [{ mounts: [{ kind: 'volume', volume: 'data', target: '/data', readOnly: false }] }, /services\.web\.mounts/],
      [{ noNewPrivileges: false }, /services\.web\.noNewPrivileges/],
      [
        { files: [{ target: '/big', content: base64('x'.repeat(513 * 1024)), mode: 0o444 }] },
        /files: \/big .* 500 KiB/,
      ],
    ]
    for (const [change, message] of refused) {
      const error = await backend.ensure(tiny(7, 1, change), target, never).then(
        () => assert.fail(`${message} was taken`),
        (thrown: unknown) => thrown,
      )
      assert.ok(error instanceof InvalidInput)
      assert.match(error.message, message)
    }
    const unsaid = tiny(7, 1, {}, { options: { placment: {} } })
    await assert.rejects(backend.ensure(unsaid, target, never), /options\.placment/)
    assert.deepEqual(await thingsIn(swarm), [])
  })

  it('gives a task its limits, rights and environment as the order has them', async () => {
    const order = tiny(8, 1, {
      environment: { WORD: 'a b' },
      capabilities: ['CHOWN'],
      readOnly: true,
      init: true,
      ulimits: [{ name: 'nofile', soft: 100, hard: 200 }],
      sysctls: { 'kernel.msgmax': '9000' },
      shmBytes: 1 << 20,
      user: 'worker',
      cpus: 0.5,
    })
    await running(order)
    const [listedOne] = await swarm.first.listContainers()
    const { Config: config, HostConfig: host } = await swarm.first.getContainer(listedOne?.Id ?? '').inspect()
    assert.ok(config.Env.includes('WORD=a b'))
    assert.deepEqual([host.CapAdd, host.CapDrop, host.ReadonlyRootfs, host.Init], [['CAP_CHOWN'], ['ALL'], true, true])
    assert.deepEqual([host.Memory, host.NanoCpus, host.PidsLimit], [16 << 20, 500_000_000, 8])
    assert.deepEqual(
      host.Ulimits?.map(({ Name, Soft, Hard }) => [Name, Soft, Hard]),
      [['nofile', 100, 200]],
    )
    assert.equal(host.Sysctls?.['kernel.msgmax'], '9000')
    assert.equal(config.User, 'worker')
    const [, ownLine = ''] = /NoNewPrivs:\s*(\d)/.exec(await inside(order, '/bin/cat', '/proc/self/status')) ?? []
    assert.equal(ownLine, '1')
    await remove(order, 2)
  })

  it('is found again by its labels alone, and what another installation has is left alone', async () => {
    const order = tiny(9, 1, {})
    await running(order)
    // A new database: it remembers nothing.
    const anew = await swarmBackend(swarm.managers)
    const [found] = await anew.list(target, never)
    assert.deepEqual([found?.instance, found?.state, found?.address], [order.instance, 'running', order.address])
    const stranger = await swarmBackend(swarm.managers, { context: { installation: 'fedcba9876543210' } })
    assert.deepEqual(await stranger.list(target, never), [])
    await stranger.remove({ id: order.instance, generation: 9 }, target, never)
    assert.equal((await listed(order))?.state, 'running')
    await anew.remove({ id: order.instance, generation: 2 }, target, never)
    assert.deepEqual(await thingsIn(swarm), [])
  })

  it('does not take another swarm for its own', async () => {
    const other = await swarmBackend(swarm.managers, { settings: { swarm: 'a'.repeat(25) } })
    await assert.rejects(other.list(target, never), (error) => {
      assert.ok(error instanceof HostUnreachable)
      assert.match(error.message, /another swarm .* settings\.managers/)
      return true
    })
  })
})
