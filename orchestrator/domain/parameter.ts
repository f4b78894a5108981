/** A value that a parameter or an output can have. A `file` parameter's is its content, base64. */
export type ParameterValue = string | number | boolean

/** A value as it is stored: that of a secret is sealed, and is opened only where the order to a host is made. */
export type StoredValue = ParameterValue | Sealed
/** A secret, encrypted with the key of the state directory; see orchestrator/pki/seal.ts. */
export interface Sealed {
  readonly sealed: string
}

export function isSealed(value: StoredValue): value is Sealed {
  return typeof value === 'object'
}

/** What a template asks of whoever uses it, declared under `x-orchestrator.parameters`. */
export interface Parameter {
  /** Also the variable's name: `${NAME}`. */
  readonly name: string
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'enum' | 'secret' | 'file'
  readonly description: string | null
  /** Whether it must be given; one with a default never need be. */
  readonly required: boolean
  readonly default: ParameterValue | null
  /** Of an enum: what it may be. */
  readonly values: readonly string[] | null
  /** A regular expression that the whole text must match (ECMAScript, `v` flag). */
  readonly pattern: string | null
  /** Of numbers: the least and greatest value; of texts: characters; of files: bytes. null: no limit of its own. */
  readonly least: number | null
  readonly most: number | null
}

/** What a template's instances tell in `/orchestrator/outputs.json`, declared under `x-orchestrator.outputs`. */
export interface OutputDeclaration {
  readonly name: string
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'url'
  readonly description: string | null
}

/** Values by name. */
export type Parameters = Readonly<Record<string, ParameterValue>>
export type StoredParameters = Readonly<Record<string, StoredValue>>
