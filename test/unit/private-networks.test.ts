import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { InvalidInput } from '../../common/errors.ts'
import { contains, formatPrefix, parseIpv6, parsePrefix } from '../../common/ipv6.ts'
import { networkFaults, overlap } from '../../common/private-networks.ts'
import { orderShape, type WireOrder } from '../../unionize/contract.ts'
import { hostsFile, type NetworkPlan, planNetworks } from '../../unionize/networks/plan.ts'
import { guardRules } from '../../unionize/wiring/private/guard.ts'
import { parseShare } from '../../unionize/wiring/private/share.ts'
import { service } from '../support/fixtures.ts'

const AROUND = { instances: parsePrefix('fd00:1::/64'), myAddress: parseIpv6('fd00:1:0:ffff::1') }
const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/)

type Networks = Record<string, { prefix?: string }>
type On = Record<string, { address?: string; aliases?: string[] }>

function order(n: number, services: readonly { name: string; own?: boolean; on: On }[], networks: Networks): WireOrder {
  return orderShape.parse({
    instance: `i-${n}`,
    generation: 1,
    owner: { duid: '00:01', iaid: n },
    name: 'box',
    address: 'fd00:1::99',
    ownerAddress: 'fd00:c::1',
    services: services.map(({ name, own, on }) => ({
      ...service({ name }),
      ...(own ? { sandbox: 'own' } : {}),
      networks: on,
    })),
    outputs: false,
    wiring: { networks },
    entryPort: null,
  })
}
const stack = (n: number, networks: Networks = { back: {} }, db: On = { back: {} }) =>
  order(
    n,
    [
      { name: 'web', on: { back: {} } },
      { name: 'db', own: true, on: db },
    ],
    networks,
  )
const plan = (one: WireOrder) => planNetworks(one, AROUND)
const addressesOf = (one: NetworkPlan) => one.networks.flatMap((n) => n.members.map((m) => m.address))

test('the same order has the same prefixes, addresses, MACs and names of links; another owner or instance has others', () => {
  assert.deepEqual(plan(stack(1)), plan(stack(1)))
  const [one, other] = [plan(stack(1)), plan(stack(2))]
  const prefixes = [one, other].map((p) => p.networks.map((n) => formatPrefix(n.prefix)).join())
  assert.notEqual(prefixes[0], prefixes[1])
  assert.notEqual(one.scope, other.scope)
  const ofAnotherInstance = plan({ ...stack(1), instance: 'i-later' })
  assert.deepEqual(ofAnotherInstance.networks[0]?.prefix, one.networks[0]?.prefix, 'the network is the client’s')
  assert.ok(!addressesOf(ofAnotherInstance).some((address) => addressesOf(one).includes(address)))
})

test('a plan for any order is one that the wiring takes: names fit, prefixes and addresses are apart', () => {
  const names = fc.uniqueArray(label, { minLength: 2, maxLength: 8 })
  fc.assert(
    fc.property(names, names, fc.nat(), (services, networks, n) => {
      const [entry, ...rest] = services
      const on = Object.fromEntries(networks.map((name) => [name, {}]))
      const all = [{ name: entry ?? 'web', on }, ...rest.map((name) => ({ name, own: true, on }))]
      const made = plan(order(n, all, on))
      const share = parseShare({
        pid: 1,
        scope: made.scope,
        networks: made.networks.map(({ bridge, prefix, members }) => {
          return { bridge, prefixLength: prefix.length, members: members.map((m) => ({ ...m, pid: 1 })) }
        }),
      })
      assert.equal(share.networks.length, networks.length)
      const interfaces = made.networks.map((network) => network.members[0]?.interface ?? '')
      assert.equal(new Set(interfaces).size, networks.length)
      for (const [at, { prefix, members }] of made.networks.entries()) {
        assert.ok(contains(parsePrefix('fd00::/8'), prefix.base) && prefix.length === 64)
        assert.ok(made.networks.every((other, n) => n === at || !overlap(other.prefix, prefix)))
        assert.ok(members.every((m) => contains(prefix, m.address) && m.address !== prefix.base))
        assert.equal(new Set(members.map((m) => m.address)).size, services.length)
        assert.equal(new Set(members.map((m) => m.mac)).size, services.length)
      }
    }),
    { numRuns: 100 },
  )
})

test('a derived prefix that would hide something is passed over for the next', () => {
  const first = plan(stack(1)).networks[0]?.prefix ?? assert.fail()
  const around = { ...AROUND, instances: first }
  const second = planNetworks(stack(1), around).networks[0]?.prefix ?? assert.fail()
  assert.ok(!overlap(first, second))
  assert.deepEqual(planNetworks(stack(1), around).networks[0]?.prefix, second)
  const taken = stack(1, { back: {}, given: { prefix: formatPrefix(first) } })
  assert.deepEqual(plan(taken).networks[0]?.prefix, second)
})

test('a given prefix and a given address are used as they are; one that would hide what the instance needs is refused', () => {
  const given = plan(stack(1, { back: { prefix: 'fd12::/112' } }, { back: { address: 'FD12::0:5' } }))
  assert.equal(given.networks[0]?.members[1]?.address, 'fd12::5')
  assert.ok(contains(parsePrefix('fd12::/112'), given.networks[0]?.members[0]?.address ?? parseIpv6('::')))
  for (const prefix of ['fd00:1::/64', 'fd00:1::/48', 'fd00:c::/64', 'fd00:1:0:ffff::/64']) {
    assert.throws(
      () => plan(stack(1, { back: { prefix } })),
      (error) => error instanceof InvalidInput && error.field === 'wiring.networks.back.prefix',
      prefix,
    )
  }
})

test('addresses do not run out in the smallest prefix', () => {
  const services = Array.from({ length: 32 }, (_, n) => ({ name: `s${n}`, own: n > 0, on: { back: {} } }))
  const made = plan(order(1, services, { back: { prefix: 'fd12::/120' } }))
  assert.equal(new Set(addressesOf(made)).size, 32)
})

test('a hosts file holds those that share a network with the sandbox, under all their names, and nobody else', () => {
  const services = [
    { name: 'web', on: { front: {}, back: {} } },
    { name: 'helper', on: { back: { aliases: ['h'] } } },
    { name: 'db', own: true, on: { back: { aliases: ['database', 'sql.example'] } } },
    { name: 'cache', own: true, on: { front: {} } },
    { name: 'dark', own: true, on: {} },
  ]
  const made = plan(order(1, services, { front: {}, back: {} }))
  const [web, db] = ['', 'db'].map((sandbox) => made.networks[1]?.members.find((m) => m.sandbox === sandbox)?.address)
  assert.equal(
    hostsFile(made, 'db'),
    [
      '127.0.0.1 localhost',
      '::1 localhost ip6-localhost ip6-loopback',
      `${web} web helper h web.back.internal helper.back.internal h.back.internal`,
      `${db} db database sql.example db.back.internal database.back.internal`,
      '',
    ].join('\n'),
  )
  assert.match(hostsFile(made, '') ?? '', / cache cache\.front\.internal\n/)
  assert.doesNotMatch(hostsFile(made, 'cache') ?? '', /\bdb\b/)
  assert.equal(hostsFile(made, 'dark'), null)
  assert.match(
    hostsFile(made, 'dark', [{ name: 'nas', address: '192.0.2.7' }]) ?? '',
    / localhost .*\n192\.0\.2\.7 nas\n$/,
  )
  assert.equal(hostsFile(plan(order(1, [{ name: 'web', on: {} }], {})), ''), null)
})

test('what cannot go together is told by path, all of it at once', () => {
  const faults = (services: readonly object[], networks: Networks) =>
    networkFaults(services as never, networks, (s) => ['services', s.name]).map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    )
  const own = { sandbox: 'own' }
  assert.deepEqual(faults([{ name: 'web', networks: { a: {} } }], { a: {} }), [])
  assert.match(faults([{ name: 'web', ...own }], {}).join(), /^services\.web\.sandbox: the first service/)
  assert.match(
    faults([{ name: 'web', networks: { b: {} } }], { a: {} }).join(),
    /^services\.web\.networks\.b: there is no/,
  )
  const refused: Record<string, RegExp> = {
    'fd00::1/64': /bits set below its length/,
    '10.0.0.0/8': /expected an IPv6/,
    'fd00::/40': /expected a length of 48 to 120/,
    'fd00::/127': /expected a length of 48 to 120/,
    '2001:db8::/64': /unique local/,
    nonsense: /expected an IPv6 prefix/,
  }
  for (const [prefix, expected] of Object.entries(refused)) {
    assert.match(faults([], { a: { prefix } }).join(), expected)
    assert.match(faults([], { a: { prefix } }).join(), /^wiring\.networks\.a\.prefix: (?!prefix:)/)
  }
  assert.match(
    faults([], { a: { prefix: 'fd01::/48' }, b: { prefix: 'fd01:0:0:1::/64' } }).join(),
    /not overlap that of a/,
  )
  const at = (address: string, more: object[] = [], prefix: string | undefined = 'fd01::/64') =>
    faults([{ name: 'web', networks: { a: { address } } }, ...more], {
      a: prefix === undefined ? {} : { prefix },
    }).join()
  assert.equal(at('fd01::5'), '')
  assert.match(
    at('fd01::'),
    /^services\.web\.networks\.a\.address: expected an address of fd01::\/64, and not its first/,
  )
  assert.match(at('fd02::1'), /expected an address of/)
  assert.match(at('web'), /expected an IPv6 address/)
  assert.match(
    faults([{ name: 'web', networks: { a: { address: 'fd01::5' } } }], { a: {} }).join(),
    /only in a network whose prefix/,
  )
  const other = (address: string, more: object = own) => [{ name: 'db', ...more, networks: { a: { address } } }]
  assert.match(
    at('fd01::5', other('fd01:0::5')),
    /^services\.db\.networks\.a\.address: another service has this address/,
  )
  assert.equal(at('fd01::5', other('fd01::5', {})), '', 'services that share a sandbox share the address')
  assert.match(at('fd01::5', other('fd01::6', {})), /share its address, fd01::5/)
})

test('the rules name every member, and nothing that could be more than a name', () => {
  const made = plan(stack(1))
  const networks = made.networks.map(({ bridge, prefix, members }) => {
    return { bridge, prefixLength: prefix.length, members: members.map((m) => ({ ...m, pid: 1 })) }
  })
  const share = { pid: 1, scope: made.scope, networks }
  for (const { port, mac, address } of networks.flatMap((network) => network.members)) {
    assert.ok(guardRules(share).includes(`"${port}" . ${mac} . ${address}`))
  }
  const [network] = networks
  const [member] = network?.members ?? []
  assert.ok(network && member)
  const evil = '"; flush ruleset; #'
  for (const change of [{ port: evil }, { mac: evil }, { address: evil }, { interface: evil }, { pid: '1' }]) {
    const bad = { ...share, networks: [{ ...network, members: [{ ...member, ...change }] }] }
    assert.throws(() => parseShare(bad as never), InvalidInput)
  }
  assert.throws(() => parseShare({ ...share, scope: evil }), InvalidInput)
  assert.throws(() => parseShare({ ...share, networks: [network, network] }), /expected each port once/)
  for (const nonsense of [null, 1, 'x', [], {}]) assert.throws(() => parseShare(nonsense as never), InvalidInput)
})
