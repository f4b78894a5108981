import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { OrchestratorError } from '../../common/errors.ts'
import { MAX_CALLS, MAX_MESSAGE_BYTES, WIRING_PROTOCOL } from '../../unionize/wiring/service/messages.ts'
import { connectWiring, type RemoteWiring, type WiringState } from '../../unionize/wiring/service/remote.ts'
import type { Placement } from '../../unionize/wiring/wiring.ts'
import { until } from '../support/until.ts'
import { NETWORK, placement, WiringLab } from '../support/wiring-lab.ts'

const MAIN = fileURLToPath(new URL('../../unionize/main.ts', import.meta.url))
const HELLO = { hello: { protocol: WIRING_PROTOCOL, version: 'test' } }

/** A wiring process in a lab of its own, as `unionize wiring` starts it, and clients of it. */
class Scene implements AsyncDisposable {
  readonly lab: WiringLab
  readonly folder = mkdtempSync(join(tmpdir(), 'wt-service-'))
  readonly socket = join(this.folder, 'wiring.sock')
  readonly #clients: RemoteWiring[] = []
  service: ChildProcess

  private constructor(lab: WiringLab) {
    this.lab = lab
    this.service = this.start()
  }

  static async open(): Promise<Scene> {
    return new Scene(await WiringLab.start())
  }

  /** Starts the process, as systemd would after it ended. */
  start(): ChildProcess {
    const flags = ['--wiring-socket', this.socket, '--wiring-directory', join(this.folder, 'state')]
    const inside = [`--net=/run/netns/${this.lab.host}`, process.execPath, MAIN, 'wiring', ...flags]
    this.service = spawn('nsenter', inside, { stdio: ['ignore', 'ignore', 'pipe'] })
    return this.service
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const ended = once(this.service, 'exit')
    this.service.kill(signal)
    assert.deepEqual(await ended, [null, signal])
  }

  client(changed: (state: WiringState) => void = () => {}): RemoteWiring {
    const client = connectWiring({ socket: this.socket, version: 'test', log: () => {}, changed })
    this.#clients.push(client)
    return client
  }

  /** Sends bytes as they are, and returns all that comes back until the process hangs up. */
  async raw(...parts: readonly (string | Buffer | object)[]): Promise<string> {
    await until('the socket is there', () => existsSync(this.socket))
    const peer = connect(this.socket)
    let heard = ''
    peer.on('data', (data) => {
      heard += data.toString()
    })
    peer.on('error', () => {})
    const closed = once(peer, 'close')
    for (const part of parts) {
      peer.write(typeof part === 'string' || Buffer.isBuffer(part) ? part : `${JSON.stringify(part)}\n`)
    }
    await closed
    return heard
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.wiring.stop()))
    if (this.service.exitCode === null && this.service.signalCode === null) {
      const ended = once(this.service, 'exit')
      this.service.kill('SIGKILL')
      await ended
    }
    await this.lab[Symbol.asyncDispose]()
    rmSync(this.folder, { recursive: true })
  }
}

/** Repeats what may be repeated, and counts how often. */
async function persistently(work: () => Promise<unknown>): Promise<number> {
  for (let failures = 0; ; failures++) {
    try {
      await work()
      return failures
    } catch (error) {
      assert.ok(error instanceof OrchestratorError && error.retryable, `${error} may not be repeated`)
      assert.ok(failures < 50, 'it never ends')
    }
  }
}

const passagesOf = (lab: WiringLab) => lab.run('nft', 'list', 'set', 'inet', 'unionize', 'passages')
const portsOf = (lab: WiringLab) => lab.run('ip', '-o', 'link', 'show', 'master', 'br-instances')

describe('the wiring process', () => {
  for (const signal of ['SIGSEGV', 'SIGKILL'] as const) {
    it(`${signal} amid calls: they fail as retryable, the next process takes over, repeated calls converge`, async () => {
      await using scene = await Scene.open()
      const { wiring } = scene.client()
      await wiring.prepare(NETWORK)
      const owner = await scene.lab.client(0)
      const stays = await scene.lab.instance('stays', 'fd00:1::2ff')
      const kept = placement(stays.pid, 255, owner.address)
      await wiring.attach(kept)
      await wiring.place(kept)
      const sandboxes = await Promise.all(Array.from({ length: 6 }, () => scene.lab.idle()))
      const all = sandboxes.map((sandbox, n) => placement(sandbox.pid, n, `fd00:c::${n + 256}`))

      let failures = 0
      let going = true
      const churn = async (here: Placement) => {
        for (let round = 0; going; round++) {
          failures += await persistently(() => wiring.attach(here))
          failures += await persistently(() => wiring.place(here))
          if (round % 3 === 2) failures += await persistently(() => wiring.detach(here.link))
        }
        await persistently(() => wiring.attach(here))
        await persistently(() => wiring.place(here))
      }
      const churning = Promise.all(all.map(churn))
      let kills = 0
      while (kills < 3 || failures === 0) {
        await until('calls succeed', () => wiring.links().then(() => true))
        await scene.kill(signal)
        assert.equal((await owner.tcp(stays.address)).label, 'stays', 'what is wired works while nobody wires')
        scene.start()
        kills++
        assert.ok(kills < 20, 'no call was ever under way')
      }
      await until('calls succeed', () => wiring.links().then(() => true))
      going = false
      await churning
      assert.deepEqual([...(await wiring.links())].sort(), [...all, kept].map((here) => here.link).sort())
      for (const here of all) {
        assert.match(passagesOf(scene.lab), new RegExp(`${here.owner} \\. ${here.address}\\b`))
        assert.match(scene.lab.runIn(here.pid, 'ip', '-6', 'address', 'show', 'eth0'), new RegExp(here.address))
      }
      assert.equal(portsOf(scene.lab).trim().split('\n').length, all.length + 1)
      assert.equal((await owner.tcp(stays.address)).label, 'stays')
    })
  }

  it('a new one is told what the last one knew before anything else, and that it is another is told', async () => {
    await using scene = await Scene.open()
    const states: WiringState[] = []
    const { wiring } = scene.client((state) => states.push(state))
    await wiring.prepare(NETWORK)
    const sandbox = await scene.lab.idle()
    const here = placement(sandbox.pid, 1, 'fd00:c::1')
    await wiring.attach(here)
    await scene.kill('SIGKILL')
    scene.lab.run('nft', 'flush', 'ruleset')
    const waiting = wiring.place(here)
    scene.start()
    await waiting
    assert.match(passagesOf(scene.lab), /fd00:c::1 \. fd00:1::201/)
    assert.deepEqual(
      states.map((state) => state.there && state.again),
      [false, true],
    )
    const passages = [{ owner: 'fd00:c::2', instance: here.address }]
    await wiring.replacePassages(passages, [{ link: here.link, mac: here.mac, address: here.address }])
    assert.match(passagesOf(scene.lab), /fd00:c::2 \. fd00:1::201/)
    assert.doesNotMatch(passagesOf(scene.lab), /fd00:c::1 \./)
  })

  it('that stays away: calls fail with where it was looked for, and work again when it is back', async () => {
    await using scene = await Scene.open()
    const states: WiringState[] = []
    const { wiring } = scene.client((state) => states.push(state))
    await wiring.prepare(NETWORK)
    await scene.kill('SIGKILL')
    const message = /wiring\.sock \(ECONNREFUSED\).*systemctl status unionize-wiring/
    await assert.rejects(wiring.links(), { code: 'wiring-away', retryable: true, message })
    assert.equal(states.at(-1)?.there, false)
    await assert.rejects(wiring.links(), { code: 'wiring-away' }, 'at once, from now on')
    scene.start()
    await until('it is there again', () => states.at(-1)?.there)
    await wiring.guard()
  })

  it('ends in good order: calls under way are answered, the socket goes', async () => {
    await using scene = await Scene.open()
    const { wiring } = scene.client()
    await wiring.prepare(NETWORK)
    const sandboxes = await Promise.all(Array.from({ length: 4 }, () => scene.lab.idle()))
    const all = sandboxes.map((sandbox, n) => placement(sandbox.pid, n, null))
    const attaching = Promise.all(all.map((here) => wiring.attach(here)))
    await wiring.links()
    const ended = once(scene.service, 'exit')
    scene.service.kill('SIGTERM')
    await attaching
    assert.deepEqual(await ended, [0, null])
    assert.ok(!existsSync(scene.socket))
    assert.equal(portsOf(scene.lab).trim().split('\n').length, 4, 'links stay')
  })
})

describe('the socket of the wiring process', () => {
  it('several clients share one wiring', async () => {
    await using scene = await Scene.open()
    const agent = scene.client().wiring
    await agent.prepare(NETWORK)
    const [first, second] = [await scene.lab.idle(), await scene.lab.idle()]
    const other = scene.client()
    await Promise.all([
      agent.attach(placement(first.pid, 1, null)),
      other.wiring.attach(placement(second.pid, 2, null)),
    ])
    assert.deepEqual([...(await agent.links())].sort(), ['ui-1', 'ui-2'])
    await other.wiring.stop()
    await agent.place(placement(first.pid, 1, null))
  })

  it('is for its own user alone', async () => {
    await using scene = await Scene.open()
    await scene.client().wiring.links()
    assert.equal(statSync(scene.socket).mode & 0o777, 0o600)
    execFileSync('chmod', ['755', scene.folder])
    const asNobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups', '--', 'perl', '-MSocket', '-e']
    const dial = `socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un($ARGV[0])) ? print "in" : print $!{EACCES} ? "EACCES" : $!`
    assert.equal(execFileSync('setpriv', [...asNobody, dial, scene.socket], { encoding: 'utf8' }), 'EACCES')
  })

  it('what is no message is answered with what was expected, and harms nobody else', async () => {
    await using scene = await Scene.open()
    const { wiring } = scene.client()
    await wiring.prepare(NETWORK)
    for (const [said, code] of [
      [['%%%\n'], 'bad-message'],
      [[Buffer.from([0, 255, 254, 10])], 'bad-message'],
      [['[]\n'], 'bad-message'],
      [[{ id: 1, verb: 'links', args: [] }], 'bad-message'],
      [[{ hello: 'hello' }], 'bad-message'],
      [[HELLO, HELLO], 'bad-message'],
      [[HELLO, { id: 'x', verb: 'links', args: [] }], 'bad-message'],
      [[HELLO, { id: 1, verb: 'links', args: {} }], 'bad-message'],
      [[HELLO, `${'['.repeat(100_000)}\n`], 'bad-message'],
      [[HELLO, Buffer.alloc(MAX_MESSAGE_BYTES + 1, 'x')], 'message-too-long'],
      [[{ hello: { protocol: WIRING_PROTOCOL + 1, version: '99.0.0' } }], 'protocol-mismatch'],
    ] as const) {
      const last = (await scene.raw(...said)).trim().split('\n').at(-1) ?? ''
      const { bye } = JSON.parse(last) as { bye?: { code: string } }
      assert.equal(bye?.code, code, JSON.stringify(said).slice(0, 80))
    }
    assert.deepEqual(await wiring.links(), [])
  })

  it('a call that is none is refused by name, and the connection goes on', async () => {
    await using scene = await Scene.open()
    const { wiring, interfaces } = scene.client()
    await assert.rejects(wiring.guard(), { code: 'not-prepared' })
    await wiring.prepare(NETWORK)
    const anything = (value: unknown) => value as never
    for (const value of [undefined, null, 5, 'text', [], {}, { pid: '1', link: ['ui-1'], mac: { toString: 1 } }]) {
      await assert.rejects(wiring.attach(anything(value)), { code: 'invalid-input' })
      await assert.rejects(wiring.open(anything(value)), { code: 'invalid-input' })
      await assert.rejects(wiring.detach(anything(value)), { code: 'invalid-input' })
      await assert.rejects(wiring.replacePassages(anything([value]), []), { code: 'invalid-input' })
      await assert.rejects(interfaces.wire(anything(value), anything(value)), { code: 'invalid-input' })
      await assert.rejects(interfaces.check(anything(value === 'text' ? 5 : value)), { code: 'invalid-input' })
    }
    const target = { key: 'pid:1', label: 'one', namespace: { pid: process.pid } }
    const spec = { interfaces: [{ name: 'eth1', link: { kind: 'bridge', bridge: 'br0', frobnicate: 1 } }] }
    await assert.rejects(interfaces.plan(target, anything(spec)), {
      code: 'invalid-input',
      message: /interfaces\.0\.link/,
    })
    const peer = connect(scene.socket)
    let heard = ''
    peer.on('data', (data) => {
      heard += data
    })
    peer.write(`${JSON.stringify(HELLO)}\n${JSON.stringify({ id: 7, verb: 'constructor', args: [] })}\n`)
    await until('it is answered', () => heard.includes('"id":7'))
    assert.match(heard, /"id":7,"error":\{"code":"invalid-input".*there is no \\"constructor\\"/)
    peer.destroy()
    assert.deepEqual(await wiring.links(), [])
  })

  it('more calls than are carried out at once wait their turn, and each is answered', async () => {
    await using scene = await Scene.open()
    const { wiring } = scene.client()
    const answers = await Promise.all(Array.from({ length: MAX_CALLS * 40 }, () => wiring.links()))
    assert.equal(answers.length, MAX_CALLS * 40)
  })

  it('one that a killed process left is replaced; a second process beside a living one is refused; a file is not removed', async () => {
    await using scene = await Scene.open()
    const { wiring } = scene.client()
    await wiring.links()
    const first = scene.service
    const second = scene.start()
    let said = ''
    second.stderr?.on('data', (data) => {
      said += data
    })
    assert.deepEqual(await once(second, 'exit'), [1, null])
    assert.match(said, /answers on .*wiring\.sock already: stop it first/)
    scene.service = first
    await wiring.links()
    await scene.kill('SIGKILL')
    assert.ok(existsSync(scene.socket))
    scene.start()
    await wiring.links()
    await scene.kill('SIGTERM').catch(() => {})
    writeFileSync(scene.socket, 'precious')
    assert.deepEqual(await once(scene.start(), 'exit'), [1, null])
    assert.ok(statSync(scene.socket).isFile())
  })

  it('a process of another version: its client says so, and goes on when they are the same again', async () => {
    await using scene = await Scene.open()
    await scene.client().wiring.links()
    await scene.kill('SIGKILL')
    rmSync(scene.socket)
    const other = createServer((peer) => {
      peer.on('error', () => {}).resume()
      peer.write(`${JSON.stringify({ hello: { protocol: 99, version: '9.9.9' } })}\n`)
    }).listen(scene.socket)
    const states: WiringState[] = []
    const { wiring } = scene.client((state) => states.push(state))
    await assert.rejects(wiring.links(), {
      code: 'protocol-mismatch',
      message: /protocol 1 here, 99 \(unionize 9\.9\.9\) there/,
    })
    other.close()
    await once(other, 'close')
    scene.start()
    await until('it is there', () => states.at(-1)?.there)
    await wiring.links()
  })
})
