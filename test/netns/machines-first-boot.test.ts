import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { coreosBackend } from '../../orchestrator/backends/coreos/coreos.ts'
import { readMachineConfig } from '../../orchestrator/backends/coreos/machines/config.ts'
import { cloudConfig } from '../../orchestrator/backends/coreos/machines/config-cloud.ts'
import { contentOf } from '../../orchestrator/backends/coreos/machines/config-content.ts'
import { openInventory } from '../../orchestrator/backends/coreos/machines/inventory.ts'
import { parseSettings } from '../../orchestrator/backends/coreos/settings.ts'
import { createShell, type SshShell } from '../../orchestrator/backends/coreos/ssh.ts'
import { importTinyInto, machineOf, memoryRecords, thingsOn, tinyOrder } from '../support/coreos.ts'
import { FirstBoots } from '../support/first-boots.ts'
import { silent } from '../support/fixtures.ts'
import { MachinesLab, PATIENTLY } from '../support/machines.ts'
import { until } from '../support/until.ts'

/** A machine as `orctl machine config --format cloud-config` makes it, booted by cloud-init, and used as its user `core`. */
const boots = new FirstBoots()
const signal = new AbortController().signal
let lab: MachinesLab
const machine = () => lab.lab.machine(1)

before(async () => {
  lab = await MachinesLab.open('mfb', 1, memoryRecords(), {
    start: false,
    // As Debian has it: cloud-init locks the passwords of users, and without PAM sshd lets nobody in whose password is locked.
    firstBoot: (one) => `${boots.script(one)}\nsed -i 's/^UsePAM no/UsePAM yes/' $ROOT/etc/ssh/sshd_config.d/lab.conf`,
  })
  const key = readFileSync(`${lab.lab.key}.pub`, 'utf8').trim()
  boots.write(machine().name, configured(key), 'cloud-init')
  await machine().start()
})
after(async () => {
  await lab?.close()
  boots.remove()
})

function configured(key: string): string {
  const text = JSON.stringify({
    hostname: 'box1',
    'ssh-keys': [key],
    users: [{ name: 'alice', groups: ['adm'], 'ssh-keys': [key] }],
    files: [{ path: '/srv/alice/note', text: 'it is hers\n', mode: '0600', owner: 'alice' }],
    units: [
      {
        name: 'beacon.service',
        text: '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n',
      },
    ],
  })
  const { config, faults } = readMachineConfig({ file: 'm.yaml', text })
  assert.deepEqual(faults, [])
  assert.ok(config)
  return cloudConfig(contentOf(config, () => Buffer.from('')))
}

test('its name, users, files and units are as configured', async () => {
  await until(
    'cloud-init is done',
    async () => (await machine().sh('cloud-init status || :')).includes('done'),
    PATIENTLY,
  )
  const shown = await machine().sh(
    'hostname; id -un alice; id -nG alice; stat -c "%a %U" /srv/alice/note; cat /srv/alice/note; systemctl is-active beacon podman.socket',
  )
  assert.equal(shown, 'box1\nalice\nalice adm\n600 alice\nit is hers\nactive\nactive\n')
  assert.equal(
    await machine().sh('sudo -n -u alice sudo -n true 2>&1 || echo refused'),
    'sudo: a password is required\nrefused\n',
  )
})

test('the orchestrator logs in as core, becomes root by sudo, and runs an instance there', async () => {
  await importTinyInto(machine())
  const key = readFileSync(lab.lab.key, 'utf8')
  const shell: SshShell = createShell({ login: async () => ({ key }), clock: systemClock })
  const inventory = await openInventory(memoryRecords())
  await inventory.add({ ...machineOf(machine()), user: 'core' })
  const context = {
    ...{ name: 'metal', installation: '0123456789abcdef', log: silent, clock: systemClock },
    ...{ credential: async () => ({ key }), records: memoryRecords() },
  }
  const backend: Backend = coreosBackend({ settings: parseSettings({}), context, inventory, shell })
  const target = { name: machineOf(machine()).name }
  try {
    assert.deepEqual((await backend.check?.(target, signal))?.missing, [])
    const order = tinyOrder(1)
    const runs = async () => (await backend.ensure(order, target, signal)).state === 'running'
    await until('it runs', runs, PATIENTLY)
    await backend.remove({ id: order.instance, generation: 2 }, target, signal)
    assert.deepEqual(await thingsOn(machine()), [])
  } finally {
    await backend.close()
    await shell.close()
  }
})
