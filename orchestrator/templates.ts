import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { suggestion } from '../common/config.ts'
import { InvalidInput } from '../common/errors.ts'
import { checkWiring, instanceWiringShape } from '../common/instance-wiring.ts'
import { membershipsShape, sandboxShape } from '../common/private-networks.ts'
import type { Template } from './domain/template.ts'

const MIB = 1024 * 1024
const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/, 'expected a-z, 0-9 and -, at most 31')

/** The least capabilities with which common images (a web server, an SSH server) still start as root. */
const DEFAULT_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'KILL',
  'NET_BIND_SERVICE',
  'SETGID',
  'SETUID',
  'SYS_CHROOT',
]

const service = z.strictObject({
  image: z.string().min(1).max(512),
  command: z.array(z.string()).max(256).optional(),
  environment: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).default({}),
  'memory-mib': z.number().int().min(6).max(1_048_576).default(256),
  pids: z.number().int().min(1).max(4_194_304).default(256),
  capabilities: z
    .array(z.string().regex(/^[A-Z_]+$/))
    .max(41)
    .default(DEFAULT_CAPABILITIES),
  'stop-grace-seconds': z.number().min(0).max(3600).default(0),
  sandbox: sandboxShape.optional(),
  networks: membershipsShape.optional(),
})

/** A template file: `NAME.yaml` in the templates folder. Its limits are those of the orders that hosts accept. */
const templateFile = z
  .strictObject({
    summary: z.string().min(1).max(200),
    backend: label.default('docker'),
    services: z
      .record(label, service)
      .refine((all) => Object.keys(all).length > 0, 'expected at least one service')
      .refine((all) => Object.keys(all).length <= 32, 'expected at most 32 services'),
    wiring: instanceWiringShape.optional(),
    'entry-port': z.number().int().min(1).max(65535).nullable().default(null),
    'grace-seconds': z.number().min(0).max(31_536_000).default(0),
  })
  .superRefine((template, context) => {
    const services = Object.entries(template.services).map(([name, s]) => ({ ...s, name }))
    checkWiring(services, template.wiring, ({ name }) => ['services', name], context)
  })

/**
 * Reads every template of a folder. A version is the hash of what the file means, so the same content is the same version.
 * @throws InvalidInput naming file and field
 */
export function readTemplates(directory: string): readonly Template[] {
  let names: string[]
  try {
    names = readdirSync(directory).filter((name) => /\.ya?ml$/.test(name) && !name.startsWith('.'))
  } catch (cause) {
    throw new InvalidInput('templates.directory', `the folder ${directory} cannot be read`, { cause })
  }
  const templates = names.sort().map((name) => readTemplate(join(directory, name)))
  for (const [index, { name }] of templates.entries()) {
    if (templates[index + 1]?.name !== name) continue
    throw new InvalidInput(join(directory, `${name}.yml`), `there is a template ${name} in ${name}.yaml too`)
  }
  return templates
}

/** The template of a lease. @throws InvalidInput when the folder has none of that name */
export function chooseTemplate(templates: readonly Template[], name: string): Template {
  const found = templates.find((template) => template.name === name)
  if (found) return found
  const known = templates.map((template) => template.name)
  throw new InvalidInput('templates.default', `there is no template ${name}${suggestion(name, known)}`)
}

function readTemplate(file: string): Template {
  const name = basename(file).replace(/\.ya?ml$/, '')
  let data: unknown
  try {
    data = parseYaml(readFileSync(file, 'utf8'))
  } catch (cause) {
    throw new InvalidInput(file, 'cannot be read', { cause })
  }
  const parsed = templateFile.safeParse(data)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`)
    throw new InvalidInput(file, faults.join('; '))
  }
  if (!label.safeParse(name).success)
    throw new InvalidInput(file, 'a template file is named a-z, 0-9 and -, with .yaml')
  const content = parsed.data
  const version = createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 12)
  return {
    name,
    version,
    summary: content.summary,
    backend: content.backend,
    ...(content.wiring ? { wiring: content.wiring } : {}),
    entryPort: content['entry-port'],
    graceMs: Math.round(content['grace-seconds'] * 1000),
    services: Object.entries(content.services).map(([serviceName, s]) => ({
      name: serviceName,
      image: s.image,
      command: s.command,
      environment: s.environment,
      memoryBytes: s['memory-mib'] * MIB,
      pids: s.pids,
      capabilities: s.capabilities,
      stopGraceMs: Math.round(s['stop-grace-seconds'] * 1000),
      ...(s.sandbox ? { sandbox: s.sandbox } : {}),
      ...(s.networks ? { networks: s.networks } : {}),
    })),
  }
}
