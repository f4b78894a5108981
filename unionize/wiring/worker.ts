import { parentPort } from 'node:worker_threads'
import { sendable } from './errors.ts'
import type { FromWorker, ToWorker } from './protocol.ts'
import { createVerbs } from './verbs.ts'

/** A thread that talks to the kernel, one call after another. */
const port = parentPort
if (port === null) throw new Error('this file is a worker of unionize/wiring/lane.ts')

const tell = (message: FromWorker) => port.postMessage(message)
const verbs = createVerbs((warning) => tell({ warning }))

port.on('message', (message: ToWorker) => {
  if (message === 'stop') {
    port.close()
    return
  }
  const { id, verb, args } = message
  try {
    const carryOut = verbs[verb] as (args: unknown) => unknown
    tell({ id, answer: carryOut(args) })
  } catch (thrown) {
    tell({ id, error: sendable(thrown) })
  }
})
tell({ loaded: true })
