import { setTimeout as wait } from 'node:timers/promises'
import { errorCode, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import { LABEL } from './contract.ts'
import type { ContainerEvent } from './engine/answers.ts'
import type { Engine } from './engine/containers.ts'
import { healthIn } from './instances/health.ts'
import type { Instances } from './instances/instances.ts'
import type { Restarts } from './instances/restarts.ts'
import type { SandboxPool } from './instances/sandbox.ts'

/** Milliseconds between attempts to reach an engine that is away. */
const RECONNECT = { first: 100, most: 5_000 }
/**
 * Follows the engine's events until aborted: what died is told and started again, unless it is to stay so; whoever waits
 * for a service that ended or became healthy goes on; a service that became unhealthy is told; when the engine went away
 * that is told once, and `returned` is called each time it is back (also at first), before its events are followed again.
 */
export async function watchEngine(options: {
  engine: Engine
  pool: SandboxPool
  instances: Instances
  restarts: Restarts
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
  const { engine, instances, restarts, host, log, notice, background, signal } = options

  const happened = (event: ContainerEvent) => {
    if (event.action === 'die') died(event)
    else if (healthIn(event.action) !== null) healthChanged(event)
  }
  const died = (event: ContainerEvent) => {
    options.pool.died(event.id)
    const service = event.labels[LABEL.service]
    const exitCode = Number(event.labels['exitCode'] ?? Number.NaN)
    for (const instance of instancesOf(event).filter(instances.isWanted)) {
      if (service !== undefined && instances.ended(instance, service, exitCode)) goOn(instance)
      else startAgain(instance, event)
    }
  }
  const healthChanged = ({ id, labels }: ContainerEvent) => {
    const { [LABEL.instance]: instance, [LABEL.service]: service } = labels
    if (instance === undefined || service === undefined || !instances.isWanted(instance)) return
    background(`tell the health of ${service} of ${instance}`, () => instances.healthChanged(instance, service, id))
    goOn(instance)
  }
  const goOn = (instance: string) => {
    if (instances.happened(instance)) background(`go on with ${instance}`, () => instances.repair(instance))
  }
  const instancesOf = ({ id, labels }: ContainerEvent): readonly string[] => {
    if (labels[LABEL.role] === 'hub') return instances.onNetworksOf(labels[LABEL.owner] ?? '')
    const instance = labels[LABEL.role] === 'sandbox' ? instances.instanceIn(id) : labels[LABEL.instance]
    return instance === undefined ? [] : [instance]
  }
  const startAgain = (instance: string, event: ContainerEvent) => {
    const parts: Readonly<Record<string, string>> = { sandbox: 'its sandbox', hub: 'the hub of its networks' }
    const part = event.labels[LABEL.service] ?? parts[event.labels[LABEL.role] ?? ''] ?? 'a part'
    const { delayMs, release } = restarts.died(instance, part)
    log.info('instance.part-died', 'a part of an instance died', { instance, part, restartInMs: delayMs })
    instances.reportPartial(instance, `${part} ended with exit code ${event.labels['exitCode'] ?? 'unknown'}`)
    instances.happened(instance)
    background(`start ${part} of ${instance} again`, async () => {
      await wait(delayMs, undefined, { signal })
      release()
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
      for await (const event of engine.events({ [LABEL.host]: host }, since, signal)) happened(event)
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
