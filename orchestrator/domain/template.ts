import type { InstanceWiring } from '../../common/instance-wiring.ts'
import type { OutputDeclaration, Parameter } from './parameter.ts'

/** Name and version of a template; a version is the hash of its content, so it never changes meaning. */
export interface TemplateRef {
  readonly name: string
  readonly version: string
}

/** JSON, as a Compose file is once its YAML is read. Its texts still have their `${…}`. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** What a template means, apart from its number: the result of orchestrator/compose/compile.ts, hashed to its version. */
export interface TemplateContent {
  readonly summary: string
  /** Which backend runs it. */
  readonly backend: string
  /** `ad-hoc`: files are mounted into images at the start; `standard`: all is in the images. */
  readonly kind: 'standard' | 'ad-hoc'
  /** What it was derived from; null: nothing. */
  readonly base: TemplateRef | null
  readonly parameters: readonly Parameter[]
  /** Parameters of the base that this one has fixed: texts with `${…}` of its own parameters, or values. */
  readonly fixed: Readonly<Record<string, string | number | boolean>>
  readonly outputs: readonly OutputDeclaration[]
  /** The service that `my.instance` shows, and the TCP port that says that it answers; null: nothing is probed. */
  readonly entry: { readonly service: string; readonly port: number | null }
  /** What its instances have beyond a place on the instances' bridge; absent: nothing. */
  readonly wiring?: InstanceWiring | undefined
  readonly lifetime: {
    /** Milliseconds that an instance outlives its lease. */
    readonly graceMs: number
    /** Milliseconds that it lives at most, however long the lease lasts; null: as long as the lease. */
    readonly mostMs: number | null
  }
  /** The Compose file's `services`, `networks`, `volumes`, `configs` and `secrets`, valid and supported, not yet interpolated. */
  readonly stack: { readonly [section: string]: Json }
  /** Files that the stack refers to (`env_file`, `configs.*.file` …) by the path that is written there: base64. */
  readonly files: Readonly<Record<string, string>>
  /** Images that are known before any parameter is: hosts fetch them beforehand. */
  readonly images: readonly string[]
  /** Keys of the file that weaken isolation (`services.web.privileged` …): allowed only when the operator trusts it by name. */
  readonly weakens: readonly string[]
  /** What it says to single backends, by their names; absent: nothing. */
  readonly options?: Readonly<Record<string, Json>> | undefined
}

/** What a lease becomes: one immutable version of a template. */
export interface Template extends TemplateRef, TemplateContent {
  /** 1, 2, 3 … in the order in which versions of that name were first applied. */
  readonly number: number
}

/** Which version of a template rules mean when they name no other, and who keeps it. */
export interface TemplateHead {
  readonly name: string
  readonly version: string
  /** The version before the last rollout; null: there was none. */
  readonly previous: string | null
  /** `directory`: it follows the file in the watched directory; `api`: it was applied by a person. */
  readonly origin: Origin
}
export type Origin = 'directory' | 'api'
