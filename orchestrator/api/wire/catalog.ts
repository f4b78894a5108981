import { z } from 'zod'
import { faultShape, price, time, valueShape } from './terms.ts'

export const parameterShape = z.object({
  name: z.string(),
  type: z.enum(['string', 'integer', 'number', 'boolean', 'enum', 'secret', 'file']),
  description: z.string().nullable(),
  required: z.boolean(),
  default: valueShape.nullable(),
  values: z.array(z.string()).nullable(),
  pattern: z.string().nullable(),
  least: z.number().nullable(),
  most: z.number().nullable(),
})
export type ParameterShape = z.infer<typeof parameterShape>

/** One version of a template. `GET /v1/templates`: those rolled out; `?all=true` and `/v1/templates/:name/versions`: all. */
export const templateShape = z.object({
  name: z.string(),
  /** Content hash, and the number that people use: `web@3`. */
  version: z.string(),
  number: z.number(),
  /** Whether rules that name no version give this one. */
  current: z.boolean(),
  origin: z.enum(['directory', 'api']),
  kind: z.enum(['standard', 'ad-hoc']),
  summary: z.string(),
  backend: z.string(),
  base: z.string().nullable(),
  images: z.array(z.string()),
  entryPort: z.number().nullable(),
  graceSeconds: z.number(),
  lifetimeSeconds: z.number().nullable(),
  instances: z.number(),
})
export type TemplateShape = z.infer<typeof templateShape>

/** `GET /v1/templates/:name[@number|@version]` */
export const templateDetailShape = templateShape.extend({
  parameters: z.array(parameterShape),
  outputs: z.array(z.object({ name: z.string(), type: z.string(), description: z.string().nullable() })),
  /** The stack as YAML, without the content of secrets. */
  stack: z.string(),
  /** Paths and sizes (bytes) of the files that belong to it. */
  files: z.array(z.object({ path: z.string(), bytes: z.number() })),
  weakens: z.array(z.string()),
  /** Names of the rules and templates that refer to it, and of its living instances. */
  usedBy: z.object({ rules: z.array(z.string()), templates: z.array(z.string()), instances: z.array(z.string()) }),
})
export type TemplateDetailShape = z.infer<typeof templateDetailShape>

/** Files of one apply at most, as in the catalog directory. */
const MOST_APPLIED_FILES = 10_000
/**
 * `POST /v1/apply`: files as `orctl apply -f` read them, base64 by path relative to what was named. A YAML file with `services`
 * or `x-orchestrator` is a template, one with `rules` the rules; others belong to a template beside or above them.
 */
export const applyRequest = z.strictObject({
  files: z
    .record(z.string().max(1024), z.base64())
    .refine((files) => Object.keys(files).length <= MOST_APPLIED_FILES, `expected at most ${MOST_APPLIED_FILES} files`),
  /** Say what would change, and change nothing. */
  dryRun: z.boolean().default(false),
  /** Keep new versions without rolling them out. */
  hold: z.boolean().default(false),
})
export type ApplyRequest = z.input<typeof applyRequest>
/** 200 also with faults when dryRun; else 422 with code `faulty-files` and these faults, and nothing was changed. */
export const applyShape = z.object({
  changes: z.array(
    z.object({
      kind: z.enum(['template', 'rules']),
      name: z.string(),
      action: z.enum(['created', 'changed', 'unchanged']),
      /** Number of the template's version, or the rules' revision; of a dry run: what it would be. */
      version: z.number(),
      /** Unified diff of what people wrote, against what is in force; '' when unchanged. Secrets are left out. */
      diff: z.string(),
    }),
  ),
  faults: z.array(faultShape),
  notes: z.array(faultShape),
})
export type ApplyShape = z.infer<typeof applyShape>

/** `POST /v1/templates/:name/rollout`: a version's number or hash, or `previous`. Answers with the template's shape. */
export const rolloutRequest = z.strictObject({ to: z.union([z.string().max(64), z.number().int().positive()]) })
/** `GET /v1/templates/:name/diff?from=&to=`: unified diff of two versions. */
export const diffShape = z.object({ from: z.number(), to: z.number(), diff: z.string() })
export type DiffShape = z.infer<typeof diffShape>

/** One rule in `GET /v1/rules`, in order. */
export const ruleShape = z.object({
  position: z.number(),
  name: z.string(),
  /** As in the file. */
  match: z.record(z.string(), z.unknown()),
  /** null: nothing. */
  give: z
    .object({
      template: z.string(),
      version: z.union([z.string(), z.number()]).nullable(),
      parameters: z.record(z.string(), valueShape),
      backend: z.string().nullable(),
      otherwise: z.array(z.string()),
      lifetimeSeconds: z.number().nullable(),
      graceSeconds: z.number().nullable(),
      most: z.number().nullable(),
      spend: price.nullable(),
    })
    .nullable(),
  instances: z.number(),
  /** What its living instances cost together, each currency once. */
  spent: z.array(price),
})
export type RuleShape = z.infer<typeof ruleShape>
/** `GET /v1/rules` */
export const rulesShape = z.object({
  revision: z.number(),
  origin: z.enum(['directory', 'api', 'default']),
  quotas: z.object({ total: z.number().nullable(), perOwner: z.number().nullable(), spend: price.nullable() }),
  items: z.array(ruleShape),
})
export type RulesShape = z.infer<typeof rulesShape>

/** `POST /v1/rules/test`: a lease as it might be; what is left out is unknown to the rules. `at`: when; default now. */
export const ruleTestRequest = z.strictObject({
  duid: z.string().max(400).optional(),
  iaid: z.number().int().min(0).max(0xffff_ffff).optional(),
  address: z.ipv6().optional(),
  mac: z.string().max(64).optional(),
  tags: z.array(z.string().max(255)).max(64).optional(),
  relay: z.ipv6().optional(),
  interface: z.string().max(64).optional(),
  source: z.string().max(64).optional(),
  hostname: z.string().max(255).optional(),
  mudUrl: z.string().max(2048).optional(),
  vendorClass: z.string().max(1024).optional(),
  userClasses: z.array(z.string().max(255)).max(32).optional(),
  at: time.optional(),
})
export type RuleTestRequest = z.infer<typeof ruleTestRequest>
export const ruleTestShape = z.object({
  /** The rule that decides; null: none matches. */
  rule: z.string().nullable(),
  /** What it gives; null: nothing. */
  template: z.object({ name: z.string(), number: z.number(), version: z.string() }).nullable(),
  /** Where it would be: the backends that would be tried, in order; empty: it would be refused, or get nothing. */
  backends: z.array(z.string()),
  /** What it would cost at most; null: nothing, or not known. */
  price: price.nullable(),
  /** Limits on money that hold for it, and what is spent of each. */
  spending: z.array(z.object({ who: z.string(), most: price, spent: price })),
  /** Why an instance would be refused all the same (a quota, a parameter); null: it would not. */
  refusal: z.string().nullable(),
  /** Each rule up to the one that decides, with the first thing that did not match in words; null: it matched. */
  considered: z.array(z.object({ name: z.string(), mismatch: z.string().nullable() })),
})
export type RuleTestShape = z.infer<typeof ruleTestShape>
