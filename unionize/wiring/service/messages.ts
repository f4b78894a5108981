import type { SentError } from '../errors.ts'
import { WiringError } from '../errors.ts'

/**
 * What goes over the socket of the wiring process: JSON, one message a line. Each side says `hello` first; then the
 * client calls and the process answers each call once, in whatever order they end.
 */

/** Raised when one side would no longer understand the other. */
export const WIRING_PROTOCOL = 1

/** Bytes of one message, line feed not counted. The largest, `replacePassages`, takes some 200 for each instance. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

/** Calls of one client that are under way at once; the rest waits in its socket. */
export const MAX_CALLS = 64

export interface Greeting {
  readonly hello: { readonly protocol: number; readonly version: string }
}

export interface CallMessage {
  readonly id: number
  /** A verb of calls.ts. */
  readonly verb: string
  readonly args: readonly unknown[]
}

export type ToProcess = Greeting | CallMessage

export type FromProcess =
  | Greeting
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: SentError }
  /** The last word before the process hangs up: what was wrong with what it was sent. */
  | { readonly bye: SentError }

/** One message as it is written. @throws WiringError `message-too-long` */
export function encode(message: ToProcess | FromProcess): string {
  const line = JSON.stringify(message)
  if (Buffer.byteLength(line) > MAX_MESSAGE_BYTES) throw tooLong()
  return `${line}\n`
}

/** The messages in a stream of bytes. */
export class Lines {
  #parts: Buffer[] = []
  #length = 0

  /** The lines that end in this chunk. @throws WiringError `message-too-long` */
  add(chunk: Buffer): string[] {
    const lines: string[] = []
    let from = 0
    for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, from)) {
      this.#keep(chunk.subarray(from, at))
      from = at + 1
      const [only] = this.#parts
      lines.push((this.#parts.length === 1 && only !== undefined ? only : Buffer.concat(this.#parts)).toString())
      this.#parts = []
      this.#length = 0
    }
    this.#keep(chunk.subarray(from))
    return lines
  }

  #keep(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#length += bytes.length
    if (this.#length > MAX_MESSAGE_BYTES) throw tooLong()
    this.#parts.push(bytes)
  }
}

const LINE_FEED = 10

/** A call out of a line. @throws WiringError `bad-message` */
export function parseCall(line: string): CallMessage {
  const { id, verb, args } = fields(line)
  if (!Number.isSafeInteger(id) || typeof verb !== 'string' || !Array.isArray(args)) {
    throw badMessage('expected {"id": NUMBER, "verb": TEXT, "args": […]}')
  }
  return { id: id as number, verb, args }
}

/** The greeting out of a line. @throws WiringError `bad-message`, `protocol-mismatch` */
export function parseGreeting(line: string): Greeting {
  const hello = fields(line)['hello'] as Greeting['hello'] | undefined
  if (typeof hello !== 'object' || hello === null || typeof hello.version !== 'string') {
    throw badMessage('expected {"hello": {"protocol": NUMBER, "version": TEXT}} first')
  }
  if (hello.protocol !== WIRING_PROTOCOL) {
    throw new WiringError(
      'protocol-mismatch',
      `the wiring process and its client are not of one version: protocol ${WIRING_PROTOCOL} here, ` +
        `${String(hello.protocol)} (unionize ${hello.version}) there; restart the older one`,
      { retryable: true },
    )
  }
  return { hello }
}

/** An answer out of a line. @throws WiringError `bad-message` */
export function parseAnswer(line: string): Exclude<FromProcess, Greeting> {
  const { id, answer, error, bye } = fields(line)
  if (bye !== undefined) return { bye: parseError(bye) }
  if (!Number.isSafeInteger(id)) throw badMessage('expected the id of a call')
  return error === undefined ? { id: id as number, answer } : { id: id as number, error: parseError(error) }
}

function parseError(value: unknown): SentError {
  const { code, message, retryable } = (value ?? {}) as SentError
  if (typeof code !== 'string' || typeof message !== 'string')
    throw badMessage('expected an error with code and message')
  return { code, message, retryable: retryable === true }
}

function fields(line: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw badMessage('expected JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badMessage('expected an object')
  return value as Record<string, unknown>
}

function badMessage(expected: string): WiringError {
  return new WiringError('bad-message', `a message on the wiring socket was not understood: ${expected}`)
}

function tooLong(): WiringError {
  return new WiringError('message-too-long', `a message on the wiring socket has more than ${MAX_MESSAGE_BYTES} bytes`)
}
