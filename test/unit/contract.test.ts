import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  fromHost,
  joinRequest,
  LABEL,
  MAX_BATCH,
  MAX_MESSAGE_BYTES,
  MAX_WAYS,
  orderShape,
  SNAPSHOT_PART,
  toHost,
} from '../../unionize/contract.ts'
import { leaseEvent } from '../support/fixtures.ts'
import { order } from '../support/orders.ts'

const now = 1_800_000_000_000
const { owner, address, expiresAt, facts } = leaseEvent(1, now)
const lease = { owner, address, expiresAt, facts }
const position = { journal: 'j', offset: 100 }
const event = { type: 'event', kind: 'granted', lease, position, hookAt: now }
const way = { instance: 'i-1a', generation: 1, owner: 'fd00:c::1', address: 'fd00:1::1' }
const routed = { ...way, reach: { kind: 'routed', via: 'fd00:9::2' } }
const translated = { ...way, reach: { kind: 'translated', address: '2001:db8::1' } }
const messagesFromHost = [
  {
    type: 'hello',
    protocol: 1,
    version: '0.1.0',
    facts: { engine: 'e', kernel: 'k', instances: 0, address: 'fd00:9::1' },
  },
  { type: 'leases', id: 'l1', items: [event, { type: 'refused', reason: 'r', original: 'o', position, hookAt: now }] },
  { type: 'snapshot', id: 's1', readAt: now, part: 0, last: true, leases: [lease] },
  { type: 'result', id: 'r1', observed: [{ instance: 'i-1a', generation: 1, state: 'running', address }] },
  { type: 'result', id: 'r1', failure: { code: 'c', message: 'm', retryable: true } },
  {
    type: 'observed',
    observed: { instance: 'i-1a', generation: 0, state: 'partial', address: null, marks: { reachableAt: now } },
  },
  { type: 'notice', level: 'warning', code: 'c', message: 'm' },
  { type: 'dropped', packets: { mac: 1, 'packet-rate': 0 } },
  { type: 'output', id: 'r1', text: 'x' },
]
const { home: _, ...ordered } = order(1)
const messagesToHost = [
  { type: 'welcome', protocol: 1, version: '0.1.0', host: 'h1' },
  { type: 'stored', id: 'l1' },
  { type: 'ensure', id: 'r1', order: ordered },
  { type: 'remove', id: 'r1', instance: 'i-1a', generation: 1 },
  {
    type: 'images',
    id: 'q',
    wanted: [
      { image: 'nginx:1', from: { kind: 'registry' } },
      { image: 'orchestrator/web:0123', from: { kind: 'archive', sha256: 'a'.repeat(64), bytes: 5 } },
    ],
  },
  {
    type: 'build',
    id: 'q',
    build: 'b-0123456789',
    image: 'orchestrator/web:0123',
    arguments: { A: 'b' },
    push: false,
    mostMs: 1000,
    mostLogBytes: 1000,
  },
  { type: 'lead', id: 'r1', way: routed },
  { type: 'unlead', id: 'r1', instance: 'i-1a', generation: 1 },
  { type: 'leads', id: 'r1', ways: [routed, translated] },
  { type: 'list', id: 'r1' },
  { type: 'logs', id: 'r1', instance: 'i-1a', follow: false, tail: 10 },
  { type: 'cancel', id: 'r1' },
]

describe('the messages between the daemons', () => {
  it('survive the way as JSON', () => {
    for (const [shape, messages] of [
      [fromHost, messagesFromHost],
      [toHost, messagesToHost],
    ] as const) {
      for (const message of messages)
        assert.deepEqual(shape.parse(JSON.parse(JSON.stringify(message))), JSON.parse(JSON.stringify(message)))
    }
    const kinds = (shape: typeof fromHost | typeof toHost) => shape.options.map((o) => o.shape.type.value).sort()
    assert.deepEqual(
      kinds(fromHost),
      [...new Set(messagesFromHost.map((m) => m.type))].sort(),
      'each kind is tried here',
    )
    assert.deepEqual(kinds(toHost), [...new Set(messagesToHost.map((m) => m.type))].sort())
  })

  it('are refused when a required field is missing or of another type', () => {
    const optional = new Set(['observed', 'failure', 'service'])
    for (const [shape, messages] of [
      [fromHost, messagesFromHost],
      [toHost, messagesToHost],
    ] as const) {
      for (const message of messages) {
        for (const key of Object.keys(message).filter((k) => message.type === 'observed' || !optional.has(k))) {
          assert.equal(
            shape.safeParse({ ...message, [key]: undefined }).success,
            false,
            `${message.type} without ${key}`,
          )
          assert.equal(shape.safeParse({ ...message, [key]: Symbol('x') }).success, false, `${message.type}.${key}`)
        }
      }
    }
  })

  it('are refused, never thrown over, whatever arrives', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        assert.equal(fromHost.safeParse(value).success, false)
        assert.equal(toHost.safeParse(value).success, false)
      }),
    )
  })

  it('of an unknown kind are refused, and those of one direction in the other', () => {
    for (const message of messagesToHost) assert.equal(fromHost.safeParse(message).success, false, message.type)
    for (const message of messagesFromHost) assert.equal(toHost.safeParse(message).success, false, message.type)
    assert.equal(fromHost.safeParse({ type: 'future', id: 'x' }).success, false)
  })

  it('tell of a way nothing but where it leads', () => {
    const lead = (change: object) => toHost.safeParse({ type: 'lead', id: 'r', way: { ...routed, ...change } }).success
    assert.equal(lead({}), true)
    for (const [key, value] of [
      ['owner', 'fd00:c::1/64'],
      ['owner', '10.0.0.1'],
      ['address', ''],
      ['generation', 0],
      ['instance', '../i-1a'],
      ['reach', { kind: 'tunnelled', via: 'fd00:9::2' }],
      ['reach', { kind: 'routed', via: 'example.net' }],
      ['reach', { kind: 'routed', address: 'fd00:9::2' }],
      ['reach', { kind: 'translated', via: 'fd00:9::2' }],
    ] as const) {
      assert.equal(lead({ [key]: value }), false, `${key} ${JSON.stringify(value)}`)
    }
  })

  it('hold a bounded number of things', () => {
    const ways = (n: number) => toHost.safeParse({ type: 'leads', id: 'r', ways: Array(n).fill(routed) }).success
    assert.deepEqual([ways(0), ways(MAX_WAYS), ways(MAX_WAYS + 1)], [true, true, false])
    const longest = { ...routed, instance: 'i'.repeat(41), generation: 2 ** 53 - 1 }
    const wide = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
    const most = { ...longest, owner: wide, address: wide, reach: { kind: 'translated', address: wide } }
    const bytes = Buffer.byteLength(
      JSON.stringify({ type: 'leads', id: 'r'.repeat(64), ways: Array(MAX_WAYS).fill(most) }),
    )
    assert.ok(bytes < MAX_MESSAGE_BYTES, `${bytes} bytes`)
    const leases = (n: number) => fromHost.safeParse({ type: 'leases', id: 'l', items: Array(n).fill(event) }).success
    assert.deepEqual([leases(0), leases(MAX_BATCH), leases(MAX_BATCH + 1)], [false, true, false])
    const snapshot = (n: number) => fromHost.safeParse({ ...messagesFromHost[2], leases: Array(n).fill(lease) }).success
    assert.deepEqual([snapshot(0), snapshot(SNAPSHOT_PART), snapshot(SNAPSHOT_PART + 1)], [true, true, false])
    for (const id of ['', 'x'.repeat(65)]) assert.equal(toHost.safeParse({ type: 'list', id }).success, false)
  })

  it('of ordinary leases fit in one message, at the largest batch and snapshot part', () => {
    const part = { ...messagesFromHost[2], leases: Array(SNAPSHOT_PART).fill(lease) }
    const batch = { type: 'leases', id: 'l', items: Array(MAX_BATCH).fill(event) }
    for (const message of [part, batch]) assert.ok(Buffer.byteLength(JSON.stringify(message)) < MAX_MESSAGE_BYTES)
  })

  it('take no number that a database or a clock cannot hold', () => {
    const at = (hookAt: unknown) =>
      fromHost.safeParse({ type: 'leases', id: 'l', items: [{ ...event, hookAt }] }).success
    assert.deepEqual([0, now, -1, 1.5, 2 ** 53, '5', null].map(at), [true, true, false, false, false, false, false])
    const iaid = (n: number) =>
      fromHost.safeParse({ ...messagesFromHost[2], leases: [{ ...lease, owner: { ...owner, iaid: n } }] }).success
    assert.deepEqual([0, 0xffff_ffff, 0x1_0000_0000, -1, 0.5].map(iaid), [true, true, false, false, false])
  })
})

describe('an order', () => {
  it('is refused with names that could leave a label, a path or a container name', () => {
    const ok = order(1)
    for (const change of [
      { name: 'a.b' },
      { name: '../x' },
      { name: '-a' },
      { name: '' },
      { name: 'a'.repeat(64) },
      { name: 'a\n' },
      { instance: '../../x' },
      { instance: 'I-1' },
      { instance: 'i' },
      { instance: `i${'x'.repeat(41)}` },
      { address: '10.0.0.1' },
      { ownerAddress: 'fd00::1/64' },
      { services: [] },
      { services: Array(33).fill(ok.services[0]) },
      { generation: 0 },
      { entryPort: 0 },
      { entryPort: 65_536 },
      { services: [{ ...ok.services[0], name: 'a/b' }] },
      { services: [{ ...ok.services[0], capabilities: ['cap_x'] }] },
    ]) {
      assert.equal(orderShape.safeParse({ ...ok, ...change }).success, false, JSON.stringify(change).slice(0, 80))
    }
    assert.equal(orderShape.safeParse(ok).success, true)
  })
})

describe('joining', () => {
  it('takes a token, a DNS label and a signing request of bounded length', () => {
    const ok = { token: 'x'.repeat(16), host: 'h1', csr: 'pem' }
    assert.equal(joinRequest.safeParse(ok).success, true)
    for (const change of [
      { token: 'short' },
      { token: 'x'.repeat(257) },
      { host: 'H1' },
      { host: 'a b' },
      { csr: 'x'.repeat(8193) },
    ]) {
      assert.equal(joinRequest.safeParse({ ...ok, ...change }).success, false, Object.keys(change)[0])
    }
  })

  it('and labels have names that do not collide', () => {
    assert.equal(new Set(Object.values(LABEL)).size, Object.keys(LABEL).length)
  })
})

describe('the wiring of an order', () => {
  const [web] = order(1).services
  const db = { ...web, name: 'db', sandbox: 'own', networks: { back: {} } }
  const wiring = { interfaces: [{ link: { kind: 'dummy' } }], networks: { back: {} }, policy: { egress: 'internet' } }
  const wired = { ...order(1), services: [web, db], wiring }

  it('arrives with its defaults spelt out, and is the same when it is sent on', () => {
    const parsed = orderShape.parse(wired)
    assert.deepEqual(parsed.services[1]?.networks, { back: { aliases: [] } })
    assert.equal(parsed.wiring?.interfaces[0]?.name, 'eth1')
    assert.deepEqual(parsed.wiring?.policy, { public: [], egress: 'internet', limits: {} })
    assert.deepEqual(orderShape.parse(JSON.parse(JSON.stringify(parsed))), parsed)
    assert.ok(toHost.safeParse({ type: 'ensure', id: 'r1', order: wired }).success)
  })

  it('may be absent, as in what former versions wrote on containers', () => {
    assert.deepEqual(Object.keys(orderShape.parse(order(1))).includes('wiring'), false)
  })

  it('is refused by field when its parts do not go together, or when it holds what nobody knows', () => {
    const message = (change: object) => orderShape.safeParse({ ...wired, ...change }).error?.issues[0]
    const paths: Record<string, object> = {
      'services.0.sandbox': { services: [{ ...web, sandbox: 'own' }] },
      'services.1.networks.front': { services: [web, { ...db, networks: { front: {} } }] },
      'services.1.networks.back': { wiring: { ...wiring, networks: {} } },
      'wiring.networks.back.prefix': { wiring: { ...wiring, networks: { back: { prefix: '2001:db8::/64' } } } },
      'wiring.interfaces': { wiring: { ...wiring, interfaces: [{ name: 'eth0', link: { kind: 'dummy' } }] } },
      'wiring.interfaces.0.link.kind': { wiring: { ...wiring, interfaces: [{ link: { kind: 'wormhole' } }] } },
      'wiring.policy.egress': { wiring: { ...wiring, policy: { egress: 'everywhere' } } },
      wiring: { wiring: { ...wiring, colour: 'red' } },
    }
    for (const [path, change] of Object.entries(paths)) assert.equal(message(change)?.path.join('.'), path)
  })
})
