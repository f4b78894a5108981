import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { received, WiringError } from './errors.ts'
import type { Answers, Call, Caller, Calls, FromWorker, ToWorker, Verb } from './protocol.ts'
import type { WiringLog } from './wiring.ts'

/** A worker that died sooner than this is not replaced before someone calls, so that a broken one does not spin. */
const LIVED_WELL_MS = 1000

/** The running file is TypeScript or what was compiled from it; `new URL` is not rewritten by the compiler. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)

interface Pending {
  readonly verb: Verb
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: WiringError) => void
}

/**
 * A worker, started by the first call, and the calls it was given, carried out in order. When the worker dies, the calls under way are rejected with
 * `worker-died` (retryable) and a new one takes its place.
 */
export class Lane implements Caller {
  greeting: Call | null = null
  readonly #name: string
  readonly #log: WiringLog
  readonly #pending = new Map<number, Pending>()
  #worker: Worker | null = null
  #lastId = 0
  #stopped = false
  #settled: (() => void) | null = null
  #loaded: Promise<unknown> = Promise.resolve()

  constructor(name: string, log: WiringLog) {
    this.#name = name
    this.#log = log
  }

  /** @throws WiringError what the worker threw, `worker-died`, or `wiring-stopped` */
  call<V extends Verb>(verb: V, args: Calls[V]): Promise<Answers[V]> {
    if (this.#stopped)
      return Promise.reject(new WiringError('wiring-stopped', `"${verb}" came after the wiring stopped`))
    this.#worker ??= this.#start()
    return this.#post(this.#worker, { verb, args } as Call) as Promise<Answers[V]>
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
    worker.postMessage('stop' satisfies ToWorker)
    await ended
  }

  #start(): Worker {
    const worker = new Worker(WORKER, { trackUnmanagedFds: false, name: `wiring-${this.#name}` })
    this.#loaded = Promise.race([once(worker, 'message'), once(worker, 'exit')])
    const startedAt = performance.now()
    let reason = 'it ended without a word'
    worker.on('message', (message: FromWorker) => this.#heard(message))
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
      const { verb } = this.greeting
      this.#post(worker, this.greeting).catch((error: WiringError) =>
        this.#log('error', `a new wiring worker could not "${verb}"`, { code: error.code, error: error.message }),
      )
    }
    return worker
  }

  #post(worker: Worker, call: Call): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId
      this.#pending.set(id, { verb: call.verb, resolve, reject })
      worker.postMessage({ ...call, id } satisfies ToWorker)
    })
  }

  #heard(message: FromWorker): void {
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
