import { readFileSync } from 'node:fs'
import { systemClock } from '../../common/clock.ts'
import type { LabMachine } from '../../lab/machine.ts'
import { LabMachines, type MachinesOptions } from '../../lab/machines.ts'
import type { Records } from '../../orchestrator/backends/backend.ts'
import { openInventory } from '../../orchestrator/backends/coreos/machines/inventory.ts'
import {
  type MachinesOptions as CareOptions,
  createMachines,
  type Machines,
} from '../../orchestrator/backends/coreos/machines/machines.ts'
import { createShell, type SshShell } from '../../orchestrator/backends/coreos/ssh.ts'
import type { OperatorEvent } from '../../orchestrator/domain/event.ts'
import { silent } from './fixtures.ts'
import { until } from './until.ts'

/** Milliseconds within which a machine does what it takes, on a machine that runs much else. */
export const PATIENTLY = { deadlineMs: 120_000, everyMs: 100 }

/** Real machines, and what looks after them: begun anew as often as wanted, over the same records. */
export class MachinesLab {
  readonly lab: LabMachines
  readonly records: Records
  readonly events: OperatorEvent[] = []
  readonly #back: () => void
  #open: { readonly machines: Machines; readonly shell: SshShell } | null = null

  private constructor(lab: LabMachines, records: Records) {
    this.lab = lab
    this.records = records
    this.#back = lab.enter()
  }

  static async open(prefix: string, n: number, records: Records, options: MachinesOptions = {}): Promise<MachinesLab> {
    return new MachinesLab(await LabMachines.open(prefix, n, options), records)
  }

  get machines(): Machines {
    if (this.#open === null) throw new Error('nobody looks after the machines: begin() first')
    return this.#open.machines
  }

  /** Begins to look after the machines, as an orchestrator that starts. */
  async begin(change: Partial<CareOptions> = {}): Promise<Machines> {
    const key = readFileSync(this.lab.key, 'utf8')
    const shell = createShell({ login: async () => ({ key }), clock: systemClock })
    const inventory = await openInventory(this.records)
    const nothing = { look: async () => [], drop: async () => {}, leave: async () => {} }
    const machines = createMachines({ inventory, shell, clock: systemClock, log: silent, ...nothing, ...change })
    machines.start({
      residents: { moveAway: async () => 0 },
      tell: async (event) => void this.events.push(event),
    })
    this.#open = { machines, shell }
    return machines
  }

  /** Ends it, wherever it stands. */
  async end(): Promise<void> {
    await this.#open?.machines.stop()
    await this.#open?.shell.close()
    this.#open = null
  }

  async add(machine: LabMachine, etcd?: { member: string; peer: string }): Promise<void> {
    const { name, address } = machine
    const way = { name, address, port: 22, user: 'root', hostKey: machine.hostPublicKey() }
    await this.machines.add({ ...way, labels: {}, etcd })
  }

  /** Waits until a machine is as told. */
  async is(name: string, what: string, holds: (machine: ReturnType<Machines['find']>) => boolean) {
    return await until(
      `${name} ${what}`,
      () => {
        const machine = this.machines.find(name)
        if (holds(machine)) return machine
        throw new Error(JSON.stringify(machine))
      },
      PATIENTLY,
    )
  }

  async close(): Promise<void> {
    await this.end()
    this.#back()
    await this.lab.close()
  }
}
