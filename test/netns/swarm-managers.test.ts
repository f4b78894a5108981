import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { HostUnreachable } from '../../common/errors.ts'
import type { LabSwarm } from '../../lab/swarm.ts'
import { swarmCertificates } from '../../lab/swarm-tls.ts'
import type { Backend, TargetCheck } from '../../orchestrator/backends/backend.ts'
import type { Observed } from '../../orchestrator/domain/instance.ts'
import { openSwarm, SWARM, swarmBackend, swarmOrder } from '../support/swarm.ts'
import { until } from '../support/until.ts'
import { Remote } from '../support/wiring-remote.ts'

const never = new AbortController().signal
const target = { name: SWARM }
const PROCESS = fileURLToPath(new URL('../support/swarm-process.ts', import.meta.url))

describe('the managers of a swarm', () => {
  const order = swarmOrder(1, 1, { options: { placement: { constraints: ['node.role==worker'] } } })
  const folder = mkdtempSync(join(tmpdir(), 'swarm-tls-'))
  let swarm: LabSwarm
  let backend: Backend

  const state = async () => (await backend.list(target, never)).find((one) => one.instance === order.instance)?.state
  /** Id of its container on the worker, by that engine. */
  const container = async () => (await swarm.node('n4').engine.docker.listContainers())[0]?.Id

  before(async () => {
    await swarmCertificates(folder, ['fd00:feed::11'])
    swarm = await openSwarm({ prefix: 'swm', managers: 3, workers: 1 }, ({ name, address }) =>
      name === 'n1' ? listening(folder, address) : [],
    )
    backend = await swarmBackend(swarm.managers)
    await until('it runs', async () => (await backend.ensure(order, target, never)).state === 'running', {
      deadlineMs: 30_000,
    })
  })
  after(async () => {
    await backend?.close()
    await swarm?.close()
    rmSync(folder, { recursive: true })
  })

  it('are asked over TLS with certificates of both sides, by an IPv6 address', async () => {
    const tls = { ca: join(folder, 'ca.pem'), cert: join(folder, 'client.pem'), key: join(folder, 'client-key.pem') }
    const settings = { managers: [`tcp://[${swarm.node('n1').address}]:2376`], tls }
    const inside = (change: object) => {
      const command = [process.execPath, PROCESS, JSON.stringify({ ...settings, ...change })]
      return new Remote(['nsenter', `--net=/run/netns/${swarm.fabric}`, ...command])
    }
    const known = inside({})
    assert.equal((await known.ask<Observed[]>('list'))[0]?.state, 'running')
    const { version, missing, abilities } = await known.ask<TargetCheck>('check')
    assert.match(version, /^Docker Swarm \d+\.\d+/)
    assert.deepEqual(missing, [])
    assert.match(abilities.join(), /3 of 3 managers, 4 of 4 nodes/)
    await known.kill()
    const unknown = inside({
      tls: { ...tls, cert: join(folder, 'stranger-client.pem'), key: join(folder, 'stranger-client-key.pem') },
    })
    await assert.rejects(unknown.ask('list'), { code: 'credential-refused' })
    await unknown.kill()
  })

  it('another one is asked when one is killed, even the leader', async () => {
    const running = await container()
    await swarm.node('n1').engine.kill()
    assert.equal(await until('another leads', state, { deadlineMs: 60_000 }), 'running')
    assert.equal(await container(), running)
  })

  it('that are too few to decide make it unreachable, never empty, and what runs goes on', async () => {
    const running = await container()
    await swarm.node('n2').engine.kill()
    const lost = await until(
      'the quorum is lost',
      async () => {
        try {
          assert.equal(await state(), 'running', 'what is told meanwhile is what runs')
          return null
        } catch (error) {
          if (!(error instanceof HostUnreachable)) throw error
          return /quorum/.test(error.message) ? error : null
        }
      },
      { deadlineMs: 40_000 },
    )
    assert.match(lost.message, /lost its quorum/)
    await assert.rejects(backend.ensure(swarmOrder(2), target, never), HostUnreachable)
    await assert.rejects(backend.remove({ id: order.instance, generation: 2 }, target, never), HostUnreachable)
    const watching = backend.watch?.(target, () => assert.fail('nothing is told of what cannot be seen'), never)
    await assert.rejects(watching ?? Promise.resolve(), HostUnreachable)
    assert.equal(await container(), running, 'its task runs on')
  })

  it('that are back find everything as it was', async () => {
    const running = await container()
    await Promise.all(['n1', 'n2'].map((name) => swarm.node(name).engine.start()))
    assert.equal(await until('there is a leader', state, { deadlineMs: 60_000 }), 'running')
    assert.equal(await container(), running)
    await backend.remove({ id: order.instance, generation: 3 }, target, never)
    assert.equal(await state(), undefined)
  })
})

/** Arguments of a dockerd that listens as an operator would let it. */
function listening(folder: string, address: string): string[] {
  const file = (name: string) => join(folder, name)
  return [
    ...['--host', `tcp://[${address}]:2376`, '--tlsverify', '--tlscacert', file('ca.pem')],
    ...['--tlscert', file('server.pem'), '--tlskey', file('server-key.pem')],
  ]
}
