import { OrchestratorError, wording } from '../../../common/errors.ts'
import type { InstanceId } from '../../domain/instance.ts'
import type { MachineWay } from '../../domain/machine.ts'
import type { Shell } from './machines/shell.ts'

/** What systemd says of units, through journald (systemd.journal-fields(7): _PID, UNIT). */
export interface Journal {
  /**
   * Tells which instances something happened to, until aborted; goes on where it stopped the last time, so that nothing is
   * missed. @param lost told when that place is no longer known: everything may have changed
   * @throws HostUnreachable
   */
  follow(way: MachineWay, seen: (id: InstanceId) => void, lost: () => void, signal: AbortSignal): Promise<void>
  /** The last lines that the unit itself printed in its last run that printed any: earlier runs say the same, or are over. */
  lastWords(way: MachineWay, unit: string, signal: AbortSignal): Promise<string>
  /** What services of an instance print. */
  logs(way: MachineWay, units: readonly string[], options: LogWish, signal: AbortSignal): AsyncIterable<string>
}
export interface LogWish {
  readonly tail: number
  readonly follow: boolean
}

/** Units whose events count: `orc-<id>-wire`, `-s-<service>`, `-outputs`. */
const UNIT = /^orc-(.+?)-(?:wire|outputs|s-[a-z0-9_-]+)\.service$/
/** Characters of one line that are kept: longer ones are no event of a unit. */
const LONGEST = 65_536
/** How much of what a unit printed is told, and lines that are looked at for it. */
const WORDS = { lines: 3, characters: 500, asked: 20 }

export function createJournal(shell: Pick<Shell, 'run' | 'follow'>): Journal {
  /** By machine, the entry that was seen last. */
  const cursors = new Map<string, string>()

  const begin = async (way: MachineWay, signal: AbortSignal): Promise<string> => {
    const { out, err } = await shell.run(way, ['journalctl', '-q', '-n', '1', '--show-cursor', '-o', 'cat'], { signal })
    const cursor = /^-- cursor: (\S+)$/m.exec(out)?.[1]
    if (cursor === undefined) {
      throw new OrchestratorError('machine-failed', `${way.name}: its journal cannot be read: ${wording(err)}`, {
        retryable: true,
      })
    }
    return cursor
  }

  return {
    async follow(way, seen, lost, signal) {
      const known = cursors.get(way.name)
      const cursor = known ?? (await begin(way, signal))
      cursors.set(way.name, cursor)
      if (known === undefined) lost()
      const fields = '--output-fields=UNIT,MESSAGE_ID'
      const command = [
        'journalctl',
        '-q',
        '-f',
        '-n',
        'all',
        '-o',
        'json',
        fields,
        `--after-cursor=${cursor}`,
        '_PID=1',
      ]
      let rest = ''
      let any = false
      try {
        for await (const text of shell.follow(way, command, signal)) {
          const lines = (rest + text).split('\n')
          rest = (lines.pop() ?? '').slice(0, LONGEST)
          for (const line of lines) {
            const entry = entryOf(line)
            if (entry === null) continue
            any = true
            cursors.set(way.name, entry.cursor)
            if (entry.instance !== null) seen(entry.instance)
          }
        }
      } catch (error) {
        // What is no longer in the journal cannot be gone on from (journalctl: "Failed to seek to cursor").
        if (!any && /cursor/i.test(wording(error))) cursors.delete(way.name)
        throw error
      }
    },

    async lastWords(way, unit, signal) {
      const fields = '--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID'
      const which = ['-n', String(WORDS.asked), '-u', unit, '-t', unit]
      const command = ['journalctl', '-q', '--no-pager', '-a', '-o', 'json', fields, ...which]
      const { out } = await shell.run(way, command, { signal })
      const lines = out.split('\n').flatMap(lineOf)
      const run = lines.at(-1)?.run
      const said = lines.filter((line) => line.run === run).slice(-WORDS.lines)
      return said
        .map(({ text }) => text)
        .join(' ')
        .trim()
        .replace(/\s+/g, ' ')
        .slice(-WORDS.characters)
    },

    async *logs(way, units, { tail, follow }, signal) {
      const which = units.flatMap((unit) => ['-t', unit])
      const command = ['journalctl', '-q', '--no-pager', '-o', 'cat', '-n', String(tail), ...which]
      if (!follow) {
        const { out } = await shell.run(way, command, { signal })
        if (out !== '') yield out
        return
      }
      yield* shell.follow(way, [...command, '-f'], signal)
    },
  }
}

function entryOf(line: string): { readonly cursor: string; readonly instance: InstanceId | null } | null {
  let entry: { __CURSOR?: unknown; UNIT?: unknown }
  try {
    entry = JSON.parse(line)
  } catch {
    return null // the rest of a line that was too long
  }
  if (typeof entry?.__CURSOR !== 'string') return null
  const unit = typeof entry.UNIT === 'string' ? UNIT.exec(entry.UNIT) : null
  return { cursor: entry.__CURSOR, instance: (unit?.[1] as InstanceId | undefined) ?? null }
}

/** A line that a unit printed, and the run of the unit (`_SYSTEMD_INVOCATION_ID`); what is no text is an array of bytes. */
function lineOf(json: string): { readonly text: string; readonly run: unknown }[] {
  if (json === '') return []
  const { MESSAGE, _SYSTEMD_INVOCATION_ID: run } = JSON.parse(json) as Record<string, unknown>
  if (typeof MESSAGE === 'string') return [{ text: MESSAGE, run }]
  return Array.isArray(MESSAGE) ? [{ text: Buffer.from(MESSAGE).toString(), run }] : []
}
