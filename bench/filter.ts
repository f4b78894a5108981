import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Policy } from '../common/wiring-policy.ts'
import type { Passage, Source, Wiring } from '../unionize/wiring/wiring.ts'
import { type Summary, summarize, table } from './statistics.ts'
import { compile, enterOwnNamespaces, NETWORK, run, type Sandbox, WireLab } from './wire-lab.ts'
import { ours } from './wire-subjects.ts'

const usage = `npm run bench:filter [-- OPTIONS]

Packets a second through the bridge, the router and our firewall tables, with the rules of 1, 100 and 10,000 instances in
turn in one run, and without any table. Always 10,000 connections of UDP, evenly over the instances that there are, from
owners to instances and back; frames from a program that sends as fast as one core can, counted where they arrive.

--rounds N   counted rounds (20)
--ms N       milliseconds of sending each time (200)
--json FILE  write the figures there
`
const WARM_UP = 2
const CONNECTIONS = 10_000
const CASES = [0, 1, 100, 10_000] as const
const OWNERS = { first: 'fd00:c:1::', route: 'fd00:c:1::/96' }
const INSTANCES = { first: 'fd00:1::3:0', route: 'fd00:1::3:0/112' }
const PORTS = { owner: 20_000, instance: 9 }
/** Addresses from which the one real link sends. */
const SENDERS = 1_000
/** Above what one core can send. */
const OPEN: Policy = { public: [], egress: 'none', limits: { packets: 10_000_000, connections: 1_000_000 } }

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '20' },
    ms: { type: 'string', default: '200' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const number = (name: 'rounds' | 'ms'): number => {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= 1) return value
  throw new Error(`--${name}: expected a number from 1, got ${values[name]}`)
}
const [rounds, milliseconds] = [number('rounds'), number('ms')]

type Direction = 'to' | 'from'

/** Thousand frames: that arrived in a second, and in a second of a processor's time. */
interface Rates {
  readonly arrived: number
  readonly forwarded: number
}

/** The owners' machine, the instances' sandbox, and the router between them. */
class Paths {
  readonly #flood: string
  readonly #client: Sandbox
  readonly #instance: Sandbox
  readonly #macs: { readonly client: string; readonly towardsClient: string; readonly bridge: string }

  constructor(lab: WireLab, client: Sandbox, instance: Sandbox) {
    this.#flood = compile('flood', lab.folder)
    this.#client = client
    this.#instance = instance
    const inside = (...args: string[]) => run('nsenter', '-n', '-t', String(client.pid), 'ip', ...args)
    run('ip', 'link', 'add', 'c0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(client.pid))
    run('ip', 'link', 'set', 'c0', 'up')
    run('ip', 'address', 'add', 'fd00:c::1/64', 'dev', 'c0', 'nodad')
    inside('link', 'set', 'eth0', 'up')
    const mac = (text: string) => (JSON.parse(text) as { address: string }[])[0]?.address ?? ''
    this.#macs = {
      client: mac(inside('-j', 'link', 'show', 'eth0')),
      towardsClient: mac(run('ip', '-j', 'link', 'show', 'c0')),
      bridge: mac(run('ip', '-j', 'link', 'show', NETWORK.bridge)),
    }
    // Many addresses behind one neighbour on either side: a table of neighbours holds 1,024.
    run('ip', 'neigh', 'replace', 'fd00:c::2', 'lladdr', this.#macs.client, 'dev', 'c0', 'nud', 'permanent')
    run('ip', 'route', 'add', OWNERS.route, 'via', 'fd00:c::2')
    run('ip', 'route', 'add', INSTANCES.route, 'via', instance.address)
  }

  /** What instances have: each a link of its own, and the first ones their addresses on the one that there really is. */
  rules(instances: number): { passages: Passage[]; sources: Source[] } {
    const hex = (n: number) => n.toString(16)
    const pair = (n: number) => hex(n).padStart(2, '0')
    const numbers = Array.from({ length: instances }, (_, i) => i)
    const { link, mac } = this.#instance
    const real = (i: number) => i < SENDERS
    return {
      passages: numbers.map((i) => ({ owner: `${OWNERS.first}${hex(i)}`, instance: `fd00:1::3:${hex(i)}` })),
      sources: numbers.flatMap((i) => {
        const address = `fd00:1::3:${hex(i)}`
        const own = { link: `ui-z${hex(i)}`, mac: `02:00:00:02:${pair(i >> 8)}:${pair(i & 255)}` }
        const elsewhere = { ...own, address: real(i) ? `fd00:1::4:${hex(i)}` : address, policy: OPEN }
        return real(i) ? [{ link, mac, address, policy: OPEN }, elsewhere] : [elsewhere]
      }),
    }
  }

  /** @throws Error when hardly any frame arrived */
  send(direction: Direction, instances: number, ms: number): Rates {
    const [sender, receiver] = direction === 'to' ? [this.#client, this.#instance] : [this.#instance, this.#client]
    const macs = direction === 'to' ? [this.#macs.client, this.#macs.towardsClient] : [sender.mac, this.#macs.bridge]
    const firsts = [OWNERS.first, INSTANCES.first]
    const ports = [PORTS.owner, PORTS.instance]
    if (direction === 'from') for (const list of [firsts, ports]) list.reverse()
    const before = arrived(receiver)
    const pairs = String(direction === 'to' ? instances : Math.min(instances, SENDERS))
    const args = ['eth0', String(ms), ...macs, ...firsts, ports.join(':'), pairs, String(CONNECTIONS)]
    const command = ['-n', '-t', String(sender.pid), this.#flood, ...args]
    const [sent = 0, elapsed = 1, worked = 1] = run('nsenter', ...command)
      .split(' ')
      .map(Number)
    const frames = arrived(receiver) - before
    if (frames < sent / 2) throw new Error(`of ${sent} frames ${direction} ${instances} instances ${frames} arrived`)
    return { arrived: (frames / elapsed) * 1e6, forwarded: (frames / worked) * 1e6 }
  }
}

function arrived(sandbox: Sandbox): number {
  const text = run('nsenter', '-n', '-t', String(sandbox.pid), 'ip', '-j', '-s', 'link', 'show', 'eth0')
  const [link] = JSON.parse(text) as { stats64: { rx: { packets: number } } }[]
  return link?.stats64.rx.packets ?? 0
}

/** The tables as they are with so many instances; 0: no table at all. */
async function load(wiring: Wiring, paths: Paths, instances: number): Promise<void> {
  if (instances === 0) {
    for (const family of ['inet', 'bridge', 'arp']) {
      execFileSync('nft', ['-f', '-'], { input: `add table ${family} unionize\ndelete table ${family} unionize\n` })
    }
    return
  }
  const { passages, sources } = paths.rules(instances)
  await wiring.replacePassages(passages, sources)
}

/** That the rules really are looked at: a stranger's frames are dropped. @throws Error */
function verifyGuarded(paths: Paths): void {
  try {
    paths.send('to', 10_000, 0)
  } catch {
    return
  }
  throw new Error('wrong result: owners without a passage got through')
}

enterOwnNamespaces()
const lab = new WireLab()
const samples = new Map<string, number[]>()
try {
  const { wiring } = await ours(lab, 1)
  const [client, instance] = await lab.sandboxes(2)
  if (client === undefined || instance === undefined) throw new Error('no sandboxes')
  await wiring.attach(instance)
  await wiring.place(instance)
  const paths = new Paths(lab, client, instance)
  for (let round = -WARM_UP; round < rounds; round++) {
    for (let i = 0; i < CASES.length; i++) {
      const instances = CASES[(i + round + WARM_UP) % CASES.length] ?? 0
      await load(wiring, paths, instances)
      if (instances === 1) verifyGuarded(paths)
      // Without tables the same connections as with most instances.
      const spread = instances === 0 ? 10_000 : instances
      // In both directions of every connection, in the same pairs: only then is it established.
      for (const pairs of [spread, Math.min(spread, SENDERS)]) paths.send('to', pairs, 0)
      paths.send('from', spread, 0)
      for (const direction of ['to', 'from'] as const) {
        const rates = paths.send(direction, spread, milliseconds)
        if (round < 0) continue
        for (const [what, rate] of Object.entries(rates)) {
          const key = `${direction === 'to' ? 'owners to instances' : 'instances to owners'}, ${what}: ${instances || 'no table'}`
          samples.set(key, [...(samples.get(key) ?? []), rate])
        }
      }
    }
    process.stderr.write(`\rround ${round + 1} of ${rounds} `)
  }
  process.stderr.write('\n')
  await wiring.stop()
} finally {
  await lab[Symbol.asyncDispose]()
}

const summaries = new Map([...samples].map(([name, list]) => [name, summarize(list)]))
const rows = [...summaries].map(([name, s]: [string, Summary]) => {
  const one = summaries.get(`${name.split(':')[0]}: 1`)?.median ?? Number.NaN
  return [name, s.n, s.median, s.least, s.most, s.median / one]
})
process.stdout.write(
  table(
    [
      'thousand packets a second, of the clock (arrived) and of a processor (forwarded)',
      'n',
      'median',
      'least',
      'most',
      'to one instance',
    ],
    rows.sort(),
  ),
)
const figures = { rounds, milliseconds, connections: CONNECTIONS, thousandPerSecond: Object.fromEntries(summaries) }
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures, null, 2)}\n`)
process.exit()
