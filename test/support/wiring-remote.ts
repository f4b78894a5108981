import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'

/** A question to a process of the lab, and its answer. */
export interface Question {
  readonly id: number
  readonly verb: string
  readonly args: readonly unknown[]
}
export type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { message: string; code: string; retryable: boolean } }

/** An error as another process told it. */
export class RemoteError extends Error {
  readonly code: string
  readonly retryable: boolean
  constructor(error: { message: string; code: string; retryable: boolean }) {
    super(error.message)
    this.code = error.code
    this.retryable = error.retryable
  }
}

/** A process of the lab that answers questions, started through a command such as nsenter. */
export class Remote {
  readonly process: ChildProcess
  readonly exited: Promise<unknown>
  readonly #pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  #lastId = 0

  constructor(command: readonly string[]) {
    const [program = '', ...args] = command
    const stdio: StdioOptions = ['pipe', 'inherit', 'inherit', 'ipc']
    this.process = spawn(program, args, { stdio, env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' } })
    this.exited = once(this.process, 'exit')
    this.process.on('message', (reply: Reply) => {
      const pending = this.#pending.get(reply.id)
      this.#pending.delete(reply.id)
      if ('error' in reply) pending?.reject(new RemoteError(reply.error))
      else pending?.resolve(reply.value)
    })
    this.process.on('exit', (code, signal) => {
      for (const { reject } of this.#pending.values())
        reject(new Error(`${command.join(' ')} ended: ${code ?? signal}`))
      this.#pending.clear()
    })
  }

  get pid(): number {
    if (this.process.pid === undefined) throw new Error('the process did not start')
    return this.process.pid
  }

  ask<T>(verb: string, ...args: readonly unknown[]): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const id = ++this.#lastId
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject })
      this.process.send({ id, verb, args } satisfies Question, (error) => error && reject(error))
    })
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    this.process.kill('SIGKILL')
    await this.exited
  }
}

/** Answers the questions of the process that started this one, until that one goes away. */
export function answer(verbs: Record<string, (...args: never[]) => unknown>): void {
  process.on('disconnect', () => process.exit())
  process.on('message', async ({ id, verb, args }: Question) => {
    try {
      process.send?.({ id, value: await verbs[verb]?.(...(args as never[])) } satisfies Reply)
    } catch (thrown) {
      const error = thrown as Error & { code?: string; retryable?: boolean }
      const told = { message: error.message, code: error.code ?? 'none', retryable: error.retryable ?? false }
      process.send?.({ id, error: told } satisfies Reply)
    }
  })
}
