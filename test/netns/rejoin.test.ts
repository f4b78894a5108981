import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { until } from '../support/until.ts'
import { type Agent, BRIEF, NETWORK, placement, WiringLab } from '../support/wiring-lab.ts'
import { Remote } from '../support/wiring-remote.ts'

const HOST = fileURLToPath(new URL('../support/rejoin-host.ts', import.meta.url))

let lab: WiringLab
let wiring: Remote
let owner: Agent
let stranger: Agent
let instance: Agent

before(async () => {
  lab = await WiringLab.start()
  owner = await lab.client(1)
  stranger = await lab.client(2)
  wiring = await start()
  instance = await lab.instance('box', 'fd00:1::201')
  await wiring.ask('attach', placement(instance.pid, 1, null))
  await wiring.ask('place', placement(instance.pid, 1, stranger.address))
  const free = await lab.idle()
  await wiring.ask('attach', placement(free.pid, 2, null))
  await wiring.ask('open', { owner: owner.address, instance: instance.address })
  await wiring.ask('close', { owner: stranger.address, instance: instance.address })
})

after(async () => {
  await wiring?.ask('teardown').catch(() => {})
  await wiring?.ask('stop').catch(() => {})
  await wiring?.kill()
  await lab?.[Symbol.asyncDispose]()
})

async function start(): Promise<Remote> {
  const made = new Remote(['nsenter', `--net=/run/netns/${lab.host}`, process.execPath, HOST])
  await made.ask('ready')
  await made.ask('prepare', NETWORK)
  return made
}
function deleteBridge(): void {
  lab.run('ip', 'link', 'delete', 'br-instances')
  assert.doesNotMatch(lab.run('bridge', 'link'), /ui-1/)
}
function makeBridge(mac: string): void {
  lab.run('ip', 'link', 'add', 'br-instances', 'address', mac, 'type', 'bridge')
  lab.run('ip', 'address', 'add', 'fd00:1::1/64', 'dev', 'br-instances', 'nodad')
  lab.run('ip', 'link', 'set', 'br-instances', 'up')
}
async function itIsBack(): Promise<void> {
  await until(
    'the owner reaches its instance',
    async () => (await owner.icmp(instance.address, BRIEF)).result === 'answered',
  )
  assert.match(lab.run('bridge', '-d', 'link', 'show', 'dev', 'ui-1'), /learning off flood off.*isolated on/s)
  assert.match(lab.run('bridge', 'fdb', 'show', 'dev', 'ui-1'), /02:00:00:00:00:01 master br-instances static/)
  assert.match(lab.run('ip', '-6', 'neigh', 'show', 'dev', 'br-instances'), /fd00:1::201 .*PERMANENT/)
  assert.notEqual((await stranger.icmp(instance.address, BRIEF)).result, 'answered', 'an owner of the past stays out')
  assert.match(lab.run('bridge', 'link', 'show', 'dev', 'ui-2'), /master br-instances/, 'one without an address too')
}

test("the instances' bridge, deleted and made anew with another MAC, has its ports again as they were", async () => {
  assert.equal((await owner.icmp(instance.address)).result, 'answered')
  for (const mac of ['02:00:00:00:b1:01', '02:00:00:00:b1:02']) {
    deleteBridge()
    makeBridge(mac)
    await itIsBack()
  }
})

test('so it is when another wiring process attached them, and when the bridge was away while none ran', async () => {
  await wiring.kill()
  wiring = await start()
  deleteBridge()
  makeBridge('02:00:00:00:b1:03')
  await itIsBack()

  await wiring.kill()
  deleteBridge()
  makeBridge('02:00:00:00:b1:04')
  wiring = await start()
  await itIsBack()
})

test('a link that somebody removed meanwhile does not come back', async () => {
  await wiring.ask('detach', 'ui-2')
  deleteBridge()
  makeBridge('02:00:00:00:b1:05')
  await until(
    'the owner reaches its instance',
    async () => (await owner.icmp(instance.address, BRIEF)).result === 'answered',
  )
  assert.doesNotMatch(lab.run('ip', '-o', 'link'), /ui-2/)
})
