/**
 * The engine of declared wirings in a process of its own, in a lab's host namespace. Arguments: the state directory, and the
 * socket of an Open vSwitch of the lab's own, if there is one.
 */
import { readdirSync } from 'node:fs'
import { createEngine } from '../../unionize/wiring/interfaces/engine.ts'
import { type OpenVswitch, openVswitch } from '../../unionize/wiring/ovs/open-vswitch.ts'
import { answer } from './wiring-remote.ts'

const [stateDirectory = '', socket] = process.argv.slice(2)
/** Steps that are still taken before this process kills itself; null: it lives on. */
let left: number | null = null
const engine = createEngine({
  stateDirectory,
  ...(socket === undefined ? {} : { ovs: inUserSpace(openVswitch({ socket, timeoutMs: 1500 })) }),
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

/** Kernels of test machines may lack the datapath that bridges have otherwise. */
function inUserSpace(ovs: OpenVswitch): OpenVswitch {
  return { ...ovs, ensureBridge: (name) => ovs.ensureBridge(name, { datapathType: 'netdev' }) }
}
