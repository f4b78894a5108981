import { existsSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { InvalidInput } from '../common/errors.ts'
import type { Engine } from './engine/containers.ts'
import { WiringError } from './wiring/errors.ts'
import type { Target } from './wiring/interfaces/interfaces.ts'

/** Where `ip netns` keeps its namespaces (ip-netns(8)). */
const NAMED = '/run/netns'
const CONTAINER = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/
const EXPECTED = "expected a container's name or id, pid:N, netns:NAME or netns:/PATH"
/** The largest process id there can be (PID_MAX_LIMIT of linux/threads.h). */
const PID_MAX = 4_194_304

/** A target as it is written, before anything was asked. */
export type TargetName =
  | { readonly kind: 'container'; readonly name: string }
  | { readonly kind: 'pid'; readonly pid: number }
  | { readonly kind: 'netns'; readonly path: string }

/** @throws InvalidInput `target` */
export function parseTarget(text: string): TargetName {
  const refused = () => new InvalidInput('target', `${EXPECTED}, got ${JSON.stringify(text)}`)
  if (text.startsWith('pid:')) {
    const digits = text.slice('pid:'.length)
    const pid = /^\d{1,7}$/.test(digits) ? Number(digits) : 0
    if (pid < 1 || pid > PID_MAX) throw refused()
    return { kind: 'pid', pid }
  }
  if (text.startsWith('netns:')) {
    const place = text.slice('netns:'.length)
    if (place.includes('\0') || place === '' || place === '.' || place === '..') throw refused()
    if (place.includes('/') && !place.startsWith('/')) throw refused()
    return { kind: 'netns', path: place.startsWith('/') ? place : join(NAMED, place) }
  }
  if (!CONTAINER.test(text)) throw refused()
  return { kind: 'container', name: text }
}

/**
 * Finds the namespace that a target names.
 * @param engine asked for containers only
 * @throws InvalidInput; WiringError `target-missing`; what the engine throws when it does not answer
 */
export async function resolveTarget(name: TargetName, engine: () => Promise<Engine>): Promise<Target> {
  switch (name.kind) {
    case 'pid':
      return processTarget(name.pid)
    case 'netns':
      return namedTarget(name.path)
    case 'container':
      return await containerTarget(name.name, await engine())
    default:
      return name satisfies never
  }
}

function processTarget(pid: number): Target {
  if (!existsSync(`/proc/${pid}`)) throw new WiringError('target-missing', `there is no process ${pid}`)
  return { key: `pid:${pid}`, label: `pid:${pid}`, namespace: { pid } }
}

/** `/var/run` is a link to `/run`: one namespace must not be known by two keys. */
function namedTarget(given: string): Target {
  const folder = dirname(given)
  const path = existsSync(folder) ? join(realpathSync(folder), basename(given)) : given
  const label = `netns:${dirname(path) === NAMED ? basename(path) : path}`
  if (!isFile(path)) {
    throw new WiringError(
      'target-missing',
      `there is no network namespace at ${path}: "ip netns list" shows those that have names`,
    )
  }
  return { key: `netns:${path}`, label, namespace: { path } }
}

/** @throws WiringError `not-permitted` */
function isFile(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM') return false // a link in a circle, a part that is no folder: nothing is there
    throw new WiringError('not-permitted', `${path} may not be looked at (${code}): root and CAP_SYS_PTRACE are needed`)
  }
}

/** Whoever shares the namespace of another container is wired as that one: there is but one namespace. */
async function containerTarget(name: string, engine: Engine): Promise<Target> {
  const found = await inspected(name, engine)
  const owner = found.namespaceOf === null ? found : await inspected(found.namespaceOf, engine)
  if (!owner.running) {
    throw new WiringError(
      'target-missing',
      `container ${owner.name} does not run, so it has no network namespace: start it first ("docker start ${owner.name}")`,
    )
  }
  return { key: `container:${owner.id}`, label: owner.name, namespace: { pid: owner.pid } }
}

async function inspected(name: string, engine: Engine): ReturnType<Engine['inspect']> {
  try {
    return await engine.inspect(name)
  } catch (thrown) {
    if ((thrown as { code?: unknown }).code !== 'not-found') throw thrown
    throw new WiringError('target-missing', `there is no container ${name}: "docker ps -a" shows those that are there`)
  }
}
