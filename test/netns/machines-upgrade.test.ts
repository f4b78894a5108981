import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { memoryRecords } from '../support/coreos.ts'
import { MachinesLab, PATIENTLY } from '../support/machines.ts'
import { until } from '../support/until.ts'

/**
 * Upgrades of real machines. How a machine is upgraded is its own: here a program that counts its calls and writes the wanted
 * version to os-release(5); what we do around it is what is done with rpm-ostree on Fedora CoreOS.
 */
const UPGRADE = `#!/bin/sh
set -eu
echo call >>/var/upgrade-calls
while [ -e /etc/upgrade-waits ]; do sleep 0.2; done
if [ -e /etc/upgrade-fails ]; then echo "no such version" >&2; exit 1; fi
if [ -e /etc/upgrade-breaks ]; then
  printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/broken.service
  systemctl enable --quiet broken.service
fi
rm -f /etc/os-release
sed "s/^VERSION_ID=.*/VERSION_ID=$1/" /usr/lib/os-release >/etc/os-release
`
let lab: MachinesLab
const at = (n: number) => lab.lab.machine(n)
const name = (n: number) => at(n).name
const calls = async (n: number) => (await at(n).sh('cat /var/upgrade-calls 2>/dev/null || :')).split('\n').length - 1
const boot = async (n: number) => (await at(n).sh('cat /proc/sys/kernel/random/boot_id')).trim()

before(async () => {
  const file = '"$ROOT/etc/orchestrator/upgrade"'
  const text = Buffer.from(UPGRADE).toString('base64')
  const firstBoot = () => `mkdir -p "$ROOT/etc/orchestrator"\necho ${text} | base64 -d >${file}\nchmod 755 ${file}`
  lab = await MachinesLab.open('mcu', 3, memoryRecords(), { firstBoot })
  await lab.begin()
  for (const n of [1, 2, 3]) await lab.add(at(n))
  for (const n of [1, 2, 3]) await lab.is(name(n), 'has answered', ({ seen }) => seen?.health === 'running')
})
after(async () => {
  await lab?.close()
})

test('an upgrade installs, restarts, and is over when the machine is well and of the wanted version', async () => {
  const before = await boot(1)
  await lab.machines.upgrade(name(1), '13')
  assert.equal(lab.machines.find(name(1)).cordoned, true)
  const done = await lab.is(name(1), 'is upgraded', ({ task, seen }) => task === null && seen?.version === '13')
  assert.deepEqual([done.fault, done.cordoned], [null, false])
  assert.notEqual(await boot(1), before)
  assert.equal(await calls(1), 1)
})

test('a machine that is of the wanted version is left alone', async () => {
  const before = await boot(1)
  await lab.machines.upgrade(name(1), '13')
  await lab.is(name(1), 'needs nothing', ({ task }) => task === null)
  assert.equal(await boot(1), before)
  assert.equal(await calls(1), 1)
})

test('an upgrade goes on where it was after the orchestrator has ended, without doing anything twice', async () => {
  await at(1).run(['touch', '/etc/upgrade-waits'])
  await lab.machines.upgrade(name(1), '14')
  await until('it installs', async () => (await calls(1)) === 2, PATIENTLY)
  await lab.end()
  await at(1).run(['rm', '/etc/upgrade-waits'])
  await lab.begin()
  // Once more while it restarts.
  await lab.is(name(1), 'restarts', ({ task }) => task?.kind === 'upgrade' && task.step !== 'installing')
  await lab.end()
  await lab.begin()
  const done = await lab.is(name(1), 'is upgraded', ({ task, seen }) => task === null && seen?.version === '14')
  assert.equal(done.fault, null)
  assert.equal(await calls(1), 2)
})

test('a rolling upgrade stops at the first machine that fails, with what is left, and goes on from there', async () => {
  await at(2).run(['touch', '/etc/upgrade-fails'])
  const third = await boot(3)
  await lab.machines.beginRoll(null, '15')
  const stopped = await until('it stops', () => stoppedRoll(), PATIENTLY)
  assert.deepEqual([stopped.done, stopped.left], [[name(1)], [name(2), name(3)]])
  assert.match(stopped.fault ?? '', /mcu-m2: the upgrade failed: no such version/)
  assert.equal(lab.machines.find(name(2)).cordoned, true)
  assert.equal(lab.machines.find(name(2)).fault?.task, 'upgrade')
  assert.equal(await boot(3), third)
  assert.equal(await calls(3), 0)

  await at(2).run(['rm', '/etc/upgrade-fails'])
  await lab.machines.resumeRoll()
  await until('it is done', () => lab.machines.roll()?.state === 'done', PATIENTLY)
  for (const n of [1, 2, 3]) {
    const one = await lab.is(name(n), 'is of the version', ({ seen }) => seen?.version === '15')
    assert.deepEqual([one.task, one.fault], [null, null])
  }
  assert.equal(lab.machines.find(name(3)).cordoned, false)
})

test('a machine that is not well after the restart is cordoned, with what failed there', async () => {
  await at(3).run(['touch', '/etc/upgrade-breaks'])
  await lab.end()
  await lab.begin({ patience: { proving: 3_000 } })
  await lab.machines.upgrade(name(3), '16')
  const failed = await lab.is(name(3), 'has failed', ({ fault }) => fault !== null)
  assert.match(
    failed.fault?.message ?? '',
    /proving: given up after \d+ s: the system is degraded after the restart: broken\.service failed/,
  )
  assert.equal(failed.cordoned, true)
})

test('a machine that shows another host key is away, with both fingerprints and the remedy', async () => {
  await at(3).newHostKey()
  await lab.end()
  await lab.begin()
  const away = await lab.is(name(3), 'is away', ({ away }) => away !== null)
  assert.match(
    away.away ?? '',
    /shows the SSH host key SHA256:\S+, not SHA256:\S+: .*orctl machine remove mcu-m3 --dead/,
  )
})

function stoppedRoll() {
  const roll = lab.machines.roll()
  return roll?.state === 'stopped' ? roll : null
}
