import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { wording } from '../../../common/errors.ts'
import type { WiringLog } from '../wiring.ts'

/** Tells when processes exit, ours or not, by pidfd_open(2): no polling, and no namespace is kept alive. */
export interface ProcessExits {
  /**
   * Calls `exited` once, at once if there is no such process.
   * @returns ends the watch
   */
  watch(pid: number, exited: () => void): () => void
  stop(): Promise<void>
}

export type ToExits = 'stop' | { readonly add: number } | { readonly remove: number }
export type FromExits = { readonly wake: number } | { readonly exited: number }

/** The running file is TypeScript or what was compiled from it; `new URL` is not rewritten by the compiler. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './exits-worker.ts' : './exits-worker.js', import.meta.url)
const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])

/** A worker that died is replaced, with all that it watched. */
export function watchExits(log: WiringLog): ProcessExits {
  const watched = new Map<number, Set<() => void>>()
  let wake: number | null = null
  let stopped = false
  let ended = Promise.resolve()
  let worker = start()

  function start(): Worker {
    const made = new Worker(WORKER, { trackUnmanagedFds: false })
    made.unref()
    made.on('message', (message: FromExits) => heard(message))
    const { promise, resolve } = Promise.withResolvers<void>()
    ended = promise
    made.on('error', (error) => log('error', 'the watch over processes failed', { error: wording(error) }))
    made.on('exit', () => {
      // It is gone, and its messages are heard: nobody else writes there.
      if (wake !== null) closeSync(wake)
      wake = null
      resolve()
      if (stopped) return
      worker = start()
      for (const pid of watched.keys()) worker.postMessage({ add: pid } satisfies ToExits)
    })
    return made
  }
  function heard(message: FromExits): void {
    if ('wake' in message) {
      wake = message.wake
      writeSync(wake, ONE)
      return
    }
    const callbacks = watched.get(message.exited) ?? []
    watched.delete(message.exited)
    for (const exited of callbacks) exited()
  }
  function tell(message: ToExits): void {
    worker.postMessage(message)
    // Before it has said how to wake it, it has not gone to sleep for good either: `heard` wakes it.
    if (wake !== null) writeSync(wake, ONE)
  }

  // A thread that sleeps in the kernel would keep the process from ending.
  const ending = () => tell('stop')
  process.once('exit', ending)

  return {
    watch(pid, exited) {
      const callbacks = watched.get(pid) ?? new Set()
      watched.set(pid, callbacks.add(exited))
      if (callbacks.size === 1) tell({ add: pid })
      return () => {
        if (!callbacks.delete(exited) || callbacks.size > 0 || watched.get(pid) !== callbacks) return
        watched.delete(pid)
        tell({ remove: pid })
      }
    },
    async stop() {
      stopped = true
      watched.clear()
      process.off('exit', ending)
      tell('stop')
      await ended
    },
  }
}
