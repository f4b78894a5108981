import { z } from 'zod'
import { suggestion } from '../../common/config.ts'
import { instanceWiringShape } from '../../common/instance-wiring.ts'
import { serviceName } from '../../common/service-spec.ts'
import type { Parameter } from '../domain/parameter.ts'
import type { Json } from '../domain/template.ts'
import type { Mismatch } from './mismatches.ts'
import { isFactName } from './variables.ts'

/** What stands under `x-orchestrator` in a Compose file: all that makes it a template. */
export const EXTENSION = 'x-orchestrator'

const text = (most: number) => z.string().min(1).max(most)
const value = z.union([z.string(), z.number(), z.boolean()], 'expected a text, a number, or true or false')
const port = z.number().int().min(1).max(65_535)
const duration = z.union([z.string(), z.number()], 'expected a duration with units, such as 90s or 2h')
const path = text(1024)
const parameterName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'expected letters, digits and _, not a digit first, at most 64 characters')
  .refine((name) => !isFactName(name), 'names that begin with LEASE_, INSTANCE_ or ORCHESTRATOR_ are kept')

/** Name of a template. */
export const templateName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/, 'a template is named by a-z, 0-9 and -, at most 31 characters')

const parameter = z
  .strictObject({
    type: z.enum(['string', 'integer', 'number', 'boolean', 'enum', 'secret', 'file']).default('string'),
    description: text(500).optional().describe('One sentence for whoever gives the value.'),
    required: z.boolean().optional().describe('Whether it must be given. Without it: when there is no default.'),
    default: value.optional(),
    values: z.array(text(256)).min(1).max(256).optional().describe('Of an enum: what it may be.'),
    pattern: text(500).optional().describe('ECMAScript regular expression (flag v) that the whole text must match.'),
    least: z.number().optional().describe('Least number; of texts: characters; of files: bytes.'),
    most: z.number().optional().describe('Greatest number; of texts: characters; of files: bytes.'),
  })
  .superRefine((p, context) => {
    const refuse = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message })
    if (p.type === 'enum' && !p.values) refuse('values', 'expected a list: an enum says what it may be')
    if (p.type !== 'enum' && p.values) refuse('values', 'only an enum has them: expected `type: enum`')
    if (p.values && new Set(p.values).size < p.values.length) refuse('values', 'expected each value once')
    const isText = p.type === 'string' || p.type === 'secret'
    if (p.pattern !== undefined && !isText) refuse('pattern', 'only a string or a secret has one')
    if (p.pattern !== undefined && !isPattern(p.pattern)) refuse('pattern', 'expected a regular expression')
    for (const key of ['least', 'most'] as const) {
      const bound = p[key]
      if (bound === undefined) continue
      if (p.type === 'boolean' || p.type === 'enum') refuse(key, `a parameter of type ${p.type} has no limits`)
      else if (p.type !== 'number' && !Number.isInteger(bound)) refuse(key, 'expected a whole number')
      else if ((isText || p.type === 'file') && bound < 0) refuse(key, 'expected at least 0')
    }
    if (p.least !== undefined && p.most !== undefined && p.least > p.most)
      refuse('most', 'expected most not below least')
    if (p.required === true && p.default !== undefined) refuse('required', 'one with a default need not be given')
    if (p.type === 'secret' && p.default !== undefined) {
      refuse('default', 'a secret does not belong in a template: let rules give it')
    }
  })

const output = z.strictObject({
  type: z.enum(['string', 'integer', 'number', 'boolean', 'url']).default('string'),
  description: text(500).optional(),
})

const adHocFile = z
  .strictObject({
    content: z.string().optional().describe('The text of the file, with variables.'),
    file: path.optional().describe('A file beside the Compose file; it has no variables.'),
    service: serviceName.optional().describe('Whose file it is; without it: that of the entry.'),
    mode: z.literal([0o444, 0o555], 'expected 0444 or 0555').default(0o444),
  })
  .refine((f) => (f.content === undefined) !== (f.file === undefined), 'expected either `content` or `file`')

const { networks: _networks, ...wiringFields } = instanceWiringShape.shape

export const extensionShape = z.strictObject({
  summary: text(200).describe('What a device gets, in a few words.'),
  backend: templateName.optional().describe('What runs it; without it: docker.'),
  options: z
    .record(templateName, z.unknown())
    .default({})
    .describe('What single backends are told, by their names: the placement of a swarm, the size of a cloud machine.'),
  base: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,30}(@[a-z0-9]{1,12})?$/, 'expected NAME or NAME@VERSION of a template')
    .optional()
    .describe('The template that this one is derived from: NAME, or NAME@VERSION.'),
  set: z
    .record(
      parameterName,
      z.union(
        [z.string(), z.number(), z.boolean(), z.strictObject({ file: path })],
        'expected a value, or `file: PATH`',
      ),
    )
    .default({})
    .describe('Parameters of the base that are fixed here; texts may use variables.'),
  entry: z
    .union(
      [serviceName, z.strictObject({ service: serviceName, port: port.nullable().optional() })],
      'expected a service, or `service` and `port`',
    )
    .optional()
    .describe('The service that the client reaches, and the TCP port that says that it answers.'),
  parameters: z.record(parameterName, parameter).default({}),
  outputs: z
    .record(
      z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, 'expected a letter, then letters, digits, - and _'),
      output,
    )
    .default({}),
  wiring: z.strictObject(wiringFields).optional().describe('Extra interfaces, and what passes the firewall.'),
  lifetime: z
    .strictObject({
      grace: duration.optional().describe('How long an instance outlives its lease; without it: not at all.'),
      most: duration.optional().describe('How long it lives at most; without it: as long as its lease.'),
    })
    .default({}),
  files: z
    .record(
      z.string().regex(/^\/(?!.*(^|\/)\.\.(\/|$))[^\0]*[^/\0]$/, 'expected an absolute path without ".."'),
      adHocFile,
    )
    .default({})
    .describe('Files that are put into containers when they start, by path.'),
})

export type Extension = z.infer<typeof extensionShape>

/** Keys that people may expect here, and why they are refused. */
const REFUSED: Readonly<Record<string, string>> = {
  state: 'is not supported yet: an instance begins anew with each lease',
  health: "is not supported yet: say `healthcheck` of the service, and the entry's port",
}

/** What stands under `x-orchestrator`, or what is wrong with it. */
export function readExtension(given: Json | undefined): {
  extension: Extension | null
  mismatches: readonly Mismatch[]
} {
  if (given === undefined) {
    const message = 'is missing: a template has at least "x-orchestrator: {summary: what a device gets}"'
    return { extension: null, mismatches: [{ path: [EXTENSION, 'summary'], message }] }
  }
  const parsed = extensionShape.safeParse(given)
  if (parsed.success) return { extension: parsed.data, mismatches: [] }
  return { extension: null, mismatches: parsed.error.issues.flatMap((issue) => issueMismatches(issue, [EXTENSION])) }
}

/** The parameters as templates keep them. */
export function declaredParameters({ parameters }: Extension): readonly Parameter[] {
  return Object.entries(parameters).map(([name, p]) => ({
    name,
    type: p.type,
    description: p.description ?? null,
    required: p.required ?? p.default === undefined,
    default: p.default ?? null,
    values: p.values ?? null,
    pattern: p.pattern ?? null,
    least: p.least ?? null,
    most: p.most ?? null,
  }))
}

type Issue = z.core.$ZodIssue

function issueMismatches(issue: Issue, prefix: readonly (string | number)[]): Mismatch[] {
  const at = [...prefix, ...(issue.path as (string | number)[])]
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...at, key], message: unknownKey(at, key) }))
  }
  if (issue.code === 'invalid_key') {
    return [{ path: at, message: `is not a name that can stand here: ${issue.issues[0]?.message ?? issue.message}` }]
  }
  if (issue.code !== 'invalid_union') return [{ path: at, message: worded(issue.message) }]
  // The form that the author meant is the one that is wrong further inside, or has the right type.
  const meant = issue.errors.find((form) => form.some(({ code, path }) => path.length > 0 || !WRONG_TYPE.has(code)))
  if (meant) return meant.flatMap((one) => issueMismatches(one, at))
  const forms = issue.errors.flatMap(([first]) => (first ? [worded(first.message)] : []))
  return [{ path: at, message: issue.message === 'Invalid input' ? forms.join(', or ') : issue.message }]
}

const WRONG_TYPE: ReadonlySet<string | undefined> = new Set(['invalid_type', 'invalid_value'])

/** zod says "Invalid input: expected string, received undefined". */
function worded(message: string): string {
  if (message.endsWith('received undefined')) return 'is missing'
  return message.replace(/^(Invalid|Too) [a-z ]+[:.] /, '')
}

function unknownKey(at: readonly (string | number)[], key: string): string {
  const top = at.length === 1
  const refused = top && Object.hasOwn(REFUSED, key) ? REFUSED[key] : undefined
  if (refused !== undefined) return refused
  if (at.at(-1) === 'wiring' && key === 'networks') return "say them in the Compose file's own `networks`"
  const known = top ? Object.keys(extensionShape.shape) : []
  return `is not a key that is known here${suggestion(key, known)}`
}

function isPattern(pattern: string): boolean {
  try {
    new RegExp(pattern, 'v')
    return true
  } catch (error) {
    if (error instanceof SyntaxError) return false
    throw error
  }
}
