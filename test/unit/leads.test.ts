import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { WireWay } from '../../unionize/contract.ts'
import { createLeads, type Leads } from '../../unionize/leads.ts'
import { ownAddress } from '../../unionize/own-address.ts'
import { WiringError } from '../../unionize/wiring/errors.ts'
import type { Way } from '../../unionize/wiring/wiring.ts'

const ROUTED: WireWay['reach'] = { kind: 'routed', via: 'fd00:9::2' }

function way(n: number, change: Partial<WireWay> = {}): WireWay {
  return { instance: `i-${n}`, generation: 1, owner: `fd00:c::${n}`, address: `fd00:1::${n}`, reach: ROUTED, ...change }
}

/** Leads over a wiring that keeps what it is told as the kernel would. */
class Scene implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'leads-'))
  readonly file = join(this.directory, 'ways.json')
  readonly kernel = new Map<string, Way>()
  readonly notices: string[] = []
  readonly unreachable = new Set<string>()
  /** Addresses of instances to which ways cannot be taken away. */
  readonly stuck = new Set<string>()
  address: string | undefined
  time = 1000

  async leads(): Promise<Leads> {
    const leads = createLeads({
      file: this.file,
      wiring: {
        lead: async (one) => {
          this.kernel.delete(`${one.owner} ${one.address}`)
          if (one.reach.kind === 'routed' && this.unreachable.has(one.reach.via)) {
            throw new WiringError('next-hop-unreachable', 'no link', { retryable: true })
          }
          this.kernel.set(`${one.owner} ${one.address}`, one)
        },
        unlead: async ({ owner, address }) => {
          if (this.stuck.has(address)) throw new WiringError('kernel-refused', 'busy', { retryable: true })
          this.kernel.delete(`${owner} ${address}`)
        },
      },
      address: () => this.address,
      notice: (_level, code) => this.notices.push(code),
      now: () => this.time++,
    })
    await leads.load()
    return leads
  }

  /** Addresses of the instances that are led to. */
  led(): string[] {
    return [...this.kernel.values()].map(({ address }) => address)
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true })
  }
}

describe('the ways that a host remembers', () => {
  it('are there after a restart without an orchestrator, in the order in which they were said', async () => {
    using scene = new Scene()
    scene.address = '2001:db8:1::1'
    const leads = await scene.leads()
    const cloud = way(2, { reach: { kind: 'translated', address: '2001:db8::2' } })
    for (const one of [way(1), cloud, way(3), way(1, { generation: 2 }), cloud]) await leads.lead(one)
    await leads.unlead('i-3', 1)
    scene.address = undefined
    const again = await scene.leads()
    assert.deepEqual(again.all(), leads.all())
    assert.deepEqual(
      again.all().map(({ way: { address }, at }) => [address, at]),
      [
        ['fd00:1::2', 1001],
        ['fd00:1::1', 1003],
      ],
      'the same once more changes nothing',
    )
    assert.deepEqual(scene.led(), ['fd00:1::2', 'fd00:1::1'])
    assert.deepEqual(again.all()[0]?.way.reach, { kind: 'translated', address: '2001:db8::2', from: '2001:db8:1::1' })
    assert.equal(statSync(scene.file).mode & 0o777, 0o600)
    assert.deepEqual(readdirSync(scene.directory), ['ways.json'])
  })

  it('of a burst are written a few times only, and each is on disk when it is answered', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    const kept = () => (JSON.parse(readFileSync(scene.file, 'utf8')) as { ways: WireWay[] }).ways
    const inodes = new Set<bigint>()
    const all = Array.from({ length: 500 }, async (_, n) => {
      await leads.lead(way(n))
      inodes.add(statSync(scene.file, { bigint: true }).mtimeNs)
      assert.ok(kept().some(({ instance }) => instance === `i-${n}`))
    })
    await Promise.all(all)
    assert.equal(kept().length, 500)
    assert.ok(inodes.size < 50, `${inodes.size} files`)
  })

  it('change with the last word: another reach takes the place, another owner or address the former one away', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    await leads.lead(way(1))
    await leads.lead(way(1, { reach: { kind: 'translated', address: '2001:db8::2' } }))
    assert.deepEqual(
      [...scene.kernel.values()].map(({ reach }) => reach.kind),
      ['translated'],
    )
    await leads.lead(way(1, { generation: 2, owner: 'fd00:c::77' }))
    assert.deepEqual(
      [...scene.kernel.values()].map(({ owner }) => owner),
      ['fd00:c::77'],
    )
    await leads.unlead('i-1', 3)
    await leads.unlead('i-1', 3)
    assert.deepEqual([leads.all().length, scene.kernel.size], [0, 0])
  })

  it('are not changed by a word that was overtaken', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    await leads.lead(way(1, { generation: 5 }))
    await assert.rejects(leads.lead(way(1, { generation: 4 })), { code: 'stale-generation' })
    await assert.rejects(leads.unlead('i-1', 4), { code: 'stale-generation' })
    await leads.unlead('i-1', 6)
    await assert.rejects(leads.lead(way(1, { generation: 5 })), { code: 'stale-generation' })
    assert.deepEqual(scene.led(), [])
    await leads.lead(way(1, { generation: 6 }))
    assert.deepEqual(scene.led(), ['fd00:1::1'])
  })

  it('outlive the end of another instance with the same owner and address', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    await leads.lead(way(1))
    await leads.lead(way(2, { owner: way(1).owner, address: way(1).address }))
    await leads.unlead('i-1', 2)
    assert.deepEqual(scene.led(), ['fd00:1::1'])
    await leads.unlead('i-2', 2)
    assert.deepEqual(scene.led(), [])
  })

  it('are made exactly those of a list, also where one of them cannot be led', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    await leads.lead(way(1))
    await leads.lead(way(2))
    scene.unreachable.add('fd00:7::1')
    const lost = way(3, { reach: { kind: 'routed', via: 'fd00:7::1' } })
    await assert.rejects(leads.set([lost, way(4), way(2)]), { code: 'next-hop-unreachable', retryable: true })
    assert.deepEqual(scene.led(), ['fd00:1::2', 'fd00:1::4'])
    assert.deepEqual(
      leads.all().map(({ way: { address } }) => address),
      ['fd00:1::2', 'fd00:1::4'],
    )
    scene.unreachable.clear()
    await leads.set([lost, way(4), way(2)])
    assert.deepEqual(scene.led(), ['fd00:1::2', 'fd00:1::4', 'fd00:1::3'])
    await leads.set([])
    assert.deepEqual([scene.led(), (await scene.leads()).all()], [[], []])
  })

  it('are led though another one cannot be taken away, which is told and tried again', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    await leads.set([way(1)])
    scene.stuck.add('fd00:1::1')
    await assert.rejects(leads.set([way(2)]), { code: 'kernel-refused' })
    assert.deepEqual(scene.led(), ['fd00:1::1', 'fd00:1::2'])
    scene.stuck.clear()
    await leads.set([way(2)])
    assert.deepEqual(scene.led(), ['fd00:1::2'])
  })

  it('that lead nowhere any more are forgotten with their error', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    await leads.lead(way(1))
    scene.unreachable.add('fd00:7::1')
    await assert.rejects(leads.lead(way(1, { reach: { kind: 'routed', via: 'fd00:7::1' } })))
    assert.deepEqual([scene.led(), leads.all(), (await scene.leads()).all()], [[], [], []])
  })

  it('that cannot be read are told, and the host goes on without them', async () => {
    using scene = new Scene()
    for (const text of ['', '{"ways":[{"instance":"i-1"}]}', '[]']) {
      writeFileSync(scene.file, text)
      assert.deepEqual((await scene.leads()).all(), [])
      assert.deepEqual(scene.notices.splice(0), ['ways-lost'])
    }
    assert.deepEqual((await scene.leads()).all(), [])
  })

  it('that cannot be written are an error of the request', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    mkdirSync(scene.file)
    await assert.rejects(leads.lead(way(1)), { code: 'EISDIR' })
    rmdirSync(scene.file)
    await leads.lead(way(1))
    assert.equal((await scene.leads()).all().length, 1)
  })
})

describe('the address that a translated way comes from', () => {
  it('follows the address by which the orchestrator knows the host, as soon as it says its ways again', async () => {
    using scene = new Scene()
    const leads = await scene.leads()
    const cloud = way(1, { reach: { kind: 'translated', address: '2001:db8::2' } })
    for (const address of [undefined, '2001:db8:1::1', '2001:db8:1::2']) {
      scene.address = address
      await leads.set([cloud])
      const [kernel] = [...scene.kernel.values()]
      assert.equal(kernel?.reach.kind === 'translated' ? kernel.reach.from : 'routed', address)
    }
  })
})

describe('the address by which others know a host', () => {
  it('is the one that is set, or that of the connection, if others can send there', () => {
    assert.equal(ownAddress('FD00:9::0:1', 'fd00:8::1'), 'fd00:9::1')
    assert.equal(ownAddress(null, 'fd00:8::1'), 'fd00:8::1')
    assert.equal(ownAddress(null, '2001:DB8::1'), '2001:db8::1')
    for (const local of [
      '::1',
      '::',
      '127.0.0.1',
      '::ffff:10.0.0.1',
      'fe80::1',
      'fe80::1%eth0',
      'fec0::1',
      'ff02::1',
    ]) {
      assert.equal(ownAddress(null, local), undefined, local)
    }
    assert.equal(ownAddress(null, undefined), undefined)
  })
})
