import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, it } from 'node:test'
import type { Way } from '../../unionize/wiring/wiring.ts'
import { until } from '../support/until.ts'
import { HOME, MACHINE, prepared, WaysLab } from '../support/ways-lab.ts'
import { BRIEF, placement, WiringLab } from '../support/wiring-lab.ts'

const COUNT = 1000
const MY_ADDRESS = 'fd00:1:0:ffff::1'

/** Half of them routed, half translated, each of an owner of its own. */
function manyWays(): Way[] {
  return Array.from({ length: COUNT }, (_, i) => {
    const hex = (i + 0x1000).toString(16)
    const reach: Way['reach'] =
      i % 2 === 0 ? { kind: 'routed', via: MACHINE } : { kind: 'translated', address: `fd00:8::${hex}` }
    return { owner: `fd00:c::${hex}`, address: `fd00:1::${hex}`, reach }
  })
}

describe('a thousand ways', () => {
  it('are led to, kept over a restart and taken away; the rules stay the same', async () => {
    await using lab = await WaysLab.start()
    let wiring = await prepared(lab.home)
    const onMachine = await prepared(lab.machine)
    const client = await lab.home.client(0)
    const instance = await lab.machine.instance('remote', 'fd00:1::205')
    const placed = { ...placement(instance.pid, 5, client.address), ownerVia: HOME.onMachineLink }
    await onMachine.attach(placed)
    await onMachine.place(placed)
    const rules = () =>
      lab.home.run('nft', '-s', 'list', 'table', 'inet', 'unionize').replaceAll(/\t+elements = \{[^}]*\}\n/g, '')
    const bare = rules()
    const own: Way = { owner: client.address, address: placed.address, reach: { kind: 'routed', via: MACHINE } }
    const all = [...manyWays(), own]

    await Promise.all(all.map(wiring.lead))
    assert.equal(WaysLab.routes(lab.home).length, COUNT / 2 + 1)
    assert.equal((await client.tcp(MY_ADDRESS)).label, 'remote')
    assert.equal(rules(), bare)

    await wiring.kill()
    wiring = await prepared(lab.home)
    await wiring.replacePassages(all, [])
    assert.equal(WaysLab.routes(lab.home).length, COUNT / 2 + 1)
    assert.equal((await client.tcp(MY_ADDRESS)).label, 'remote')

    await Promise.all(manyWays().map(wiring.unlead))
    assert.equal(WaysLab.routes(lab.home).length, 1)
    assert.equal((await client.tcp(MY_ADDRESS)).label, 'remote')
    await wiring.unlead(own)
    assert.deepEqual(WaysLab.routes(lab.home), [])
    assert.doesNotMatch(lab.home.run('nft', 'list', 'table', 'inet', 'unionize'), /fd00:c::|elements = \{ fd00:8/)
  })
})

describe('a worker that is killed amid its work', () => {
  it('leaves what the next replacePassages makes right, whenever it was', async () => {
    await using lab = await WaysLab.start()
    const wiring = await prepared(lab.home)
    const ways = manyWays().slice(0, 100)
    const routed = ways.filter(({ reach }) => reach.kind === 'routed').length
    const elements = () =>
      lab.home.run('nft', 'list', 'set', 'inet', 'unionize', 'ways').match(/fd00:c::/g)?.length ?? 0
    for (const done of [1, 13, 40, 77]) {
      for (const [verb, wanted] of [
        ['lead', ways],
        ['unlead', []],
      ] as const) {
        let ended = 0
        const calls = ways.map(async (way) => {
          await wiring[verb](way).catch((error: { code: string }) => assert.equal(error.code, 'worker-died'))
          if (++ended === done) await wiring.ask('killWorker')
        })
        await Promise.all(calls)
        await wiring.replacePassages(wanted, [])
        assert.equal(WaysLab.routes(lab.home).length, verb === 'lead' ? routed : 0)
        assert.equal(elements(), wanted.length)
      }
    }
  })
})

describe('an owner on the same link as the machine that its instance is on', () => {
  it('reaches it all the same, always through the home host', async () => {
    await using home = await WiringLab.start()
    await using machine = await WiringLab.start({ bare: true, name: 'machine' })
    home.run('ip', 'link', 'add', 'c9', 'type', 'veth', 'peer', 'name', 'to-home', 'netns', machine.host)
    home.run('ip', 'link', 'set', 'c9', 'master', 'br-clients', 'up')
    for (const words of ['link set to-home up', 'address add fd00:c::900/64 dev to-home nodad', 'link set lo up']) {
      machine.run('ip', ...words.split(' '))
    }
    machine.run('ip', 'address', 'add', 'fd00:1::205/128', 'dev', 'lo')
    const wiring = await prepared(home)
    const client = await home.client(0)
    machine.run('ip', '-6', 'route', 'add', `${client.address}/128`, 'via', 'fd00:c::1')
    const agent = await machine.onHost('remote')
    await until(
      'the machine reaches the host',
      async () => (await agent.icmp('fd00:c::1', BRIEF)).result === 'answered',
    )
    await wiring.lead({ owner: client.address, address: 'fd00:1::205', reach: { kind: 'routed', via: 'fd00:c::900' } })
    for (let i = 0; i < 5; i++) assert.equal((await client.tcp('fd00:1::205')).label, 'remote')
    assert.match(home.run('ip', '-6', 'route', 'get', 'fd00:1::205'), /via fd00:c::900 dev br-clients/)
    const routes = execFileSync('nsenter', ['-n', '-t', String(client.pid), 'ip', '-6', 'route', 'show', 'cache'])
    assert.doesNotMatch(routes.toString(), /fd00:1::205/, 'no redirect has told it another way')
  })
})
