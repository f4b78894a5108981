import type { Response } from 'express'
import type { Clock } from '../../common/clock.ts'
import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { StoredEvent } from '../domain/event.ts'
import type { InstanceId } from '../domain/instance.ts'
import type { Store } from '../store/store.ts'
import { EventFeed } from './event-feed.ts'
import type { ApiMetrics } from './metrics.ts'
import { SlowReader, whileRead, writePaced } from './paced-response.ts'
import { Problem } from './problem.ts'
import { eventToShape } from './shapes.ts'

/** Streams at once; each costs a connection and a little memory. */
const MOST_STREAMS = 256
/** Events read from the store at once. */
const PAGE = 500
/** Milliseconds between two comments on a silent stream: proxies and dead peers show themselves. */
const HEARTBEAT_MS = 15_000

/**
 * PostgreSQL gives numbers when an event is written, not when it is committed: a hole may still be filled. Events behind
 * a hole are held back until it is, or until they are so old (milliseconds) that it will not be.
 */
const HOLE_AGE_MS = 2_000
const HOLE_LOOK_MS = 50

/** Where a stream begins: after an event's id, or with the newest `last` events. */
export interface StreamStart {
  readonly after: number | null
  readonly last: number
  readonly instance: InstanceId | undefined
}

/** Server-sent events: each event once, in order, resumable by its id; a gap is told (`event: gap`), never hidden. */
export class EventStreams {
  readonly #options: { store: Store; clock: Clock; log: Log; metrics: ApiMetrics; stopping: AbortSignal }
  readonly #feed: EventFeed
  #open = 0

  constructor(options: { store: Store; clock: Clock; log: Log; metrics: ApiMetrics; stopping: AbortSignal }) {
    this.#options = options
    this.#feed = new EventFeed(options.store, options.clock)
  }

  /** Serves one reader until it leaves, is too slow, or we stop. @throws Problem 429 when there are too many */
  async serve(response: Response, start: StreamStart): Promise<void> {
    const { log, metrics, stopping } = this.#options
    if (this.#open >= MOST_STREAMS) {
      throw new Problem(429, 'too-many-streams', `${MOST_STREAMS} event streams are open; try again later`, {
        headers: { 'Retry-After': '5' },
      })
    }
    this.#open++
    metrics.eventStreams.set(this.#open)
    const signal = whileRead(response, stopping)
    try {
      await this.#stream(response, start, signal)
    } catch (error) {
      if (error instanceof SlowReader) metrics.slowReaders.inc()
      else if (!signal.aborted) log.error('api.stream-failed', `an event stream ended: ${wording(error)}`)
    } finally {
      this.#open--
      metrics.eventStreams.set(this.#open)
      response.end()
    }
  }

  async #stream(response: Response, start: StreamStart, signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#options
    const first = await this.#begin(start)
    response
      .status(200)
      .set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
    response.flushHeaders()
    await writePaced(response, `retry: 1000\n\n${first.text}`, clock, signal)
    let cursor = first.cursor
    for (;;) {
      // All events are read and those of others left out here: only so is a hole in the numbers seen.
      const page = await store.events({ limit: PAGE, after: cursor })
      const ready = settled(page, cursor, clock.now())
      for (const event of ready) {
        if (start.instance === undefined || event.instance === start.instance) {
          await writePaced(response, frame(event), clock, signal)
        }
        cursor = event.id
      }
      if (ready.length < page.length) await clock.wait(HOLE_LOOK_MS, signal)
      else if (page.length < PAGE) await this.#wait(response, cursor, signal)
    }
  }

  /** Waits for an event after `cursor`, with a heartbeat now and then. */
  async #wait(response: Response, cursor: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    for (;;) {
      const beat = AbortSignal.timeout(HEARTBEAT_MS)
      try {
        return await this.#feed.after(cursor, AbortSignal.any([signal, beat]))
      } catch (error) {
        if (signal.aborted || !beat.aborted) throw error
        await writePaced(response, ':\n\n', clock, signal)
      }
    }
  }

  async #begin(start: StreamStart): Promise<{ cursor: number; text: string }> {
    const { store } = this.#options
    if (start.after !== null) {
      const [oldest] = await store.events({ limit: 1, after: 0 })
      const lost = start.after > 0 && oldest !== undefined && oldest.id > start.after + 1
      const gap = { after: start.after, oldest: oldest?.id }
      return { cursor: start.after, text: lost ? `event: gap\ndata: ${JSON.stringify(gap)}\n\n` : '' }
    }
    const [newest] = await store.events({ limit: 1 })
    if (start.last === 0) return { cursor: newest?.id ?? 0, text: '' }
    const past = await store.events({ limit: start.last, instance: start.instance })
    return { cursor: past.at(-1)?.id ?? newest?.id ?? 0, text: past.map(frame).join('') }
  }
}

/** The beginning of a page that nothing can come before any more. @param cursor the id before the page */
function settled(page: readonly StoredEvent[], cursor: number, now: number): readonly StoredEvent[] {
  let expected = cursor + 1
  const end = page.findIndex((event) => {
    const held = event.id > expected && now - event.at < HOLE_AGE_MS
    expected = event.id + 1
    return held
  })
  return end === -1 ? page : page.slice(0, end)
}

function frame(event: StoredEvent): string {
  return `id: ${event.id}\ndata: ${JSON.stringify(eventToShape(event))}\n\n`
}
