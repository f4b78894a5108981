import { type Command, Option } from 'commander'
import type { EventShape } from '../../api/wire.ts'
import { followEvents } from '../follow.ts'
import { appended, print, say, shown, type View } from '../output.ts'
import { eventColumns } from '../resources.ts'
import { wholeNumber, withSession } from '../session.ts'

const view: View<EventShape> = { columns: eventColumns, name: (event) => String(event.id) }

interface EventsFlags {
  readonly instance?: string
  readonly limit: number
  readonly watch?: boolean
}

export function addEvents(program: Command): void {
  program
    .command('events')
    .summary('show what happened')
    .description('Shows what happened, oldest first: leases, instances, hosts, errors.')
    .option('-i, --instance <name>', 'only of this instance')
    .addOption(
      new Option('-n, --limit <number>', 'how many of the newest')
        .default(50)
        .argParser(wholeNumber('--limit', 0, 1000)),
    )
    .addOption(new Option('-w, --watch', 'go on with new ones, until Ctrl-C'))
    .addHelpText(
      'after',
      `
Examples:
  orctl events                         the newest 50
  orctl events -i laptop -n 10         of one instance
  orctl events -w -n 0 -o json         one JSON object a line, from now on`,
    )
    .action(async (flags: EventsFlags, command: Command) => {
      await withSession(command, async ({ client, format, signal }) => {
        const { instance, limit } = flags
        if (!flags.watch) {
          const events = await client.events({ limit, instance }, signal)
          if (events.length === 0 && (format === 'table' || format === 'wide')) say('there are no events')
          else print(shown(view, events, format, Date.now()))
          return
        }
        for await (const message of followEvents(client, { last: limit, instance }, signal)) {
          if ('event' in message) print(appended(view, [message.event], format, Date.now()))
          else say(`events ${message.gap.after + 1} to ${message.gap.oldest - 1} are no longer kept`)
        }
      })
    })
}
