import { after, before, describe } from 'node:test'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendFaults } from '../contract/faults.ts'
import { CoreosLab, thingsOn, tinyOrder } from '../support/coreos.ts'
import { type SshGate, sshGate } from '../support/ssh-gate.ts'

/** Each program that runs on a machine over SSH goes wrong, at the machine's own SSH server: the same call again ends well. */
describe('coreos, its calls to a machine going wrong', () => {
  let lab: CoreosLab
  let gate: SshGate

  before(async () => {
    lab = await CoreosLab.open('cou', 1)
    gate = await sshGate(lab.lab.machine(1))
  })
  after(async () => {
    await gate?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  backendFaults(async () => ({
    backend: lab.backend(),
    host: lab.target(1),
    absent: { name: 'gone' as HostName },
    order: (n, generation) => tinyOrder(n, generation),
    reopen: async () => lab.backend(),
    things: () => thingsOn(lab.lab.machine(1)),
    startsWithinMs: 120_000,
    faults: gate.faults,
    faultsMs: 100_000,
  }))
})
