import { setTimeout as wait } from 'node:timers/promises'
import { errorCode, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import type { ContainerEvent, Engine } from './containers.ts'
import { LABEL } from './contract.ts'
import type { Instances } from './instances.ts'
import type { SandboxPool } from './sandbox.ts'

/** Milliseconds between attempts to reach an engine that is away. */
const RECONNECT = { first: 100, most: 5_000 }
/** Milliseconds before a part that died is started again: doubled each time, forgotten after it lived `forget` long. */
const RESTART = { first: 200, most: 60_000, forget: 120_000 }

/** Milliseconds to wait before the next restart of something that dies again and again. */
export function createRestartDelay(now: () => number): (key: string) => number {
  const deaths = new Map<string, { at: number; delay: number }>()
  return (key) => {
    const last = deaths.get(key)
    const recent = last !== undefined && now() - last.at < RESTART.forget
    const delay = recent ? Math.min(last.delay * 2, RESTART.most) : RESTART.first
    for (const [k, death] of deaths) if (now() - death.at >= RESTART.forget) deaths.delete(k)
    deaths.set(key, { at: now(), delay })
    return delay
  }
}

/**
 * Follows the engine's events until aborted: what died is told and started again; when the engine went away that is told
 * once, and `returned` is called each time it is back (also at first), before its events are followed again.
 */
export async function watchEngine(options: {
  engine: Engine
  pool: SandboxPool
  instances: Instances
  host: string
  log: Log
  now: () => number
  notice: (level: 'info' | 'warning' | 'error', code: string, message: string) => void
  returned: () => Promise<void>
  /** Called each time that the engine, or what `returned` needs, is found to be away. */
  away: (error: unknown) => void
  background: (what: string, work: () => Promise<void>) => void
  signal: AbortSignal
}): Promise<void> {
  const { engine, instances, host, log, notice, background, signal } = options
  const restartDelay = createRestartDelay(options.now)

  const died = (event: ContainerEvent) => {
    if (event.action !== 'die') return
    options.pool.died(event.id)
    for (const instance of instancesOf(event)) if (instances.isWanted(instance)) startAgain(instance, event)
  }
  const instancesOf = ({ id, labels }: ContainerEvent): readonly string[] => {
    if (labels[LABEL.role] === 'hub') return instances.onNetworksOf(labels[LABEL.owner] ?? '')
    const instance = labels[LABEL.role] === 'sandbox' ? instances.instanceIn(id) : labels[LABEL.instance]
    return instance === undefined ? [] : [instance]
  }
  const startAgain = (instance: string, event: ContainerEvent) => {
    const parts: Readonly<Record<string, string>> = { sandbox: 'its sandbox', hub: 'the hub of its networks' }
    const part = event.labels[LABEL.service] ?? parts[event.labels[LABEL.role] ?? ''] ?? 'a part'
    const delay = restartDelay(instance)
    log.info('instance.part-died', 'a part of an instance died', { instance, part, restartInMs: delay })
    instances.reportPartial(instance, `${part} ended with exit code ${event.labels['exitCode'] ?? 'unknown'}`)
    background(`start ${part} of ${instance} again`, async () => {
      await wait(delay, undefined, { signal })
      await instances.repair(instance)
    })
  }

  let backoff = RECONNECT.first
  let fault: string | null = null
  while (!signal.aborted) {
    try {
      const version = await engine.version(signal)
      const since = options.now()
      await options.returned()
      if (fault !== null) notice('info', 'engine-back', `host ${host} makes instances again (${version})`)
      fault = null
      backoff = RECONNECT.first
      for await (const event of engine.events({ [LABEL.host]: host }, since, signal)) died(event)
    } catch (error) {
      if (signal.aborted) return
      options.away(error)
      if (fault !== errorCode(error)) notice('error', errorCode(error), `host ${host}: ${wording(error)}`)
      fault = errorCode(error)
      await wait(backoff, undefined, { signal }).catch(() => {})
      backoff = Math.min(backoff * 2, RECONNECT.most)
    }
  }
}
