import { spawn } from 'node:child_process'
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, type Readable } from 'node:stream'
import { text as allText } from 'node:stream/consumers'
import { OrchestratorError } from '../../../common/errors.ts'
import { type GitProtocol, gitPlace, gitRef } from './git-url.ts'
import { plainPath } from './paths.ts'
import { SourceRefused } from './refused.ts'

/** What is fetched. */
export interface GitSource {
  readonly url: string
  /** Branch, tag or commit; absent: what the repository's HEAD is. */
  readonly ref?: string | undefined
  /** Folder of the repository that is the source; absent: all of it. */
  readonly directory?: string | undefined
}

export interface GitOptions {
  /** Where the repository is kept meanwhile: made, and taken away again. */
  readonly directory: string
  readonly protocols: readonly GitProtocol[]
  /** Bytes of one file that git may write: of the pack that it fetches. The memory that git may take grows with it. */
  readonly mostBytes: number
  /** Told line by line what git says; nothing of it is secret. */
  readonly say: (line: string) => void
}

/** Bytes of git's talk that are kept to say why it failed. */
const TALK_MOST = 16 * 1024
/** How git and what it is made of say that they got no more memory; what a server says begins with `remote:`. */
const NO_MEMORY = /^(?:fatal|error): .*(?:out of memory|cannot allocate memory)/im
/** What of git is not to run, not to be asked, and not to be read in as configuration. */
const QUIET = {
  'core.hooksPath': '/dev/null',
  'credential.helper': '',
  'fetch.unpackLimit': '1',
  'fetch.recurseSubmodules': 'false',
  'core.bigFileThreshold': '1m',
  'pack.threads': '1',
  'gc.auto': '0',
  'maintenance.auto': 'false',
  'tar.umask': '0022',
} as const
/** The files as they are, also those that an archive would leave out or change (gitattributes(5), "Creating an archive"). */
const ATTRIBUTES = '* -export-ignore -export-subst\n'

/**
 * Checks what would be fetched, without fetching.
 * @returns what it is called for people, without credentials @throws SourceRefused
 */
export function gitSourceWords(source: GitSource, protocols: readonly GitProtocol[]): string {
  const { url } = gitPlace(source.url, protocols)
  const ref = source.ref === undefined ? '' : `#${gitRef(source.ref)}`
  const directory = source.directory === undefined ? '' : `:${plainPath(source.directory)}`
  return `${url}${ref === '' && directory !== '' ? '#' : ref}${directory}`
}

/**
 * Fetches one commit, nothing of its history, and hands its files as a tar to `use`. No shell, no hook, no submodule, no
 * configuration of anybody's, no file of the repository on our disk but git's own pack.
 * @throws SourceRefused; the signal's reason, when git and all that it started is killed
 */
export async function withGitTar<T>(
  source: GitSource,
  options: GitOptions,
  signal: AbortSignal,
  use: (tar: Readable) => Promise<T>,
): Promise<T> {
  const { directory, protocols, say } = options
  const { url, credentials } = gitPlace(source.url, protocols)
  const ref = source.ref === undefined ? 'HEAD' : gitRef(source.ref)
  const below = plainPath(source.directory ?? '')
  const environment = environmentFor(directory, url, credentials, protocols)
  const repository = join(directory, 'repository')
  const git = (...args: string[]) => run(args, { environment, directory, mostBytes: options.mostBytes }, signal)
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true, mode: 0o700 })
  try {
    await git('init', '--quiet', '--bare', '--template=', '--', repository).done
    await mkdir(join(repository, 'info'), { recursive: true })
    await writeFile(join(repository, 'info', 'attributes'), ATTRIBUTES)
    const inside = ['--git-dir', repository]
    const fetching = [...['fetch', '--quiet', '--depth', '1', '--no-tags', '--no-write-commit-graph'], '--', url, ref]
    await git(...inside, ...fetching).done.catch(async (error) => {
      throw (await isCut(repository, options.mostBytes)) ? tooLarge(options.mostBytes) : error
    })
    const resolved = async (name: string) =>
      (await git(...inside, 'rev-parse', '--verify', '--end-of-options', name).done).trim()
    const commit = await resolved('FETCH_HEAD^{commit}')
    say(`fetched commit ${commit}`)
    const tree = below === '' ? commit : await resolved(`${commit}:${below}`)
    const archive = git(...inside, 'archive', '--format=tar', tree)
    archive.done.catch(() => {})
    const result = await use(archive.output)
    await archive.done
    return result
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Everything that git may know. Credentials are for this one host, and neither in an argument nor on the disk. */
function environmentFor(
  home: string,
  url: string,
  credentials: string | null,
  protocols: readonly GitProtocol[],
): NodeJS.ProcessEnv {
  const settings: [string, string][] = Object.entries(QUIET)
  if (credentials !== null) {
    const value = `Authorization: Basic ${Buffer.from(credentials).toString('base64')}`
    settings.push([`http.${new URL(url).origin}/.extraHeader`, value], ['http.followRedirects', 'false'])
  }
  const numbered = settings.flatMap(([key, value], index) => [
    [`GIT_CONFIG_KEY_${index}`, key],
    [`GIT_CONFIG_VALUE_${index}`, value],
  ])
  return {
    PATH: process.env['PATH'],
    LANG: 'C.UTF-8',
    HOME: home,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_COUNT: String(settings.length),
    ...Object.fromEntries(numbered),
    GIT_ALLOW_PROTOCOL: protocols.join(':'),
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '/bin/false',
    SSH_ASKPASS: '/bin/false',
    GIT_SSH_COMMAND: 'ssh -o BatchMode=yes',
    GIT_SSH_VARIANT: 'ssh',
    GIT_NO_LAZY_FETCH: '1',
  }
}

/**
 * Bytes of memory that each process may take. `git archive` lists all files of a commit before the first one, at some 100
 * bytes each, and ten folders in one another, of ten names each, mean 10^10 of them. git 2.39 was seen to need more than
 * 128 MiB and less than 256 MiB for a million files, and for two of 126 MiB of which one is packed as a change of the other.
 */
function memoryFor(mostBytes: number): number {
  return 256 * 1024 * 1024 + 4 * mostBytes
}

/** Runs git in a process group of its own, which is killed as a whole when the signal says so. */
function run(
  args: readonly string[],
  how: { environment: NodeJS.ProcessEnv; directory: string; mostBytes: number },
  signal: AbortSignal,
): { output: Readable; done: Promise<string> } {
  const memory = memoryFor(how.mostBytes)
  // prlimit(1) becomes git: a pack that grows too large ends it by SIGXFSZ. All that git starts has the same limits.
  const command = [`--fsize=${how.mostBytes}`, `--data=${memory}`, '--core=0', 'git', ...args]
  const child = spawn('prlimit', command, {
    cwd: how.directory,
    env: how.environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let isOver = false
  const kill = () => {
    // Git itself may have ended: what it started can still be there.
    if (child.pid === undefined || isOver) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
    // What left the group all the same may hold their other ends, and is not waited for.
    child.stdout.destroy()
    child.stderr.destroy()
  }
  if (signal.aborted) kill()
  signal.addEventListener('abort', kill, { once: true })
  let talk = ''
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    talk = (talk + part).slice(-TALK_MOST)
  })
  const output = child.stdout.pipe(new PassThrough(), { end: false })
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
      const remedy = missing ? ': install git and util-linux where the orchestrator runs' : `: ${cause.message}`
      reject(new OrchestratorError('git-missing', `git cannot be started${remedy}`, { cause }))
    })
    child.once('close', (code, killedBy) => {
      isOver = true
      signal.removeEventListener('abort', kill)
      if (code === 0) resolve()
      else if (signal.aborted) reject(signal.reason)
      else reject(failure(killedBy, talk, memory))
    })
  })
  // A reader that gives up (a limit was met) must not leave git waiting for it.
  output.once('close', () => {
    if (!output.readableEnded) kill()
  })
  // What git says ends when git is known to have succeeded: what was cut must not pass for all of it.
  ended.then(
    () => output.end(),
    (error) => output.destroy(error as Error),
  )
  // The tar is read by its user; of everything else the answer is one line.
  const isTar = args.includes('archive')
  const done = Promise.all([isTar ? '' : allText(output), ended]).then(([said]) => said)
  return { output, done }
}

/** Whether git was ended because it wrote more than it may: the process that says so is its child. */
async function isCut(repository: string, mostBytes: number): Promise<boolean> {
  const folder = join(repository, 'objects', 'pack')
  const sizes = (await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size)
  return (await Promise.all(sizes)).some((size) => size >= mostBytes)
}

function tooLarge(mostBytes: number): SourceRefused {
  return new SourceRefused(
    'too-large',
    `the git repository is larger than ${mostBytes} bytes (builds.most-packed-bytes)`,
  )
}

/** @param memory bytes that git may have taken */
function failure(killedBy: NodeJS.Signals | null, talk: string, memory: number): SourceRefused {
  if (NO_MEMORY.test(talk)) {
    const most = `${Math.floor(memory / 1024 / 1024)} MiB`
    return new SourceRefused(
      'too-large',
      `git needs more than ${most} of memory for the repository: it has too many files, or too large ones; what git may take grows with builds.most-packed-bytes`,
    )
  }
  const said = talk.replace(/\p{Cc}+/gu, ' ').trim()
  return new SourceRefused(
    'git-failed',
    `git could not fetch it: ${said.slice(-1000) || `ended by ${killedBy ?? 'itself'}`}`,
  )
}
