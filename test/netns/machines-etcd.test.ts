import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { readMachineConfig } from '../../orchestrator/backends/coreos/machines/config.ts'
import { contentOf } from '../../orchestrator/backends/coreos/machines/config-content.ts'
import { ignition } from '../../orchestrator/backends/coreos/machines/config-ignition.ts'
import { type EtcdMember, membersIn } from '../../orchestrator/backends/coreos/machines/etcd.ts'
import { memoryRecords } from '../support/coreos.ts'
import { FirstBoots } from '../support/first-boots.ts'
import { MachinesLab, PATIENTLY } from '../support/machines.ts'
import { until } from '../support/until.ts'

/** Members of a real etcd cluster on real machines, configured by what `orctl machine config` writes. */
const boots = new FirstBoots()
let lab: MachinesLab

const at = (n: number) => lab.lab.machine(n)
const peer = (n: number) => `http://[${at(n).address}]:2380`
const isMember = (n: number) =>
  lab.is(at(n).name, 'is a member with a vote', ({ etcd }) => etcd?.state === 'member' && etcd.cluster !== null)

before(async () => {
  lab = await MachinesLab.open('mce', 4, memoryRecords(), { start: false, firstBoot: boots.script })
  const three = [1, 2, 3].map((n) => [at(n).name, peer(n)])
  for (const n of [1, 2, 3]) boots.write(at(n).name, configured(n, Object.fromEntries(three), 'new'))
  await Promise.all([1, 2, 3].map((n) => at(n).start()))
  await lab.begin()
})
after(async () => {
  await lab?.close()
  boots.remove()
})

function configured(n: number, cluster: Record<string, string>, state: 'new' | 'existing'): string {
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ4c2hvcnRrZXlmb3J0ZXN0cw'
  const client = `http://[${at(n).address}]:2379`
  const text = JSON.stringify({
    hostname: at(n).name,
    user: 'root',
    'ssh-keys': [key],
    profile: { etcd: { peer: peer(n), client, cluster, state } },
  })
  const { config, faults } = readMachineConfig({ file: 'm.yaml', text })
  assert.deepEqual(faults, [])
  assert.ok(config)
  return ignition(contentOf(config, () => Buffer.from('')))
}

async function members(n: number): Promise<readonly EtcdMember[]> {
  return membersIn(await at(n).run(['env', 'ETCDCTL_API=3', 'etcdctl', '--write-out=simple', 'member', 'list']))
}

test('machines that began a cluster together are noted as its members', async () => {
  for (const n of [1, 2, 3]) await lab.add(at(n), { member: at(n).name, peer: peer(n) })
  for (const n of [1, 2, 3]) await isMember(n)
  assert.deepEqual(
    (await members(1)).map(({ name }) => name).toSorted(),
    [1, 2, 3].map((n) => at(n).name),
  )
})

test('a fourth one is told to the cluster before it boots, as a learner, and has its vote once it has caught up', async () => {
  await at(4).newHostKey()
  await lab.add(at(4), { member: at(4).name, peer: peer(4) })
  const known = await lab.is(at(4).name, 'is known to the cluster', ({ etcd }) => etcd?.state === 'learner')
  const found = (await members(1)).find(({ peers }) => peers.includes(peer(4)))
  assert.deepEqual([found?.started, found?.learner], [false, true])

  const cluster = Object.fromEntries(
    (known.etcd?.cluster ?? '').split(',').map((one) => one.split('=') as [string, string]),
  )
  assert.deepEqual(
    Object.keys(cluster).toSorted(),
    [1, 2, 3, 4].map((n) => at(n).name),
  )
  boots.write(at(4).name, configured(4, cluster, 'existing'))
  await at(4).start()
  await isMember(4)
  const voter = (await members(1)).find(({ name }) => name === at(4).name)
  assert.deepEqual([voter?.started, voter?.learner], [true, false])
})

test('the member of a dead machine is removed, and nothing is asked of the machine', async () => {
  await at(2).kill()
  await lab.machines.remove(at(2).name, { dead: true })
  await until('it is forgotten', () => !lab.machines.list().some(({ name }) => name === at(2).name), PATIENTLY)
  assert.deepEqual(
    (await members(1)).map(({ name }) => name).toSorted(),
    [1, 3, 4].map((n) => at(n).name),
  )
  assert.equal(lab.events.at(-1)?.kind, 'machine.removed')
})

test('a living machine leaves the cluster, and its etcd is stopped', async () => {
  await lab.machines.remove(at(3).name, { dead: false })
  await until('it is forgotten', () => !lab.machines.list().some(({ name }) => name === at(3).name), PATIENTLY)
  assert.deepEqual(
    (await members(1)).map(({ name }) => name).toSorted(),
    [1, 4].map((n) => at(n).name),
  )
  assert.match(await at(3).sh('systemctl is-active orchestrator-etcd.service || :'), /^(inactive|failed)/)
})
