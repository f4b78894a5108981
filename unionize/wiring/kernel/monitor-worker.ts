import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { type Heard, LinkEvents } from './link-events.ts'
import type { FromMonitor } from './monitor.ts'

/** The thread that sleeps in the kernel until a link changes, or the main thread says that it is to stop. */
const port = parentPort
if (port === null) throw new Error('this file is a worker of unionize/wiring/kernel/monitor.ts')

/** A process that ends waits for its threads: one that could not be woken any more keeps it for this long at most. */
const LONGEST_SLEEP_MS = 1000

const events = new LinkEvents(undefined, workerData as Heard)
const tell = (message: FromMonitor) => port.postMessage(message)
tell({ wake: events.wake })
try {
  while (receiveMessageOnPort(port) === undefined) {
    const { changes, lost } = events.next(LONGEST_SLEEP_MS)
    if (changes.length > 0 || lost !== null) tell({ changes, lost })
  }
} finally {
  events.close()
  port.close()
}
