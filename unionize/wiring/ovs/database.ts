import { WiringError } from '../errors.ts'
import { JsonTexts } from './json-texts.ts'
import type { Atom, Row } from './notation.ts'
import { UnixStream } from './stream.ts'

/** Column, function, value (RFC 7047, 5.1). */
export type Condition = readonly [string, '==' | 'includes', unknown]

/** One operation of a transaction (RFC 7047, 5.2). */
export type Operation =
  | { readonly op: 'select'; readonly table: string; readonly where: readonly Condition[]; readonly columns: string[] }
  | { readonly op: 'insert'; readonly table: string; readonly row: Row; readonly 'uuid-name': string }
  | { readonly op: 'update'; readonly table: string; readonly where: readonly Condition[]; readonly row: Row }
  | {
      readonly op: 'mutate'
      readonly table: string
      readonly where: readonly Condition[]
      readonly mutations: readonly (readonly [string, '+=' | 'insert' | 'delete', unknown])[]
    }
  | {
      readonly op: 'wait'
      readonly table: string
      readonly where: readonly Condition[]
      readonly columns: readonly string[]
      readonly until: '==' | '!='
      readonly rows: readonly Row[]
      /** Milliseconds. */
      readonly timeout: number
    }

/** What an operation found or did. */
export interface Outcome {
  readonly rows?: readonly Row[]
  readonly count?: number
  readonly uuid?: Atom
}

/** The database said no. */
export class DatabaseRefusal extends WiringError {
  /** Its name for it (RFC 7047, 3.1): `timed out` where a `wait` was not fulfilled. */
  readonly reason: string
  constructor(reason: string, details: string) {
    super('ovs-refused', `Open vSwitch refused (${[reason, details].filter((text) => text !== '').join(': ')})`)
    this.reason = reason
  }
}

const DATABASE = 'Open_vSwitch'

/**
 * A conversation with OVSDB (RFC 7047) that blocks its thread. Kept for one task only, so that no restart of Open vSwitch
 * and no inactivity probe comes in between.
 */
export class Database {
  readonly #stream: UnixStream
  readonly #texts = new JsonTexts()
  readonly #heard: unknown[] = []
  #lastId = 0

  /** @param timeoutMs for each step of the conversation @throws WiringError `ovs-unreachable` */
  constructor(path: string, timeoutMs: number) {
    this.#stream = new UnixStream(path, timeoutMs)
  }

  /** Carries out all operations, or none. @throws DatabaseRefusal @throws WiringError `ovs-unreachable` */
  transact(...operations: readonly Operation[]): Outcome[] {
    const outcomes = this.#call('transact', [DATABASE, ...operations])
    if (!Array.isArray(outcomes)) throw unreadable(outcomes)
    // One more outcome than operations: the commit failed.
    for (const outcome of outcomes as ({ error?: unknown; details?: unknown } | null)[]) {
      if (typeof outcome?.error === 'string') throw new DatabaseRefusal(outcome.error, String(outcome.details ?? ''))
    }
    return outcomes as Outcome[]
  }

  close(): void {
    this.#stream.close()
  }

  #call(method: string, params: unknown): unknown {
    const id = ++this.#lastId
    this.#stream.write(Buffer.from(JSON.stringify({ method, params, id })))
    for (;;) {
      const reply = this.#next() as { id?: unknown; result?: unknown; error?: unknown; method?: unknown }
      if (reply.method !== undefined || reply.id !== id) continue
      if (reply.error !== null && reply.error !== undefined) throw unreadable(reply.error)
      return reply.result
    }
  }

  #next(): unknown {
    while (this.#heard.length === 0) {
      const bytes = this.#stream.read()
      try {
        this.#heard.push(...this.#texts.take(bytes))
      } catch {
        throw unreadable(bytes.toString('utf8', 0, 100))
      }
    }
    return this.#heard.shift()
  }
}

function unreadable(what: unknown): WiringError {
  return new WiringError('ovs-refused', `Open vSwitch answered what RFC 7047 does not have: ${JSON.stringify(what)}`)
}
