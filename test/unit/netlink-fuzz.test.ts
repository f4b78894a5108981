import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import fc from 'fast-check'
import koffi from 'koffi'
import { WiringError } from '../../unionize/wiring/errors.ts'
import { addressOf, getAllAddresses } from '../../unionize/wiring/kernel/addresses.ts'
import { getBridgeVlans, vlansOf } from '../../unionize/wiring/kernel/bridge-vlans.ts'
import { createDevice } from '../../unionize/wiring/kernel/devices.ts'
import { close, send } from '../../unionize/wiring/kernel/libc.ts'
import { changesIn } from '../../unionize/wiring/kernel/link-events.ts'
import {
  getLinks,
  getNetnsId,
  type LinkState,
  linkOf,
  netnsIdOf,
  setMtu,
  stateOf,
} from '../../unionize/wiring/kernel/links.ts'
import { getNeighbours, neighbourOf } from '../../unionize/wiring/kernel/neighbours.ts'
import { attributesIn, endOf, type Message, messagesIn, verdictOf } from '../../unionize/wiring/kernel/netlink.ts'
import { getQdiscs, policeOf, qdiscOf } from '../../unionize/wiring/kernel/queueing.ts'
import { RouteSocket } from '../../unionize/wiring/kernel/route-socket.ts'
import { endsHere, getRoutes, routeOf } from '../../unionize/wiring/kernel/routes.ts'
import { getRules, ruleOf } from '../../unionize/wiring/kernel/rules.ts'

/** What a kernel answered, recorded by test/support/record-netlink-replies.ts. */
const FIXTURE = new URL('../fixtures/netlink-replies.json', import.meta.url)
const recorded = JSON.parse(readFileSync(FIXTURE, 'utf8')) as Record<string, string[]>
const datagramsOf = (name: string) => (recorded[name] ?? []).map((hex) => Buffer.from(hex, 'hex'))
const messagesOf = (name: string) => datagramsOf(name).flatMap((datagram) => [...messagesIn(datagram)])

const readers: readonly ((message: Message) => unknown)[] = [
  addressOf,
  endOf,
  endsHere,
  linkOf,
  neighbourOf,
  netnsIdOf,
  policeOf,
  qdiscOf,
  routeOf,
  ruleOf,
  stateOf,
  verdictOf,
  vlansOf,
]

/** What each recorded answer answers. */
const questions: Readonly<Record<string, (route: RouteSocket) => unknown>> = {
  links: (route) => route.dump({ purpose: 'list links', bytes: getLinks() }),
  addresses: (route) => route.dump({ purpose: 'list addresses', bytes: getAllAddresses() }),
  routes4: (route) => route.dump({ purpose: 'list routes', bytes: getRoutes('ipv4') }),
  routes6: (route) => route.dump({ purpose: 'list routes', bytes: getRoutes('ipv6') }),
  rules: (route) => route.dump({ purpose: 'list rules', bytes: getRules('ipv4') }),
  neighbours: (route) => route.dump({ purpose: 'list neighbours', bytes: getNeighbours('ipv6') }),
  qdiscs: (route) => route.dump({ purpose: 'list queues', bytes: getQdiscs(0) }),
  vlans: (route) => route.dump({ purpose: 'list VLANs', bytes: getBridgeVlans() }),
  netnsId: (route) => route.ask({ purpose: 'ask for an id', bytes: getNetnsId(3) }),
  unknownDevice: (route) =>
    route.ask({ purpose: 'make x', bytes: createDevice({ name: 'x', device: { kind: 'dummy' } }) }),
  wrongMtu: (route) => route.ask({ purpose: 'set the MTU', interface: 'p0', bytes: setMtu('p0', 1) }),
}

type Mutation = (bytes: Buffer) => Buffer

/** Lengths at which code goes wrong; each also stands for a wrong type, flag, sequence number or errno. */
const badNumber = fc.oneof(
  fc.constantFrom(0, 1, 3, 4, 5, 15, 16, 17, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff),
  fc.nat(0xffff_ffff),
)
/** Everywhere alike; numbers that fast-check makes prefer the ends. */
const place = fc.noBias(fc.integer({ min: 0, max: 9999 })).map((number) => number / 10_000)
const at = (bytes: Buffer, where: number, room: number) =>
  Math.floor((where * Math.max(0, bytes.length - room)) / 4) * 4
const garbage = fc.oneof(
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  fc.string({ unit: 'binary', maxLength: 40 }).map((text) => Buffer.from(text)),
  fc.constant(Buffer.from('\u001b[2J\r\n\u0007\u202eno end')),
)
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(place, fc.integer({ min: 1, max: 255 })).map(([where, bits]) =>
    changing((changed) => {
      const offset = Math.floor(where * changed.length)
      changed[offset] = (changed[offset] ?? 0) ^ bits
    }),
  ),
  place.map(
    (where): Mutation =>
      (bytes) =>
        bytes.subarray(0, Math.floor(where * bytes.length)),
  ),
  fc
    .tuple(place, badNumber)
    .map(([where, number]) => changing((changed) => changed.writeUInt32LE(number, at(changed, where, 4)))),
  fc
    .tuple(place, badNumber)
    .map(([where, number]) => changing((changed) => changed.writeUInt16LE(number & 0xffff, at(changed, where, 4)))),
  fc.tuple(place, garbage).map(([where, bytes]) => changing((changed) => bytes.copy(changed, at(changed, where, 4)))),
  fc.tuple(place, garbage).map(
    ([where, bytes]): Mutation =>
      (old) => {
        const offset = at(old, where, 0)
        return Buffer.concat([old.subarray(0, offset), bytes, old.subarray(offset)])
      },
  ),
  fc.tuple(place, place).map(
    ([from, to]): Mutation =>
      (bytes) => {
        const [start, end] = [at(bytes, Math.min(from, to), 0), at(bytes, Math.max(from, to), 0)]
        return Buffer.concat([bytes.subarray(0, end), bytes.subarray(start)])
      },
  ),
)
/** One after the other. */
const mutations: fc.Arbitrary<Mutation> = fc
  .array(mutation, { minLength: 1, maxLength: 4 })
  .map((changes) => (bytes) => {
    let changed = bytes
    for (const change of changes) changed = change(changed)
    return changed
  })
const answer = fc.constantFrom(...Object.keys(questions))

/** A mutation that leaves the length as it is; nothing is done to what is too short for it. */
function changing(change: (bytes: Buffer) => unknown): Mutation {
  return (bytes) => {
    const changed = Buffer.from(bytes)
    if (changed.length >= 4) change(changed)
    return changed
  }
}

function asking(name: string): (route: RouteSocket) => unknown {
  return questions[name] ?? assert.fail(name)
}

/** FUZZ_SEED repeats a run. */
function parameters(t: TestContext): { seed: number; numRuns: number } {
  const seed = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 0x7fff_ffff))
  t.diagnostic(`FUZZ_SEED=${seed}`)
  return { seed, numRuns: 1500 }
}

/** Whether `read` gave a value; what it throws must be ours. */
function tamely(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (thrown) {
    if (!(thrown instanceof WiringError)) throw thrown
    assert.doesNotMatch(thrown.message, /[\p{Cc}\p{Zl}\p{Zp}]/u)
    assert.ok(thrown.message.length < 500)
    return false
  }
}

const library = koffi.load('libc.so.6')
const socketpair = library.func('int socketpair(int family, int type, int protocol, void *fds)') as (
  family: number,
  type: number,
  protocol: number,
  fds: Buffer,
) => number
const shutdown = library.func('int shutdown(int fd, int how)') as (fd: number, how: number) => number
const [AF_UNIX, SOCK_SEQPACKET, SHUT_WR, MSG_NOSIGNAL] = [1, 5, 1, 0x4000]

/** A socket whose kernel has answered already, and says no more. */
function answering<T>(datagrams: readonly Buffer[], use: (route: RouteSocket) => T): T {
  const fds = Buffer.alloc(8)
  assert.equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0)
  const [ours, kernels] = [fds.readInt32LE(0), fds.readInt32LE(4)]
  try {
    for (const datagram of datagrams) send(kernels, datagram, datagram.length, MSG_NOSIGNAL)
    shutdown(kernels, SHUT_WR)
    return use(new RouteSocket(ours))
  } finally {
    close(ours)
    close(kernels)
  }
}

describe('what the kernel answered, as it was', () => {
  it('says the same of a link to those who read little of it', () => {
    const replies = messagesOf('links').slice(0, -1)
    for (const reply of replies) {
      const link = linkOf(reply)
      const state = stateOf(reply)
      const names = Object.keys(state) as (keyof LinkState)[]
      assert.deepEqual(state, Object.fromEntries(names.map((name) => [name, link[name]])))
    }
    assert.ok(replies.some((reply) => stateOf(reply).master !== 0))
  })

  it('is read in full', () => {
    const links = messagesOf('links').slice(0, -1).map(linkOf)
    const named = (name: string) => links.find((link) => link.name === name)
    assert.deepEqual(
      links.map((link) => link.name),
      ['lo', 'br0', 'p0', 'm0', 'vx'],
    )
    assert.equal(named('p0')?.alias, 'unionize:abc')
    assert.deepEqual(named('p0')?.altNames, ['a-rather-long-name-of-it', 'another'])
    assert.equal(named('p0')?.port?.isolated, true)
    assert.equal(named('p0')?.linkNetnsId, 0)
    assert.deepEqual(named('m0')?.device, { kind: 'macvlan', mode: 'vepa' })
    assert.deepEqual(named('vx')?.device, {
      kind: 'vxlan',
      id: 42,
      remote: 'fd00::5',
      local: 'fd00::6',
      port: 4789,
      learning: true,
      parent: 0,
    })
    assert.equal(messagesOf('addresses').slice(0, -1).map(addressOf)[0]?.address, '10.9.0.1')
    assert.ok(
      messagesOf('routes4')
        .slice(0, -1)
        .map(routeOf)
        .some((route) => route.table === 1000),
    )
    assert.equal(
      messagesOf('rules')
        .slice(0, -1)
        .map(ruleOf)
        .find((rule) => rule.priority === 77)?.incoming,
      'br0',
    )
    assert.equal(
      messagesOf('qdiscs')
        .slice(0, -1)
        .map(qdiscOf)
        .find((qdisc) => qdisc.tbf)?.tbf?.rate,
      10e6,
    )
  })

  it('is taken by a socket, refusals with the text of the kernel', () => {
    for (const [name, ask] of Object.entries(questions)) {
      if (name === 'unknownDevice' || name === 'wrongMtu') continue
      assert.ok(
        tamely(() => answering(datagramsOf(name), ask)),
        name,
      )
    }
    assert.throws(() => answering(datagramsOf('unknownDevice'), asking('unknownDevice')), {
      code: 'not-supported',
      message: /^cannot make x \(EOPNOTSUPP: Unknown device type\): .*CONFIG_DUMMY.*module dummy/,
    })
    assert.throws(() => answering(datagramsOf('wrongMtu'), asking('wrongMtu')), {
      code: 'kernel-refused',
      message: 'p0: cannot set the MTU (EINVAL: mtu less than device minimum)',
    })
  })
})

describe('mutated answers of the kernel', () => {
  it('give every reader a value or a WiringError', (t) => {
    let [values, errors] = [0, 0]
    fc.assert(
      fc.property(answer, mutations, (name, mutate) => {
        for (const bytes of datagramsOf(name).map(mutate)) {
          tamely(() => changesIn(bytes))
          for (const message of messagesIn(bytes)) {
            attributesIn(message.body)
            for (const reader of readers) {
              if (tamely(() => reader(message))) values++
              else errors++
            }
          }
        }
      }),
      parameters(t),
    )
    t.diagnostic(`${values} values, ${errors} errors`)
    assert.ok(values > 0 && errors > 0)
  })

  it('give a socket an answer or a WiringError, and never keep it waiting for one that is there', (t) => {
    let [values, errors] = [0, 0]
    fc.assert(
      fc.property(answer, fc.nat(2), mutations, (name, torn, mutate) => {
        const datagrams = datagramsOf(name).map((datagram, i) => (i === torn ? mutate(datagram) : datagram))
        if (tamely(() => answering(datagrams, asking(name)))) values++
        else errors++
      }),
      parameters(t),
    )
    t.diagnostic(`${values} answers, ${errors} errors`)
    assert.ok(values > 0 && errors > 0)
  })

  it('in their extended acknowledgements give one line of text without control characters', (t) => {
    fc.assert(
      fc.property(fc.constantFrom('unknownDevice', 'wrongMtu'), garbage, mutations, (name, text, mutate) => {
        const [datagram = Buffer.alloc(0)] = datagramsOf(name)
        const spoken = Buffer.from(datagram)
        text.copy(spoken, 40)
        for (const bytes of [spoken, mutate(spoken)]) {
          for (const message of messagesIn(bytes)) {
            tamely(() => assert.doesNotMatch(verdictOf(message).text, /[\p{Cc}\p{Zl}\p{Zp}]/u))
            tamely(() => answering([bytes], asking(name)))
          }
        }
      }),
      parameters(t),
    )
  })
})
