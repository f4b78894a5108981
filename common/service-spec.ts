import { z } from 'zod'
import { membershipsShape, sandboxShape } from './private-networks.ts'

/**
 * One container of an instance, complete: nothing is left to look up or to interpolate. A template's Compose file becomes
 * a list of these (orchestrator/compose), an order carries them to a host, and `unionize` makes containers of them.
 * Whatever is absent is the image's own, or closed.
 */

/** Bytes of the files of one instance, all services together, before base64: they travel in one message and live in memory. */
export const MAX_FILES_BYTES = 1024 * 1024
/** Bytes of an order as JSON: it travels in one message, which ends the connection when it is larger than that may be. */
export const MAX_ORDER_BYTES = 3 * 1024 * 1024
/** Bytes of an order without files and environments: each container of the instance has it in a label. */
export const MAX_LABEL_BYTES = 512 * 1024
/** Bytes of one environment, names and values. */
const MAX_ENVIRONMENT_BYTES = 256 * 1024

const ms = z.number().int().min(0).max(31_536_000_000)
const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
/** An absolute path inside the container, without `..`. */
const inside = z
  .string()
  .max(4096)
  .regex(/^\/(?!.*(^|\/)\.\.(\/|$))[^\0]*$/, 'expected an absolute path without ".."')
export const serviceName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9_-]{0,29}[a-z0-9])?$/, 'expected a-z, 0-9, - and _, at most 31')

/** A file that exists in memory only and is gone with the instance: configs, secrets, ad-hoc files, parameters. Read-only inside. */
const file = z.strictObject({
  target: inside,
  /** Base64. */
  content: z.base64().max(Math.ceil(MAX_FILES_BYTES / 3) * 4),
  /** Permission bits: all may read it (0444), or also execute it (0555). It is seen by this service alone. */
  mode: z.union([z.literal(0o444), z.literal(0o555)]),
})

const mount = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('volume'),
    /** Name within the instance: services that name it share it; null: this mount's own. It is gone with the instance. */
    volume: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/)
      .nullable(),
    target: inside,
    readOnly: z.boolean(),
  }),
  /** A path of the host: only in templates that the operator trusts by name. */
  z.strictObject({
    kind: z.literal('host'),
    source: inside,
    target: inside,
    readOnly: z.boolean(),
  }),
  z.strictObject({
    kind: z.literal('tmpfs'),
    target: inside,
    /** Bytes; it counts against the memory limit. */
    sizeBytes: bytes.optional(),
    /** Permission bits. */
    mode: z.number().int().min(0).max(0o7777).optional(),
  }),
])

/** As in Docker's own healthcheck: `test` begins with CMD or CMD-SHELL; `disabled`: not even the image's own. */
const healthcheck = z.union([
  z.literal('disabled'),
  z.strictObject({
    /** Absent: the image's own test. */
    test: z.array(z.string()).min(2).max(256).optional(),
    intervalMs: ms.optional(),
    timeoutMs: ms.optional(),
    startPeriodMs: ms.optional(),
    retries: z.number().int().min(1).max(1000).optional(),
  }),
])

/** What must be true of another service before this one starts. */
const dependency = z.strictObject({
  service: serviceName,
  condition: z.enum(['started', 'healthy', 'completed']),
  /** Whether this one is restarted when the other one was. */
  restart: z.boolean(),
})

export const serviceShape = z.strictObject({
  name: serviceName,
  image: z.string().min(1).max(512),
  /** `missing`: fetched when the host has it not; `always`: asked for at each creation; `never`: must be there. */
  pull: z.enum(['missing', 'always', 'never']).default('missing'),
  /** OS/ARCH[/VARIANT]; absent: the host's own. */
  platform: z.string().max(64).optional(),
  entrypoint: z.array(z.string()).max(256).optional(),
  command: z.array(z.string()).max(256).optional(),
  environment: z
    .record(z.string().regex(/^[^=\0]+$/), z.string())
    .refine(
      (all) => JSON.stringify(all).length <= MAX_ENVIRONMENT_BYTES,
      `expected at most ${MAX_ENVIRONMENT_BYTES} bytes`,
    ),
  workingDirectory: z.string().max(4096).optional(),
  /** USER[:GROUP], names of the image or numbers. */
  user: z.string().max(256).optional(),
  /** Further groups, names of the image or numbers. */
  groups: z.array(z.string().max(128)).max(64).default([]),
  /** Labels of the container, beside those that are ours. */
  labels: z.record(z.string().max(256), z.string().max(4096)).default({}),
  /** Bytes at most of memory, and of memory and swap together. */
  memoryBytes: bytes.min(6 * 1024 * 1024),
  memorySwapBytes: bytes.optional(),
  memoryReservationBytes: bytes.optional(),
  /** Processors, as a fraction: 0.5 is half of one. */
  cpus: z.number().positive().max(4096).optional(),
  /** Weight against other containers, 2 to 262144 (cgroups: cpu.shares). */
  cpuShares: z.number().int().min(2).max(262_144).optional(),
  /** Which processors, such as `0-2,4`. */
  cpuset: z
    .string()
    .regex(/^\d+(-\d+)?(,\d+(-\d+)?)*$/)
    .max(256)
    .optional(),
  /** Processes at most. */
  pids: z.number().int().min(1).max(4_194_304),
  /** Bytes of /dev/shm. */
  shmBytes: bytes.optional(),
  oomScoreAdjust: z.number().int().min(-1000).max(1000).optional(),
  /** Linux capability names without CAP_; all others are dropped. */
  capabilities: z.array(z.string().regex(/^[A-Z_]+$/)).max(64),
  privileged: z.boolean().default(false),
  noNewPrivileges: z.boolean().default(true),
  /** Other options of the engine's `--security-opt`, such as `seccomp=unconfined`. */
  securityOptions: z.array(z.string().max(4096)).max(16).default([]),
  readOnly: z.boolean().default(false),
  mounts: z.array(mount).max(64).default([]),
  files: z.array(file).max(256).default([]),
  devices: z
    .array(z.strictObject({ host: inside, container: inside, permissions: z.string().regex(/^[rwm]{1,3}$/) }))
    .max(64)
    .default([]),
  /** Kernel settings of the container's own namespaces; those of the network (`net.`) are set in its sandbox. */
  sysctls: z
    .record(
      z
        .string()
        .regex(/^[a-z0-9_.*/-]+$/i)
        .max(256),
      z.string().max(256),
    )
    .default({}),
  ulimits: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[a-z]+$/),
        soft: z.number().int().min(-1),
        hard: z.number().int().min(-1),
      }),
    )
    .max(32)
    .default([]),
  /** A tiny first process that reaps the others. */
  init: z.boolean().default(false),
  tty: z.boolean().default(false),
  stdinOpen: z.boolean().default(false),
  stopSignal: z
    .string()
    .regex(/^(SIG[A-Z0-9+-]+|[A-Z0-9+-]+|\d{1,2})$/)
    .optional(),
  /** Milliseconds between the polite stop and the end; 0: killed at once. */
  stopGraceMs: ms,
  healthcheck: healthcheck.optional(),
  dependsOn: z.array(dependency).max(32).default([]),
  /** What happens when its first process ends: `no`: it stays ended, and that is no fault; `on-failure`: again unless it ended with 0. */
  restart: z.enum(['always', 'on-failure', 'no']).default('always'),
  /** Bytes of one log file of the engine, and how many are kept. */
  log: z.strictObject({ mostBytes: bytes.min(4096), files: z.number().int().min(1).max(100) }).optional(),
  /** Further lines of /etc/hosts: name and address. */
  hosts: z
    .array(
      z.strictObject({
        name: z
          .string()
          .max(253)
          .regex(/^[^\s#]+$/, 'expected a host name'),
        address: z.union([z.ipv4(), z.ipv6()]),
      }),
    )
    .max(64)
    .default([]),
  /** Absent: it shares the network namespace of the instance. */
  sandbox: sandboxShape.optional(),
  /** Private networks that it is on, by name; absent: none. */
  networks: membershipsShape.optional(),
})

/** A service with every default filled in. */
export type ServiceSpec = z.infer<typeof serviceShape>
/** A service as it may be written down. */
export type ServiceInput = z.input<typeof serviceShape>

/** The services of one instance: between 1 and 32; the first is the entry. */
export const servicesShape = z
  .array(serviceShape)
  .min(1)
  .max(32)
  .superRefine((services, context) => {
    const known = new Set(services.map(({ name }) => name))
    if (known.size !== services.length) context.addIssue('two services have the same name')
    for (const [index, { name, dependsOn }] of services.entries()) {
      for (const { service } of dependsOn) {
        if (!known.has(service) || service === name) {
          context.addIssue({
            code: 'custom',
            path: [index, 'dependsOn'],
            message: `there is no other service ${service}`,
          })
        }
      }
    }
    const size = services.flatMap((s) => s.files).reduce((sum, { content }) => sum + (content.length / 4) * 3, 0)
    if (size > MAX_FILES_BYTES) context.addIssue(`expected at most ${MAX_FILES_BYTES} bytes of files in one instance`)
  })
