import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { CoreosLab, TINY, thingsOn, tinyOrder } from '../support/coreos.ts'
import { service } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** A machine with Docker and without Podman's ways. */
let lab: CoreosLab
let backend: Backend
const never = new AbortController().signal

before(async () => {
  lab = await CoreosLab.open('cod', 1, { settings: { engine: 'docker' } })
  backend = lab.backend()
})
after(async () => {
  await lab?.close()
})

it('an instance of several services runs on Docker, comes back when that restarts, and goes without leftovers', async () => {
  const parts = { image: TINY, pull: 'never' as const, entrypoint: ['/bin/sh', '-c'] }
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
  const running = async () => (await backend.ensure(order, lab.target(1), never)).state === 'running'
  await until('it runs', running, { deadlineMs: 120_000, everyMs: 300 })
  const machine = lab.lab.machine(1)
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
