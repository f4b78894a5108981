import { wording } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import type { HostName } from '../domain/host.ts'
import type { Instance, Observed } from '../domain/instance.ts'
import { notice, reconcile } from './act.ts'
import type { ReconcilerContext } from './context.ts'
import { compareHost } from './observe.ts'
import { takeOutputs } from './outputs.ts'
import { type FollowedBackend, followTargets } from './targets.ts'
import { sendWays } from './ways.ts'

export interface ReconcilerLimits {
  /** Actions at once over all hosts, and on one host. */
  readonly concurrency: number
  readonly perHost: number
  /** Milliseconds between two comparisons of a connected host with the store. */
  readonly resyncMs: number
}

/** Brings what is observed to what is wanted. Any number of wakes are one wake. */
export interface Reconciler {
  /** Something may have changed: look. */
  wake(): void
  /** A host is back (or news came from it): its failed work is due, and what runs there is compared. */
  hostConnected(host: HostName): void
  hostDisconnected(host: HostName): void
  /** A target lets us in again, or is back: what failed there is due. */
  targetReturned(target: HostName): void
  /** A backend saw something by itself. */
  observed(observed: Observed): void
  /** Ends all work under way; what is half done is finished after the next start. */
  stop(): Promise<void>
}

/** Longest sleep, ms: a work queue that nobody wakes is looked at all the same. */
const IDLE_MS = 5_000
/** The share of the places that targets other than hosts may hold together: many that hang leave the rest to the hosts. */
const TARGETS_SHARE = 0.5
/** Milliseconds of rest after the store failed. */
const STORE_RETRY_MS = 1_000

export function startReconciler(context: ReconcilerContext, limits: ReconcilerLimits): Reconciler {
  return new Loop(context, limits)
}

class Loop implements Reconciler {
  readonly #context: ReconcilerContext
  readonly #limits: ReconcilerLimits
  readonly #stopping = new AbortController()
  readonly #busy = new Map<Instance['id'], HostName>()
  /** What was told of instances that are being acted upon. */
  readonly #told = new Map<Instance['id'], Observed[]>()
  readonly #work = new Set<Promise<void>>()
  readonly #hosts = new Map<HostName, AbortController>()
  #woken = false
  #rouse: () => void = () => {}
  readonly #done: Promise<void>

  constructor(context: ReconcilerContext, limits: ReconcilerLimits) {
    this.#context = context
    this.#limits = limits
    this.#done = this.#run()
    for (const backend of context.backends.values()) {
      if (backend.targets) this.#track(followTargets(this.#following(backend), this.#stopping.signal))
    }
  }

  wake(): void {
    this.#woken = true
    this.#rouse()
  }

  hostConnected(host: HostName): void {
    this.#hosts.get(host)?.abort()
    const connection = new AbortController()
    this.#hosts.set(host, connection)
    this.#track(this.#compareRegularly(host, AbortSignal.any([connection.signal, this.#stopping.signal])))
  }

  hostDisconnected(host: HostName): void {
    this.#hosts.get(host)?.abort()
    this.#hosts.delete(host)
  }

  targetReturned(target: HostName): void {
    const { store, clock } = this.#context
    this.#track(store.wakeHost(target, clock.now()).then(() => this.wake()))
  }

  observed(observed: Observed): void {
    // While the instance is acted upon, that action's own outcome would overwrite what this says: first things first.
    if (this.#busy.has(observed.instance)) {
      // That it starts is what the action itself waits for: afterwards it would be taken for the end of what runs.
      if (observed.state === 'starting') this.#track(takeOutputs(this.#context, observed))
      else this.#told.set(observed.instance, [...(this.#told.get(observed.instance) ?? []), observed])
    } else this.#track(notice(this.#context, observed).then(() => this.wake()))
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the reconciler stops'))
    this.#rouse()
    await this.#done
    await Promise.allSettled(this.#work)
  }

  async #run(): Promise<void> {
    const { log, clock } = this.#context
    const { signal } = this.#stopping
    while (!signal.aborted) {
      this.#woken = false
      let sleepMs = IDLE_MS
      try {
        await this.#startDue()
        // What is due already waits for a place, and the end of other work wakes us.
        const next = this.#busy.size >= this.#limits.concurrency ? null : await this.#context.store.nextDue(clock.now())
        if (next !== null) sleepMs = Math.min(IDLE_MS, Math.max(0, next - clock.now()))
      } catch (error) {
        log.error('reconciler.store', wording(error))
        sleepMs = STORE_RETRY_MS
      }
      if (!this.#woken) await this.#sleep(sleepMs)
    }
  }

  async #startDue(): Promise<void> {
    const { store, clock } = this.#context
    const { concurrency, perHost } = this.#limits
    if (this.#busy.size >= concurrency) return
    const targets = new Set([...this.#context.backends.values()].flatMap((backend) => backend.targets?.() ?? []))
    for (const host of await store.dueHosts(clock.now())) {
      if (this.#busy.size >= concurrency) return
      const isFull = () => targets.has(host) && this.#busyOnAny(targets) >= Math.max(1, concurrency * TARGETS_SHARE)
      if (isFull()) continue
      const here = this.#busyOn(host)
      if (here >= perHost) continue
      // Those at work are due too: read past them.
      for (const instance of await store.due(host, clock.now(), perHost + here)) {
        if (this.#busy.size >= concurrency || this.#busyOn(host) >= perHost || isFull()) break
        if (!this.#busy.has(instance.id)) this.#start(instance.id, host)
      }
    }
  }

  #busyOn(host: HostName): number {
    return [...this.#busy.values()].filter((h) => h === host).length
  }

  #busyOnAny(targets: ReadonlySet<HostName>): number {
    return [...this.#busy.values()].filter((host) => targets.has(host)).length
  }

  #start(id: Instance['id'], host: HostName): void {
    this.#busy.set(id, host)
    const { log, clock } = this.#context
    const { signal } = this.#stopping
    const work = reconcile(this.#context, id, host, signal)
      .catch(async (error) => {
        log.error('reconciler.work', wording(error), { instance: id })
        // Nothing could be recorded, so it is still due: without a rest it would be tried again at once, for ever.
        await clock.wait(STORE_RETRY_MS, signal).catch(() => {})
      })
      .finally(() => {
        this.#busy.delete(id)
        const told = this.#told.get(id) ?? []
        this.#told.delete(id)
        for (const observed of told) this.observed(observed)
        this.wake()
      })
    this.#track(work)
  }

  async #compareRegularly(host: HostName, signal: AbortSignal): Promise<void> {
    const { store, clock, log, actionMs } = this.#context
    const attempt = async (failed: string, work: (limit: AbortSignal) => Promise<void>) => {
      try {
        await work(AbortSignal.any([signal, AbortSignal.timeout(actionMs)]))
      } catch (error) {
        if (!signal.aborted) log.warn(failed, wording(error), { host })
      }
    }
    while (!signal.aborted) {
      // Neither waits for the other: a host that cannot take its ways may well tell what it runs.
      await Promise.all([
        attempt('host.ways-failed', (limit) => sendWays(this.#context, host, limit)),
        attempt('host.compare-failed', async (limit) => {
          await store.wakeHost(host, clock.now())
          this.wake()
          await compareHost(this.#context, host, (id) => this.#busy.has(id), limit)
          this.wake()
        }),
      ])
      await clock.wait(this.#limits.resyncMs, signal).catch(() => {})
    }
  }

  #following(backend: Backend): FollowedBackend {
    return {
      backend,
      context: this.#context,
      everyMs: this.#limits.resyncMs,
      busy: (id) => this.#busy.has(id),
      observed: (observed) => this.observed(observed),
      changed: () => this.wake(),
    }
  }

  async #sleep(ms: number): Promise<void> {
    const roused = new AbortController()
    this.#rouse = () => roused.abort()
    if (this.#woken || this.#stopping.signal.aborted) return
    await this.#context.clock.wait(ms, roused.signal).catch(() => {})
  }

  /** Follows work to its end; whatever it throws is logged, once, here. */
  #track(work: Promise<void>): void {
    const followed = work
      .catch((error) => this.#context.log.error('reconciler.work', wording(error)))
      .finally(() => this.#work.delete(followed))
    this.#work.add(followed)
  }
}
