import { setTimeout as delay } from 'node:timers/promises'
import { HostUnreachable, NoRoom, OrchestratorError, wording } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { HostName, Target } from '../../domain/host.ts'
import type { InstanceId, Observed, Order } from '../../domain/instance.ts'
import type { Machine } from '../../domain/machine.ts'
import type { Template } from '../../domain/template.ts'
import { type Backend, type BackendContext, type BackendKind, CONTRACT_VERSION, type LogOptions } from '../backend.ts'
import { createGenerations } from '../generations.ts'
import { ownBundle } from './bundle.ts'
import { createJournal } from './journal.ts'
import { createMachineCalls, demandFit, type MachineGround, missingOf } from './machine-calls.ts'
import { found as foundMachine, type Inventory, openInventory } from './machines/inventory.ts'
import { createMachines, type Machines, type MachinesOptions } from './machines/machines.ts'
import { uninstall } from './machines/uninstall.ts'
import { MAX_OUTPUTS_BYTES, serviceOf } from './names.ts'
import { checkContent, checkOrder, parseOptions } from './options.ts'
import type { ListedInstance } from './reading.ts'
import { type CoreosSettings, parseSettings } from './settings.ts'
import { createShell, type SshShell } from './ssh.ts'
import { unitsOf } from './units.ts'

/** Milliseconds that what a machine told of itself is taken as it is. */
const KNOWN_MS = 60_000
/** Milliseconds that one call waits for an instance to run before it says that it is starting. */
const PATIENCE_MS = 10_000
/** Milliseconds between two looks at what starts, and after which what has failed by then is told. */
const LOOK_MS = 400
const FAILED_MS = 4_000
/** Milliseconds until it makes sense to look again at what starts. */
const AGAIN_MS = { starting: 1_000, fetching: 3_000 }
/** Milliseconds in which events of one instance are gathered. */
const GATHER_MS = 150
/** Milliseconds by which a machine's clock may differ before that is told. */
const CLOCK_MS = 5_000

/** Machines with systemd, SSH, and Podman or Docker: Fedora CoreOS, Flatcar, or any other Linux. */
export const backend: BackendKind = {
  contract: CONTRACT_VERSION,
  async create(settings, context) {
    const parsed = parseSettings(settings)
    const inventory = await openInventory(context.records)
    const shell = createShell({ login: () => loginOf(parsed, context), clock: context.clock })
    const made = coreosBackend({ settings: parsed, context, inventory, shell })
    return withMachines(made, { inventory, shell, clock: context.clock, log: context.log })
  },
}

/** The backend with what looks after its machines, which begins when it is started. */
export function withMachines(
  made: Backend,
  parts: Pick<MachinesOptions, 'inventory' | 'shell' | 'clock' | 'log'>,
): Backend & { readonly machines: Machines } {
  const machines = createMachines({
    ...parts,
    look: (name, signal) => made.list({ name }, signal),
    drop: (name, instance, signal) => made.remove(instance, { name }, signal),
    leave: (name, signal) => uninstall(parts.shell, foundMachine(parts.inventory, name), signal),
  })
  return {
    ...made,
    machines,
    async close() {
      await machines.stop()
      await made.close()
    },
  }
}

/** @throws OrchestratorError `credential-missing` */
async function loginOf({ credential }: CoreosSettings, context: BackendContext) {
  const { key, passphrase } = await context.credential(credential)
  if (key === undefined) {
    throw new OrchestratorError(
      'credential-missing',
      `the credential ${credential} has no field "key": set it to the private SSH key for the machines, with "orctl credential set ${credential}"`,
    )
  }
  return { key, ...(passphrase !== undefined && { passphrase }) }
}

/** The backend over an inventory and connections that others use, too. */
export function coreosBackend(parts: {
  readonly settings: CoreosSettings
  readonly context: BackendContext
  readonly inventory: Inventory
  readonly shell: SshShell
}): Backend {
  const { settings, context, inventory, shell } = parts
  const { name, clock, log, installation, records } = context
  const generations = createGenerations(records, clock)
  const journal = createJournal(shell)
  const calls = createMachineCalls({ shell, settings, installation, bundle: ownBundle, now: () => clock.now() })
  const grounds = new Map<string, { readonly at: number; readonly ground: Promise<MachineGround> }>()
  /** Machines that have our unionize and bridge since their boot. */
  const ready = new Map<string, string>()
  /** What outputs were told last, by instance. */
  const told = new Map<InstanceId, string>()

  const machine = (target: Target): Machine => {
    const found = inventory.find(target.name)
    if (found !== null) return found
    throw new HostUnreachable(target.name, `it is no machine of ${name}; "orctl machine ls" shows them`)
  }

  const groundOf = async (way: Machine, signal: AbortSignal): Promise<MachineGround> => {
    const known = grounds.get(way.name)
    if (known !== undefined && clock.now() - known.at < KNOWN_MS) return await known.ground
    const ground = await calls.probe(way, signal)
    if (missingOf(ground).length === 0) grounds.set(way.name, { at: clock.now(), ground: Promise.resolve(ground) })
    return ground
  }

  /** What fails may do so because the machine is another one than we know: it is asked anew the next time. */
  const asking = async <T>(way: Machine, work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      grounds.delete(way.name)
      ready.delete(way.name)
      throw error
    }
  }

  const observed = (way: Machine, found: ListedInstance): Observed => {
    const { id, generation, state, address, detail } = found
    const outputs = outputsOf(way, found)
    return {
      ...{ instance: id, generation, state, address, reach: { kind: 'routed', via: parseIpv6(way.address) } },
      ...(detail !== null && { detail }),
      ...(outputs !== null && { outputs }),
    }
  }

  /** Its outputs when they are others than were told. */
  const outputsOf = (way: Machine, { id, outputs }: ListedInstance): string | null => {
    if (outputs === null || told.get(id) === outputs) return null
    told.set(id, outputs)
    if (Buffer.byteLength(outputs) <= MAX_OUTPUTS_BYTES) return outputs
    log.warn('outputs.too-large', `${id} wrote more than ${MAX_OUTPUTS_BYTES} bytes of outputs; they are not taken`, {
      instance: id,
      machine: way.name,
    })
    return null
  }

  const install = async (way: Machine, ground: MachineGround, signal: AbortSignal): Promise<void> => {
    if (ready.get(way.name) === ground.boot) return
    await calls.install(way, ground, signal)
    ready.set(way.name, ground.boot)
  }

  /** Says why images are not all there; null: they are. @throws OrchestratorError `image-missing` */
  const imagesMissing = async (way: Machine, ground: MachineGround, order: Order, signal: AbortSignal) => {
    const states = await calls.images(way, ground, order, signal)
    for (const [at, state] of states.entries()) {
      const { name: service = '', image = '' } = order.services[at] ?? {}
      if (state.kind === 'absent') {
        throw new OrchestratorError(
          'image-missing',
          `services.${service}.image: ${way.name} has no image ${image}, and "pull" is never: load it there, or change "pull"`,
        )
      }
      if (state.kind === 'failed') {
        throw new OrchestratorError(
          'image-missing',
          `services.${service}.image: ${way.name} has no image ${image} and cannot fetch it (${state.why}): check its name, ` +
            'and whether that machine reaches the registry and may read there',
          { retryable: true },
        )
      }
    }
    const fetching = order.services.filter((_, at) => states[at]?.kind === 'fetching').map(({ image }) => image)
    return fetching.length === 0 ? null : `${way.name} fetches ${[...new Set(fetching)].join(', ')}`
  }

  /** Looks until it runs, or its time is over. */
  const settled = async (way: Machine, ground: MachineGround, order: Order, signal: AbortSignal): Promise<Observed> => {
    const begun = clock.now()
    const which = { id: order.instance }
    for (let quick = true; ; ) {
      const [found] = await calls.list(way, ground, signal, { ...which, quick })
      if (found === undefined) {
        throw new OrchestratorError('not-running', `${order.instance} was taken away while it was made`, {
          retryable: true,
        })
      }
      if (found.state === 'running' && !quick) return observed(way, found)
      const patience = found.state === 'partial' && !found.passing ? FAILED_MS : PATIENCE_MS
      if (clock.now() - begun >= patience) return await unsettled(way, order, found, signal)
      quick = found.state !== 'running'
      if (quick) await delay(LOOK_MS, undefined, { signal })
    }
  }

  const unsettled = async (way: Machine, order: Order, found: ListedInstance, signal: AbortSignal) => {
    const state = observed(way, found)
    if (found.state !== 'partial' || found.passing)
      return { ...state, state: 'starting' as const, againMs: AGAIN_MS.starting }
    const service = /^service ([a-z0-9_-]+) /.exec(found.detail ?? '')?.[1]
    if (service === undefined) return state
    const said = await journal.lastWords(way, serviceOf(order.instance, service), signal)
    const remedy = `"journalctl -t ${serviceOf(order.instance, service)}" on ${way.name} shows more`
    return { ...state, detail: `${found.detail}${said === '' ? '' : `: ${said}`}; ${remedy}` }
  }

  return {
    name,
    targets: () =>
      inventory
        .all()
        .filter(({ task }) => !(task?.kind === 'removal' && task.dead))
        .map((one) => one.name),
    place: (template, load) => placed(name, settings, inventory.all(), template, load),
    checkTemplate: (template) => checkContent(name, template),

    async list(target, signal) {
      const way = machine(target)
      return await asking(way, async () => {
        const ground = await groundOf(way, signal)
        demandFit(way, ground)
        return (await calls.list(way, ground, signal)).map((found) => observed(way, found))
      })
    },

    async ensure(order, target, signal) {
      signal.throwIfAborted()
      const way = machine(target)
      checkOrder(order)
      await generations.accept(order.instance, order.generation)
      return await asking(way, async () => {
        const ground = await groundOf(way, signal)
        demandFit(way, ground)
        await install(way, ground, signal)
        const [found] = await calls.list(way, ground, signal, { id: order.instance })
        const same = found?.digest === unitsOf(order, ground).digest && found.generation === order.generation
        if (same && found.state === 'running') return observed(way, found)
        if (found === undefined && ground.freeBytes < settings.leastDiskMiB * 1024 * 1024) {
          const free = Math.floor(ground.freeBytes / 1024 / 1024)
          grounds.delete(way.name)
          throw new NoRoom(
            `${way.name}: its disk has ${free} MiB free, and ${settings.leastDiskMiB} are wanted for a new instance ` +
              '(leastDiskMiB): free some of /var there, or cordon it',
          )
        }
        const missing = await imagesMissing(way, ground, order, signal)
        if (missing !== null) {
          const { instance, generation, address } = order
          return { instance, generation, address, state: 'starting', againMs: AGAIN_MS.fetching, detail: missing }
        }
        await calls.apply(way, ground, order, signal)
        return await settled(way, ground, order, signal)
      })
    },

    async remove({ id, generation }, target, signal) {
      signal.throwIfAborted()
      const way = machine(target)
      await generations.accept(id, generation)
      await asking(way, async () => calls.remove(way, await groundOf(way, signal), { id, generation }, signal))
      told.delete(id)
    },

    async watch(target, tell, signal) {
      const way = machine(target)
      const ended = new AbortController()
      const both = AbortSignal.any([signal, ended.signal])
      let dirty = new Set<InstanceId>()
      let all = false
      let working = Promise.resolve()
      const look = async (): Promise<void> => {
        await delay(GATHER_MS, undefined, { signal: both })
        const [ids, everything] = [dirty, all]
        dirty = new Set()
        all = false
        const ground = await groundOf(way, both)
        const found = everything
          ? await calls.list(way, ground, both)
          : (await Promise.all([...ids].map((id) => calls.list(way, ground, both, { id })))).flat()
        for (const one of found) tell(observed(way, one))
      }
      const wake = (): void => {
        if (dirty.size + Number(all) > 1) return // it is about to look
        working = working.then(look).catch((error) => ended.abort(error))
      }
      try {
        await asking(way, async () => {
          await journal.follow(
            way,
            (id) => {
              if (dirty.has(id)) return
              dirty.add(id)
              wake()
            },
            () => {
              all = true
              wake()
            },
            both,
          )
        })
      } finally {
        ended.abort(new Error('it is no longer followed'))
        await working
      }
    },

    async *logs(id, target, options: LogOptions, signal) {
      const way = machine(target)
      const ground = await groundOf(way, signal)
      const [found] = await calls.list(way, ground, signal, { id, quick: true })
      if (found === undefined) throw new OrchestratorError('not-found', `${way.name} has no instance ${id}`)
      const services = found.services.filter((one) => options.service === undefined || one === options.service)
      if (services.length === 0) {
        throw new OrchestratorError(
          'not-found',
          `${id} has no service ${options.service}: it has ${found.services.join(', ')}`,
        )
      }
      const units = services.map((service) => serviceOf(id, service))
      yield* journal.logs(way, units, options, signal)
    },

    async check(target, signal) {
      signal.throwIfAborted()
      const way = machine(target)
      const ground = await asking(way, () => calls.probe(way, signal))
      const engines = Object.entries(ground.engines).map(([engine, { version }]) => `${engine} ${version}`)
      const free = Math.floor(ground.freeBytes / 1024 / 1024)
      const late = Math.abs(ground.clockAheadMs) > CLOCK_MS
      return {
        version: `${ground.system}, systemd ${ground.systemd}`,
        abilities: [
          ...engines,
          ground.quadlet ? 'services as Quadlet files' : 'services as units',
          `unionize ${ground.unionize ?? 'none yet: it comes with the first instance'}`,
          `${free} MiB free in /var`,
        ],
        missing: [
          ...missingOf(ground),
          ...(free < settings.leastDiskMiB
            ? [`less than ${settings.leastDiskMiB} MiB are free in /var: free some`]
            : []),
          ...(late
            ? [`its clock is ${Math.round(ground.clockAheadMs / 1000)} s ahead of ours: run a time service there`]
            : []),
        ],
      }
    },

    async close() {
      await shell.close()
    },
  }
}

/** The machine with the fewest instances of those that take new ones. @throws NoRoom, HostUnreachable */
function placed(
  name: string,
  settings: CoreosSettings,
  machines: readonly Machine[],
  template: Template,
  load: ReadonlyMap<HostName, number>,
): HostName {
  const { labels } = parseOptions(name, template.options?.[name])
  const fitting = machines.filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))
  const open = fitting.filter(({ cordoned, task }) => !cordoned && task === null)
  const there = open.filter(({ away }) => away === null)
  const count = (one: Machine) => load.get(one.name) ?? 0
  const best = there.filter((one) => count(one) < settings.most).toSorted((a, b) => count(a) - count(b))[0]
  if (best !== undefined) return best.name
  if (machines.length === 0) throw new NoRoom(`${name} has no machines: add some with "orctl machine add"`)
  if (fitting.length === 0) {
    throw new NoRoom(`no machine of ${name} has the labels that ${template.name} wants (${wording(labels)})`)
  }
  if (open.length === 0)
    throw new NoRoom(`all machines of ${name} that fit are cordoned, or something is being done to them`)
  const first = open.find(({ away }) => away !== null)
  if (there.length === 0 && first) throw new HostUnreachable(first.name, first.away ?? 'it did not answer')
  throw new NoRoom(`all machines of ${name} have ${settings.most} instances, which is their limit ("most")`)
}
