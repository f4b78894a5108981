/** Something wrong, or worth knowing, at one place of a template file. */
export interface Fault {
  /** The file's path as the author knows it. */
  readonly file: string
  /** Counted from 1; null: it concerns the whole file. */
  readonly line: number | null
  /** The exact key, such as `services.web.healthcheck.interval`; '' for the whole file. */
  readonly key: string
  /** What is wrong, what was expected, and the remedy: one sentence. Never the value of a secret. */
  readonly message: string
}

/** `FILE:LINE: KEY: MESSAGE`: a fault in one line, as editors understand it. */
export function faultText({ file, line, key, message }: Fault): string {
  return [line === null ? file : `${file}:${line}`, ...(key === '' ? [] : [key]), message].join(': ')
}
