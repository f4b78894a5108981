import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import type { Policy } from '../../common/wiring-policy.ts'
import { type Change, Contents } from '../../unionize/wiring/firewall/contents.ts'
import type { Path } from '../../unionize/wiring/firewall/paths.ts'
import { readContents } from '../../unionize/wiring/firewall/reading.ts'
import { baseRules } from '../../unionize/wiring/firewall/ruleset.ts'
import type { Way } from '../../unionize/wiring/wiring.ts'

/**
 * Sets and chains that behave as the kernel's: removing what is not there, giving a key another value, leading to a chain
 * that is missing or removing one that is led to, is an error. A limit given anew would be left as it is: an error too.
 */
class KernelSets {
  readonly sets = new Map<string, Set<string>>()
  readonly chains = new Set<string>()

  run(commands: readonly string[]): void {
    for (const command of commands) {
      const [, verb = '', kind = '', name = '', rest = ''] =
        /^(add|delete|flush) (element|set|chain|rule) (inet unionize \w+|bridge unionize \w+) ?(.*)$/.exec(command) ??
        []
      if (kind === 'element') this.#elements(verb, name, rest.replace(/^\{ | \}$/g, '').split(', '))
      else if (kind === 'chain' && verb === 'delete') {
        const chain = name.replace(/.* /, '')
        const leading = [...this.sets.values()].some((set) => [...set].some((text) => text.endsWith(` jump ${chain}`)))
        assert.ok(this.chains.delete(name) && !leading, `${name} may go`)
      } else if (kind === 'chain' && verb === 'add') this.chains.add(name)
      else if (kind === 'set' && verb === 'delete') assert.ok(this.sets.delete(name), `${name} is there`)
      else assert.ok(['set', 'rule', 'chain'].includes(kind), command)
    }
  }

  #elements(verb: string, set: string, list: readonly string[]): void {
    const elements = this.sets.get(set) ?? new Set<string>()
    this.sets.set(set, elements)
    const keyOf = (element: string) => element.split(/ : | limit /)[0]
    for (const element of list) {
      if (verb === 'delete') assert.ok(elements.delete(element), `${element} is in ${set}`)
      else {
        const key = keyOf(element)
        const other = [...elements].find((found) => keyOf(found) === key)
        assert.ok(other === undefined || other === element, `${key} is ${other}, not ${element}`)
        const chain = / : jump (\w+)$/.exec(element)?.[1]
        const known = chain === undefined || chain === 'egress_internet' || this.chains.has(`inet unionize ${chain}`)
        assert.ok(known, `${chain} is there`)
        elements.add(element)
      }
    }
  }

  of(set: string): string[] {
    return [...(this.sets.get(set) ?? [])].sort()
  }
}

const owner = fc.constantFrom('fd00:c::1', 'fd00:c::2', 'fd00:c::3')
const instance = fc.constantFrom('fd00:1::1', 'fd00:1::2', 'fd00:1::3')
const passage = fc.record(
  { owner, instance, ownerVia: fc.constantFrom('fd00:9::1', 'fd00:9::2') },
  { requiredKeys: ['owner', 'instance'] },
)
const way: fc.Arbitrary<Way> = fc.record({
  owner,
  address: instance,
  reach: fc.constantFrom<Way['reach']>(
    { kind: 'routed', via: 'fd00:9::1' },
    { kind: 'routed', via: 'fd00:9::2' },
    { kind: 'translated', address: '2001:db8::1' },
    { kind: 'translated', address: '2001:db8::2', from: '2001:db8:1::1' },
  ),
})
const path = fc.oneof(passage, way)
const link = fc.constantFrom('ui-1', 'ui-2')
const mac = fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02')
const policy = fc.constantFrom<Policy | undefined>(
  undefined,
  { public: [{ protocol: 'tcp', port: 80 }], egress: 'none', limits: { packets: 7, upload: 8000 } },
  { public: [{ protocol: 'tcp', port: 80 }], egress: 'internet', limits: { connections: 9 } },
  { public: [{ protocol: 'udp', port: 53, last: 55 }], egress: ['2600::/32'], limits: { download: 8000 } },
  { public: [], egress: ['2600::/32'], limits: {} },
)
const guard = fc.tuple(link, fc.option(fc.tuple(mac, instance, policy), { nil: null })).map(([name, source]) => ({
  link: name,
  sources:
    source === null
      ? []
      : [{ link: name, mac: source[0], address: source[1], ...(source[2] && { policy: source[2] }) }],
}))
const change: fc.Arbitrary<Change> = fc.record(
  {
    open: fc.array(path, { maxLength: 2 }),
    keep: fc.array(path, { maxLength: 2 }),
    close: fc.array(path, { maxLength: 2 }),
    guard,
  },
  { requiredKeys: [] },
)

describe('the contents of the firewall', () => {
  it('stay in step with the kernel through any changes, each owner led to the instance here or elsewhere that was opened last', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        const contents = new Contents([], [])
        const kernel = new KernelSets()
        const open = new Map<string, Path[]>()
        const keyOf = (p: object) => ('instance' in p ? `here ${p.instance}` : `elsewhere ${(p as Way).address}`)
        for (const step of changes) {
          const before = contents.hops()
          const plan = contents.plan(step)
          kernel.run(plan.commands)
          plan.commit()
          const without = (p: { owner: string }) => (open.get(p.owner) ?? []).filter((o) => keyOf(o) !== keyOf(p))
          for (const p of step.close ?? []) open.set(p.owner, without(p))
          for (const p of step.open ?? []) open.set(p.owner, [...without(p), p])
          for (const p of step.keep ?? []) {
            if (!open.get(p.owner)?.some((o) => isDeepStrictEqual(o, p))) open.set(p.owner, [...without(p), p])
          }
          const after = contents.hops()
          for (const to of new Set([...before.keys(), ...after.keys()])) {
            if (before.get(to) !== after.get(to))
              assert.ok(plan.rerouted.includes(to), `${to} is told to be routed anew`)
          }
        }
        const all = [...open.values()].flat()
        const ways = all.filter((p) => 'reach' in p)
        const passages = all.filter((p) => !('reach' in p))
        const sorted = (list: string[]) => [...new Set(list)].sort()
        const target = (p: Path) =>
          'instance' in p ? p.instance : p.reach.kind === 'routed' ? p.address : p.reach.address
        assert.deepEqual(kernel.of('inet unionize passages'), sorted(passages.map((p) => `${p.owner} . ${target(p)}`)))
        assert.deepEqual(kernel.of('inet unionize ways'), sorted(ways.map((p) => `${p.owner} . ${target(p)}`)))
        const targetsOf = (kind: string) => sorted(ways.filter(({ reach }) => reach.kind === kind).map(target))
        assert.deepEqual(kernel.of('inet unionize elsewhere'), targetsOf('routed'))
        assert.deepEqual(kernel.of('inet unionize outside'), targetsOf('translated'))
        const leads = [...open]
          .flatMap(([from, list]) => list.slice(-1).map((last) => `${from} : ${target(last)}`))
          .sort()
        assert.deepEqual(kernel.of('inet unionize mine'), leads)
        const routed = ways.flatMap((p) => (p.reach.kind === 'routed' ? [p.address] : []))
        const back = passages.flatMap((p) => ('ownerVia' in p ? [p.owner] : []))
        assert.deepEqual([...contents.hops().keys()].sort(), sorted([...routed, ...back]))
        const again = new KernelSets()
        again.run(contents.additions())
        for (const set of kernel.sets.keys()) assert.deepEqual(again.of(set), kernel.of(set))
        assert.deepEqual([...again.chains].sort(), [...kernel.chains].sort())
      }),
      { numRuns: 500 },
    )
  })

  it('a path that is kept has my.instance when it is new or another one; when it is there just so, the last still has it', () => {
    const contents = new Contents([], [])
    const kernel = new KernelSets()
    const plan = (step: Change) => {
      const { commands, commit } = contents.plan(step)
      kernel.run(commands)
      commit()
      return kernel.of('inet unionize mine').map((text) => text.replace(/.* : /, ''))
    }
    const first = { owner: 'fd00:c::1', instance: 'fd00:1::1' }
    const second = { owner: 'fd00:c::1', instance: 'fd00:1::2' }
    assert.deepEqual(plan({ keep: [first] }), ['fd00:1::1'])
    assert.deepEqual(plan({ keep: [second] }), ['fd00:1::2'])
    assert.deepEqual(plan({ keep: [first] }), ['fd00:1::2'])
    kernel.sets.get('inet unionize passages')?.clear()
    plan({ keep: [first] })
    assert.deepEqual(kernel.of('inet unionize passages'), ['fd00:c::1 . fd00:1::1'], 'someone had taken it away')
    assert.deepEqual(plan({ keep: [{ ...first, ownerVia: 'fd00:9::1' }] }), ['fd00:1::1'])
    assert.deepEqual(plan({ open: [second] }), ['fd00:1::2'])
  })

  it('nothing is opened that the plan was not committed for', () => {
    const contents = new Contents([], [])
    contents.plan({ open: [{ owner: 'fd00:c::1', instance: 'fd00:1::1' }] })
    assert.deepEqual(contents.additions(), [])
  })

  it('know who has an address and who may reach it', () => {
    const source = { link: 'ui-1', mac: '02:00:00:00:00:01', address: 'fd00:1::1' }
    const contents = new Contents([{ owner: 'fd00:c::1', instance: 'fd00:1::1' }], [source])
    assert.equal(contents.isElsewhere('fd00:1::1', 'ui-2'), true)
    assert.equal(contents.isElsewhere('fd00:1::1', 'ui-1'), false)
    assert.deepEqual(contents.passagesTo('fd00:1::1'), [{ owner: 'fd00:c::1', instance: 'fd00:1::1' }])
    contents.plan({ guard: { link: 'ui-1', sources: [] }, close: contents.passagesTo('fd00:1::1') }).commit()
    assert.equal(contents.isElsewhere('fd00:1::1', 'ui-2'), false)
    assert.deepEqual(contents.additions(), [])
  })
})

describe('the rules', () => {
  it('name protocols by number, for systems without /etc/protocols', () => {
    const network = { bridge: 'br-instances', gateway: 'fd00:1::1', prefixLength: 64, myAddress: 'fd00:1:0:ffff::1' }
    const surroundings = { gatewayMac: '02:00:00:00:c0:02', networks: ['fd00:1::/64'] }
    const rules = baseRules(network, surroundings).replaceAll(/ : goto \w+/g, '')
    const operands = /(?:l4proto|nexthdr(?! \.)) (?:vmap )?(\{[^}]*\}|\S+)/g
    const protocols = [...rules.matchAll(operands)].map((match) => match[1])
    assert.ok(protocols.length > 0)
    for (const protocol of protocols) assert.match(protocol ?? '', /^[\d{}., ]+$/)
  })
})

describe('what the kernel holds', () => {
  it('is read back however libnftables lists the prefixes that somebody may reach', () => {
    const chain = 'egress_1'
    const lists: Record<string, unknown> = {
      'set bridge unionize sources': [{ concat: ['ui-a', '02:00:00:00:00:01', 'fd00:1::5'] }],
      'map inet unionize egress': [['fd00:1::5', { jump: { target: chain } }]],
      [`set inet unionize ${chain}`]: [
        '2001:db8::1',
        { prefix: { addr: '2001:db8:1::', len: 48 } },
        { range: ['ff00::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'] },
      ],
    }
    const list = (command: string) => ({ nftables: [{ set: { elem: lists[command.replace(/^list /, '')] ?? [] } }] })
    const read = readContents(list).holders()
    assert.deepEqual(
      read.map(({ policy }) => policy?.egress),
      [['2001:db8::1/128', '2001:db8:1::/48', 'ff00::/8']],
    )
    lists[`set inet unionize ${chain}`] = [{ range: ['::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'] }]
    assert.deepEqual(readContents(list).holders()[0]?.policy?.egress, ['::/0'])
  })
})
