import { setTimeout as delay } from 'node:timers/promises'
import { Option } from 'commander'
import { OrchestratorError } from '../../../../common/errors.ts'
import { plain } from '../../../../common/plain.ts'
import { Refused, ServerUnreachable } from '../../../api/transport.ts'
import type { MachineScope, MachineShape } from '../../../api/wire.ts'
import { age } from '../../ages.ts'
import { type Format, print, say, shown, type View } from '../../output.ts'
import { type Session, wholeNumber } from '../../session.ts'
import { coloured } from '../../table.ts'

/** The flag of all verbs that concern one backend. */
export const backendOption = () => new Option('--backend <name>', 'which one, where several backends have machines')
/** The flags of verbs that take long. */
export const timeoutOption = () =>
  new Option('--timeout <seconds>', 'how long it is followed')
    .default(3600)
    .argParser(wholeNumber('--timeout', 1, 604_800))

export interface LongFlags extends MachineScope {
  /** False: `--no-wait`. */
  readonly wait: boolean
  readonly timeout: number
}

export const machineView: View<MachineShape> = {
  name: (machine) => machine.name,
  columns: [
    { head: 'NAME', cell: (machine) => plain(machine.name) },
    { head: 'STATUS', cell: (machine) => coloured(machine.status) },
    { head: 'ADDRESS', cell: (machine) => machine.address },
    { head: 'VERSION', cell: ({ seen }) => plain(seen?.version || null) },
    { head: 'HEALTH', cell: ({ seen }) => plain(seen?.health ?? null) },
    { head: 'SEEN', cell: ({ seen }, now) => age(seen?.at ?? null, now) },
    { head: 'ETCD', cell: ({ etcd }) => etcd?.state ?? '-' },
    { head: 'BACKEND', cell: (machine) => plain(machine.backend), wide: true },
    { head: 'USER', cell: (machine) => plain(machine.user), wide: true },
    { head: 'PORT', cell: (machine) => String(machine.port), wide: true },
    { head: 'SYSTEM', cell: ({ seen }) => plain(seen?.system ?? null), wide: true },
    { head: 'LABELS', cell: ({ labels }) => plain(labelText(labels) || null), wide: true },
    { head: 'FINGERPRINT', cell: (machine) => plain(machine.fingerprint), wide: true },
    { head: 'REASON', cell: ({ away, fault, task }) => plain(task?.problem ?? fault?.message ?? away), wide: true },
  ],
}

/** Prints machines where data was asked for; people were told already. */
export function printMachines(machines: readonly MachineShape[], format: Format, one: boolean): void {
  if (format !== 'table') print(shown(machineView, machines, format, Date.now(), one))
}

const LOOK_EVERY_MS = 500

/**
 * Looks until `done` says so, and says each change of `progress`. A server that is away for a while (an orchestrator that
 * restarts goes on with the work) is waited for.
 * @throws Error after the time, or what `look` throws
 */
export async function followed<T>(
  session: Session,
  seconds: number,
  look: () => Promise<T>,
  progress: (now: T) => string | null,
  done: (now: T) => boolean,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000
  let last: string | null = null
  for (;;) {
    const now = await look().catch((error) => {
      if (!passes(error) || Date.now() > deadline) throw error
      return null
    })
    const words = now === null ? 'the orchestrator does not answer; the work goes on when it is back' : progress(now)
    if (words !== null && words !== last) say(words)
    last = words
    if (now !== null && done(now)) return now
    if (Date.now() > deadline) {
      throw new OrchestratorError(
        'timeout',
        `it is not over after ${seconds} s, and goes on: \`orctl machine ls\` shows how it stands`,
      )
    }
    await delay(LOOK_EVERY_MS, undefined, { signal: session.signal })
  }
}

function passes(error: unknown): boolean {
  return error instanceof ServerUnreachable || (error instanceof Refused && error.status === 503)
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',')
}
