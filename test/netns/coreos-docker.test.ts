import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { OrchestratorError } from '../../common/errors.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import { CoreosLab, TINY, thingsOn, tinyOrder } from '../support/coreos.ts'
import { service } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** A machine with Docker and without Podman's ways. */
let lab: CoreosLab
let backend: Backend
const never = new AbortController().signal
const parts = { image: TINY, pull: 'never' as const, entrypoint: ['/bin/sh', '-c'] }

before(async () => {
  lab = await CoreosLab.open('cod', 1, { settings: { engine: 'docker' } })
  backend = lab.backend()
})
after(async () => {
  await lab?.close()
})

async function running(order: Order): Promise<void> {
  const runs = async () => (await backend.ensure(order, lab.target(1), never)).state === 'running'
  await until('it runs', runs, { deadlineMs: 120_000, everyMs: 300 })
}

it('an instance of several services runs on Docker, comes back when that restarts, and goes without leftovers', async () => {
  const data = { kind: 'volume' as const, volume: 'data', target: '/srv/data' }
  const order = tinyOrder(1, 1, {
    services: [
      service({
        ...{ ...parts, command: ['cat /etc/word && exec sleep infinity'], mounts: [{ ...data, readOnly: true }] },
        files: [{ target: '/etc/word', content: Buffer.from('hello').toString('base64'), mode: 0o444 }],
        dependsOn: [{ service: 'db', condition: 'started', restart: false }],
      }),
      service({ ...parts, name: 'db', command: ['exec sleep infinity'], mounts: [{ ...data, readOnly: false }] }),
    ],
  })
  await running(order)
  const machine = lab.lab.machine(1)
  const pid = `$(docker inspect -f '{{.State.Pid}}' orc-i-test1-s-web)`
  assert.match(await machine.sh(`cat /proc/${pid}/root/etc/hosts`), /^::1 db$/m, 'web does not find db by name')
  await machine.sh('systemctl restart docker.service')
  const back = async () => {
    const found = (await backend.list(lab.target(1), never)).find(({ instance }) => instance === order.instance)
    const ids = await machine.sh('docker ps -q')
    return found?.state === 'running' && ids.trim().split('\n').length === 3
  }
  await until('it runs again by itself', back, { deadlineMs: 120_000, everyMs: 500 })
  await backend.remove({ id: order.instance, generation: 2 }, lab.target(1), never)
  assert.deepEqual(await thingsOn(machine, 'docker'), [])
})

it('an instance goes without leftovers also when Docker was killed, and stays ours while Docker is away', async () => {
  const machine = lab.lab.machine(1)
  const twins = ['web', 'db'].map((name) => service({ ...parts, name, command: ['exec sleep infinity'] }))
  const killed = tinyOrder(2, 1, { services: twins })
  await running(killed)
  await machine.sh('systemctl kill --signal=KILL docker.service')
  const removed = async (order: Order) => {
    await backend.remove({ id: order.instance, generation: 2 }, lab.target(1), never)
    return true
  }
  await until('it is removed', () => removed(killed), { deadlineMs: 60_000, everyMs: 500 })
  assert.deepEqual(await thingsOn(machine, 'docker'), [])

  const kept = tinyOrder(3, 1, { services: twins })
  await running(kept)
  await machine.sh('systemctl stop docker.socket docker.service 2>/dev/null')
  // Also for who learns only now what the machine has.
  await assert.rejects(lab.backend().remove({ id: kept.instance, generation: 2 }, lab.target(1), never), (error) => {
    assert.ok(error instanceof OrchestratorError && error.retryable, String(error))
    assert.match(error.message, /cod-m1: \/usr\/bin\/docker does not answer, and i-test3 runs with it: start it there/)
    return true
  })
  await machine.sh('systemctl start docker.service')
  await removed(kept)
  assert.deepEqual(await thingsOn(machine, 'docker'), [])
})
