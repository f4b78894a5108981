import { workerData } from 'node:worker_threads'
import { answerCalls } from '../threads/answering.ts'
import { createEngine } from './engine.ts'
import type { EngineCalls } from './start.ts'

answerCalls(() => {
  const engine = createEngine({ stateDirectory: workerData as string })
  const verbs: { readonly [V in keyof EngineCalls]: (args: EngineCalls[V]) => unknown } = {
    plan: ({ target, spec }) => engine.plan(target, spec),
    wire: ({ target, spec }) => engine.wire(target, spec),
    check: ({ key }) => engine.check(key),
    unwire: ({ key, names }) => engine.unwire(key, names),
    show: ({ keys }) => engine.show(keys),
  }
  return verbs
})
