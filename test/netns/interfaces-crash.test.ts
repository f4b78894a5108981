import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Target } from '../../unionize/wiring/interfaces/interfaces.ts'
import { type EngineProcess, InterfacesLab, said, type Wish } from '../support/interfaces-lab.ts'
import { until } from '../support/until.ts'
import type { RemoteError } from '../support/wiring-remote.ts'

const BRIDGED: Wish = {
  name: 'eth1',
  link: { kind: 'bridge', bridge: 'br1', isolated: true },
  addresses: ['10.1.1.5/24', 'fd00::5/64'],
  gateways: ['10.1.1.1', 'fd00::1'],
  rules: [{ from: '10.1.1.0/24', table: 9, priority: 90 }],
  shaping: { ingress: { rate: '8M' } },
}
const MOVED: Wish = { name: 'nic', link: { kind: 'physical', device: 'up0' }, mtu: 1400, addresses: ['fd01::5/64'] }

describe('an engine that dies, and what it left behind', () => {
  let lab: InterfacesLab
  let target: Target
  let untouched: string[]

  const pictures = () => ['host', 'web'].flatMap((one) => [one, ...lab.picture(one)])
  const stateFiles = () => readdirSync(lab.state).filter((name) => name !== '.lock')
  /** Lets the engine die before each step of a call in turn, until it survives; then `look` at what is there. */
  const atEachStep = async (
    prepare: (engine: EngineProcess) => Promise<unknown>,
    call: (engine: EngineProcess) => Promise<unknown>,
    look: (engine: EngineProcess, step: string) => Promise<void>,
  ) => {
    let engine = await lab.engine()
    let step = 0
    for (let alive = false; !alive; step++) {
      await prepare(engine)
      await engine.killAfter(step)
      await call(engine).catch((error: RemoteError) => assert.equal(error.code, undefined, error.message))
      alive = engine.process.exitCode === null && engine.process.signalCode === null
      if (alive) await engine.killAfter(null)
      else engine = await lab.engine()
      await look(engine, `killed before step ${step}`)
      assert.deepEqual(pictures(), untouched, `killed before step ${step}`)
      assert.deepEqual(stateFiles(), [])
    }
    await engine.kill()
    assert.ok(step > 3, 'there were steps')
  }

  before(() => {
    lab = new InterfacesLab()
    target = lab.target('web')
    lab.ip('host', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1')
    lab.ip('host', 'link', 'set', 'up1', 'up')
    lab.ip('host', 'link', 'set', 'up0', 'up')
    lab.ip('host', 'address', 'add', '192.0.2.1/24', 'broadcast', '192.0.2.255', 'dev', 'up0')
    lab.ip('host', 'address', 'add', '2001:db8::1/64', 'dev', 'up0', 'nodad')
    lab.ip('host', 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.9', 'dev', 'up0')
    untouched = pictures()
  })
  after(async () => {
    await lab[Symbol.asyncDispose]()
  })

  it('killed before each step of wiring: the same call again ends where it should have', async () => {
    let wired: string[] | null = null
    const nothing = async () => {}
    await atEachStep(
      nothing,
      (engine) => engine.wire(target, BRIDGED, MOVED),
      async (engine, step) => {
        await engine.wire(target, BRIDGED, MOVED)
        assert.deepEqual(said(await engine.plan(target, BRIDGED, MOVED)), [], step)
        wired ??= pictures().map(withoutBridgeMac)
        assert.deepEqual(pictures().map(withoutBridgeMac), wired, step)
        await engine.unwire(target)
      },
    )
  })

  it('killed before each step of wiring: unwiring leaves nothing', async () => {
    const unwire = async (engine: EngineProcess) => void (await engine.unwire(target))
    await atEachStep(unwire, (engine) => engine.wire(target, BRIDGED, MOVED), unwire)
  })

  it('killed before each step of unwiring: the same call again leaves nothing', async () => {
    const unwire = async (engine: EngineProcess) => void (await engine.unwire(target))
    await atEachStep((engine) => engine.wire(target, BRIDGED, MOVED), unwire, unwire)
  })

  it('killed amid a change of kinds and names: the same call again ends where it should have', async () => {
    const changed: Wish[] = [
      { ...MOVED, name: 'eth1' },
      { ...BRIDGED, name: 'nic' },
    ]
    const prepare = (engine: EngineProcess) => engine.wire(target, BRIDGED, MOVED)
    await atEachStep(
      prepare,
      (engine) => engine.wire(target, ...changed),
      async (engine, step) => {
        await engine.wire(target, ...changed)
        assert.deepEqual(said(await engine.plan(target, ...changed)), [], step)
        await engine.unwire(target)
      },
    )
  })

  it('two processes at once on one namespace end in one of the two specs, whole', async () => {
    const [one, two] = [await lab.engine(), await lab.engine()]
    const specs: Wish[][] = [[BRIDGED], [MOVED, { ...BRIDGED, name: 'eth2' }]]
    for (let round = 0; round < 5; round++) {
      await Promise.all([one.wire(target, ...(specs[0] ?? [])), two.wire(target, ...(specs[1] ?? []))])
      assert.deepEqual(await one.check(target), [])
      const left = await Promise.all(specs.map(async (spec) => (await one.plan(target, ...spec)).length))
      assert.ok(left.includes(0), `steps left: ${left}`)
    }
    await Promise.all([one.unwire(target), two.unwire(target)])
    assert.deepEqual(pictures(), untouched)
    await Promise.all([one.kill(), two.kill()])
  })

  it('a namespace that ends: show says so, check says so, unwire cleans the host and puts a returned device right', async () => {
    const engine = await lab.engine()
    const other = lab.target('ending')
    await engine.wire(other, BRIDGED, MOVED)
    // A real device would return by itself, under the name it had inside.
    lab.ip('ending', 'link', 'set', 'nic', 'netns', lab.nameOf('host'))
    lab.end('ending')
    const shown = (await engine.show()).find((one) => one.key === other.key)
    assert.equal(shown?.alive, false)
    assert.deepEqual(
      (await engine.check(other)).map((one) => one.found),
      ['no namespace', 'no namespace'],
    )
    await engine.unwire(other)
    assert.deepEqual(pictures(), untouched)
    assert.deepEqual(stateFiles(), [])
    assert.deepEqual(await engine.unwire(other), [])
    await engine.kill()
  })

  it('a namespace that ended and came back under the same name is wired anew', async () => {
    const engine = await lab.engine()
    await engine.wire(lab.target('phoenix'), BRIDGED)
    lab.end('phoenix')
    const again = lab.target('phoenix')
    assert.deepEqual(
      (await engine.check(again)).map((one) => one.found),
      ['no namespace'],
    )
    await engine.wire(again, BRIDGED)
    assert.deepEqual(await engine.check(again), [])
    await engine.unwire(again)
    await until('the former pair went with its namespace', () => {
      assert.deepEqual(pictures(), untouched)
      return true
    })
    await engine.kill()
  })

  it('a state that cannot be read is told with its file, and nothing is touched', async () => {
    const engine = await lab.engine()
    await engine.wire(target, BRIDGED)
    const [file = ''] = stateFiles()
    const path = join(lab.state, file)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const content = readFileSync(path, 'utf8')
    const wired = pictures()
    for (const broken of ['', '{', '{"version":1}', content.replace('"version":1', '"version":2')]) {
      writeFileSync(path, broken)
      const told = (error: RemoteError) => error.code === 'state-unreadable' && error.message.includes(path)
      await assert.rejects(engine.wire(target, MOVED), told)
      await assert.rejects(engine.unwire(target), told)
      await assert.rejects(engine.check(target), told)
      await assert.rejects(engine.show(), told)
    }
    assert.deepEqual(pictures(), wired)
    writeFileSync(path, content)
    await engine.unwire(target)
    assert.deepEqual(pictures(), untouched)
    await engine.kill()
  })

  it('a full disk refuses what is new before the kernel is touched, and lets what is there be unwired', async () => {
    const small = join(lab.state, 'small')
    execFileSync('mkdir', [small])
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', small])
    try {
      const engine = await lab.engine(small)
      await engine.wire(target, BRIDGED)
      const wired = pictures()
      spawnSync('dd', ['if=/dev/zero', `of=${join(small, 'filler')}`, 'bs=4k'])
      const full = (error: RemoteError) => error.code === 'state-unwritable' && /ENOSPC/.test(error.message)
      await assert.rejects(engine.wire(target, BRIDGED, { ...MOVED, name: 'n'.repeat(200) }), full)
      await assert.rejects(engine.wire(lab.target('more'), BRIDGED), full)
      assert.deepEqual(pictures(), wired)
      assert.deepEqual(lab.links('more'), [])
      await engine.unwire(target)
      assert.deepEqual(pictures(), untouched)
      assert.deepEqual(readdirSync(small).sort(), ['.lock', 'filler'])
      await engine.kill()
    } finally {
      execFileSync('umount', [small])
    }
  })

  it('a hundred wirings and unwirings leave no file open', async () => {
    const engine = await lab.engine()
    await engine.wire(target, BRIDGED, MOVED)
    await engine.unwire(target)
    const open = await engine.fds()
    for (let round = 0; round < 100; round++) {
      await engine.wire(target, { ...BRIDGED, link: { kind: 'veth', peer: { name: 'out' } } })
      await engine.unwire(target)
    }
    assert.equal(await engine.fds(), open)
    await engine.kill()
  })
})

/** A bridge that is made gets a MAC of its own each time. */
function withoutBridgeMac(line: string): string {
  return line.replace(/^(br1 bridge) \S+/, '$1')
}
