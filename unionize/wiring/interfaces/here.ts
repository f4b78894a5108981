import { received, sendable, WiringError } from '../errors.ts'
import { createEngine, type Engine } from './engine.ts'
import type { Interfaces } from './interfaces.ts'

/**
 * The engine for this network namespace on the calling thread, for a command that does nothing else: one call after another,
 * with room for signals between two of them.
 * @param options.directory where is kept what is needed to find and undo every wiring; made if it is missing
 */
export function interfacesHere(options: { readonly directory: string }): Interfaces {
  const engine = createEngine({ stateDirectory: options.directory })
  let last: Promise<unknown> = Promise.resolve()
  let stopped = false
  const call = <T>(verb: string, work: (engine: Engine) => T): Promise<T> => {
    if (stopped) return Promise.reject(new WiringError('wiring-stopped', `"${verb}" came after the wiring stopped`))
    const answer = last.then(() => turn(() => work(engine)))
    last = answer.catch(() => {})
    return answer
  }
  return {
    plan: (target, spec) => call('plan', (engine) => engine.plan(target, spec)),
    wire: (target, spec) => call('wire', (engine) => engine.wire(target, spec)),
    check: (key) => call('check', (engine) => engine.check(key)),
    unwire: (key, names) => call('unwire', (engine) => engine.unwire(key, names)),
    show: (keys) => call('show', (engine) => engine.show(keys)),
    async stop() {
      stopped = true
      await last
    },
  }
}

function turn<T>(work: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(work())
      } catch (thrown) {
        reject(received(sendable(thrown)))
      }
    })
  })
}
