import { LabError } from './command.ts'
import { type LabProcess, type Launch, launch } from './processes.ts'

/** What a process at the other end of a channel can do: one async function a verb. Parameters and results are JSON. */
export type Verbs = Readonly<Record<string, (parameters: never) => Promise<unknown>>>

/** The number under which the other side first says that it listens. */
const HELLO = 0

interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly error?: string
}

/**
 * A Node process in some namespace that does what it is asked. It ends by itself when the asker does, however that ends.
 */
export class Remote<V extends Verbs> {
  readonly process: LabProcess
  readonly #listening: Promise<void>
  #next = HELLO + 1
  readonly #waiting = new Map<number, (answer: Answer) => void>()

  constructor(prefix: string, what: Omit<Launch, 'channel' | 'command'> & { readonly script: string }) {
    this.process = launch(prefix, { ...what, command: [process.execPath, what.script], channel: true })
    let listens = (): void => undefined
    this.#listening = new Promise((resolve) => {
      listens = resolve
    })
    this.process.child.on('message', (message) => {
      const answer = message as Answer
      if (answer.id === HELLO) listens()
      this.#waiting.get(answer.id)?.(answer)
      this.#waiting.delete(answer.id)
    })
    void this.process.ended.then((outcome) => {
      for (const [id, settle] of this.#waiting) settle({ id, error: `${this.process.name} ended (${outcome})` })
      this.#waiting.clear()
    })
  }

  /** Resolves when it listens, so in its namespaces for sure; rejects when it ends before. */
  async ready(): Promise<void> {
    const ended = this.process.ended.then((outcome) => {
      throw new LabError('remote-failed', `${this.process.name} ended at once (${outcome}): ${this.process.log()}`)
    })
    await Promise.race([this.#listening, ended])
  }

  /** @throws LabError 'remote-failed' with what the other side says, or that it has ended */
  call<K extends keyof V & string>(verb: K, parameters: Parameters<V[K]>[0]): Promise<Awaited<ReturnType<V[K]>>> {
    return new Promise((resolve, reject) => {
      const refuse = (why: string): void =>
        reject(new LabError('remote-failed', `${this.process.name}: ${verb}: ${why}`))
      if (!this.process.running) return refuse(`it has ended, see ${this.process.logFile}`)
      const id = this.#next++
      this.#waiting.set(id, (answer) => {
        if (answer.error !== undefined) refuse(answer.error)
        else resolve(answer.result as Awaited<ReturnType<V[K]>>)
      })
      this.process.child.send({ id, verb, parameters }, (error) => {
        if (error) this.#waiting.get(id)?.({ id, error: error.message })
      })
    })
  }

  /** Ends the process. */
  async stop(): Promise<void> {
    await this.process.stop(1000)
  }
}

/** The other side: answers calls until the asker goes away. */
export function serve(verbs: Verbs): void {
  process.on('message', (message) => {
    const { id, verb, parameters } = message as { id: number; verb: string; parameters: never }
    const work = verbs[verb]?.(parameters) ?? Promise.reject(new Error('no such verb'))
    work.then(
      (result) => process.send?.({ id, result }),
      (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.message : String(error) }),
    )
  })
  process.on('disconnect', () => process.exit(0))
  process.send?.({ id: HELLO })
}
