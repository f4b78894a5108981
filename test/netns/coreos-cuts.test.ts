import { after, before, describe } from 'node:test'
import { HostUnreachable } from '../../common/errors.ts'
import type { SshShell } from '../../orchestrator/backends/coreos/ssh.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendFaults } from '../contract/faults.ts'
import type { Fault, FaultInjector } from '../contract/subject.ts'
import { CoreosLab, thingsOn, tinyOrder } from '../support/coreos.ts'

/** The connection to a machine is cut at each program that runs there: the same call again ends well. */
let lab: CoreosLab

before(async () => {
  lab = await CoreosLab.open('cou', 1)
})
after(async () => {
  await lab?.close()
})

/** Cuts the connection when the armed call has taken effect: its answer never arrives. */
function cutter(): FaultInjector & { readonly between: (shell: SshShell) => SshShell } {
  let armed: { left: number; hit: () => void } | null = null
  return {
    faults: ['lose-answer'],
    arm(_fault: Fault, call) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const mine = { left: call, hit: resolve }
      let was = false
      void promise.then(() => {
        was = true
      })
      armed = mine
      return {
        hit: promise,
        end() {
          if (armed === mine) armed = null
          return was
        },
      }
    },
    between: (shell) => ({
      ...shell,
      async run(way, command, options) {
        const outcome = await shell.run(way, command, options)
        if (armed === null || --armed.left > 0) return outcome
        armed.hit()
        armed = null
        shell.forget(way.name)
        throw new HostUnreachable(way.name, 'the connection was cut')
      },
    }),
  }
}

describe('coreos, its connection cut', () => {
  const faults = cutter()
  const backend = () => lab.backend({ shell: faults.between })
  backendFaults(async () => ({
    backend: backend(),
    host: lab.target(1),
    absent: { name: 'gone' as HostName },
    order: (n, generation) => tinyOrder(n, generation),
    reopen: async () => backend(),
    things: () => thingsOn(lab.lab.machine(1)),
    startsWithinMs: 120_000,
    faults,
  }))
})
