import { parentPort } from 'node:worker_threads'
import { sendable } from '../errors.ts'
import type { FromThread, ToThread } from './thread.ts'

/**
 * Makes this worker the other side of a `Thread`: each call is carried out before the next one is looked at.
 * @param open makes the verbs; `warn` is given what an operator should know
 */
export function answerCalls(open: (warn: (warning: string) => void) => object): void {
  const port = parentPort
  if (port === null) throw new Error('this file is a worker, see unionize/wiring/threads/thread.ts')
  const tell = (message: FromThread) => port.postMessage(message)
  const verbs = open((warning) => tell({ warning })) as { readonly [verb: string]: (args: unknown) => unknown }
  port.on('message', (message: ToThread) => {
    if (message === 'stop') {
      port.close()
      return
    }
    const { id, verb, args } = message
    try {
      const carryOut = verbs[verb]
      if (carryOut === undefined) throw new Error(`this worker has no verb ${verb}`)
      tell({ id, answer: carryOut(args) })
    } catch (thrown) {
      tell({ id, error: sendable(thrown) })
    }
  })
  tell({ loaded: true })
}
