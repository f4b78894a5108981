import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { readMachineConfig } from '../../orchestrator/backends/coreos/machines/config.ts'
import { contentOf } from '../../orchestrator/backends/coreos/machines/config-content.ts'
import { ignition } from '../../orchestrator/backends/coreos/machines/config-ignition.ts'
import { memoryRecords } from '../support/coreos.ts'
import { FirstBoots } from '../support/first-boots.ts'
import { MachinesLab, PATIENTLY } from '../support/machines.ts'
import { until } from '../support/until.ts'

const boots = new FirstBoots()
const first = randomBytes(24).toString('hex')
const second = randomBytes(24).toString('hex')
const signal = new AbortController().signal
let lab: MachinesLab
const machine = () => lab.lab.machine(1)
const push = (name: string, content: string) =>
  lab.machines.pushSecret(machine().name, { name, content: Buffer.from(content) }, signal)
const active = async () => (await machine().sh('systemctl is-active web.service || :')).trim()

before(async () => {
  lab = await MachinesLab.open('mcs', 1, memoryRecords(), { start: false, firstBoot: boots.script })
  boots.write(machine().name, configured())
  await machine().start()
  await lab.begin()
  await lab.add(machine())
})
after(async () => {
  await lab?.close()
  boots.remove()
})

function configured(): string {
  const service =
    '[Service]\nExecStart=/bin/sh -c "cat /run/orchestrator-secrets/web-key >/run/web-saw; exec sleep infinity"\n[Install]\nWantedBy=multi-user.target\n'
  const text = JSON.stringify({
    hostname: machine().name,
    user: 'root',
    'ssh-keys': ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ4c2hvcnRrZXlmb3J0ZXN0cw'],
    units: [{ name: 'web.service', text: service, 'needs-secrets': ['web-key', 'web-cert'] }],
  })
  const { config } = readMachineConfig({ file: 'm.yaml', text })
  assert.ok(config)
  return ignition(contentOf(config, () => Buffer.from('')))
}

test('a service that needs secrets waits, without failing, until all of them are there', async () => {
  assert.equal(await active(), 'inactive')
  await push('web-key', first)
  assert.equal(await active(), 'inactive')
  await push('web-cert', second)
  await until('the service runs', async () => (await active()) === 'active', PATIENTLY)
  await until('it has the secret', async () => (await machine().sh('cat /run/web-saw')) === first, PATIENTLY)
})

test('a secret is a file of root alone, in memory', async () => {
  const shown = await machine().sh(
    'stat -c "%a %u %g" /run/orchestrator-secrets /run/orchestrator-secrets/web-key; stat -f -c %T /run/orchestrator-secrets; ls -A /run/orchestrator-secrets',
  )
  assert.equal(shown, '700 0 0\n600 0 0\ntmpfs\nweb-cert\nweb-key\n')
})

test('its content is in no journal, no record and no command line there', async () => {
  // What the journal would have is there by now: the last words of a marker come after all others.
  await machine().sh('logger -t marker the-end; journalctl --sync')
  const journal = await machine().sh('journalctl --no-pager -o export')
  assert.match(journal, /the-end/)
  const processes = await machine().sh('cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"')
  const records = JSON.stringify([...(await lab.records.all())])
  for (const place of [journal, processes, records]) {
    for (const text of [first, second, Buffer.from(first).toString('base64')]) assert.ok(!place.includes(text))
  }
})

test('names that are no file names are refused, and so is what is too large', async () => {
  await assert.rejects(push('../etc/shadow', 'x'), /secret: expected a name/)
  await assert.rejects(push('.hidden', 'x'), /secret: expected a name/)
  await assert.rejects(push('big', 'x'.repeat(32 * 1024 + 1)), /content: expected at most 32768 bytes/)
})

test('where /run is on a disk a secret is refused, and nothing is written', async () => {
  await machine().sh(
    'mkdir -p /var/run-disk && mv /usr/bin/stat /usr/bin/stat.real && printf "#!/bin/sh\\necho ext2/ext3\\n" >/usr/bin/stat && chmod 755 /usr/bin/stat',
  )
  await assert.rejects(push('third', first), /\/run is ext2\/ext3, not in memory/)
  await machine().sh('mv /usr/bin/stat.real /usr/bin/stat')
  assert.doesNotMatch(await machine().sh('ls -A /run/orchestrator-secrets'), /third|new/)
})

test('after a restart it is gone, which is told, and the service waits again', async () => {
  const pushed = lab.machines.find(machine().name).secrets.map(({ boot }) => boot)
  await machine().reboot()
  const seen = await lab.is(machine().name, 'has restarted', ({ seen }) => seen !== null && !pushed.includes(seen.boot))
  assert.equal(seen.secrets.length, 2)
  assert.equal(await active(), 'inactive')
})
