import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { addressBytes } from '../../unionize/wiring/input.ts'
import { addAddress, addressOf } from '../../unionize/wiring/kernel/addresses.ts'
import { createPair, getLink, linkOf, setNoLinkLocal, setUp, stateOf } from '../../unionize/wiring/kernel/links.ts'
import { setNeighbour, staticPortEntry } from '../../unionize/wiring/kernel/neighbours.ts'
import {
  attribute,
  attributesIn,
  attributeText,
  attributeU32,
  message,
  messagesIn,
  NLM_F_ACK,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  setSequence,
  textOf,
  verdictOf,
} from '../../unionize/wiring/kernel/netlink.ts'
import { deleteDefaultRoute, setDefaultRoute } from '../../unionize/wiring/kernel/routes.ts'

const IFINFOMSG = 16

/** The sequence number and the port that iproute2 chose do not matter. */
function normal(hex: string): string {
  const bytes = Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
  bytes.fill(0, 8, 16)
  return bytes.toString('hex')
}

/** What iproute2 6.1 sent, recorded with strace, for interface 4. */
describe('the same bytes as iproute2', () => {
  it('ip neigh replace fd00:1::a lladdr 02:00:00:00:00:0a dev X nud permanent', () => {
    const recorded = `3c0000001c000505c4fe006b00000000 0a000000040000008000000014000100
      fd00000100000000000000000000000a 0a000200020000000 00a0000`
    const ours = setNeighbour(4, addressBytes('fd00:1::a'), '02:00:00:00:00:0a')
    assert.equal(ours.toString('hex'), normal(recorded))
  })

  it('ip -6 address replace fd00:1::a/64 dev X nodad', () => {
    const recorded = `4000000014000505c3fe006b00000000 0a4002000400000014000200fd000001
      0000000000000000 0000000a14000100 fd00000100000000000000000000000a`
    const ours = addAddress(4, addressBytes('fd00:1::a'), 64)
    assert.equal(ours.toString('hex'), normal(recorded))
  })

  it('ip -6 route replace default via fd00:1::1 dev X proto static metric 512, less a destination of ::/0', () => {
    const recorded = `5400000018000505c3fe006b00000000 0a000000fe0400010000000014000100
      00000000000000000000000000000000 14000500fd0000010000000000000000 000000010800060000020000080004000 4000000`
    const theirs = Buffer.from(normal(recorded), 'hex')
    const ours = setDefaultRoute(4, addressBytes('fd00:1::1'))
    assert.equal(ours.toString('hex', 16, 28), theirs.toString('hex', 16, 28))
    const [told, expected] = [attributesIn(ours.subarray(28)), attributesIn(theirs.subarray(28))]
    expected.delete(1)
    assert.deepEqual(new Map([...told].sort()), new Map([...expected].sort()))
  })

  it('bridge fdb replace 02:00:00:00:00:0a dev X master static, less the state "reachable"', () => {
    const recorded = `280000001c000505c4fe006b00000000 07000000040000004200 04000a000200 02000000000a0000`
    const theirs = Buffer.from(normal(recorded), 'hex')
    theirs[24] = 0x40
    assert.equal(staticPortEntry(4, '02:00:00:00:00:0a').toString('hex'), theirs.toString('hex'))
  })

  it('ip link set X addrgenmode none, but by name', () => {
    const recorded = '10001a000c000a000500080001000000'
    assert.ok(setNoLinkLocal('eth0').toString('hex').endsWith(recorded))
  })
})

describe('netlink messages', () => {
  it('come back as they were put together, whatever their attributes', () => {
    const attributes = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 40 })), {
      selector: ([type]) => type,
    })
    fc.assert(
      fc.property(attributes, fc.integer({ min: 0, max: 0xffffffff }), (list, sequence) => {
        const bytes = message(20, NLM_F_REQUEST, ...list.map(([type, value]) => attribute(type, Buffer.from(value))))
        setSequence(bytes, sequence)
        const found = [...messagesIn(Buffer.concat([bytes, bytes]))]
        assert.equal(found.length, 2)
        assert.equal(found[1]?.sequence, sequence)
        const read = attributesIn(found[1]?.body ?? Buffer.alloc(0))
        assert.deepEqual(
          [...read].map(([type, value]) => [type, [...value]]),
          list.map(([type, value]) => [type, [...value]]),
        )
      }),
    )
  })

  it('that are torn or nonsense end the reading and never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const found of messagesIn(Buffer.from(bytes))) attributesIn(found.body)
      }),
    )
  })

  it("give the kernel's own words about an error", () => {
    const header = Buffer.alloc(20)
    header.writeInt32LE(-22)
    const body = Buffer.concat([header, attributeText(1, 'Invalid gateway address')])
    const refused = { type: NLMSG_ERROR, flags: 0x300, sequence: 1, body }
    assert.deepEqual(verdictOf(refused), { errno: 22, text: 'Invalid gateway address' })
    assert.deepEqual(verdictOf({ ...refused, flags: 0 }), { errno: 22, text: '' })
    assert.deepEqual(verdictOf({ ...refused, flags: 0, body: Buffer.alloc(20) }), { errno: 0, text: '' })
  })

  it('hold texts with their NUL, and are read up to it', () => {
    assert.equal(textOf(attributesIn(attributeText(3, 'ui-a')).get(3)), 'ui-a')
    assert.equal(textOf(Buffer.from('eth0')), 'eth0')
    assert.equal(textOf(undefined), '')
  })
})

describe('messages about links and addresses', () => {
  it('a pair is made with its master, and its peer in the namespace with name and MAC', () => {
    const bytes = createPair({
      name: 'ui-a',
      bridge: 7,
      mtu: 1400,
      peerName: 'eth0',
      peerMac: '02:00:00:00:00:0a',
      namespace: 33,
    })
    const [pair] = [...messagesIn(bytes)]
    assert.ok(pair)
    assert.equal(pair.flags, 0x605)
    const attributes = attributesIn(pair.body.subarray(IFINFOMSG))
    assert.equal(textOf(attributes.get(3)), 'ui-a')
    assert.equal(attributes.get(10)?.readUInt32LE(), 7)
    const info = attributesIn(attributes.get(18) ?? Buffer.alloc(0))
    assert.equal(textOf(info.get(1)), 'veth')
    const peer = attributesIn(
      (attributesIn(info.get(2) ?? Buffer.alloc(0)).get(1) ?? Buffer.alloc(0)).subarray(IFINFOMSG),
    )
    assert.equal(textOf(peer.get(3)), 'eth0')
    assert.equal(peer.get(1)?.toString('hex'), '02000000000a')
    assert.equal(peer.get(4)?.readUInt32LE(), 1400)
    assert.equal(peer.get(28)?.readUInt32LE(), 33)
  })

  it('up changes that flag and no other', () => {
    const [up] = [...messagesIn(setUp('ui-a'))]
    assert.equal(up?.body.readUInt32LE(8), 1)
    assert.equal(up?.body.readUInt32LE(12), 1)
    assert.equal(up?.flags, NLM_F_REQUEST | NLM_F_ACK)
  })

  it('a link passes packets only when it is operational and, as a port, forwarding', () => {
    const described = (operational: number, state: number | null) => {
      const header = Buffer.alloc(IFINFOMSG)
      header.writeInt32LE(9, 4)
      header.writeUInt32LE(0x41, 8)
      const port = state === null ? [] : [attributeText(4, 'bridge'), attribute(5, attribute(1, Buffer.of(state)))]
      const parts = [header, attributeText(3, 'ui-a'), attribute(16, Buffer.of(operational)), attributeU32(5, 2)]
      const [read] = [...messagesIn(message(16, 0, ...parts, attribute(18, attributeText(1, 'veth'), ...port)))]
      assert.ok(read)
      assert.equal(stateOf(read).passing, linkOf(read).passing)
      return linkOf(read)
    }
    assert.equal(described(6, 3).passing, true)
    assert.equal(described(6, null).passing, true)
    assert.equal(described(6, 1).passing, false)
    assert.equal(described(0, 3).passing, false)
    const { index, name, peer, kind, up, running } = described(6, 3)
    assert.deepEqual(
      { index, name, peer, kind, up, running },
      {
        index: 9,
        name: 'ui-a',
        peer: 2,
        kind: 'veth',
        up: true,
        running: true,
      },
    )
  })

  it('an address is unusable while it is tentative, and when its detection failed', () => {
    const described = (flags: number) => {
      const header = Buffer.from([10, 64, 0, 0, 4, 0, 0, 0])
      const parts = [attribute(1, addressBytes('fd00:1::a')), attributeU32(8, flags)]
      const [read] = [...messagesIn(message(20, 0, header, ...parts))]
      assert.ok(read)
      return addressOf(read)
    }
    assert.equal(described(0x82).tentative, false)
    assert.equal(described(0xc0).tentative, true)
    assert.equal(described(0x88).tentative, true)
    assert.equal(described(0x82).hex, 'fd00000100000000000000000000000a')
    assert.equal(described(0x82).interfaceIndex, 4)
  })

  it('undoing names the same route as doing', () => {
    const gateway = addressBytes('fd00:1::1')
    assert.equal(deleteDefaultRoute(4, gateway).toString('hex', 16), setDefaultRoute(4, gateway).toString('hex', 16))
    assert.equal(getLink('ui-a').readUInt16LE(4), 18)
  })

  it('addresses of any canonical form become their sixteen bytes', () => {
    assert.equal(addressBytes('::').toString('hex'), '0'.repeat(32))
    assert.equal(addressBytes('fd00:1::').toString('hex'), `fd000001${'0'.repeat(24)}`)
    assert.equal(addressBytes('1:2:3:4:5:6:7:8').toString('hex'), '00010002000300040005000600070008')
    assert.equal(addressBytes('::a:b').toString('hex'), `${'0'.repeat(24)}000a000b`)
  })
})
