import { z } from 'zod'
import { InvalidInput } from '../../../common/errors.ts'

/** Of an interface, IFNAMSIZ of linux/if.h. */
const interfaceName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/, 'expected the name of an interface')

const shape = z.strictObject({
  /** Name of the stored credential with the private SSH key: fields `key`, and `passphrase` where it has one. */
  credential: z.string().min(1).max(63).default('machines'),
  /** `auto`: Podman where a machine has it, else Docker. */
  engine: z.enum(['auto', 'podman', 'docker']).default('auto'),
  /** Quadlet files instead of services where a machine's Podman has them (4.4). */
  quadlet: z.boolean().default(true),
  /** Most instances of one machine. */
  most: z.number().int().min(1).max(1000).default(100),
  /** MiB that must be free in /var of a machine for a new instance. */
  leastDiskMiB: z.number().int().min(0).max(1_048_576).default(512),
  /** The bridge that instances are behind, made on each machine; the same addresses as on the hosts (`network.…` of unionize). */
  network: z
    .strictObject({
      bridge: interfaceName.default('br-orc'),
      gateway: z.ipv6().default('fd00:1::1'),
      prefixLength: z.number().int().min(64).max(124).default(64),
      /** What resolves names for instances; none unless told. */
      dns: z
        .array(z.union([z.ipv4(), z.ipv6()]))
        .max(3)
        .default([]),
    })
    .prefault({}),
})

/** What stands under `backends.NAME.settings` for a backend of the kind coreos. */
export type CoreosSettings = z.infer<typeof shape>

/** @throws InvalidInput naming `settings.…` */
export function parseSettings(settings: unknown): CoreosSettings {
  const parsed = shape.safeParse(settings ?? {})
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = issue?.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : (issue?.path ?? [])
  const message =
    issue?.code === 'unrecognized_keys' ? 'there is no such setting' : (issue?.message ?? 'not understood')
  throw new InvalidInput(['settings', ...path].join('.'), message)
}
