import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { CoreosLab, TINY, thingsOn, tinyOrder } from '../support/coreos.ts'
import { service } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** A machine whose Podman has Quadlet (Debian 13: systemd 257, Podman 5.4). */
let lab: CoreosLab
let backend: Backend
const never = new AbortController().signal

before(async () => {
  lab = await CoreosLab.open('coq', 1, { image: { suite: 'trixie', packages: ['podman', 'libnftables1'] } })
  backend = lab.backend()
})
after(async () => {
  await lab?.close()
})

it('a service is a Quadlet file there: it starts, is seen, prints, restarts with its machine, and goes without leftovers', async () => {
  const script = 'echo "began with $GREETING"; exec sleep infinity'
  const parts = { image: TINY, pull: 'never' as const, entrypoint: ['/bin/sh', '-c'], command: [script] }
  const order = tinyOrder(1, 1, {
    services: [service({ ...parts, environment: { GREETING: `100 % of "all" $HOME` } })],
  })
  const running = async () => {
    const observed = await backend.ensure(order, lab.target(1), never)
    assert.notEqual(observed.state, 'stopped')
    return observed.state === 'running'
  }
  await until('it runs', running, { deadlineMs: 120_000, everyMs: 300 })
  const machine = lab.lab.machine(1)
  const files = await machine.sh(
    'cd /etc/containers/systemd; ls -d orc-*; systemctl show -P SourcePath orc-i-test1-s-web',
  )
  assert.equal(files, 'orc-i-test1-s-web.container\n/etc/containers/systemd/orc-i-test1-s-web.container\n')
  let printed = ''
  const logs = backend.logs?.(order.instance, lab.target(1), { tail: 10, follow: false }, never)
  for await (const text of logs ?? []) printed += text
  // Beside what Podman itself says there.
  assert.ok(printed.split('\n').includes('began with 100 % of "all" $HOME'), printed)
  await machine.reboot()
  const back = async () => {
    const found = await backend.list(lab.target(1), never).catch(() => [])
    return found.find(({ instance }) => instance === order.instance)?.state === 'running'
  }
  await until('it runs again by itself', back, { deadlineMs: 120_000, everyMs: 500 })
  await backend.remove({ id: order.instance, generation: 2 }, lab.target(1), never)
  const left = await thingsOn(machine)
  assert.deepEqual(left, [])
})
