import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { until } from '../support/until.ts'
import { type Agent, BRIEF, NETWORK, placement, WiringLab, type WiringProcess } from '../support/wiring-lab.ts'

describe('what may be repeated, and after what', () => {
  let lab: WiringLab
  let wiring: WiringProcess
  let client: Agent
  let instance: Agent

  const here = () => placement(instance.pid, 0, client.address)
  const inside = (...args: string[]) => lab.runIn(instance.pid, 'ip', ...args)
  /** With a single datagram: TCP would send again what was lost. */
  const reaches = async (time?: typeof BRIEF) => (await client.udp(instance.address, time)).result === 'answered'
  const elements = (set: string) =>
    [...lab.run('nft', 'list', ...set.split(' ')).matchAll(/(?:elements = \{|,)\s*([^,}]+?)\s*(?=[,}])/g)].map(
      (match) => match[1],
    )

  before(async () => {
    lab = await WiringLab.start()
    wiring = await lab.wiring()
    await wiring.prepare()
    client = await lab.client(0)
    instance = await lab.instance('first', 'fd00:1::200')
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  it('every call, any number of times', async () => {
    for (let i = 0; i < 3; i++) {
      await wiring.prepare()
      await wiring.attach(here())
      await wiring.attach(here())
      await wiring.place(here())
      await wiring.place(here())
      assert.ok(await reaches())
      assert.deepEqual(await wiring.links(), ['ui-0'])
      assert.deepEqual(elements('set inet unionize passages'), ['fd00:c::100 . fd00:1::200'])
      await wiring.unplace(here())
      await wiring.unplace(here())
      assert.ok(!(await reaches(BRIEF)))
      await wiring.detach('ui-0')
      await wiring.detach('ui-0')
      assert.deepEqual(await wiring.links(), [])
    }
  })

  it('undoing leaves no trace in the sandbox, on the host or in the firewall', async () => {
    await wiring.attach(here())
    const bare = [inside('address', 'show', 'eth0'), inside('-6', 'route'), inside('-6', 'neigh')]
    await wiring.place(here())
    await wiring.unplace(here())
    assert.deepEqual([inside('address', 'show', 'eth0'), inside('-6', 'route'), inside('-6', 'neigh')], bare)
    assert.doesNotMatch(lab.run('ip', '-6', 'neigh', 'show', 'dev', 'br-instances'), /fd00:1::2/)
    assert.doesNotMatch(lab.run('nft', 'list', 'ruleset'), /fd00:1::2|fd00:c::/)
  })

  const halfDone: Record<string, () => Promise<void> | void> = {
    'a link that is on no bridge and has a wrong MAC': async () => {
      await wiring.detach('ui-0')
      lab.run('ip', 'link', 'add', 'ui-0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(instance.pid))
    },
    'a link that is on no bridge': async () => {
      await wiring.detach('ui-0')
      const peer = ['peer', 'name', 'eth0', 'address', here().mac, 'netns', String(instance.pid)]
      lab.run('ip', 'link', 'add', 'ui-0', 'type', 'veth', ...peer)
    },
    'a link to a sandbox of before': async () => {
      await wiring.detach('ui-0')
      const former = await lab.idle()
      await wiring.attach({ ...here(), pid: former.pid })
    },
    'a link whose end on the host is down': () => void lab.run('ip', 'link', 'set', 'ui-0', 'down'),
    'a link whose end in the sandbox is down': () => void inside('link', 'set', 'eth0', 'down'),
    'an address without route and neighbours': () => void inside('address', 'add', 'fd00:1::200/64', 'dev', 'eth0'),
    'a former address': async () => wiring.place({ ...here(), address: 'fd00:1::2ff' }),
    'a route and a neighbour that are wrong': async () => {
      await wiring.place(here())
      inside('-6', 'neigh', 'replace', 'fd00:1::1', 'lladdr', '02:00:00:00:00:99', 'dev', 'eth0', 'nud', 'permanent')
      inside('-6', 'route', 'replace', 'default', 'dev', 'eth0', 'metric', '512')
      lab.run('ip', '-6', 'neigh', 'del', 'fd00:1::200', 'dev', 'br-instances')
    },
    'everything but the firewall': async () => {
      await wiring.place(here())
      lab.run(
        'nft',
        'flush set inet unionize passages; flush set bridge unionize sources; flush map inet unionize mine',
      )
    },
    'nothing but the firewall': async () => {
      await wiring.place(here())
      await wiring.detach('ui-0')
      await wiring.open({ owner: client.address, instance: instance.address })
    },
  }
  for (const [state, make] of Object.entries(halfDone)) {
    it(`a crash that left ${state} is mended by attach and place`, async () => {
      await wiring.attach(here())
      await wiring.unplace(here())
      await make()
      await wiring.attach(here())
      await wiring.place(here())
      assert.ok(await reaches())
      assert.deepEqual(await wiring.links(), ['ui-0'])
      assert.deepEqual(elements('set bridge unionize sources'), ['"ui-0" . 02:00:00:00:00:00 . fd00:1::200'])
      assert.deepEqual(elements('set inet unionize passages'), ['fd00:c::100 . fd00:1::200'])
      assert.equal([...inside('-6', 'address', 'show', 'eth0').matchAll(/scope global/g)].length, 1)
    })
  }

  it('a worker that dies at any moment costs a retry and nothing else', async () => {
    let died = 0
    for (let round = 0; round < 40; round++) {
      const work = (async () => {
        await wiring.unplace(here())
        await wiring.detach('ui-0')
        await wiring.attach(here())
        await wiring.place(here())
      })()
      const settled = work.then(
        () => null,
        (error: { code: string; retryable: boolean }) => error,
      )
      await new Promise((resolve) => setTimeout(resolve, (round * 7) % 30))
      await wiring.ask('killWorker')
      const error = await settled
      if (error === null) continue
      died++
      assert.equal(error.code, 'worker-died')
      assert.equal(error.retryable, true)
      await wiring.attach(here())
      await wiring.place(here())
      assert.ok(await reaches(), `round ${round}`)
    }
    assert.ok(died > 0)
    await wiring.attach(here())
    await wiring.place(here())
    assert.deepEqual(await wiring.links(), ['ui-0'])
    assert.deepEqual(elements('set inet unionize passages'), ['fd00:c::100 . fd00:1::200'])
  })

  it('a passage to an address goes with the address, whoever else was let in', async () => {
    await wiring.open({ owner: 'fd00:c::777', instance: instance.address })
    await wiring.unplace(here())
    assert.deepEqual(elements('set inet unionize passages'), [])
    assert.deepEqual(elements('map inet unionize mine'), [])
    await wiring.place(here())
  })

  it('an instance that is placed for another owner is no former one’s any more', async () => {
    await wiring.place({ ...here(), owner: 'fd00:c::777' })
    await wiring.place(here())
    assert.deepEqual(elements('set inet unionize passages'), ['fd00:c::100 . fd00:1::200'])
    assert.equal(elements('map inet unionize mine').length, 1)
    assert.ok(await reaches())
  })

  it('a late unplace of a link does not harm the one that has its address now', async () => {
    const former = await lab.idle()
    const old = { ...placement(former.pid, 5, client.address), address: instance.address }
    await wiring.attach(old)
    await wiring.place(old)
    await wiring.place(here())
    await wiring.unplace(old)
    assert.ok(await reaches())
    await wiring.detach('ui-5')
    assert.ok(await reaches())
  })

  it('undoing is fine when process and link are gone already', async () => {
    const sandbox = await lab.idle()
    const gone = placement(sandbox.pid, 6, client.address)
    await wiring.attach(gone)
    await wiring.place(gone)
    await sandbox.kill()
    await until('the link went with its namespace', async () => !(await wiring.links()).includes('ui-6'))
    await wiring.unplace(gone)
    await wiring.detach('ui-6')
    assert.deepEqual(elements('set inet unionize passages'), ['fd00:c::100 . fd00:1::200'])
    assert.doesNotMatch(lab.run('ip', '-6', 'neigh'), /fd00:1::206/)
  })

  it('detaching an instance that was not unplaced takes its firewall entries with it', async () => {
    const sandbox = await lab.idle()
    await wiring.attach(placement(sandbox.pid, 7, 'fd00:c::777'))
    await wiring.place(placement(sandbox.pid, 7, 'fd00:c::777'))
    await wiring.detach('ui-7')
    assert.doesNotMatch(lab.run('nft', 'list', 'ruleset'), /ui-7|fd00:1::207/)
  })

  it('instances outlive the daemon, and the next one finds them as they are', async () => {
    assert.ok(await reaches())
    await wiring.kill()
    assert.ok(await reaches())
    wiring = await lab.wiring()
    await wiring.prepare()
    assert.deepEqual(await wiring.links(), ['ui-0'])
    assert.ok(await reaches())
    await wiring.stop()
    assert.ok(await reaches())
    wiring = await lab.wiring()
    await wiring.prepare()
    await wiring.unplace(here())
    assert.deepEqual(elements('set inet unionize passages'), [])
    await wiring.place(here())
  })

  it('replacePassages makes the contents exactly what it is given', async () => {
    await wiring.open({ owner: 'fd00:c::777', instance: 'fd00:1::777' })
    const { link, mac, address } = here()
    await wiring.replacePassages([{ owner: client.address, instance: address }], [{ link, mac, address }])
    assert.deepEqual(elements('set inet unionize passages'), ['fd00:c::100 . fd00:1::200'])
    assert.deepEqual(elements('map inet unionize mine'), ['fd00:c::100 : fd00:1::200'])
    assert.ok(await reaches())
    await wiring.replacePassages([], [])
    assert.doesNotMatch(lab.run('nft', 'list', 'ruleset'), /elements/)
    await wiring.place(here())
  })

  it('the bridge keeps its MAC whatever ports come and go', async () => {
    const mac = lab.macOf('br-instances')
    lab.run('ip', 'link', 'add', 'low', 'address', '02:00:00:00:00:00', 'type', 'veth', 'peer', 'name', 'low-peer')
    lab.run('ip', 'link', 'set', 'low', 'master', 'br-instances', 'up')
    assert.equal(lab.macOf('br-instances'), mac)
    lab.run('ip', 'link', 'del', 'low')
    assert.equal(lab.macOf('br-instances'), mac)
  })

  it("other people's firewall rules stay as they are, and tearing down leaves nothing of ours", async () => {
    lab.run('nft', 'add table inet filter; add chain inet filter forward { type filter hook forward priority 10; }')
    lab.run('nft', 'add rule inet filter forward ip6 daddr 2001:db8::1 drop; add table bridge theirs')
    const others = () =>
      ['inet filter', 'bridge theirs'].map((table) => lab.run('nft', 'list', 'table', ...table.split(' ')))
    const found = others()
    await wiring.prepare(NETWORK)
    await wiring.place(here())
    assert.deepEqual(others(), found)
    await wiring.teardown()
    assert.deepEqual(others(), found)
    assert.doesNotMatch(lab.run('nft', 'list', 'ruleset'), /unionize/)
    assert.doesNotMatch(lab.run('ip', 'link'), /ui-/)
    await wiring.teardown()
  })
})
