import { CommanderError } from 'commander'
import { OrchestratorError, wording } from '../../common/errors.ts'
import { Refused, ServerUnreachable } from '../api/transport.ts'

/** How orctl ends. Stable: scripts rely on it. */
export const EXIT = { ok: 0, failure: 1, usage: 2, notFound: 3, notAllowed: 4, unreachable: 5, refused: 6 } as const

export const EXIT_HELP = `Exit codes:
  0  done
  1  it failed
  2  the command line is wrong
  3  there is no such thing
  4  not allowed: the token is missing or not valid
  5  the server cannot be reached, or is not ready
  6  refused: in conflict with what is there, not acceptable, or too much at once`

/** The command line asks for something that makes no sense. */
export class Usage extends OrchestratorError {
  constructor(message: string) {
    super('usage', message)
  }
}

/** What was named is not there. */
export class NotFound extends OrchestratorError {
  constructor(message: string) {
    super('not-found', message)
  }
}

/** There is no token to show to the server. */
export class NoToken extends OrchestratorError {
  constructor(message: string) {
    super('no-token', message)
  }
}

/** The exit code for what was thrown. */
export function exitCodeOf(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (thrown instanceof Usage) return EXIT.usage
  if (thrown instanceof NotFound) return EXIT.notFound
  if (thrown instanceof NoToken) return EXIT.notAllowed
  if (thrown instanceof ServerUnreachable) return EXIT.unreachable
  if (thrown instanceof Refused) return exitCodeOfStatus(thrown.status)
  return EXIT.failure
}

function exitCodeOfStatus(status: number): number {
  if (status === 400) return EXIT.usage
  if (status === 401 || status === 403) return EXIT.notAllowed
  if (status === 404) return EXIT.notFound
  if (status === 409 || status === 422 || status === 429) return EXIT.refused
  if (status === 502 || status === 503 || status === 504) return EXIT.unreachable
  return EXIT.failure
}

/** What a person is told about what was thrown; null: commander has said it already. */
export function wordsFor(thrown: unknown): string | null {
  if (thrown instanceof CommanderError) return null
  if (thrown instanceof Refused && thrown.status === 401) {
    return `${thrown.message}\nGive a token by --token-file, ORCTL_TOKEN or ORCTL_TOKEN_FILE; the first one is in api-token of the orchestrator's state directory`
  }
  return wording(thrown)
}
