import type { WiringLog } from '../wiring.ts'
import type { Answers, Caller, Calls } from './protocol.ts'
import { Thread } from './thread.ts'

/** The running file is TypeScript or what was compiled from it; `new URL` is not rewritten by the compiler. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)

/** A thread of the wiring of instances. */
export class Lane extends Thread<Calls, Answers> implements Caller {
  constructor(name: string, log: WiringLog) {
    super(name, { file: WORKER }, log)
  }
}
