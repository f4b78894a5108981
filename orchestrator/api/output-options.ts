/** Which output of an instance: `tail` lines from the end to begin with; `follow`: go on until the signal. */
export interface OutputOptions {
  readonly service?: string | undefined
  readonly tail: number
  readonly follow: boolean
}
