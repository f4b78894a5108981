import { parentPort, receiveMessageOnPort } from 'node:worker_threads'
import { Exits } from '../kernel/exits.ts'
import type { FromExits, ToExits } from './exits.ts'

/** The thread that waits for processes to exit: it sleeps in the kernel until one does or the main thread wakes it. */
const port = parentPort
if (port === null) throw new Error('this file is a worker of unionize/wiring/lasting/exits.ts')

/** A process that ends waits for its threads: one that could not be woken any more keeps it for this long at most. */
const LONGEST_SLEEP_MS = 1000

const exits = new Exits()
const tell = (message: FromExits) => port.postMessage(message)
tell({ wake: exits.wake })
for (let going = true; going; ) {
  for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
    const message = next.message as ToExits
    if (message === 'stop') going = false
    else if ('remove' in message) exits.remove(message.remove)
    else if (!exits.add(message.add)) tell({ exited: message.add })
  }
  if (going) for (const exited of exits.wait(LONGEST_SLEEP_MS)) tell({ exited })
}
exits.close()
port.close()
