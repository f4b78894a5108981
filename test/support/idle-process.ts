/** A process that does nothing: how long its main thread is kept waiting tells how busy the machine is. */
import { watchRuntime } from '../../common/runtime.ts'
import { answer } from './wiring-remote.ts'

const watch = watchRuntime()
answer({ delays: watch.take })
