import { HostUnreachable, OrchestratorError } from '../../../../common/errors.ts'
import type { MachineWay } from '../../../domain/machine.ts'
import type { Shell, ShellOutcome } from './shell.ts'

/** Milliseconds that a machine has to answer a question. */
export const ANSWER_MS = 20_000

/** Runs a short program on a machine. @throws HostUnreachable also when it does not answer in time */
export async function ask(
  shell: Shell,
  machine: MachineWay,
  command: readonly string[],
  stop: AbortSignal,
  options: { readonly input?: Buffer; readonly withinMs?: number } = {},
): Promise<ShellOutcome> {
  const { input, withinMs = ANSWER_MS } = options
  const limit = AbortSignal.timeout(withinMs)
  try {
    return await shell.run(machine, command, { input, signal: AbortSignal.any([stop, limit]) })
  } catch (error) {
    if (stop.aborted || !limit.aborted || error instanceof OrchestratorError) throw error
    throw new HostUnreachable(machine.name, `no answer within ${withinMs / 1000} s`, { cause: error })
  }
}
