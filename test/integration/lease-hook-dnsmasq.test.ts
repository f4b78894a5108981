import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Lab, whatIsLeft } from '../../lab/lab.ts'
import { idsOf } from '../../lab/users.ts'
import { type JournalEvent, parseJournalLine } from '../../unionize/leases/dnsmasq/event.ts'
import { until } from '../support/until.ts'

const PREFIX = 'lh'
let lab: Lab

before(async () => {
  lab = await Lab.open({ prefix: PREFIX, dnsmasq: { leaseTime: '2m', leaseMax: 150 } })
})
after(async () => {
  await lab.close()
  assert.deepEqual(whatIsLeft(PREFIX), [])
})

function events(duid?: string): JournalEvent[] {
  let text = ''
  try {
    text = readFileSync(lab.places.journal, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error // no event yet
  }
  const all = text.split('\n').filter(Boolean).map(parseJournalLine)
  return duid === undefined ? all : all.filter((event) => event.lease.owner.duid === duid)
}

for (const role of ['clients', 'instances']) {
  test(`dnsmasq accepts ${role}.conf as it is shipped`, () => {
    const file = join(import.meta.dirname, `../../dnsmasq/${role}.conf`)
    const result = spawnSync('dnsmasq', ['--test', '-C', file], { encoding: 'utf8' })
    assert.equal(result.status, 0, result.stderr)
  })
}

test('a device that takes, renews and returns a lease leaves a line for each, and finds my.instance by name', async () => {
  const client = await lab.client({ hostname: 'laptop', detectDuplicates: false })
  await client.request()
  const { address } = await client.lease()
  const granted = await until('the line of the new lease', () => events(client.duid)[0])
  assert.equal(granted.kind, 'granted')
  assert.deepEqual(granted.lease.owner, { duid: client.duid, iaid: client.iaid })
  assert.equal(granted.lease.address, address)
  assert.equal(granted.lease.facts.hostname, 'laptop')
  const validFor = (granted.lease.expiresAt ?? 0) - Date.now()
  assert.ok(validFor > 100_000 && validFor <= 120_000, `expires in ${validFor} ms`)

  assert.deepEqual(await client.agent.call('resolve', { name: 'my.instance' }), ['fd00:1:0:ffff::1'])
  await assert.rejects(client.agent.call('resolve', { name: 'nobody.instance' }), /ENOTFOUND|EAI_/)

  // dnsmasq tells of a renewal only when it moves the end of the lease, which it keeps in whole seconds; time(2) lags by a tick.
  await until('the next second', () => Date.now() > (granted.lease.expiresAt ?? 0) - 120_000 + 1100)
  await client.renew()
  await until('the line of the renewal', () => events(client.duid).some((event) => event.kind === 'confirmed'))
  await client.release()
  await until('the line of the release', () => events(client.duid).some((event) => event.kind === 'ended'))
  await client.unplug()
})

test('instance names appear and vanish with the files in hostsdir, without a signal', async () => {
  const client = await lab.client({ detectDuplicates: false })
  await client.request()
  await client.lease()
  const file = join(lab.places.names, 'i-1')
  const ask = (): Promise<string[]> => client.agent.call('resolve', { name: 'laptop.instance' }).catch(() => [])
  const asUnionize = (script: string): void => {
    const result = spawnSync('setpriv', ['--reuid=unionize', '--regid=unionize', '--clear-groups', 'sh', '-c', script])
    assert.equal(result.status, 0, String(result.stderr))
  }
  asUnionize(`echo 'fd00:1::1005 laptop.instance' >'${file}'`)
  assert.deepEqual(await until('the name', async () => (await ask()).length > 0 && (await ask())), ['fd00:1::1005'])
  asUnionize(`rm '${file}'`)
  await until('the name to vanish', async () => (await ask()).length === 0)
  await client.unplug()
})

test('the hook writes as its own user, and the journal can be read by the agent', async () => {
  await until('a journal', () => events().length > 0)
  const { uid, mode, gid } = statSync(lab.places.journal)
  assert.equal(uid, idsOf('orchestrator-hook').uid)
  assert.equal(gid, idsOf('unionize').gid)
  assert.equal(mode & 0o777, 0o640)
})

test('a hundred devices at once: each gets an address of its own and exactly one line', async () => {
  const crowd = await lab.crowd()
  const devices = crowd.devices(100)
  const answers = await crowd.take(devices)
  assert.deepEqual(new Set(answers.map((a) => a.status)), new Set([0]))
  assert.equal(new Set(answers.map((a) => a.address)).size, 100)
  const mine = new Set(devices.map((device) => device.duid))
  const granted = (): JournalEvent[] => events().filter((e) => mine.has(e.lease.owner.duid) && e.kind === 'granted')
  await until('a line for each', () => granted().length >= 100)
  assert.deepEqual(
    granted()
      .map((e) => `${e.lease.owner.duid} ${e.lease.address}`)
      .sort(),
    answers.map((a) => `${a.duid} ${a.address}`).sort(),
  )
  await crowd.release(devices)
  const ended = (): number => events().filter((e) => mine.has(e.lease.owner.duid) && e.kind === 'ended').length
  await until('a line for each release', () => ended() === 100)
  await crowd.unplug()
})
