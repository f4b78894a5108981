import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { received, type SentError, WiringError } from '../errors.ts'
import type { WiringLog } from '../wiring.ts'

/** A worker that died sooner than this is not replaced before someone calls, so that a broken one does not spin. */
const LIVED_WELL_MS = 1000

/** What a thread is told: one call, or to end when it has nothing more to do. */
export type ToThread = { readonly id: number; readonly verb: string; readonly args: unknown } | 'stop'

/** From a thread: that it is there, the end of a call, or something for the log. */
export type FromThread =
  | { readonly loaded: true }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: SentError }
  | { readonly warning: string }

/** One call of those in `C`, by verb. */
type CallOf<C> = { readonly [V in keyof C]: { readonly verb: V; readonly args: C[V] } }[keyof C]

interface Pending {
  readonly verb: string
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: WiringError) => void
}

/**
 * A worker thread, started by the first call, and the calls it was given, carried out in order. When the worker dies, the
 * calls under way are rejected with `worker-died` (retryable) and a new one takes its place.
 *
 * `C` says what each verb is given, `A` what it answers. The worker's file answers with `answerCalls` of answering.ts.
 */
export class Thread<C extends object, A extends { readonly [V in keyof C]: unknown }> {
  /** What a worker that takes the place of a dead one is told before any other call. */
  greeting: CallOf<C> | null = null
  readonly #file: URL
  readonly #data: unknown
  readonly #name: string
  readonly #log: WiringLog
  readonly #pending = new Map<number, Pending>()
  #worker: Worker | null = null
  #lastId = 0
  #stopped = false
  #settled: (() => void) | null = null
  #loaded: Promise<unknown> = Promise.resolve()

  /** `file`: the worker's; `data`: what it finds as its `workerData`. */
  constructor(name: string, worker: { readonly file: URL; readonly data?: unknown }, log: WiringLog) {
    this.#name = name
    this.#file = worker.file
    this.#data = worker.data
    this.#log = log
  }

  /** @throws WiringError what the worker threw, `worker-died`, or `wiring-stopped` */
  call<V extends keyof C & string>(verb: V, args: C[V]): Promise<A[V]> {
    if (this.#stopped)
      return Promise.reject(new WiringError('wiring-stopped', `"${verb}" came after the wiring stopped`))
    this.#worker ??= this.#start()
    return this.#post(this.#worker, { verb, args }) as Promise<A[V]>
  }

  /**
   * Ends the worker amid its work, as a crash would. For tests: a worker that is ended while it still loads its native
   * parts takes the process with it, so this waits until it is there.
   */
  async kill(): Promise<void> {
    const worker = this.#worker
    await this.#loaded
    await worker?.terminate()
  }

  /** Waits for the calls under way, then for the worker to end by itself. */
  async stop(): Promise<void> {
    this.#stopped = true
    if (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        this.#settled = resolve
      })
    }
    const worker = this.#worker
    if (worker === null) return
    this.#worker = null
    const ended = once(worker, 'exit')
    worker.postMessage('stop' satisfies ToThread)
    await ended
  }

  #start(): Worker {
    const worker = new Worker(this.#file, {
      trackUnmanagedFds: false,
      name: `wiring-${this.#name}`,
      workerData: this.#data,
    })
    this.#loaded = Promise.race([once(worker, 'message'), once(worker, 'exit')])
    const startedAt = performance.now()
    let reason = 'it ended without a word'
    worker.on('message', (message: FromThread) => this.#heard(message))
    worker.on('error', (error) => {
      reason = error instanceof Error ? error.message : String(error)
    })
    worker.on('exit', () => {
      if (this.#worker !== worker) return
      this.#worker = null
      this.#died(reason)
      if (!this.#stopped && performance.now() - startedAt >= LIVED_WELL_MS) this.#worker = this.#start()
    })
    if (this.greeting !== null) {
      const { verb, args } = this.greeting as { verb: string; args: unknown }
      this.#post(worker, { verb, args }).catch((error: WiringError) =>
        this.#log('error', `a new wiring worker could not "${verb}"`, { code: error.code, error: error.message }),
      )
    }
    return worker
  }

  #post(worker: Worker, call: { readonly verb: string; readonly args: unknown }): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId
      this.#pending.set(id, { verb: call.verb, resolve, reject })
      worker.postMessage({ ...call, id } satisfies ToThread)
    })
  }

  #heard(message: FromThread): void {
    if ('loaded' in message) return
    if ('warning' in message) {
      this.#log('warn', message.warning, { worker: this.#name })
      return
    }
    const pending = this.#pending.get(message.id)
    this.#pending.delete(message.id)
    if ('error' in message) pending?.reject(received(message.error))
    else pending?.resolve(message.answer)
    if (this.#pending.size === 0) this.#settled?.()
  }

  #died(reason: string): void {
    this.#log('error', 'a wiring worker died', { worker: this.#name, reason, calls: this.#pending.size })
    const lost = [...this.#pending.values()]
    this.#pending.clear()
    for (const { verb, reject } of lost) {
      reject(new WiringError('worker-died', `the worker died during "${verb}": ${reason}`, { retryable: true }))
    }
    this.#settled?.()
  }
}
