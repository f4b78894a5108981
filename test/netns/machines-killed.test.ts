import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { LabMachines } from '../../lab/machines.ts'
import { inNamespace } from '../../lab/namespaces.ts'
import { type Inventory, openInventory } from '../../orchestrator/backends/coreos/machines/inventory.ts'
import type { UpgradeTask } from '../../orchestrator/domain/machine.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { machineOf } from '../support/coreos.ts'
import { PATIENTLY } from '../support/machines.ts'
import { until } from '../support/until.ts'

/** What looks after machines is killed (SIGKILL) in every step of an upgrade, and begun again. */
const UPGRADE = `#!/bin/sh
echo call >>/var/upgrade-calls
sleep 2
rm -f /etc/os-release
sed "s/^VERSION_ID=.*/VERSION_ID=$1/" /usr/lib/os-release >/etc/os-release
`
const program = fileURLToPath(new URL('../support/machine-keeper.ts', import.meta.url))
let directory: string
let url: string
let lab: LabMachines
let store: Store
let keeper: ChildProcess | null = null

before(async () => {
  directory = mkdtempSync('/tmp/orchestrator-machines-killed-')
  url = `sqlite:${join(directory, 'test.db')}`
  const file = '"$ROOT/etc/orchestrator/upgrade"'
  const text = Buffer.from(UPGRADE).toString('base64')
  const firstBoot = () => `mkdir -p "$ROOT/etc/orchestrator"\necho ${text} | base64 -d >${file}\nchmod 755 ${file}`
  lab = await LabMachines.open('mck', 1, { firstBoot })
  store = await openStore(url)
})
after(async () => {
  await killed()
  await store?.close()
  await lab?.close()
  rmSync(directory, { recursive: true, force: true })
})

function begun(): void {
  const [file = '', ...args] = inNamespace(lab.lan, [process.execPath, program, url, lab.key])
  keeper = spawn(file, args, { stdio: 'inherit' })
}

async function killed(): Promise<void> {
  if (keeper === null) return
  const gone = once(keeper, 'exit')
  keeper.kill('SIGKILL')
  await gone
  keeper = null
}

/** What is stored now, as another process sees it. */
async function inventory(): Promise<Inventory> {
  return await openInventory({
    all: () => store.backendRecords('metal'),
    put: (key, value) => store.putBackendRecord('metal', key, value),
  })
}

async function reached(...steps: readonly UpgradeTask['step'][]): Promise<void> {
  await until(
    `the step ${steps.join(' or ')}`,
    async () => {
      const task = (await inventory()).all()[0]?.task
      // The last ones may pass faster than anybody looks.
      return task === null || (task?.kind === 'upgrade' && steps.includes(task.step))
    },
    PATIENTLY,
  )
}

test('an upgrade comes to its end once, however often the orchestrator is killed meanwhile', async () => {
  const machine = machineOf(lab.machine(1))
  const at = { step: 'checking', since: Date.now(), boot: null } as const
  const task = { kind: 'upgrade', to: '13', wasCordoned: false, roll: null, ...at } as const
  await (await inventory()).add({ ...machine, cordoned: true, task })
  for (const step of ['installing', 'restarting', 'proving'] as const) {
    begun()
    await reached(step, 'proving')
    await killed()
  }
  begun()
  const done = await until(
    'the upgrade is over',
    async () => {
      const now = (await inventory()).all()[0]
      return now?.task === null && now.seen?.version === '13' && now
    },
    PATIENTLY,
  )
  assert.deepEqual([done.fault, done.cordoned], [null, false])
  assert.equal(await lab.machine(1).sh('cat /var/upgrade-calls'), 'call\n')
})
