import type { Clock } from '../../../../common/clock.ts'
import type { Log } from '../../../../common/log.ts'
import type { OperatorEvent } from '../../../domain/event.ts'
import type { HostName } from '../../../domain/host.ts'
import type { InstanceId, Observed } from '../../../domain/instance.ts'
import type { UpgradeTask } from '../../../domain/machine.ts'
import type { Inventory } from './inventory.ts'
import type { Shell } from './shell.ts'

/** What the care for machines works with. */
export interface CareContext {
  readonly inventory: Inventory
  readonly shell: Shell
  readonly clock: Clock
  readonly log: Log
  readonly residents: Residents
  readonly look: MachineWork['look']
  readonly drop: MachineWork['drop']
  readonly leave: MachineWork['leave']
  tell(event: OperatorEvent): Promise<void>
  /** Milliseconds that steps of an upgrade may take, where it is not as usual. */
  readonly patience?: Partial<Readonly<Record<UpgradeTask['step'], number>>> | undefined
}

/** The instances that the orchestrator has placed on machines. */
export interface Residents {
  /**
   * Has all that are placed on this one placed elsewhere, as far as there is room; they are no longer placed there when it
   * resolves. @returns how many there were
   */
  moveAway(machine: HostName): Promise<number>
}

/** What the backend does on a machine. */
export interface MachineWork {
  /** All instances that are there. @throws HostUnreachable */
  look(machine: HostName, signal: AbortSignal): Promise<readonly Observed[]>
  /** Takes one away. */
  drop(machine: HostName, instance: { id: InstanceId; generation: number }, signal: AbortSignal): Promise<void>
  /** Takes away all that the backend installed there, when no instance is left. */
  leave(machine: HostName, signal: AbortSignal): Promise<void>
}
