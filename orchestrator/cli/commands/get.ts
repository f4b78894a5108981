import { setTimeout as delay } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { Refused, ServerUnreachable } from '../../api/transport.ts'
import { followEvents } from '../follow.ts'
import { appended, type Format, print, say, shown } from '../output.ts'
import { type Resource, resourceOf } from '../resources.ts'
import { type Session, withSession } from '../session.ts'

/** Milliseconds between two looks while watching, if no event comes first: ages and leases change without one. */
const LOOK_EVERY_MS = 2_000
/** Milliseconds that events gather before the next look. */
const GATHER_MS = 100

interface GetFlags {
  readonly all?: boolean
  readonly watch?: boolean
}

export function addGet(program: Command): void {
  program
    .command('get')
    .summary('list leases, instances, hosts, templates, rules or builds')
    .description('Lists leases, instances, hosts, templates, rules or builds, or shows the one that is named.')
    .argument('<resource>', 'leases, instances, hosts, templates, rules or builds')
    .argument(
      '[name]',
      'instance name or id, lease address or hostname, name of a host or rule, NAME[@VERSION] of a template, id of a build',
    )
    .addOption(new Option('-w, --watch', 'go on showing what changes, until Ctrl-C'))
    .option(
      '-a, --all',
      'also leases that ended, instances that are gone, and versions of templates that are not rolled out',
    )
    .addHelpText(
      'after',
      `
Examples:
  orctl get instances                  what runs, and for whom
  orctl get instances laptop -o yaml   all about one
  orctl get leases -o wide             with DUID, MAC and tags
  orctl get instances -w               redrawn on a terminal, else rows that change
  orctl get templates -a               with versions that are not rolled out
  orctl rm instance $(orctl get instances -o name) --yes

With -o json a list is {"items": [...]}, a named thing is an object. With --watch each
change is one line: {"type": "added" | "changed" | "removed", "item": {...}}.`,
    )
    .action(async (word: string, name: string | undefined, flags: GetFlags, command: Command) => {
      const resource = resourceOf(word)
      await withSession(command, (session) => run(session, resource, name, flags))
    })
}

async function run(session: Session, resource: Resource<unknown>, name: string | undefined, flags: GetFlags) {
  const look = lookFor(session, resource, name, flags)
  const first = await look()
  if (flags.watch) return await watch(session, resource, first, look)
  if (first.length === 0 && (session.format === 'table' || session.format === 'wide')) {
    say(`there are no ${resource.plural}${resource.plural === 'hosts' ? '; `orctl create token` lets one join' : ''}`)
    return
  }
  print(shown(resource, first, session.format, Date.now(), name !== undefined))
}

function lookFor(session: Session, resource: Resource<unknown>, name: string | undefined, flags: GetFlags) {
  const { client, signal } = session
  return async (): Promise<readonly unknown[]> => {
    if (name !== undefined) return [await resource.find(client, name, signal)]
    return await resource.list(client, { all: flags.all ?? false }, signal)
  }
}

async function watch(
  session: Session,
  resource: Resource<unknown>,
  first: readonly unknown[],
  look: () => Promise<readonly unknown[]>,
): Promise<never> {
  const { format } = session
  const redraw = process.stdout.isTTY && (format === 'table' || format === 'wide')
  const nudge = nudges(session)
  let known = new Map<string, string>()
  let items = first
  let begun = false
  for (;;) {
    if (redraw) print(`\u001b[H\u001b[J${shown(resource, items, format, Date.now())}`)
    else known = tellChanges(resource, items, known, format, begun)
    begun = true
    await nudge()
    items = await patiently(look, items, session.signal)
  }
}

/** Prints what is new, changed or gone since `known`, and returns what is known then. */
function tellChanges(
  resource: Resource<unknown>,
  items: readonly unknown[],
  known: ReadonlyMap<string, string>,
  format: Format,
  begun: boolean,
): Map<string, string> {
  const current = new Map(items.map((item) => [keyOf(resource, item), JSON.stringify(item)]))
  const fresh = items.filter((item) => known.get(keyOf(resource, item)) !== JSON.stringify(item))
  const gone = [...known].filter(([key]) => !current.has(key)).map(([, text]) => JSON.parse(text) as unknown)
  if (format === 'json') {
    const line = (type: string, item: unknown) => print(`${JSON.stringify({ type, item })}\n`)
    for (const item of fresh) line(known.has(keyOf(resource, item)) ? 'changed' : 'added', item)
    for (const item of gone) line('removed', item)
  } else if (!begun && (format === 'table' || format === 'wide')) print(shown(resource, fresh, format, Date.now()))
  else print(appended(resource, fresh, format, Date.now()))
  return current
}

function keyOf(resource: Resource<unknown>, item: unknown): string {
  const id = typeof item === 'object' && item !== null && 'id' in item ? item.id : undefined
  return typeof id === 'string' ? id : resource.name(item)
}

/** Looks, and while the server is away says so and shows what was seen last. */
async function patiently(
  look: () => Promise<readonly unknown[]>,
  last: readonly unknown[],
  signal: AbortSignal,
): Promise<readonly unknown[]> {
  try {
    return await look()
  } catch (error) {
    const passing = error instanceof ServerUnreachable || (error instanceof Refused && error.retryable)
    if (!passing) throw error
    say(`${error.message}; trying again`)
    await delay(LOOK_EVERY_MS, undefined, { signal })
    return last
  }
}

/** A function that resolves when something may have changed: an event came, or some time went by. */
function nudges(session: Session): () => Promise<void> {
  let nudge = () => {}
  void (async () => {
    for await (const _ of followEvents(session.client, { last: 0 }, session.signal)) nudge()
  })().catch(() => {
    // The regular look goes on without the stream, and tells what is wrong if the server is.
  })
  return async () => {
    const nudged = new Promise<void>((resolve) => {
      nudge = resolve
    })
    await Promise.race([nudged, delay(LOOK_EVERY_MS)])
    await delay(GATHER_MS)
  }
}
