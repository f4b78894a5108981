import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { settingsFromFlags } from '../../common/settings-flags.ts'
import { ownVersion } from '../../common/version.ts'
import type { WiringSpec } from '../../common/wiring-spec.ts'
import type { Engine } from '../engine/containers.ts'
import { type Settings, settingsTable } from '../settings.ts'
import { parseTarget, resolveTarget, type TargetName } from '../targets.ts'
import { WiringError } from '../wiring/errors.ts'
import type { Interfaces, Namespace, Target, Wired } from '../wiring/interfaces/interfaces.ts'
import { say } from './output.ts'

/** Flags of every command that looks at a wiring. */
export interface CommonFlags {
  readonly config?: string
  readonly dockerSocket?: string
  readonly wiringSocket?: string
  readonly wiringDirectory?: string
}

/** What a command works with. */
export interface Session {
  readonly interfaces: Interfaces
  /** Whether the wiring service carries it out: only that can keep a DHCP lease renewed. */
  readonly service: boolean
  /** Finds the namespace that a target names. @throws InvalidInput, WiringError `target-missing` */
  resolve(target: string): Promise<Target>
  /** The same target with the namespaces that veth pairs of its wiring lead to. @throws WiringError `target-missing` */
  withPeers(target: Target, spec: WiringSpec): Promise<Target>
  /** Does `work` while no other command changes one interface of a target, see edit-lock.ts. */
  editing<T>(work: () => Promise<T>): Promise<T>
  /** Everything that is wired and meant by this target, also when its container is gone: at most one, or none. */
  wired(target: string): Promise<Wired | null>
}

/** Capabilities that the wiring needs, by bit (linux/capability.h). */
const CAPABILITIES = { CAP_NET_ADMIN: 12n, CAP_SYS_PTRACE: 19n, CAP_SYS_ADMIN: 21n } as const
const PREFIX = 'UNIONIZE'
const TOKEN_VARIABLE = 'UNIONIZE_JOIN_TOKEN'

/** The settings that commands of the wiring use, from flags over environment over file. @throws InvalidSettings */
export function settingsOf(flags: CommonFlags): Settings {
  const { [TOKEN_VARIABLE]: _, ...environment } = process.env
  // Nothing else that stands on the line: the --host-name of an interface is not the host.name of the settings.
  const { config, dockerSocket, wiringSocket, wiringDirectory } = flags
  return settingsFromFlags(settingsTable, PREFIX, { config, dockerSocket, wiringSocket, wiringDirectory }, environment)
}

/** Does `work` with the wiring service where one runs, else in this process. */
export async function withSession<T>(flags: CommonFlags, work: (session: Session) => Promise<T>): Promise<T> {
  const settings = settingsOf(flags)
  const { interfaces, service, close } = await open(settings)
  const engine = engineOf(settings)
  try {
    return await work({
      interfaces,
      service,
      resolve: (target) => resolveTarget(parseTarget(target), engine),
      withPeers: async (target, spec) => {
        const peers: Record<string, Namespace> = {}
        for (const { link } of spec.interfaces) {
          if (link.kind !== 'veth' || link.to === undefined) continue
          peers[link.to] = (await resolveTarget(parseTarget(link.to), engine)).namespace
        }
        return Object.keys(peers).length === 0 ? target : { ...target, peers }
      },
      editing: async (work) => {
        const { whileEditing } = await import('./edit-lock.ts')
        return await whileEditing(settings['wiring.directory'], work)
      },
      wired: (target) => findWired(parseTarget(target), interfaces, engine),
    })
  } finally {
    await close()
  }
}

/** The container engine, loaded when the first container is named. */
export function engineOf(settings: Settings): () => Promise<Engine> {
  let engine: Promise<Engine> | undefined
  return () => {
    engine ??= import('../engine/containers.ts').then(({ dockerEngine }) => dockerEngine(settings['docker.socket']))
    return engine
  }
}

interface Opened {
  readonly interfaces: Interfaces
  readonly service: boolean
  close(): Promise<void>
}

async function open(settings: Settings): Promise<Opened> {
  const socket = settings['wiring.socket']
  const log = (level: 'info' | 'warn' | 'error', message: string) => {
    if (level !== 'info') say(`unionize: ${message}`)
  }
  if (await answers(socket)) {
    const { connectWiring } = await import('../wiring/service/remote.ts')
    const { wiring, interfaces } = connectWiring({ socket, version: ownVersion(), log })
    return { interfaces, service: true, close: () => wiring.stop() }
  }
  demandCapabilities()
  const { interfacesHere } = await import('../wiring/interfaces/here.ts')
  const interfaces = interfacesHere({ directory: settings['wiring.directory'] })
  return { interfaces, service: false, close: () => interfaces.stop() }
}

/** Whether the wiring service listens there. @throws WiringError `not-permitted` */
export function answers(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const probe = connect(path)
  probe.once('connect', () => resolve(true))
  probe.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EACCES' || error.code === 'EPERM') reject(notPermitted(`${path} may not be opened`))
    else resolve(false)
  })
  return promise.finally(() => probe.destroy())
}

/** @throws WiringError `not-permitted` */
export function demandCapabilities(): void {
  const effective = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`,
  )
  const missing = Object.entries(CAPABILITIES).filter(([, bit]) => (effective & (1n << bit)) === 0n)
  if (missing.length > 0) throw notPermitted(`${missing.map(([name]) => name).join(', ')} missing`)
}

function notPermitted(why: string): WiringError {
  return new WiringError('not-permitted', `only root can look at and change a wiring (${why}): try it with sudo`)
}

/**
 * A container is looked for at the engine first, because a name may have passed to a new one; if the engine knows none, or
 * does not answer, the name or id under which it was wired counts.
 */
async function findWired(
  name: TargetName,
  interfaces: Interfaces,
  engine: () => Promise<Engine>,
): Promise<Wired | null> {
  const all = await interfaces.show()
  if (name.kind === 'pid') return all.find((wired) => wired.key === `pid:${name.pid}`) ?? null
  const target = await resolveTarget(name, engine).catch(() => null)
  const found = all.find((wired) => wired.key === target?.key)
  if (found !== undefined) return found
  if (name.kind === 'netns') return all.find((wired) => wired.key === `netns:${name.path}`) ?? null
  const fitting = all.filter(
    ({ key, label }) => label === name.name || (ID.test(name.name) && key.startsWith(`container:${name.name}`)),
  )
  if (fitting.length < 2) return fitting[0] ?? null
  const keys = fitting.map((wired) => wired.key.replace('container:', '')).join(', ')
  throw new WiringError(
    'target-missing',
    `${name.name} was the name of more than one container: give its id, one of ${keys}`,
  )
}

/** As much of a container's id as docker shows at least. */
const ID = /^[0-9a-f]{12,64}$/
