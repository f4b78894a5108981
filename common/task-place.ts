import { z } from 'zod'
import { policyShape } from './wiring-policy.ts'

/**
 * Where a container belongs that a swarm made and not `unionize`: the orchestrator writes it into a label of the task's
 * container, and the `unionize` of whichever node runs the task wires it, without asking anybody.
 */
export const TASK_LABEL = {
  /** Of all of ours that a swarm makes; its value for a container that is to be wired is {@link TASK_ROLE}. */
  role: 'org.orchestrator.role',
  place: 'org.orchestrator.place',
} as const
export const TASK_ROLE = 'task'

export const taskPlaceShape = z.strictObject({
  instance: z.string().min(1).max(64),
  address: z.ipv6(),
  /** The address that alone reaches it. */
  owner: z.ipv6(),
  /** The host of its lease, from which the owner comes, and its address; null: it has told none, and only a task on it is wired. */
  home: z.strictObject({ name: z.string().min(1).max(63), address: z.ipv6().nullable() }),
  /** What it may send, and who else may reach it; absent: nothing, nobody. */
  policy: policyShape.optional(),
})
export type TaskPlace = z.infer<typeof taskPlaceShape>
