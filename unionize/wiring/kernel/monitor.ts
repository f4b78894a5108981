import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { wording } from '../../../common/errors.ts'
import type { Heard, LinkChange } from './link-events.ts'

export type { Heard, LinkChange } from './link-events.ts'

/** The running file is TypeScript or what was compiled from it; `new URL` is not rewritten by the compiler. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './monitor-worker.ts' : './monitor-worker.js', import.meta.url)
const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])
/** A worker that ended is replaced after this, so that one that cannot live does not spin. */
const RESTART_MS = 1000

/** From the worker. */
export type FromMonitor =
  | { readonly wake: number }
  | { readonly changes: readonly LinkChange[]; readonly lost: string | null }

export interface LinkWatcher {
  /** Links as they were after each change, in the order of the changes. */
  onChange(changes: readonly LinkChange[]): void
  /** Changes may have been missed, for this reason: read everything anew. What is told from now on is complete. */
  onLost(reason: string): void
}

export interface LinkWatch {
  /** No change after this is missed without a word. Never rejected: what fails is told to `onLost`. */
  readonly ready: Promise<void>
  /** After it has resolved, no callback is called. */
  stop(): Promise<void>
}

/**
 * Tells of every change of the links of this process's network namespace, by netlink multicast (RTNLGRP_LINK), from a
 * thread that sleeps in the kernel meanwhile. Does not keep the process alive.
 */
export function watchLinks(watcher: LinkWatcher, heard: Heard = {}): LinkWatch {
  const ready = Promise.withResolvers<void>()
  let wake: number | null = null
  let worker: Worker | null = null
  let restart: NodeJS.Timeout | undefined
  let stopped: PromiseWithResolvers<void> | null = null
  start()

  function start(): void {
    worker = new Worker(WORKER, { trackUnmanagedFds: false, name: 'links', workerData: heard })
    worker.unref()
    let reason = 'it ended without a word'
    worker.on('message', told)
    worker.on('error', (error) => {
      reason = wording(error)
    })
    worker.on('exit', () => {
      worker = null
      if (wake !== null) closeSync(wake)
      wake = null
      if (stopped !== null) {
        stopped.resolve()
        return
      }
      watcher.onLost(`the watch over links ended: ${reason}`)
      restart = setTimeout(start, RESTART_MS)
      restart.unref()
    })
  }

  function told(message: FromMonitor): void {
    if ('wake' in message) {
      wake = message.wake
      if (stopped !== null) writeSync(wake, ONE)
      ready.resolve()
      return
    }
    if (stopped !== null) return
    if (message.changes.length > 0) watcher.onChange(message.changes)
    if (message.lost !== null) watcher.onLost(message.lost)
  }

  function tellToStop(): void {
    worker?.postMessage('stop')
    if (wake !== null) writeSync(wake, ONE)
  }

  // A process that ends waits for its threads.
  process.once('exit', tellToStop)

  return {
    ready: ready.promise,
    stop() {
      if (stopped !== null) return stopped.promise
      stopped = Promise.withResolvers<void>()
      process.off('exit', tellToStop)
      clearTimeout(restart)
      if (worker === null) stopped.resolve()
      worker?.ref()
      tellToStop()
      return stopped.promise
    },
  }
}
