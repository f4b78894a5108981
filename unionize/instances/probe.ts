import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

/** Milliseconds for one attempt: a lost packet is tried again by us, not by TCP's first retransmit after a second. */
const ATTEMPT_MS = 25
/** Milliseconds between attempts: from the first to at most the last. */
const PAUSE = { first: 1, most: 100 }

/**
 * Waits until a TCP connection to the port is accepted.
 * @param limitMs gives up after that long
 * @returns whether it answered in time
 * @throws the signal's reason when aborted
 */
export async function answers(address: string, port: number, limitMs: number, signal: AbortSignal): Promise<boolean> {
  const end = performance.now() + limitMs
  for (let pause = PAUSE.first; performance.now() < end; pause = Math.min(pause * 1.5, PAUSE.most)) {
    signal.throwIfAborted()
    if (await attempt(address, port)) return true
    await wait(pause, undefined, { signal })
  }
  return false
}

function attempt(address: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect({ host: address, port })
  const done = (answered: boolean) => {
    clearTimeout(timer)
    socket.destroy()
    resolve(answered)
  }
  const timer = setTimeout(() => done(false), ATTEMPT_MS)
  socket.once('connect', () => done(true))
  socket.once('error', () => done(false))
  return promise
}
