/** A template as its author wrote it: the Compose text and the files beside it. */
export interface TemplateSource {
  /** The name that the file or its folder gives; a `name:` in the text overrides it. */
  readonly name: string
  /** The Compose file's path as the author knows it; faults begin with it. */
  readonly file: string
  readonly text: string
  /** Bytes of the files beside it, by path relative to the Compose file, with `/`. Only what the text refers to is used. */
  readonly files: ReadonlyMap<string, Uint8Array>
}
