import { z } from 'zod'
import { time } from './terms.ts'

/** `/v1/machines`, which looks after the machines of coreos backends. */
export const machineShape = z.object({
  name: z.string(),
  backend: z.string(),
  /** One word for people: new, ready, cordoned, away, upgrading, removing, failed. */
  status: z.string(),
  address: z.string(),
  port: z.number(),
  user: z.string(),
  hostKey: z.string(),
  /** `SHA256:…`, as ssh-keygen(1) shows it. */
  fingerprint: z.string(),
  labels: z.record(z.string(), z.string()),
  cordoned: z.boolean(),
  /** null: nothing is being done to it. */
  task: z
    .object({
      kind: z.enum(['upgrade', 'removal']),
      step: z.string(),
      /** Of an upgrade: the wanted version; null: the newest. */
      to: z.string().nullable(),
      dead: z.boolean(),
      since: time,
      /** Why it does not get on; null: it does. */
      problem: z.string().nullable(),
    })
    .nullable(),
  /** Why the last task failed; null: it did not. */
  fault: z.object({ task: z.enum(['upgrade', 'removal']), message: z.string(), at: time }).nullable(),
  etcd: z
    .object({
      member: z.string(),
      peer: z.string(),
      state: z.enum(['wanted', 'learner', 'member']),
      /** What its `initial-cluster` must be when it first starts; null: the cluster does not know it yet. */
      cluster: z.string().nullable(),
      problem: z.string().nullable(),
    })
    .nullable(),
  /** null: it has never answered. */
  seen: z
    .object({ at: time, system: z.string(), version: z.string(), health: z.string(), failed: z.array(z.string()) })
    .nullable(),
  /** Why it does not answer; null: it does. */
  away: z.string().nullable(),
  /** `present`: the machine has not restarted since it was pushed. */
  secrets: z.array(z.object({ name: z.string(), bytes: z.number(), at: time, present: z.boolean() })),
  addedAt: time,
})
export type MachineShape = z.infer<typeof machineShape>

export const machineName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected a-z, 0-9 and -, at most 63 characters')
const port = z.number().int().min(1).max(65_535)
const version = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._+~:-]{0,63}$/,
    'expected a version of letters, digits and ._+~:-, at most 64 characters',
  )
const label = z.string().regex(/^[A-Za-z0-9._/-]{1,63}$/)

/** `?backend=`: which one, where there are several with machines. */
export interface MachineScope {
  readonly backend?: string | undefined
}

/** `POST /v1/machine-keys`: what a machine shows that is not known yet. */
export const machineKeyRequest = z.strictObject({ address: z.ipv6(), port: port.default(22) })
export const machineKeyShape = z.object({ hostKey: z.string(), fingerprint: z.string() })
export type MachineKeyShape = z.infer<typeof machineKeyShape>

/** `POST /v1/machines[?backend=]`: 201. With a host key that is known beforehand it need not run yet. */
export const newMachineRequest = z.strictObject({
  name: machineName,
  address: z.ipv6(),
  port: port.default(22),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,30}$/, 'expected a user name')
    .default('core'),
  hostKey: z.string().max(4096),
  labels: z
    .record(label, z.string().max(255))
    .refine((labels) => Object.keys(labels).length <= 32, 'expected at most 32 labels')
    .default({}),
  /** It is to be a member of the etcd cluster of the other machines; `member` is its own name unless told. */
  etcd: z
    .strictObject({
      member: machineName.optional(),
      peer: z
        .string()
        .max(255)
        .regex(/^https?:\/\/(\[[0-9a-f:]+\]|[\w.-]+):\d{1,5}$/, 'expected http(s)://host:port'),
    })
    .optional(),
})
export type NewMachineRequest = z.input<typeof newMachineRequest>

/** `POST /v1/machines/:name/upgrade`: 202. `to`: absent means the newest. */
export const upgradeRequest = z.strictObject({ to: version.optional() })

/** `PUT /v1/machines/:name/secrets/:secret`: at most 32 KiB; kept on the machine alone, in memory. */
export const secretRequest = z.strictObject({ content: z.base64().max(43_692) })

/** `GET /v1/machine-roll`, `POST` (202: begins one), `POST …/resume`, `POST …/stop`; 404 `no-roll`. */
export const rollShape = z.object({
  backend: z.string(),
  to: z.string().nullable(),
  left: z.array(z.string()),
  done: z.array(z.string()),
  state: z.enum(['running', 'stopped', 'done']),
  fault: z.string().nullable(),
  beganAt: time,
})
export type RollShape = z.infer<typeof rollShape>
export const rollRequest = z.strictObject({
  to: version.optional(),
  machines: z.array(machineName).max(1000).optional(),
})
export type RollRequest = z.input<typeof rollRequest>
