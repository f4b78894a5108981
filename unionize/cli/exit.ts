import { CommanderError } from 'commander'
import { InvalidSettings } from '../../common/config.ts'
import { errorCode, InvalidInput, OrchestratorError, wording } from '../../common/errors.ts'

/** How the wiring's commands end. Stable: scripts rely on it. */
export const EXIT = { ok: 0, failure: 1, usage: 2, differs: 3, missing: 4, timeout: 5, notAllowed: 6 } as const

const MEANING: Readonly<Record<number, string>> = {
  [EXIT.ok]: 'done, or nothing to do',
  [EXIT.failure]: 'it failed; what it made is gone again, and the same command mends the rest',
  [EXIT.usage]: 'the command line, the file or the settings are wrong; nothing was changed',
  [EXIT.differs]: 'the kernel differs from what is wanted',
  [EXIT.missing]: 'there is no such container, process or namespace, it does not run, or it is not wired',
  [EXIT.timeout]: 'it was not ready in time',
  [EXIT.notAllowed]: 'not allowed: root is needed',
}

/** The exit codes of one command for its `--help`. */
export function exitHelp(...codes: readonly number[]): string {
  return `\nExit codes:\n${codes.map((code) => `  ${code}  ${MEANING[code]}`).join('\n')}`
}

/** What is wrong with the wish itself: every fault at once, each beginning with the flag or the place in the file. */
export class InvalidWish extends OrchestratorError {
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super('invalid-wiring', faults.join('\n'))
    this.faults = faults
  }
}

/** A command that waited in vain. */
export class NotInTime extends OrchestratorError {
  constructor(message: string) {
    super('not-in-time', message, { retryable: true })
  }
}

const CODES: Readonly<Record<string, number>> = {
  'invalid-input': EXIT.usage,
  'target-missing': EXIT.missing,
  'namespace-gone': EXIT.missing,
  'sandbox-gone': EXIT.missing,
  'not-wired': EXIT.missing,
  'not-permitted': EXIT.notAllowed,
  'not-in-time': EXIT.timeout,
}

/** The exit code for what was thrown. */
export function exitCodeOf(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (thrown instanceof InvalidWish || thrown instanceof InvalidInput || thrown instanceof InvalidSettings) {
    return EXIT.usage
  }
  return CODES[errorCode(thrown)] ?? EXIT.failure
}

/** What a person is told about what was thrown, a line for each fault. */
export function linesOf(thrown: unknown): readonly string[] {
  if (thrown instanceof InvalidWish) return thrown.faults
  if (thrown instanceof InvalidSettings) return thrown.message.split('\n')
  const code = errorCode(thrown)
  return [code === 'invalid-input' ? wording(thrown) : `${wording(thrown)} (${code})`]
}
