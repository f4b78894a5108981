/** The engine of declared wirings in a process of its own, in a lab's host namespace. Argument: the state directory. */
import { readdirSync } from 'node:fs'
import { createEngine } from '../../unionize/wiring/interfaces/engine.ts'
import { answer } from './wiring-remote.ts'

const [stateDirectory = ''] = process.argv.slice(2)
/** Steps that are still taken before this process kills itself; null: it lives on. */
let left: number | null = null
const engine = createEngine({
  stateDirectory,
  before: () => {
    if (left === null) return
    if (left === 0) process.kill(process.pid, 'SIGKILL')
    left--
  },
})

answer({
  ...engine,
  ready: () => true,
  fds: () => readdirSync('/proc/self/fd').length,
  killAfter: (steps: number | null) => {
    left = steps
  },
})
