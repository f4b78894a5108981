import { setTimeout as delay } from 'node:timers/promises'
import type { ApiClient, StreamMessage } from '../api/client.ts'
import { Refused, ServerUnreachable } from '../api/transport.ts'
import { say } from './output.ts'

/** Milliseconds before the stream is opened anew. */
const AGAIN = { first: 500, most: 10_000 } as const

/**
 * Events as they come, each once, across restarts of the server: the stream is resumed after the last one seen.
 * @param last how many past events to begin with
 * @throws what the first attempt throws, and refusals at any time
 */
export async function* followEvents(
  client: ApiClient,
  options: { last: number; instance?: string | undefined },
  signal: AbortSignal,
): AsyncIterable<StreamMessage> {
  let after: number | null = null
  let pause: number = AGAIN.first
  let reached = false
  for (;;) {
    try {
      if (after === null) after = await beginning(client, options, signal)
      reached = true
      for await (const message of client.eventStream({ after, last: 0, instance: options.instance }, signal)) {
        if ('event' in message) after = message.event.id
        pause = AGAIN.first
        yield message
      }
    } catch (error) {
      const passing = error instanceof ServerUnreachable || (error instanceof Refused && error.retryable)
      if (!reached || !passing) throw error
      say(`${error.message}; trying again`)
    }
    await delay(pause, undefined, { signal })
    pause = Math.min(pause * 2, AGAIN.most)
  }
}

/** The id after which a stream with `last` past events begins. */
async function beginning(
  client: ApiClient,
  options: { last: number; instance?: string | undefined },
  signal: AbortSignal,
): Promise<number> {
  const past = await client.events({ limit: Math.max(1, options.last), instance: options.instance }, signal)
  const edge = options.last === 0 ? past.at(-1)?.id : past[0] && past[0].id - 1
  return edge ?? 0
}
