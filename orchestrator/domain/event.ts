import type { InstanceId } from './instance.ts'
import type { Owner } from './lease.ts'

/** Something that an operator may want to know, kept in the store, in order. `kind` is stable (`instance.running`). */
export interface OperatorEvent {
  readonly level: 'info' | 'warning' | 'error'
  readonly kind: string
  readonly message: string
  readonly instance?: InstanceId | undefined
  readonly owner?: Owner | undefined
  readonly host?: string | undefined
}

/** An event as stored: numbered without end, at epoch ms. */
export interface StoredEvent extends OperatorEvent {
  readonly id: number
  readonly at: number
}
