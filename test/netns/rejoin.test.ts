import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { until } from '../support/until.ts'
import { type Agent, NETWORK, placement, WiringLab } from '../support/wiring-lab.ts'
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
  wiring = new Remote(['nsenter', `--net=/run/netns/${lab.host}`, process.execPath, HOST])
  await wiring.ask('ready')
  await wiring.ask('prepare', NETWORK)
  instance = await lab.instance('box', 'fd00:1::201')
  await wiring.ask('attach', placement(instance.pid, 1, null))
  await wiring.ask('place', placement(instance.pid, 1, stranger.address))
  await wiring.ask('open', { owner: owner.address, instance: instance.address })
  await wiring.ask('close', { owner: stranger.address, instance: instance.address })
})

after(async () => {
  await wiring?.ask('teardown').catch(() => {})
  await wiring?.ask('stop').catch(() => {})
  await wiring?.kill()
  await lab?.[Symbol.asyncDispose]()
})

test("the instances' bridge, deleted and made anew with another MAC, has its ports again as they were", async () => {
  assert.equal((await owner.icmp(instance.address)).result, 'answered')
  for (const mac of ['02:00:00:00:b1:01', '02:00:00:00:b1:02']) {
    lab.run('ip', 'link', 'delete', 'br-instances')
    assert.doesNotMatch(lab.run('bridge', 'link'), /ui-1/)
    lab.run('ip', 'link', 'add', 'br-instances', 'address', mac, 'type', 'bridge')
    lab.run('ip', 'address', 'add', 'fd00:1::1/64', 'dev', 'br-instances', 'nodad')
    lab.run('ip', 'link', 'set', 'br-instances', 'up')
    await until(
      'the owner reaches its instance',
      async () => (await owner.icmp(instance.address)).result === 'answered',
    )
    assert.match(lab.run('bridge', '-d', 'link', 'show', 'dev', 'ui-1'), /learning off flood off.*isolated on/s)
    assert.match(lab.run('bridge', 'fdb', 'show', 'dev', 'ui-1'), /02:00:00:00:00:01 master br-instances static/)
    assert.match(lab.run('ip', '-6', 'neigh', 'show', 'dev', 'br-instances'), /fd00:1::201 .*PERMANENT/)
    assert.notEqual((await stranger.icmp(instance.address)).result, 'answered', 'an owner of the past stays out')
  }
})
