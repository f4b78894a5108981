import { z } from 'zod'

export * from './machine-wire.ts'

/**
 * The shapes of the REST API, version 1: what the server sends and the clients rely on. Times are ISO 8601 texts in UTC,
 * durations carry their unit in the name.
 */
const time = z.iso.datetime()
const owner = z.object({ duid: z.string(), iaid: z.number() })
/** Money by the hour; the currency as ISO 4217 has it. */
const price = z.object({ perHour: z.number(), currency: z.string() })

export const leaseShape = z.object({
  owner,
  address: z.string(),
  state: z.enum(['active', 'ended']),
  source: z.string(),
  hostname: z.string().nullable(),
  mac: z.string().nullable(),
  tags: z.array(z.string()),
  expiresAt: time.nullable(),
  grantedAt: time,
  updatedAt: time,
  endedAt: time.nullable(),
  /** Id of the living instance; null: none. */
  instance: z.string().nullable(),
  /** Why it has no instance although it should; null: nothing is wrong. */
  refusal: z.string().nullable(),
})
export type LeaseShape = z.infer<typeof leaseShape>

/** Milliseconds since the hook wrote the lease event, for each stage that was reached. */
export const timelineShape = z.object({
  hook: z.literal(0).optional(),
  stored: z.number().optional(),
  decided: z.number().optional(),
  sandbox: z.number().optional(),
  started: z.number().optional(),
  reachable: z.number().optional(),
})

export const instanceShape = z.object({
  id: z.string(),
  name: z.string(),
  owner,
  template: z.object({ name: z.string(), version: z.string(), number: z.number() }),
  /** The rule that gave it; null: the default. */
  rule: z.string().nullable(),
  backend: z.string(),
  /** Backends that are tried when this one is full or away before it ever ran, in order. */
  otherwise: z.array(z.string()),
  /** The host, or another target of its backend, where it was put. */
  host: z.string().nullable(),
  /** How its owner is led there; null: it is on the host of its lease, or not known yet. */
  reach: z.object({ kind: z.enum(['routed', 'translated']), address: z.string() }).nullable(),
  /** What it costs, as its backend estimates; null: nothing, or not known. */
  price: price.nullable(),
  wanted: z.enum(['running', 'gone']),
  state: z.enum(['pending', 'running', 'gone']),
  /** One word for people: starting, running, stopping, gone, failing, waiting. */
  status: z.string(),
  generation: z.number(),
  settled: z.number(),
  address: z.string(),
  ownerAddress: z.string(),
  failures: z.number(),
  lastError: z.string().nullable(),
  nextAttemptAt: time.nullable(),
  /** When it ends although its lease goes on; null: never. */
  endsAt: time.nullable(),
  timelineMs: timelineShape,
  createdAt: time,
  updatedAt: time,
})
export type InstanceShape = z.infer<typeof instanceShape>

export const hostShape = z.object({
  name: z.string(),
  connected: z.boolean(),
  epoch: z.number(),
  joinedAt: time,
  seenAt: time.nullable(),
  /** At which other hosts and machines reach it; null: it has told none. */
  address: z.string().nullable(),
  engine: z.string().nullable(),
  kernel: z.string().nullable(),
  version: z.string().nullable(),
  instances: z.number(),
})
export type HostShape = z.infer<typeof hostShape>

/** A fault or note at one place of a file that was sent. */
export const faultShape = z.object({
  file: z.string(),
  line: z.number().nullable(),
  key: z.string(),
  message: z.string(),
})
export type FaultShape = z.infer<typeof faultShape>

/** A value of a parameter or output; that of a secret is never told: `{"secret": true}`. */
export const valueShape = z.union([z.string(), z.number(), z.boolean(), z.object({ secret: z.literal(true) })])
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

/**
 * `GET /v1/builds`, `GET /v1/builds/:id`; `GET /v1/builds/:id/log?follow=` is text/plain; `DELETE /v1/builds/:id` ends one
 * (202; 409 `build-ended`, or `build-elsewhere`: begun through another orchestrator).
 */
export const buildShape = z.object({
  id: z.string(),
  template: z.string(),
  source: z.string(),
  state: z.enum(['waiting', 'building', 'done', 'failed']),
  host: z.string().nullable(),
  image: z.string().nullable(),
  error: z.string().nullable(),
  createdAt: time,
  updatedAt: time,
})
export type BuildShape = z.infer<typeof buildShape>
/**
 * `POST /v1/builds?template=NAME&source=TEXT[&format=tar|tgz|zip][&base=TYPE]`: the body is the context (a directory is sent as
 * tar); or a JSON body for a git repository. 202 with the build; 413 too large; 422 for what is refused in an archive.
 */
export const gitBuildRequest = z.strictObject({
  template: z.string().max(63),
  git: z.strictObject({
    url: z.string().max(2048),
    ref: z.string().max(255).optional(),
    directory: z.string().max(1024).optional(),
  }),
  /** Type whose base image a generated Dockerfile begins with; absent: the source has a Dockerfile. */
  base: z.string().max(512).optional(),
})
export type GitBuildRequest = z.infer<typeof gitBuildRequest>

/** `GET /v1/backends`: where instances can be, as far as it is known without asking. */
export const backendShape = z.object({
  name: z.string(),
  /** `docker`, a kind, or the name of a package. */
  kind: z.string(),
  targets: z.array(
    z.object({
      name: z.string(),
      state: z.enum(['answers', 'away', 'trying']),
      /** Since when it is away; null: it is not, or not known. */
      since: time.nullable(),
      /** When it is tried again; null: with the next call, or when its host connects. */
      tryAt: time.nullable(),
      instances: z.number(),
    }),
  ),
  instances: z.number(),
})
export type BackendShape = z.infer<typeof backendShape>
/** `POST /v1/backends/:name/check`, and each item of `POST /v1/credentials/:name/test`: 200 whatever the targets say. */
export const backendReportShape = z.object({
  backend: z.string(),
  targets: z.array(
    z.object({
      target: z.string(),
      /** Milliseconds until it answered, or failed to. */
      ms: z.number(),
      /** null: it did not answer, or refused us. */
      version: z.string().nullable(),
      abilities: z.array(z.string()),
      /** Each with its remedy. */
      missing: z.array(z.string()),
      error: z.object({ code: z.string(), message: z.string() }).nullable(),
    }),
  ),
})
export type BackendReportShape = z.infer<typeof backendReportShape>

/** `GET /v1/credentials`, `PUT /v1/credentials/:name`: what lets backends in, without its values. */
export const credentialShape = z.object({
  name: z.string(),
  /** Names of its fields. */
  fields: z.array(z.string()),
  changedAt: time,
  /** Names of backends. */
  usedBy: z.array(z.string()),
})
export type CredentialShape = z.infer<typeof credentialShape>
/**
 * `PUT /v1/credentials/:name`: takes the place of what was there. `test`: only if every backend that uses it answers with it
 * (422 `credential-test-failed`, 409 `credential-unused`). `DELETE /v1/credentials/:name[?force=true]`: 204, 409 `credential-in-use`.
 */
export const credentialRequest = z.strictObject({
  fields: z.record(z.string().max(63), z.string().max(32_768)),
  test: z.boolean().default(false),
})
export type CredentialRequest = z.input<typeof credentialRequest>

export const eventShape = z.object({
  id: z.number(),
  at: time,
  level: z.enum(['info', 'warning', 'error']),
  kind: z.string(),
  message: z.string(),
  instance: z.string().nullable(),
  owner: owner.nullable(),
  host: z.string().nullable(),
})
export type EventShape = z.infer<typeof eventShape>

/** `GET /v1/instances/:idOrName`: the instance with its lease and its last events. */
export const instanceDetailShape = instanceShape.extend({
  lease: leaseShape.nullable(),
  parameters: z.record(z.string(), valueShape),
  outputs: z.record(z.string(), valueShape).nullable(),
  events: z.array(eventShape),
})
export type InstanceDetailShape = z.infer<typeof instanceDetailShape>

/** Every refusal: `code` is stable, `field` names what is wrong in the request, `faults` what is wrong in files that it sent. */
export const problemShape = z.object({
  code: z.string(),
  message: z.string(),
  field: z.string().optional(),
  faults: z.array(faultShape).optional(),
})
export type ProblemShape = z.infer<typeof problemShape>

/** `POST /v1/join-tokens`: `command` is the line to paste on the new host. The token is shown this once. */
export const joinTokenRequest = z.object({
  // A host's name, as a join takes it: it becomes part of a line for a shell.
  host: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
    .optional(),
  validSeconds: z
    .number()
    .int()
    .min(60)
    .max(7 * 86400)
    .default(3600),
})
export const joinTokenShape = z.object({ token: z.string(), command: z.string(), expiresAt: time })
export type JoinTokenShape = z.infer<typeof joinTokenShape>

/** A list. `GET` of leases, instances, hosts, templates, events. */
export const listOf = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) })

/**
 * Routes: GET /v1/leases, /v1/instances[?all=true], /v1/instances/:id, /v1/hosts, /v1/templates, /v1/events?after=&limit=&instance=
 * (with `Accept: text/event-stream`: a stream, resumed by Last-Event-ID), /v1/instances/:id/logs?tail=&follow=&service= (text/plain),
 * DELETE /v1/instances/:id (202: wanted gone; 404), DELETE /v1/templates/:name (204; 409 `template-in-use` says by whom), POST /v1/join-tokens, POST /v1/hosts/join (no token but the one-time one),
 * GET /healthz, /readyz, /metrics (no token).
 */
export const API_PREFIX = '/v1'
/** TCP port of the API and of the hosts' socket. */
export const DEFAULT_PORT = 8998
