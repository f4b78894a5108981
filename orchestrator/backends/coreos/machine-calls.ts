import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../../common/errors.ts'
import type { InstanceId, Order } from '../../domain/instance.ts'
import type { MachineWay } from '../../domain/machine.ts'
import { type TarFile, tarOf } from './archive.ts'
import type { Bundle } from './bundle.ts'
import type { Engine } from './container-flags.ts'
import type { Shell, ShellOutcome } from './machines/shell.ts'
import { type ListedInstance, readList } from './reading.ts'
import { APPLY, CODES, IMAGES, INSTALL, LIST, networkUnit, PROBE, REMOVE } from './scripts.ts'
import type { CoreosSettings } from './settings.ts'
import { type UnitGround, unitsOf } from './units.ts'

/** What a machine told of itself. */
export interface MachineGround extends UnitGround {
  readonly boot: string
  /** Of the operating system, such as `Fedora CoreOS 42`. */
  readonly system: string
  /** `Podman 5.2.0`; null: it has none that we may use. */
  readonly engines: Readonly<Partial<Record<Engine, EngineFacts>>>
  /** `uname -m`. */
  readonly machine: string
  /** Milliseconds by which its clock is ahead of ours. */
  readonly clockAheadMs: number
  /** Bytes free in /var. */
  readonly freeBytes: number
  /** Version of unionize in force there; null: none. */
  readonly unionize: string | null
  readonly root: boolean
  /** Programs and libraries that we need and it has not. */
  readonly lacks: readonly string[]
  /** Whether the daemon of a host runs there. */
  readonly host: boolean
}
export interface EngineFacts {
  readonly path: string
  readonly version: string
  readonly answers: boolean
}

/** What came of looking for an image. */
export type ImageState =
  | { readonly kind: 'have' | 'fetching' | 'absent' }
  | { readonly kind: 'failed'; readonly why: string }

/** Everything that is done on machines, each call one or two programs over SSH. All of them may be repeated. */
export interface MachineCalls {
  /** @throws HostUnreachable, OrchestratorError `machine-unfit` naming what it lacks */
  probe(way: MachineWay, signal: AbortSignal): Promise<MachineGround>
  /** Makes unionize and the bridge be there. @throws NoRoom when its disk is full */
  install(way: MachineWay, ground: MachineGround, signal: AbortSignal): Promise<void>
  images(way: MachineWay, ground: MachineGround, order: Order, signal: AbortSignal): Promise<readonly ImageState[]>
  /** @throws OrchestratorError `stale-generation`, `foreign-instance`, NoRoom, InvalidInput */
  apply(way: MachineWay, ground: MachineGround, order: Order, signal: AbortSignal): Promise<void>
  /** @throws OrchestratorError `stale-generation` */
  remove(
    way: MachineWay,
    ground: MachineGround,
    instance: { readonly id: InstanceId; readonly generation: number },
    signal: AbortSignal,
  ): Promise<void>
  /** All of our installation, or one instance alone. `quick`: without what health checks say, which only the engine knows. */
  list(
    way: MachineWay,
    ground: MachineGround,
    signal: AbortSignal,
    which?: { readonly id: InstanceId; readonly quick?: boolean },
  ): Promise<readonly ListedInstance[]>
}

/** Milliseconds that one program may take, and the copying of unionize. */
const SCRIPT_MS = 90_000
const INSTALL_MS = 300_000

export function createMachineCalls(parts: {
  readonly shell: Pick<Shell, 'run'>
  readonly settings: CoreosSettings
  readonly installation: string
  readonly bundle: () => Bundle
  readonly now: () => number
}): MachineCalls {
  const { shell, settings, installation, bundle, now } = parts
  let packing: Promise<Buffer> | null = null

  const script = async (
    way: MachineWay,
    text: string,
    args: readonly string[],
    { signal, input, ms = SCRIPT_MS }: { signal: AbortSignal; input?: string | Buffer; ms?: number },
  ): Promise<ShellOutcome> => {
    const limit = AbortSignal.timeout(ms)
    try {
      const command = ['sh', '-c', text, 'orchestrator', ...args]
      return await shell.run(way, command, { signal: AbortSignal.any([signal, limit]), ...(input && { input }) })
    } catch (error) {
      if (limit.aborted && !signal.aborted) {
        throw new HostUnreachable(way.name, `it did not end what it was asked for within ${ms / 1000} s`, {
          cause: error,
        })
      }
      throw error
    }
  }

  return {
    async probe(way, signal) {
      const asked = now()
      const outcome = await script(way, PROBE, [], { signal })
      return groundOf(way, outcome, { settings, installation, at: (asked + now()) / 2 })
    },

    async install(way, ground, signal) {
      const { version, machine, archive } = bundle()
      if (machine !== ground.machine) {
        throw new OrchestratorError(
          'machine-unfit',
          `${way.name} is a ${ground.machine}, and the unionize that is to run there is for ${machine}: use machines of that ` +
            'kind, or an orchestrator on one of the other',
        )
      }
      const config = `network:\n  bridge: ${settings.network.bridge}\n  gateway: ${settings.network.gateway}\n  prefix-length: ${settings.network.prefixLength}`
      const networkd = `[Match]\nName=${settings.network.bridge} ui-*\n\n[Link]\nUnmanaged=yes`
      const rest = [config, networkUnit(settings.network), ground.program, networkd]
      const first = await script(way, INSTALL, [version, '0', ...rest], { signal })
      if (first.code !== CODES.notInstalled) return expectDone(way, first, 'unionize could not be set up')
      // Many machines at once are given the same bytes.
      packing ??= archive().finally(() => {
        packing = null
      })
      const input = await packing
      const second = await script(way, INSTALL, [version, '1', ...rest], { signal, input, ms: INSTALL_MS })
      expectDone(way, second, 'unionize could not be installed')
    },

    async images(way, ground, order, signal) {
      const words = order.services.flatMap(({ image, pull }) => [pull, image, fullName(image)])
      const outcome = await script(way, IMAGES, [ground.program, order.instance, ...words], { signal })
      expectDone(way, outcome, 'its images cannot be looked at')
      const lines = outcome.out.trimEnd().split('\n')
      return order.services.map((_, at) => {
        const [kind = '', ...why] = (lines[at] ?? '').split(' ')
        if (kind === 'have' || kind === 'fetching' || kind === 'absent') return { kind }
        return { kind: 'failed', why: why.join(' ').trim() }
      })
    },

    async apply(way, ground, order, signal) {
      const { files, digest } = unitsOf(order, ground)
      const tar: TarFile[] = files.map(({ path, ...rest }) => ({ name: `files${path}`, ...rest }))
      const args = [order.instance, String(order.generation), digest, installation]
      const outcome = await script(way, APPLY, args, { signal, input: await tarOf(tar) })
      if (outcome.code === CODES.stale) throw stale(order.instance, order.generation, outcome)
      if (outcome.code === CODES.foreign) {
        throw new OrchestratorError(
          'foreign-instance',
          `${way.name} has an instance ${order.instance} of another orchestrator: take it away there first`,
        )
      }
      expectDone(way, outcome, 'the units could not be written')
    },

    async remove(way, ground, { id, generation }, signal) {
      const programs = Object.values(ground.engines).map(({ path }) => path)
      const outcome = await script(way, REMOVE, [id, String(generation), installation, ...programs], { signal })
      if (outcome.code === CODES.stale) throw stale(id, generation, outcome)
      if (outcome.code === CODES.engineAway) {
        throw unfit(way, `${outcome.out.trim()} does not answer, and ${id} runs with it: start it there`)
      }
      expectDone(way, outcome, `instance ${id} could not be removed`)
    },

    async list(way, ground, signal, which) {
      const engine = which?.quick ? '' : ground.program
      const outcome = await script(way, LIST, [installation, engine, which?.id ?? ''], { signal })
      if (outcome.code !== 0 || !outcome.out.trimEnd().endsWith('%% end')) {
        throw new HostUnreachable(way.name, `its units cannot be listed: ${lastLine(outcome)}`)
      }
      return readList(outcome.out)
    },
  }
}

function groundOf(
  way: MachineWay,
  outcome: ShellOutcome,
  { settings, installation, at }: { settings: CoreosSettings; installation: string; at: number },
): MachineGround {
  const lines = outcome.out.split('\n').map((line): [string, string] => {
    const [word = '', ...value] = line.split(' ')
    return [word, value.join(' ')]
  })
  const told = new Map(lines)
  const text = (name: string) => told.get(name) ?? ''
  if (outcome.code !== 0 || text('boot') === '') {
    throw unfit(
      way,
      `it cannot be used by ${way.user}: ${lastLine(outcome)}; root is needed, or sudo without a password`,
    )
  }
  const engines: Partial<Record<Engine, EngineFacts>> = {}
  for (const engine of ['podman', 'docker'] as const) {
    const path = text(`${engine}-path`)
    if (path === '') continue
    engines[engine] = { path, version: text(engine), answers: text(`${engine}-answers`) === 'yes' }
  }
  const engine = settings.engine === 'auto' ? (engines.podman ? 'podman' : 'docker') : settings.engine
  return {
    ...{ installation, engine, program: engines[engine]?.path ?? '', engines, systemd: Number(text('systemd')) },
    quadlet:
      settings.quadlet && engine === 'podman' && text('quadlet') === 'yes' && versionAtLeast(engines.podman, 4, 4),
    ...{ dns: settings.network.dns, boot: text('boot'), system: text('system'), machine: text('machine') },
    ...{ clockAheadMs: Math.round(Number(text('clock')) - at), freeBytes: Number(text('free')) },
    ...{ unionize: text('unionize') || null, root: text('uid') === '0', host: text('host') === 'yes' },
    lacks: lines.filter(([word]) => word === 'lacks').map(([, value]) => value),
  }
}

function versionAtLeast(facts: EngineFacts | undefined, major: number, minor: number): boolean {
  const [a = 0, b = 0] = (facts?.version ?? '').split('.').map(Number)
  return a > major || (a === major && b >= minor)
}

/** What a machine must have before anything is done there. @throws OrchestratorError `machine-unfit` */
export function demandFit(way: MachineWay, ground: MachineGround): void {
  const first = missingOf(ground)[0]
  if (first !== undefined) throw unfit(way, first)
}

/** What hinders instances there, each with its remedy. */
export function missingOf(ground: MachineGround): string[] {
  const missing: string[] = []
  const engine = ground.engines[ground.engine]
  if (!ground.root) missing.push('we are not root there: log in as root, or let the user use sudo without a password')
  if (!(ground.systemd >= 248)) missing.push(`systemd ${ground.systemd || '?'} is too old: 248 or newer is needed`)
  if (engine === undefined) missing.push('neither Podman nor Docker is there: install one of them')
  else if (!engine.answers) {
    const remedy =
      ground.engine === 'docker' ? 'run "systemctl enable --now docker" there' : 'look at "podman info" there'
    missing.push(`${ground.engine} ${engine.version} does not answer: ${remedy}`)
  }
  for (const name of ground.lacks) missing.push(`${name} is not there: install it`)
  if (ground.host) missing.push('the daemon unionize runs there: a machine is either a host or one of these; stop it')
  return missing
}

function unfit(way: MachineWay, why: string): OrchestratorError {
  return new OrchestratorError('machine-unfit', `${way.name}: ${why}`, { retryable: true })
}

function stale(instance: string, generation: number, { out }: ShellOutcome): OrchestratorError {
  return new OrchestratorError(
    'stale-generation',
    `${instance}: generation ${generation} is older than ${out.trim()}, which the machine has`,
  )
}

/** @throws NoRoom when its disk is full, else OrchestratorError `machine-failed` with what it said */
function expectDone(way: MachineWay, outcome: ShellOutcome, what: string): void {
  if (outcome.code === 0) return
  if (/No space left on device|disk quota exceeded/i.test(outcome.err)) {
    throw new NoRoom(`${way.name}: ${what}: its disk is full; free some of /var, /etc and /opt there, or cordon it`)
  }
  const message = `${way.name}: ${what}: ${lastLine(outcome)}`
  throw new OrchestratorError('machine-failed', message, { retryable: true })
}

function lastLine({ code, err, out }: ShellOutcome): string {
  const lines = (err.trim() || out.trim()).split('\n').slice(-3).join(' ')
  return lines === '' ? `exit code ${code}` : lines.slice(-500)
}

/** As Docker reads a name without a registry; Podman asks in such a case. @throws InvalidInput for what is no reference */
function fullName(image: string): string {
  const [first = '', ...rest] = image.split('/')
  if (image.startsWith('-')) throw new InvalidInput('services.*.image', `expected an image reference, got ${image}`)
  if (rest.length > 0 && (/[.:]/.test(first) || first === 'localhost')) return image
  return rest.length > 0 ? `docker.io/${image}` : `docker.io/library/${image}`
}
