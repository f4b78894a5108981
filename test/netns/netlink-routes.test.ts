import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  addressOf,
  deleteAddress,
  getAddresses,
  getAllAddresses,
  putAddress,
} from '../../unionize/wiring/kernel/addresses.ts'
import { createDevice } from '../../unionize/wiring/kernel/devices.ts'
import { broadcastOf, ipBytes, prefixOf } from '../../unionize/wiring/kernel/ip.ts'
import { getLink, linkOf, setUp } from '../../unionize/wiring/kernel/links.ts'
import { Namespaces, type Sandbox } from '../../unionize/wiring/kernel/namespaces.ts'
import { deleteNeighbour, getNeighbours, neighbourOf, setNeighbour } from '../../unionize/wiring/kernel/neighbours.ts'
import {
  deleteIngress,
  deleteRoot,
  getQdiscs,
  qdiscOf,
  setIngress,
  setTbf,
} from '../../unionize/wiring/kernel/queueing.ts'
import type { RouteSocket } from '../../unionize/wiring/kernel/route-socket.ts'
import {
  addRoute,
  deleteRoute,
  getRoutes,
  OUR_PROTOCOL,
  type Route,
  type RouteWish,
  routeOf,
  setRoute,
} from '../../unionize/wiring/kernel/routes.ts'
import { addRule, deleteRule, getRules, type RuleWish, ruleOf } from '../../unionize/wiring/kernel/rules.ts'

const NAME = `wt-${process.pid}-routes`
const namespaces = new Namespaces()

/** In a namespace with the interface p1, which is up and has 10.9.0.1/24 and fd09::1/64. */
function inside<T>(work: (route: RouteSocket, index: number, sandbox: Sandbox) => T): T {
  return namespaces.visit({ path: `/run/netns/${NAME}` }, (sandbox) => {
    const { route } = sandbox
    const [, , found] = route.ask(
      {
        purpose: 'make a pair',
        bytes: createDevice({ name: 'p1', device: { kind: 'veth', peer: { name: 'p0' } } }),
        fine: ['EEXIST'],
      },
      { purpose: 'set p0 up', bytes: setUp('p0') },
      { purpose: 'read p1', bytes: getLink('p1') },
    )
    const [message] = found?.messages ?? []
    assert.ok(message)
    const { index } = linkOf(message)
    route.ask(
      { purpose: 'set p1 up', bytes: setUp(index) },
      { purpose: 'give it an address', bytes: putAddress({ index, ...prefixOf('10.9.0.1/24') }) },
      { purpose: 'give it an address', bytes: putAddress({ index, ...prefixOf('fd09::1/64') }) },
    )
    return work(route, index, sandbox)
  })
}

function ip(...words: string[]): string {
  return execFileSync('ip', ['-n', NAME, ...words], { encoding: 'utf8' })
}

beforeEach(() => {
  execFileSync('ip', ['netns', 'add', NAME])
})
afterEach(() => {
  spawnSync('ip', ['netns', 'delete', NAME])
})

describe('addresses', () => {
  const addresses = (route: RouteSocket, index: number) =>
    (['ipv4', 'ipv6'] as const)
      .flatMap((family) => route.dump({ purpose: 'read', bytes: getAddresses(index, family) }).map(addressOf))
      .filter(({ scope }) => scope === 0)

  it('of both families are given, told with lifetime, label and broadcast, and taken', () =>
    inside((route, index) => {
      const wish = { index, ...prefixOf('10.1.1.5/24'), validSeconds: 3600, preferredSeconds: 1800 }
      const broadcast = broadcastOf(wish.address, 24)
      route.ask(
        { purpose: 'put', bytes: putAddress({ ...wish, label: 'p1:0', broadcast }) },
        { purpose: 'put', bytes: putAddress({ index, ...prefixOf('fd00::5/64'), protocol: OUR_PROTOCOL }) },
      )
      const found = addresses(route, index)
      const v4 = found.find(({ address }) => address === '10.1.1.5')
      assert.ok(v4?.validSeconds && v4.validSeconds > 3590 && v4.validSeconds <= 3600)
      assert.ok(v4.preferredSeconds && v4.preferredSeconds > 1790 && v4.preferredSeconds <= 1800)
      assert.deepEqual([v4.family, v4.prefixLength, v4.label, v4.dynamic], ['ipv4', 24, 'p1:0', true])
      assert.match(ip('-4', 'address', 'show', 'dev', 'p1'), /10\.1\.1\.5\/24 brd 10\.1\.1\.255/)
      const v6 = found.find(({ address }) => address === 'fd00::5')
      assert.deepEqual(
        [v6?.family, v6?.prefixLength, v6?.tentative, v6?.dynamic, v6?.validSeconds, v6?.protocol],
        ['ipv6', 64, false, false, null, OUR_PROTOCOL],
      )
      route.ask(
        { purpose: 'take', bytes: deleteAddress(index, ipBytes('10.1.1.5'), 24) },
        { purpose: 'take', bytes: deleteAddress(index, ipBytes('fd00::5'), 64) },
      )
      assert.deepEqual(
        addresses(route, index).map(({ address }) => address),
        ['10.9.0.1', 'fd09::1'],
      )
    }))

  it('that are there get new lifetimes, and may become lasting', () =>
    inside((route, index) => {
      for (const text of ['10.1.1.5/24', 'fd00::5/64']) {
        const wish = { index, ...prefixOf(text) }
        for (const seconds of [100, 200]) {
          route.ask({ purpose: 'put', bytes: putAddress({ ...wish, validSeconds: seconds }) })
          const [found] = addresses(route, index).filter(({ validSeconds }) => validSeconds !== null)
          assert.ok(found?.validSeconds && found.validSeconds > seconds - 10 && found.validSeconds <= seconds, text)
          assert.equal(found.preferredSeconds, found.validSeconds)
        }
        route.ask({ purpose: 'put', bytes: putAddress(wish) })
      }
      assert.deepEqual(
        addresses(route, index).map(({ dynamic }) => dynamic),
        [false, false, false, false],
      )
    }))

  it('make no route to their prefix where none is wanted, and are tentative where duplicates are looked for', () =>
    inside((route, index) => {
      route.ask(
        { purpose: 'put', bytes: putAddress({ index, ...prefixOf('10.1.1.5/24'), noPrefixRoute: true }) },
        {
          purpose: 'put',
          bytes: putAddress({ index, ...prefixOf('fd00::5/64'), noPrefixRoute: true, detectDuplicates: true }),
        },
      )
      const all = route.dump({ purpose: 'read', bytes: getAllAddresses() }).map(addressOf)
      assert.equal(all.find(({ address }) => address === 'fd00::5')?.tentative, true)
      assert.equal(all.find(({ address }) => address === 'fd09::1')?.tentative, false)
      const to = (['ipv4', 'ipv6'] as const).flatMap((family) =>
        route.dump({ purpose: 'read', bytes: getRoutes(family) }).map((message) => routeOf(message).to),
      )
      assert.deepEqual([to.includes('10.1.1.0/24'), to.includes('fd00::/64')], [false, false])
      assert.deepEqual([to.includes('10.9.0.0/24'), to.includes('fd09::/64')], [true, true])
    }))

  it('that the kernel does not want are refused in one sentence', () =>
    inside((route, index) => {
      assert.throws(
        () =>
          route.ask({
            interface: 'p1',
            purpose: 'give it ff02::1/64',
            bytes: putAddress({ index, ...prefixOf('ff02::1/64') }),
          }),
        { code: 'kernel-refused', message: /^p1: cannot give it ff02::1\/64 \(E[A-Z]+(: .+)?\)$/ },
      )
    }))
})

describe('routes', () => {
  const wishes = (index: number): readonly (readonly [RouteWish, Partial<Route>])[] => [
    [
      { family: 'ipv4', to: prefixOf('10.5.0.0/16'), via: ipBytes('10.9.0.2'), index, metric: 7 },
      { to: '10.5.0.0/16', via: '10.9.0.2', metric: 7, table: 254 },
    ],
    [
      { family: 'ipv4', to: null, via: ipBytes('10.9.0.2'), index },
      { to: '0.0.0.0/0', via: '10.9.0.2', metric: 0 },
    ],
    [
      { family: 'ipv4', to: prefixOf('10.6.0.0/16'), index, table: 1000, source: ipBytes('10.9.0.1'), mtu: 1400 },
      { to: '10.6.0.0/16', via: null, table: 1000, source: '10.9.0.1', mtu: 1400, scope: 253 },
    ],
    [
      { family: 'ipv4', to: prefixOf('10.7.0.0/16'), via: ipBytes('192.168.1.1'), index, onlink: true },
      { to: '10.7.0.0/16', via: '192.168.1.1', onlink: true },
    ],
    [
      { family: 'ipv4', to: prefixOf('10.8.0.0/16'), via: ipBytes('fd09::2'), index },
      { to: '10.8.0.0/16', via: 'fd09::2' },
    ],
    [
      { family: 'ipv6', to: null, via: ipBytes('fd09::2'), index, mtu: 1400, source: ipBytes('fd09::1') },
      { to: '::/0', via: 'fd09::2', metric: 1024, mtu: 1400, source: 'fd09::1' },
    ],
    [
      { family: 'ipv6', to: prefixOf('fd05::/64'), index, table: 100, metric: 7 },
      { to: 'fd05::/64', via: null, table: 100, metric: 7 },
    ],
    [
      { family: 'ipv6', to: prefixOf('fd06::/64'), via: ipBytes('fd99::1'), index, onlink: true },
      { to: 'fd06::/64', via: 'fd99::1', onlink: true },
    ],
  ]
  const ours = (route: RouteSocket) =>
    (['ipv4', 'ipv6'] as const)
      .flatMap((family) => route.dump({ purpose: 'read', bytes: getRoutes(family) }).map(routeOf))
      .filter(({ protocol }) => protocol === OUR_PROTOCOL)

  it('are made, told as they were wished, not made twice, and removed', () =>
    inside((route, index) => {
      const wanted = wishes(index)
      for (let round = 0; round < 2; round++) {
        route.ask(...wanted.map(([wish]) => ({ purpose: 'set a route', bytes: setRoute(wish) })))
        const found = ours(route)
        assert.equal(found.length, wanted.length)
        for (const [wish, expected] of wanted) {
          const told = found.find(({ to }) => to === expected.to)
          assert.ok(told, expected.to)
          assert.deepEqual({ ...told, ...expected, index, family: wish.family, type: 1 }, told)
        }
      }
      for (const [wish] of wanted) {
        assert.throws(() => route.ask({ purpose: 'add a route', bytes: addRoute(wish) }), { errno: 'EEXIST' })
      }
      route.ask(...wanted.map(([wish]) => ({ purpose: 'remove a route', bytes: deleteRoute(wish) })))
      assert.deepEqual(ours(route), [])
      for (const [wish] of wanted) {
        assert.throws(() => route.ask({ purpose: 'remove a route', bytes: deleteRoute(wish) }), { errno: 'ESRCH' })
      }
    }))

  it('of others are not removed', () =>
    inside((route, index) => {
      ip('route', 'add', '10.5.0.0/16', 'via', '10.9.0.2', 'proto', 'static')
      ip('route', 'add', 'fd05::/64', 'via', 'fd09::2', 'proto', 'static')
      for (const [to, via] of [
        ['10.5.0.0/16', '10.9.0.2'],
        ['fd05::/64', 'fd09::2'],
      ] as const) {
        const family = to.includes(':') ? 'ipv6' : 'ipv4'
        const bytes = deleteRoute({ family, to: prefixOf(to), via: ipBytes(via), index })
        assert.throws(() => route.ask({ purpose: 'remove a route', bytes }), { errno: 'ESRCH' })
      }
    }))

  it('through a gateway that is not on the link are refused with the reason of the kernel', () =>
    inside((route, index) => {
      const wish: RouteWish = { family: 'ipv4', to: null, via: ipBytes('192.168.1.1'), index }
      assert.throws(() => route.ask({ interface: 'p1', purpose: 'route through 192.168.1.1', bytes: setRoute(wish) }), {
        message: 'p1: cannot route through 192.168.1.1 (ENETUNREACH: Nexthop has invalid gateway)',
      })
    }))
})

describe('rules of the routing policy', () => {
  it('are added once, told as they were wished, and removed; those of others stay', () =>
    inside((route) => {
      const wishes: readonly RuleWish[] = [
        {
          family: 'ipv4',
          from: prefixOf('10.1.0.0/16'),
          to: prefixOf('10.2.0.0/16'),
          incoming: 'p1',
          mark: 5,
          table: 100,
          priority: 77,
        },
        { family: 'ipv6', from: prefixOf('fd00::/64'), outgoing: 'p1', table: 1000, priority: 78 },
      ]
      const rules = () =>
        (['ipv4', 'ipv6'] as const)
          .flatMap((family) => route.dump({ purpose: 'read', bytes: getRules(family) }).map(ruleOf))
          .filter(({ priority }) => priority > 0 && priority < 32766)
      ip('rule', 'add', 'from', '10.3.0.0/16', 'table', '100', 'priority', '79')
      route.ask(...wishes.map((wish) => ({ purpose: 'add a rule', bytes: addRule(wish) })))
      const [first, others, second] = rules()
      const nothing = {
        from: null,
        to: null,
        incoming: null,
        outgoing: null,
        mark: null,
        suppressPrefixLength: null,
        plain: true,
      }
      assert.deepEqual(first, {
        ...nothing,
        family: 'ipv4',
        from: '10.1.0.0/16',
        to: '10.2.0.0/16',
        incoming: 'p1',
        mark: 5,
        table: 100,
        priority: 77,
        protocol: OUR_PROTOCOL,
      })
      assert.notEqual(others?.protocol, OUR_PROTOCOL)
      assert.deepEqual(second, {
        ...nothing,
        family: 'ipv6',
        from: 'fd00::/64',
        outgoing: 'p1',
        table: 1000,
        priority: 78,
        protocol: OUR_PROTOCOL,
      })
      for (const wish of wishes) {
        assert.throws(() => route.ask({ purpose: 'add a rule', bytes: addRule(wish) }), { errno: 'EEXIST' })
        route.ask({ purpose: 'remove a rule', bytes: deleteRule(wish) })
        assert.throws(() => route.ask({ purpose: 'remove a rule', bytes: deleteRule(wish) }), { errno: 'ENOENT' })
      }
      assert.deepEqual(
        rules().map(({ from }) => from),
        ['10.3.0.0/16'],
      )
    }))
})

describe('neighbours', () => {
  it('of both families are set, told and forgotten', () =>
    inside((route, index) => {
      const neighbours = () =>
        (['ipv4', 'ipv6'] as const)
          .flatMap((family) => route.dump({ purpose: 'read', bytes: getNeighbours(family) }).map(neighbourOf))
          .filter((found) => found?.index === index && found.permanent)
      for (const address of ['10.9.0.9', 'fd09::9'].map(ipBytes)) {
        route.ask({ purpose: 'set', bytes: setNeighbour(index, address, '02:00:00:00:00:09') })
      }
      assert.deepEqual(
        neighbours().map((found) => [found?.address, found?.mac]),
        [
          ['10.9.0.9', '02:00:00:00:00:09'],
          ['fd09::9', '02:00:00:00:00:09'],
        ],
      )
      for (const address of ['10.9.0.9', 'fd09::9'].map(ipBytes)) {
        route.ask({ purpose: 'forget', bytes: deleteNeighbour(index, address) })
      }
      assert.deepEqual(neighbours(), [])
    }))
})

describe('queues', () => {
  const queues = (route: RouteSocket, index: number) =>
    route
      .dump({ purpose: 'read', bytes: getQdiscs(index) })
      .map(qdiscOf)
      .filter((found) => found.index === index)

  it('limit a rate, told as it was wished up to rounding, change it in place, and are removed', () =>
    inside((route, index) => {
      for (const [rate, burst, latencyMs] of [
        [10e6, 15_000, 50],
        [512e3, 2000, 12.5],
        [40e9, 10_000_000, 5],
      ] as const) {
        route.ask({ purpose: 'limit', bytes: setTbf(index, { rate, burst, latencyMs }) })
        const [root] = queues(route, index).filter((found) => found.root)
        assert.equal(root?.kind, 'tbf')
        assert.equal(root.tbf?.rate, rate)
        assert.ok(Math.abs((root.tbf?.burst ?? 0) - burst) <= burst * 0.001, `${root.tbf?.burst}`)
        assert.ok(Math.abs((root.tbf?.latencyMs ?? 0) - latencyMs) < 0.1, `${root.tbf?.latencyMs}`)
      }
      route.ask({ purpose: 'free', bytes: deleteRoot(index) })
      assert.deepEqual(
        queues(route, index).filter((found) => found.root),
        [],
      )
      assert.throws(() => route.ask({ purpose: 'free', bytes: deleteRoot(index) }), { errno: /^(ENOENT|EINVAL)$/ })
    }))

  it('look at what comes in where that is wanted', () =>
    inside((route, index) => {
      route.ask({ purpose: 'look', bytes: setIngress(index) })
      assert.ok(queues(route, index).some(({ kind }) => kind === 'ingress'))
      assert.throws(() => route.ask({ purpose: 'look', bytes: setIngress(index) }), { errno: 'EEXIST' })
      route.ask({ purpose: 'look away', bytes: deleteIngress(index) })
      assert.ok(!queues(route, index).some(({ kind }) => kind === 'ingress'))
      assert.throws(() => route.ask({ purpose: 'look away', bytes: deleteIngress(index) }), {
        errno: /^(ENOENT|EINVAL)$/,
      })
    }))

  it('count time in ticks of 64 ns, as this kernel says it does', () => {
    const [nanosecondsPerUnit, unitsPerTick] = readFileSync('/proc/net/psched', 'utf8')
      .split(' ')
      .map((hex) => Number.parseInt(hex, 16))
    assert.deepEqual([nanosecondsPerUnit, unitsPerTick], [1000, 64])
  })
})
