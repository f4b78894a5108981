import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { WireOrder, WireWay } from '../../unionize/contract.ts'
import { UnionizeHost } from '../support/unionize-host.ts'
import { CLOUD, HOME, MACHINE, WaysLab } from '../support/ways-lab.ts'

const MY_ADDRESS = 'fd00:1:0:ffff::1'

let host: UnionizeHost
let lab: WaysLab
let order: WireOrder

const lead = (way: WireWay) => host.unionize.ask<void>('lead', way)
const unlead = (way: WireWay) => host.unionize.ask<void>('unlead', way.instance, way.generation + 1)
const leadsTo = async () => {
  const answer = await host.owner.tcp(MY_ADDRESS)
  // Nothing listens in the instance here, but it is there and says so.
  if (answer.result === 'refused') return (await host.owner.icmp(MY_ADDRESS)).result === 'answered' ? 'here' : 'nowhere'
  return answer.label
}
const restart = async () => {
  await host.kill()
  await host.start()
}
const cloudWay = (): WireWay => ({
  instance: 'i-cloud',
  generation: 1,
  owner: host.owner.address,
  address: 'fd00:1::c1',
  reach: { kind: 'translated', address: CLOUD },
})
const machineWay = (): WireWay => ({
  ...cloudWay(),
  instance: 'i-machine',
  owner: host.stranger.address,
  address: 'fd00:1::c2',
  reach: { kind: 'routed', via: MACHINE },
})

before(async () => {
  host = await UnionizeHost.open('uw')
  lab = await WaysLab.start(host.lab)
  await lab.cloud()
  lab.admit(HOME.onCloudLink)
})
after(async () => {
  await lab?.[Symbol.asyncDispose]()
  await host?.close()
})

test('a way that was said after an order has my.instance, also after a restart without an orchestrator', async () => {
  order = host.newOrder()
  await host.ensure(order)
  assert.equal(await leadsTo(), 'here')
  await lead(cloudWay())
  await lead(machineWay())
  assert.equal(await leadsTo(), 'cloud')
  await host.ensure(order)
  assert.equal(await leadsTo(), 'cloud', 'the same order once more says nothing new')
  await restart()
  assert.equal(await leadsTo(), 'cloud')
  assert.deepEqual(WaysLab.routes(host.lab), [`fd00:1::c2 ${MACHINE}`])
})

test('an order that came later has it, also after a restart', async () => {
  order = { ...order, generation: 2 }
  await host.ensure(order)
  assert.equal(await leadsTo(), 'here')
  await restart()
  assert.equal(await leadsTo(), 'here')
  assert.equal((await host.owner.tcp('fd00:1::c1')).label, 'cloud', 'the way is there all the same')
})

test('what was taken away does not come back with a restart', async () => {
  await host.remove(order)
  assert.equal(await leadsTo(), 'cloud')
  await unlead(cloudWay())
  await unlead(machineWay())
  await restart()
  assert.equal(await leadsTo(), 'nowhere')
  assert.deepEqual(WaysLab.routes(host.lab), [])
})
