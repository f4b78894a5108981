import { z } from 'zod'
import { InvalidInput } from '../../../common/errors.ts'

const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected a DNS label: a-z, 0-9, -')
const name = z.string().min(1).max(255)
const price = z.strictObject({
  /** What one machine of that size costs. */
  perHour: z.number().min(0).max(100_000),
  currency: z.string().regex(/^[A-Z]{3}$/, 'expected an ISO 4217 code such as EUR'),
})

const settingsShape = z.strictObject({
  /** Which provider it is, and what is told to it in every region. */
  provider: z.looseObject({ kind: z.enum(['openstack', 'ec2', 'digitalocean', 'hetzner']) }),
  /** The targets, by name: each a region of that provider, with what is told to it there alone. */
  regions: z
    .record(label, z.looseObject({}).nullable())
    .refine((regions) => Object.keys(regions).length > 0, 'expected at least one region'),
  /** Name of the stored credential (`orctl credential set NAME`); absent: the machine's own role, where the provider has such. */
  credential: label.optional(),
  /** The provider's own names, unless a template names others. */
  size: name,
  image: name,
  /** What the image reads at its first boot. */
  boot: z.enum(['cloud-init', 'ignition']),
  /** What runs containers in the image. */
  engine: z.enum(['docker', 'podman']).default('docker'),
  /** Packages that cloud-init installs at first: those of the engine, where the image has it not. */
  packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9+.-]{0,127}$/, 'expected the name of a package')).default([]),
  prices: z.record(name, price).default({}),
  /** Machines of one region at most. */
  machines: z.number().int().min(1).max(10_000),
  /** Calls of the account at most, all regions together. */
  callsPerSecond: z.number().min(0.1).max(1000).default(5),
})

export type CloudSettings = z.infer<typeof settingsShape>

/** What a template says under `x-orchestrator.options.NAME`. */
const optionsShape = z.strictObject({
  size: name.optional(),
  image: name.optional(),
  /** One of the settings' regions; absent: the emptiest. */
  region: label.optional(),
  /** At the market's price, and taken away when somebody pays more. */
  spot: z.boolean().default(false),
})
export type CloudOptions = z.infer<typeof optionsShape>

/** @throws InvalidInput naming `settings.X` */
export function parseSettings(given: unknown): CloudSettings {
  const settings = parse('settings', settingsShape, given)
  if (settings.boot === 'ignition' && settings.packages.length > 0) {
    throw new InvalidInput('settings.packages', 'Ignition installs none: take an image that has the engine')
  }
  return settings
}

/** @throws InvalidInput naming `options.X` */
export function parseOptions(given: unknown): CloudOptions {
  return parse('options', optionsShape, given ?? {})
}

/** Parses and, where that fails, names what is wrong first. @throws InvalidInput */
export function parse<T>(field: string, shape: z.ZodType<T>, given: unknown): T {
  const parsed = shape.safeParse(given)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
  const path = [field, ...(issue?.path ?? []), ...unknown].join('.')
  throw new InvalidInput(path, unknown.length > 0 ? 'there is no such setting' : (issue?.message ?? 'it is not valid'))
}
