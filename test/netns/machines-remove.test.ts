import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { withMachines } from '../../orchestrator/backends/coreos/coreos.ts'
import type { Machines } from '../../orchestrator/backends/coreos/machines/machines.ts'
import type { SshShell } from '../../orchestrator/backends/coreos/ssh.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { createIntake, type Intake } from '../../orchestrator/intake.ts'
import { startMachines } from '../../orchestrator/machines.ts'
import { type Reconciler, startReconciler } from '../../orchestrator/reconciler/reconciler.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { alwaysGives } from '../support/choosers.ts'
import { CoreosLab, TINY, thingsOn } from '../support/coreos.ts'
import { content, journal, leaseEvent, pool, rollOut, silent } from '../support/fixtures.ts'
import { PATIENTLY } from '../support/machines.ts'
import { until } from '../support/until.ts'
import { keptWays } from '../support/ways.ts'

/** Machines with instances on them are removed, alive and dead: store, reconciler and machines are real. */
const stack = { services: { web: { image: TINY, pull_policy: 'never' } } }
const entry = { service: 'web', port: null }
const metal: Template = { name: 'sample', version: 'v1', number: 1, ...content, backend: 'metal', stack, entry }
const ways = keptWays()
const place = journal()
let directory: string
let lab: CoreosLab
let store: Store
let reconciler: Reconciler
let intake: Intake
let backend: Backend & { readonly machines: Machines }

const name = (n: number) => lab.target(n).name
const grant = (...numbers: number[]) =>
  intake.applyLeases(
    'h1',
    numbers.map((n) => place(leaseEvent(n, Date.now()))),
  )

/** Where instances are, by machine, once all of them run. */
async function placed(count: number): Promise<ReadonlyMap<string, number>> {
  return await until(
    `${count} instances run`,
    async () => {
      const instances = await store.instances({ live: true })
      const running = instances.filter((one) => one.state === 'running' && one.settled === one.generation && one.reach)
      if (running.length !== count) {
        throw new Error(JSON.stringify(instances.map(({ host, state, lastError }) => ({ host, state, lastError }))))
      }
      return Map.groupBy(running, ({ host }) => host ?? '')
    },
    PATIENTLY,
  ).then((found) => new Map([...found].map(([machine, all]) => [machine, all.length])))
}

before(async () => {
  directory = mkdtempSync('/tmp/orchestrator-machines-')
  lab = await CoreosLab.open('mcr', 3)
  store = await openStore(`sqlite:${join(directory, 'test.db')}`)
  await rollOut(store, metal)
  await store.putHost({ name: 'h1' as HostName, fingerprint: 'f', joinedAt: 0 })
  await store.hostConnected('h1' as HostName, { address: 'fd00:5::1' }, 0)
  const shells: SshShell[] = []
  const made = lab.backend({
    shell: (plain) => {
      shells.push(plain)
      return plain
    },
  })
  const [shell] = shells
  assert.ok(shell)
  backend = withMachines(made, { inventory: lab.inventory, shell, clock: systemClock, log: silent })
  reconciler = startReconciler(
    {
      ...{ store, clock: systemClock, log: silent, random: Math.random, measured: () => {}, actionMs: 60_000, ways },
      backends: new Map([['metal', backend]]),
      open: () => ({}),
      expire: async () => {},
      freed: () => {},
    },
    { concurrency: 16, perHost: 4, resyncMs: 5_000 },
  )
  startMachines(new Map([['metal', backend.machines]]), { store, clock: systemClock, wake: () => reconciler.wake() })
  const chooser = alwaysGives(metal)
  intake = createIntake({ store, clock: systemClock, pool, chooser, wake: () => reconciler.wake() })
})
after(async () => {
  await reconciler?.stop()
  await backend?.close()
  await store?.close()
  await lab?.close()
  rmSync(directory, { recursive: true, force: true })
})

test('a cordoned machine gets no new instances', async () => {
  for (const n of [1, 3]) await backend.machines.cordon(name(n), true)
  await grant(1)
  assert.deepEqual([...(await placed(1))], [[name(2), 1]])
  await backend.machines.cordon(name(1), false)
})

test('a machine that is removed is drained: its instances run elsewhere, and nothing of ours is left there', async () => {
  await backend.machines.remove(name(2), { dead: false })
  await until('it is forgotten', () => lab.inventory.find(name(2)) === null, PATIENTLY)
  assert.deepEqual([...(await placed(1))], [[name(1), 1]])
  const drained = lab.lab.machine(2)
  assert.deepEqual(await thingsOn(drained), [])
  assert.equal(await drained.sh('ls -d /opt/orchestrator/unionize /etc/systemd/system/orc-* 2>/dev/null || :'), '')
  const told = await store.events({ limit: 100 })
  assert.ok(told.some(({ kind }) => kind === 'machine.removed'))
})

test('the instances of a dead machine run elsewhere, and their owners are led there', async () => {
  await lab.lab.machine(1).kill()
  await backend.machines.cordon(name(3), false)
  await backend.machines.remove(name(1), { dead: true })
  await until('it is forgotten', () => lab.inventory.find(name(1)) === null, PATIENTLY)
  assert.deepEqual([...(await placed(1))], [[name(3), 1]])
  const vias = ways.of('h1' as HostName).map(({ reach }) => reach)
  assert.deepEqual(vias, [{ kind: 'routed', via: lab.lab.machine(3).address }])
})
