/** What lets a backend in: texts by the names of its fields. Never to be logged or shown. */
export type CredentialFields = Readonly<Record<string, string>>

/** A credential without its values. */
export interface CredentialInfo {
  readonly name: string
  readonly fields: readonly string[]
  /** Epoch ms. */
  readonly changedAt: number
  /** Names of the backends whose settings name it, or that have asked for it since the start. */
  readonly usedBy: readonly string[]
}
