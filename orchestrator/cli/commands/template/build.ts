import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { OrchestratorError } from '../../../../common/errors.ts'
import { plain } from '../../../../common/plain.ts'
import type { ApiClient } from '../../../api/client.ts'
import type { BuildShape } from '../../../api/wire.ts'
import { packed } from '../../context.ts'
import { Usage } from '../../exit.ts'
import { print, say } from '../../output.ts'
import { dataFormat, type Session, withSession } from '../../session.ts'

interface BuildFlags {
  readonly ref?: string
  readonly subdirectory?: string
  readonly base?: string
  readonly detach?: boolean
  readonly quiet?: boolean
}

export function addBuild(template: Command): void {
  template
    .command('build')
    .summary('build the image of a template')
    .description(
      'Sends a source to the orchestrator, which has an image built of it on a host, and prints the name of the image: it goes into the template. With a registry the image is pushed there; else hosts get it from the orchestrator. The same source again is the same image. The log goes to standard error.',
    )
    .argument('<name>', 'template that the image is for')
    .argument('<source>', 'a folder, a .zip, .tar, .tgz or .tar.gz file, or the URL of a git repository')
    .option('--ref <ref>', 'branch, tag or commit of the git repository')
    .option('--subdirectory <path>', 'folder of the git repository to build from')
    .option(
      '--base <image>',
      'image with its tag, or NAME[@VERSION] of a template, to begin with where the source has no Dockerfile: its files go into /srv',
    )
    .option('-d, --detach', 'do not wait; print the id of the build')
    .option('-q, --quiet', 'do not print the log')
    .addHelpText(
      'after',
      `
Examples:
  orctl template build web ./site
  orctl template build web site.zip --base registry.example/nginx:1.27
  orctl template build web https://git.example/site.git --ref v2
  image=$(orctl template build web ./site --quiet)`,
    )
    .action(async (name: string, source: string, flags: BuildFlags, command: Command) => {
      await withSession(command, (session) => run(session, name, source, flags))
    })
}

async function run(session: Session, name: string, source: string, flags: BuildFlags): Promise<void> {
  const { client, signal } = session
  const begun = await begin(client, name, source, flags, signal)
  say(`build ${begun.id} of ${plain(begun.source)}`)
  if (flags.detach) return show(session, begun, begun.id)
  await followed(begun.id, async () => {
    for await (const text of client.buildLog(begun.id, { follow: true }, signal)) {
      if (!flags.quiet) process.stderr.write(text)
    }
  })
  const ended = await client.build(begun.id, signal)
  if (ended.state !== 'done') {
    throw new OrchestratorError(
      'build-failed',
      `build ${ended.id} ${ended.state}: ${ended.error ?? 'no reason was told'}`,
    )
  }
  show(session, ended, ended.image ?? ended.id)
}

/** Ctrl-C ends the watching; the build goes on, which is worth a word. */
async function followed(id: string, follow: () => Promise<void>): Promise<void> {
  const interrupted = () => {
    say(`\nbuild ${id} goes on: \`orctl template log ${id} -f\` follows it, \`orctl rm build ${id}\` ends it`)
    process.kill(process.pid, 'SIGINT')
  }
  process.once('SIGINT', interrupted)
  try {
    await follow()
  } finally {
    process.off('SIGINT', interrupted)
  }
}

async function begin(
  client: ApiClient,
  template: string,
  source: string,
  flags: BuildFlags,
  signal: AbortSignal,
): Promise<BuildShape> {
  const { base, ref, subdirectory } = flags
  if (isRepository(source)) {
    const git = {
      url: source,
      ...(ref === undefined ? {} : { ref }),
      ...(subdirectory === undefined ? {} : { directory: subdirectory }),
    }
    return await client.buildFromGit({ template, git, ...(base === undefined ? {} : { base }) }, signal)
  }
  if (ref !== undefined || subdirectory !== undefined)
    throw new Usage('--ref and --subdirectory go with the URL of a git repository')
  const { format, words, body } = await opened(source)
  return await client.buildFromArchive({ template, source: words, format, base }, body, signal)
}

function isRepository(source: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(source) || /^[\w.-]+@[\w.-]+:/.test(source)
}

const FORMATS = [
  [/\.zip$/i, 'zip'],
  [/\.(tgz|tar\.gz)$/i, 'tgz'],
  [/\.tar$/i, 'tar'],
] as const

async function opened(source: string): Promise<{ format: string; words: string; body: Readable }> {
  const path = resolve(source)
  const kind = await stat(path).catch((error: Error) => {
    throw new Usage(`${source} cannot be read: ${error.message}`)
  })
  if (kind.isDirectory()) return { format: 'tar', words: `folder ${basename(path)}`, body: packed(path) }
  const format = FORMATS.find(([pattern]) => pattern.test(path))?.[1]
  if (format === undefined) throw new Usage(`${source}: expected a folder, or a file .zip, .tar, .tgz or .tar.gz`)
  return { format, words: basename(path), body: createReadStream(path) }
}

function show({ format }: Session, build: BuildShape, word: string): void {
  const shape = dataFormat(format)
  if (shape === 'json') print(`${JSON.stringify(build, null, 2)}\n`)
  else if (shape === 'yaml') print(stringify(build))
  else if (shape === 'name') print(`${build.id}\n`)
  else print(`${word}\n`)
}
