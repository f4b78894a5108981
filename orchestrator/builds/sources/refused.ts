import { OrchestratorError } from '../../../common/errors.ts'

/** Why a source is not taken: one word for machines, for each kind of thing that is refused. */
export type RefusalReason =
  | 'absolute-path'
  | 'backslash'
  | 'bad-checksum'
  | 'case-clash'
  | 'control-character'
  | 'damaged'
  | 'deep-path'
  | 'drive-letter'
  | 'duplicate'
  | 'encrypted'
  | 'git-failed'
  | 'git-url'
  | 'hidden-data'
  | 'link-leads-out'
  | 'link-over-link'
  | 'long-path'
  | 'no-dockerfile'
  | 'not-text'
  | 'overlap'
  | 'parent-path'
  | 'ratio'
  | 'special-file'
  | 'too-large'
  | 'too-many'
  | 'trailing-data'
  | 'truncated'
  | 'two-dockerfiles'
  | 'unknown-kind'
  | 'wrong-format'
  | 'wrong-size'

/** A source that is refused; `code` is `source-refused`, or `source-too-large` where a limit was met. */
export class SourceRefused extends OrchestratorError {
  readonly reason: RefusalReason
  constructor(reason: RefusalReason, message: string, options: { cause?: unknown } = {}) {
    super(reason === 'too-large' || reason === 'too-many' ? 'source-too-large' : 'source-refused', message, options)
    this.reason = reason
  }
}

/** @throws SourceRefused `too-many` when a source holds more files, folders and links than it may */
export function checkCount(count: number, most: number): void {
  if (count <= most) return
  throw new SourceRefused('too-many', `the source holds more than ${most} files and folders (builds.most-files)`)
}

/** A name out of an archive as it may stand in a message: at most 200 characters, nothing that moves a cursor. */
export function shown(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 199)}…` : name)
}
