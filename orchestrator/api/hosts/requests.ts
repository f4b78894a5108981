import { HostUnreachable, OrchestratorError } from '../../../common/errors.ts'
import type { FromHost, ToHost, WireFailure, WireObserved } from '../../../unionize/contract.ts'
import { printable } from './from-wire.ts'

/** Characters of log output that may wait for a reader before it is dropped as too slow. */
const MOST_WAITING_OUTPUT = 8 * 1024 * 1024
/** Milliseconds that a host has, once the time for its answer is up, to say what it was waiting for. */
const LAST_WORD_MS = 1_000

type Request = Exclude<ToHost, { type: 'welcome' | 'stored' | 'cancel' }>
/** A request before it has its number. */
export type Question = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never
type Result = Extract<FromHost, { type: 'result' }>

interface Waiting {
  readonly settle: (result: Result) => void
  readonly fail: (error: unknown) => void
  readonly output: (text: string) => void
}

/** Questions to one host over one connection, matched with their answers. */
export class HostRequests {
  readonly #host: string
  readonly #send: (message: ToHost) => void
  readonly #waiting = new Map<string, Waiting>()
  /** Given up here, not yet answered there. */
  readonly #cancelled = new Set<string>()
  #count = 0
  #over: unknown

  constructor(host: string, send: (message: ToHost) => void) {
    this.#host = host
    this.#send = send
  }

  get size(): number {
    return this.#waiting.size
  }

  /**
   * Asks, and resolves with what the host observed. When the signal ends it as a time limit (TimeoutError), the host is
   * told and has a second to answer all the same: what it says then is thrown instead of the signal's reason.
   * @throws as Agents does
   */
  async ask(question: Question, signal: AbortSignal): Promise<readonly WireObserved[]> {
    const { answer } = this.#begin(question, () => {}, signal, LAST_WORD_MS)
    return (await answer).observed ?? []
  }

  /** Asks for output. Ends with the host's result; a reader that falls too far behind is refused. */
  async *stream(question: Question, signal: AbortSignal): AsyncIterable<string> {
    const stop = new AbortController()
    const parts: string[] = []
    let waiting = 0
    let wake = () => {}
    let done: { error?: unknown } | null = null
    const finish = (end: { error?: unknown }) => {
      done ??= end
      wake()
    }
    const take = (text: string) => {
      parts.push(text)
      waiting += text.length
      if (waiting > MOST_WAITING_OUTPUT) {
        const slow = new OrchestratorError('reader-too-slow', 'the reader of the logs was too slow')
        finish({ error: slow })
        stop.abort(slow)
      } else wake()
    }
    const { answer } = this.#begin(question, take, AbortSignal.any([signal, stop.signal]))
    answer.then(
      () => finish({}),
      (error: unknown) => finish({ error }),
    )
    try {
      for (;;) {
        const text = parts.shift()
        if (text !== undefined) {
          waiting -= text.length
          yield text
          continue
        }
        const end = done as { error?: unknown } | null
        if (end !== null) {
          if ('error' in end) throw end.error
          return
        }
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    } finally {
      stop.abort(new OrchestratorError('cancelled', 'nobody reads the logs any more'))
    }
  }

  /** Takes an answer. @returns false: nobody asked */
  answered(result: Result): boolean {
    const waiting = this.#waiting.get(result.id)
    if (waiting === undefined) return this.#cancelled.delete(result.id)
    this.#waiting.delete(result.id)
    waiting.settle(result)
    return true
  }

  /** Takes output of a `logs` request. @returns false: nobody asked */
  printed(id: string, text: string): boolean {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return this.#cancelled.has(id)
    waiting.output(text)
    return true
  }

  /** The connection is over: everything asked, and whatever will be asked, is rejected. */
  end(why: string): void {
    this.#over ??= new HostUnreachable(this.#host, why)
    for (const waiting of this.#waiting.values()) waiting.fail(this.#over)
    this.#waiting.clear()
    this.#cancelled.clear()
  }

  #begin(
    question: Question,
    output: (text: string) => void,
    signal: AbortSignal,
    lastWordMs = 0,
  ): { answer: Promise<Result> } {
    const answer = new Promise<Result>((resolve, reject) => {
      signal.throwIfAborted()
      if (this.#over !== undefined) throw this.#over
      const id = `r${++this.#count}`
      let lastWord: NodeJS.Timeout | undefined
      const giveUp = () => {
        this.#waiting.delete(id)
        this.#cancelled.add(id)
        reject(signal.reason)
      }
      const cancel = () => {
        this.#send({ type: 'cancel', id })
        if (lastWordMs > 0 && isTimeout(signal.reason)) lastWord = setTimeout(giveUp, lastWordMs)
        else giveUp()
      }
      const leave = () => {
        clearTimeout(lastWord)
        signal.removeEventListener('abort', cancel)
      }
      this.#waiting.set(id, {
        output,
        settle: (result) => {
          leave()
          if (result.failure === undefined) resolve(result)
          else if (signal.aborted && result.failure.code === 'cancelled') reject(signal.reason)
          else reject(failureOf(result.failure))
        },
        fail: (error) => {
          leave()
          reject(error)
        },
      })
      signal.addEventListener('abort', cancel, { once: true })
      this.#send({ ...question, id })
    })
    return { answer }
  }
}

/** What AbortSignal.timeout() aborts with (DOM Standard, section 3.2). */
function isTimeout(reason: unknown): boolean {
  return reason instanceof DOMException && reason.name === 'TimeoutError'
}

function failureOf(failure: WireFailure): OrchestratorError {
  return new OrchestratorError(failure.code, printable(failure.message), { retryable: failure.retryable })
}
