import { setImmediate } from 'node:timers/promises'
import { received, sendable, WiringError } from '../errors.ts'
import type { WiringLog } from '../wiring.ts'
import type { Answers, Call, Caller, Calls, Verb } from './protocol.ts'
import { createVerbs } from './verbs.ts'

/**
 * Carries out calls on the calling thread, in order, with room for other events between two of them: for a process that
 * does nothing else but wiring. There a thread more would cost memory and a hop, and contain no fault.
 */
export class OwnThread implements Caller {
  greeting: Call | null = null
  readonly #log: WiringLog
  #verbs: ReturnType<typeof createVerbs> | null = null
  #last: Promise<unknown> = Promise.resolve()
  #stopped = false
  /** Calls that wait or are under way: one that comes alone need not wait for other events. */
  #pending = 0

  constructor(log: WiringLog) {
    this.#log = log
  }

  /** @throws WiringError what the kernel refused, or `wiring-stopped` */
  call<V extends Verb>(verb: V, args: Calls[V]): Promise<Answers[V]> {
    if (this.#stopped) {
      return Promise.reject(new WiringError('wiring-stopped', `"${verb}" came after the wiring stopped`))
    }
    const answer = this.#inTurn(verb, args, this.#pending++ === 0 ? null : this.#last)
    const ended = () => {
      this.#pending--
    }
    this.#last = answer.then(ended, ended)
    return answer
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#last
  }

  /** Begins at once after nothing, so that a lone call waits for no other event. */
  async #inTurn<V extends Verb>(verb: V, args: Calls[V], after: Promise<unknown> | null): Promise<Answers[V]> {
    if (after !== null) {
      await after
      await setImmediate()
    }
    return this.#carryOut(verb, args)
  }

  #carryOut<V extends Verb>(verb: V, args: Calls[V]): Answers[V] {
    try {
      this.#verbs ??= createVerbs((warning) => this.#log('warn', warning, {}))
      return (this.#verbs[verb] as (args: Calls[V]) => Answers[V])(args)
    } catch (thrown) {
      throw received(sendable(thrown))
    }
  }
}
