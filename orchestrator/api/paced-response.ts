import type { Response } from 'express'
import type { Clock } from '../../common/clock.ts'
import type { ApiMetrics } from './metrics.ts'

/** Milliseconds that a reader may take to make room before it is disconnected. */
export const READ_WITHIN_MS = 15_000

/** The reader of a stream took too long; its connection is gone. */
export class SlowReader extends Error {}

/**
 * Writes to a response no faster than it is read, so that a stream holds one piece in memory, whatever its reader does.
 * @throws SlowReader after it cut off a reader that made no room in time; the signal's reason
 */
export async function writePaced(response: Response, text: string, clock: Clock, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  if (response.write(text)) return
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  const drained = new Promise<'drained'>((resolve) => response.once('drain', () => resolve('drained')))
  const late = clock.wait(READ_WITHIN_MS, either).then(() => 'late' as const)
  try {
    if ((await Promise.race([drained, late])) === 'drained') return
  } finally {
    over.abort()
    late.catch(() => {})
  }
  response.destroy()
  throw new SlowReader('the reader of a stream was too slow')
}

/** Aborts when the reader leaves or `stopping` does. */
export function whileRead(response: Response, stopping: AbortSignal): AbortSignal {
  const left = new AbortController()
  if (response.destroyed) left.abort()
  response.once('close', () => left.abort())
  return AbortSignal.any([left.signal, stopping])
}

/** What a route needs to send a stream. */
export interface Pacing {
  readonly clock: Clock
  readonly metrics: Pick<ApiMetrics, 'slowReaders'>
  /** Aborted when the server stops: streams end then. */
  readonly stopping: AbortSignal
}

/**
 * Sends texts as text/plain while they come, until they end, the reader leaves or the server stops.
 * @throws what the texts threw, unless nobody reads them any more
 */
export async function sendTexts(
  response: Response,
  { clock, metrics, stopping }: Pacing,
  texts: (left: AbortSignal) => AsyncIterable<string>,
): Promise<void> {
  const left = whileRead(response, stopping)
  try {
    for await (const text of texts(left)) {
      if (!response.headersSent) response.type('text/plain')
      await writePaced(response, text, clock, left)
    }
    if (!response.headersSent) response.type('text/plain')
    response.end()
  } catch (error) {
    if (error instanceof SlowReader) metrics.slowReaders.inc()
    else if (stopping.aborted && response.headersSent) response.end()
    else if (!left.aborted) throw error
    else response.destroy()
  }
}
