import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import type { Target } from '../../unionize/wiring/interfaces/interfaces.ts'
import { hostEndName } from '../../unionize/wiring/interfaces/names.ts'
import { type EngineProcess, InterfacesLab, type Observer, type Wish } from '../support/interfaces-lab.ts'

/**
 * Sequences in all, and the seed: `WIRING_SEQUENCES=100 WIRING_SEED=42`. The same seed unless told, so that a change is not
 * refused for what it has not done; the moments of the kills are others each time. Other seeds find other things.
 */
const SEQUENCES = Number(process.env['WIRING_SEQUENCES'] ?? 2000)
const SEED = Number(process.env['WIRING_SEED'] ?? 864_807)
/** Hosts of their own, side by side. */
const LABS = 3

/** When a process is killed amid a call: so many milliseconds after it began, or before one of its steps. */
type Kill = { readonly afterMs: number } | { readonly beforeStep: number } | null
type Command =
  | { readonly verb: 'wire'; readonly target: number; readonly wishes: readonly Wish[]; readonly kill: Kill }
  | { readonly verb: 'unwire'; readonly target: number; readonly names: readonly string[]; readonly kill: Kill }

const NAMES: readonly string[] = ['eth0', 'eth1', 'nic0']
/** Stands for the namespace that pairs lead to other than the host. */
const FAR = 'FAR'
/** What is left of an Ethernet frame's payload in a VXLAN over IPv4 (RFC 7348, 5). */
const VXLAN_MTU = 1450

const commands: fc.Arbitrary<Command[]> = fc.array(command(), { minLength: 1, maxLength: 4 })

function command(): fc.Arbitrary<Command> {
  const target = fc.nat({ max: 1 })
  const kill: fc.Arbitrary<Kill> = fc.oneof(
    { arbitrary: fc.constant(null), weight: 6 },
    { arbitrary: fc.record({ afterMs: fc.nat({ max: 12 }) }), weight: 1 },
    { arbitrary: fc.record({ beforeStep: fc.nat({ max: 16 }) }), weight: 1 },
  )
  const wishes = fc.subarray([...NAMES], { minLength: 1 }).chain((names) => fc.tuple(...names.map(wish)))
  const names = fc.oneof(fc.constant([]), fc.subarray([...NAMES], { minLength: 1 }))
  return fc.oneof(
    { arbitrary: fc.record({ verb: fc.constant('wire' as const), target, wishes, kill }), weight: 3 },
    { arbitrary: fc.record({ verb: fc.constant('unwire' as const), target, names, kill }), weight: 1 },
  )
}

/** One interface; a default route or a route needs an address of its family. */
function wish(name: string): fc.Arbitrary<Wish> {
  const i = NAMES.indexOf(name) + 1
  return fc
    .record({
      link: link(name),
      addresses: fc.subarray([`10.${i}.0.5/24`, `10.${i}.0.6/24`, `10.${i}.9.5/16`, `fd0${i}::5/64`, `fd0${i}::6/64`]),
      gateway: fc.constantFrom('10.X.0.1', '10.X.0.2', 'fd0X::1', null),
      route: fc.boolean(),
      rule: fc.boolean(),
      mtu: fc.constantFrom(undefined, undefined, 1400, 1300),
      up: fc.constantFrom(true, true, true, false),
      limit: fc.constantFrom(undefined, '5M', '9M'),
      // The end of its socket takes the kernel 13 ms.
      announce: fc.constantFrom(false, false, false, true),
    })
    .map(({ link, addresses, gateway, route, rule, mtu, up, limit, announce }): Wish => {
      const ipv4 = addresses.some((one) => one.startsWith('10.'))
      const via = gateway?.replace('X', String(i)) ?? null
      const fits = via !== null && (via.startsWith('10.') ? ipv4 : addresses.some((one) => one.startsWith('fd')))
      return {
        name,
        link,
        addresses,
        gateways: fits ? [via] : [],
        routes: route && ipv4 ? [{ to: `10.9${i}.0.0/16`, via: `10.${i}.0.3`, metric: 5, onlink: true }] : [],
        rules: rule ? [{ from: `10.${i}.0.0/24`, table: 100 + i, priority: 1000 + i }] : [],
        ...(mtu === undefined ? {} : { mtu }),
        up,
        announce,
        ...(limit === undefined ? {} : { shaping: { egress: { rate: limit }, ...into(link, limit) } }),
      } satisfies Wish
    })
}

function link(name: string): fc.Arbitrary<Wish['link']> {
  const bridge = fc.record({
    kind: fc.constant('bridge' as const),
    // The removal of a bridge takes the kernel 50 ms.
    bridge: fc.constantFrom('br-theirs', 'br-theirs', 'br-theirs', 'br-made', 'br-made2'),
    isolated: fc.boolean(),
  })
  const macvlan = fc.record({
    kind: fc.constant('macvlan' as const),
    parent: fc.constant('up0'),
    mode: fc.constantFrom('bridge' as const, 'private' as const, 'vepa' as const),
  })
  const veth = fc.constantFrom({ kind: 'veth' as const, peer: {} }, { kind: 'veth' as const, to: FAR, peer: {} })
  const vxlan = fc.constant({ kind: 'vxlan' as const, id: 0, remote: '192.0.2.2', parent: 'up0' })
  if (name !== 'nic0') return fc.oneof({ arbitrary: bridge, weight: 3 }, macvlan, vxlan, veth)
  return fc.oneof(fc.constant({ kind: 'physical' as const, device: 'PHYSICAL' }), macvlan)
}

/** This kernel can limit what comes in at the outer end of a pair only. */
function into(link: Wish['link'], rate: string): Wish['shaping'] {
  return link.kind === 'bridge' || link.kind === 'veth' ? { ingress: { rate } } : {}
}

/** What the model says of one namespace. */
type Model = ReadonlyMap<string, Wish>

describe('random wirings, changes, unwirings and kills', () => {
  it(`leave what was asked for and nothing else: ${SEQUENCES} sequences, WIRING_SEED=${SEED}`, async () => {
    const share = Math.ceil(SEQUENCES / LABS)
    let broken = false
    const kills = await Promise.all(
      Array.from({ length: LABS }, async (_, number) => {
        await using bench = await Bench.start(number)
        const property = fc.asyncProperty(commands, async (list) => {
          if (!broken) await bench.run(list)
        })
        await fc.assert(property, { numRuns: share, seed: SEED + number }).catch((error: unknown) => {
          broken = true
          throw error
        })
        await bench.leavesNothing()
        return bench.kills
      }),
    )
    const all = kills.reduce((sum, count) => sum + count, 0)
    assert.ok(all > SEQUENCES / 20, `only ${all} of the kills met a call that was under way`)
  })
})

/** One host with two namespaces to be wired and a third that pairs lead to, and the engine that is killed again and again. */
class Bench implements AsyncDisposable {
  /** Kills that met a call under way. */
  kills = 0
  readonly #lab: InterfacesLab
  readonly #observer: Observer
  readonly #targets: readonly Target[]
  readonly #far: Target
  #engine: EngineProcess
  #spare: Promise<EngineProcess>
  #untouched: readonly string[][] = []
  #openFiles = 0
  /** A sequence failed and may have left something, which another attempt must not find. */
  #dirty = false

  private constructor(lab: InterfacesLab, observer: Observer, engine: EngineProcess) {
    this.#lab = lab
    this.#observer = observer
    this.#engine = engine
    this.#spare = lab.engine()
    this.#targets = [lab.target('a'), lab.target('b')]
    this.#far = lab.target('far')
  }

  static async start(number: number): Promise<Bench> {
    const lab = new InterfacesLab(number)
    const ip = (...args: string[]) => lab.ip('host', ...args)
    ip('link', 'add', 'br-theirs', 'address', '02:00:00:00:0b:01', 'type', 'bridge')
    ip('link', 'set', 'br-theirs', 'mtu', '1500', 'up')
    for (const [i, name] of ['up', 'a-nic', 'b-nic'].entries()) {
      ip('link', 'add', `${name}0`, 'type', 'veth', 'peer', 'name', `${name}1`)
      ip('link', 'set', `${name}1`, 'up')
      ip('link', 'set', `${name}0`, 'up')
      ip('address', 'add', `192.0.2.${16 * i + 1}/28`, 'dev', `${name}0`)
      ip('route', 'add', `198.51.${i}.0/24`, 'via', `192.0.2.${16 * i + 2}`, 'dev', `${name}0`)
    }
    const bench = new Bench(lab, await lab.observer(), await lab.engine())
    bench.#untouched = await bench.#look()
    await bench.#engine.wire(bench.#target(0), { name: 'eth0', link: { kind: 'macvlan', parent: 'up0' } })
    await bench.#engine.unwire(bench.#target(0))
    bench.#openFiles = await bench.#engine.fds()
    return bench
  }

  /** Carries out the commands, compares with the model, unwires all, and looks for what is left. */
  async run(list: readonly Command[]): Promise<void> {
    if (this.#dirty) await this.#clean()
    this.#dirty = true
    const models: Model[] = [new Map(), new Map()]
    for (const [i, command] of list.entries()) {
      const model = models[command.target] ?? new Map()
      if (await this.#carryOut(command, command.kill)) {
        models[command.target] = applied(model, command)
        continue
      }
      // What was killed is asked for again: at once, or after the rest, which it must not disturb.
      const other = list.slice(i + 1).some((later) => later.target === command.target && later.verb === 'wire')
      if (other) continue
      assert.ok(await this.#carryOut(command, null))
      models[command.target] = applied(model, command)
    }
    await this.#matches(models)
    await this.#clean()
    this.#dirty = false
  }

  /** Nothing is left, no file, no open one, and nobody in a network namespace or with a hold on one. */
  async leavesNothing(): Promise<void> {
    await this.#isUntouched()
    const engine = this.#engine
    assert.ok((await engine.fds()) <= this.#openFiles, 'files are open')
    assert.deepEqual(this.#lab.namespaces(), ['a', 'b', 'far', 'host'])
    for (const name of ['a', 'b', 'far']) assert.deepEqual(this.#lab.holdersOf(name), [], `who holds ${name}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#spare
    await this.#lab[Symbol.asyncDispose]()
  }

  /** Whether it came to its end; else the process was killed, and another is there. */
  async #carryOut(command: Command, kill: Kill): Promise<boolean> {
    const engine = this.#engine
    const target = this.#target(command.target)
    if (kill !== null && 'beforeStep' in kill) await engine.killAfter(kill.beforeStep)
    const call =
      command.verb === 'unwire'
        ? engine.unwire(target, ...command.names)
        : engine.wire(target, ...command.wishes.map((one) => this.#localized(one, command.target)))
    let done = false
    const settled = call.then(
      () => {
        done = true
      },
      (thrown: unknown) => thrown,
    )
    if (kill !== null && 'afterMs' in kill) {
      await Promise.race([delay(kill.afterMs), settled])
      if (!done) await engine.kill()
    }
    const thrown = await settled
    if (engine.process.exitCode === null && engine.process.signalCode === null) {
      if (thrown !== undefined) throw thrown
      if (kill !== null && 'beforeStep' in kill) await engine.killAfter(null)
      return true
    }
    this.kills++
    this.#engine = await this.#spare
    this.#spare = this.#lab.engine()
    return false
  }

  async #matches(models: readonly Model[]): Promise<void> {
    const found = await this.#look()
    const expected = models.map((model) => [...(this.#untouched[1] ?? []), ...linesOf(model)].sort())
    assert.deepEqual(found.slice(1, -1), expected)
    assert.deepEqual(found[0], hostLines(this.#untouched[0] ?? [], models, this.#targets))
    assert.deepEqual(found.at(-1), farLines(this.#untouched.at(-1) ?? [], models, this.#targets))
    for (const [i, target] of this.#targets.entries()) {
      if (models[i]?.size !== 0) assert.deepEqual(await this.#engine.check(target), [])
    }
  }

  async #clean(): Promise<void> {
    for (const target of this.#targets) await this.#engine.unwire(target)
    await this.#isUntouched()
  }

  async #isUntouched(): Promise<void> {
    assert.deepEqual(await this.#look(), this.#untouched)
    assert.deepEqual(readdirSync(this.#lab.state), ['.lock'])
  }

  async #look(): Promise<string[][]> {
    const paths = [...this.#targets, this.#far].map(({ namespace }) => ('path' in namespace ? namespace.path : ''))
    return Promise.all([null, ...paths].map((path) => this.#observer.look(path)))
  }

  /** With what is another device or number for each namespace, and the name of this lab's far one. */
  #localized(one: Wish, target: number): Wish {
    const { link } = one
    if (link.kind === 'physical') return { ...one, link: { ...link, device: `${target === 0 ? 'a' : 'b'}-nic0` } }
    if (link.kind === 'vxlan')
      return { ...one, link: { ...link, id: 10 * (target + 1) + NAMES.indexOf(one.name ?? '') } }
    if (link.kind === 'veth' && link.to === FAR) return { ...one, link: { ...link, to: this.#far.key } }
    return one
  }

  #target(number: number): Target {
    const target = this.#targets[number]
    assert.ok(target !== undefined)
    return target
  }
}

function applied(model: Model, command: Command): Model {
  if (command.verb === 'wire') return new Map(command.wishes.map((one) => [one.name ?? '', one]))
  if (command.names.length === 0) return new Map()
  return new Map([...model].filter(([name]) => !command.names.includes(name)))
}

/** A wired namespace, as the observer tells it. */
function linesOf(model: Model): string[] {
  const kinds: Record<string, string> = { bridge: 'veth', physical: 'veth' }
  return [...model.values()].flatMap((one, position) => [
    `link ${one.name} ${kinds[one.link.kind] ?? one.link.kind} mtu ${mtuOf(one)} ${one.up === false ? 'down' : 'up'}`,
    ...(one.addresses ?? []).map((address) => `address ${one.name} ${address}`),
    ...(one.up === false ? [] : (one.gateways ?? [])).map((via) => {
      const everywhere = via.includes(':') ? '::/0' : '0.0.0.0/0'
      return `route ${one.name} ${everywhere} via ${via} metric ${512 + position} table 254`
    }),
    ...(one.up === false ? [] : (one.routes ?? [])).map(
      (route) => `route ${one.name} ${route.to} via ${route.via} metric ${route.metric} table 254`,
    ),
    ...(one.rules ?? []).map((rule) => `rule ${rule.priority} ${rule.from} ${rule.table}`),
  ])
}

function mtuOf(one: Wish): number {
  return one.mtu ?? (one.link.kind === 'vxlan' ? VXLAN_MTU : 1500)
}

/** The namespace that pairs lead to. */
function farLines(untouched: readonly string[], models: readonly Model[], targets: readonly Target[]): string[] {
  const ends = models.flatMap((model, i) =>
    [...model.values()]
      .filter(({ link }) => link.kind === 'veth' && link.to !== undefined)
      .map((one) => `link ${hostEndName(targets[i]?.key ?? '', one.name ?? '')} veth mtu ${mtuOf(one)} up`),
  )
  return [...untouched, ...ends].sort()
}

/** The host: outer ends and bridges that were made are there, devices that moved in are not. */
function hostLines(untouched: readonly string[], models: readonly Model[], targets: readonly Target[]): string[] {
  const lines = new Set(untouched)
  for (const [i, model] of models.entries()) {
    for (const one of model.values()) {
      const { link } = one
      if (link.kind === 'physical') {
        const nic = `${i === 0 ? 'a' : 'b'}-nic0`
        for (const line of untouched) if (line.includes(` ${nic} `)) lines.delete(line)
      }
      if (link.kind !== 'bridge' && (link.kind !== 'veth' || link.to !== undefined)) continue
      const port = link.kind === 'bridge' ? ` on ${link.bridge}${link.isolated ? ' isolated' : ''}` : ''
      const size = link.kind === 'veth' ? mtuOf(one) : 1500
      lines.add(`link ${hostEndName(targets[i]?.key ?? '', one.name ?? '')} veth mtu ${size} up${port}`)
      if (link.kind === 'bridge' && link.bridge !== 'br-theirs') lines.add(`link ${link.bridge} bridge mtu 1500 up`)
    }
  }
  return [...lines].sort()
}
