import { createHash } from 'node:crypto'
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type Docker from 'dockerode'
import { LabError, run } from './command.ts'
import type { LabEngine, Say } from './engine.ts'
import { CACHE_DIRECTORY, SOURCE_DIRECTORY } from './places.ts'

export const SAMPLE_IMAGE = 'orchestrator/sample:latest'
export const SAMPLES_IMAGE = 'orchestrator/samples:1'
const PULLED_BASE = 'debian:bookworm-slim'
const PULL_PATIENCE_MS = 10_000
/** What the base of our own making holds besides a minimal Debian; a change here makes a new one. */
const BASE_SUITE = 'bookworm'
const BASE_PACKAGES = [
  ...['nginx-light', 'openssh-server'],
  // What the samples in docs/samples run.
  ...['python3', 'shellinabox', 'redis-server', 'openvpn', 'openssl', 'mosquitto', 'curl'],
]
/** Images that the lab put into an engine of the machine's, to take them out again. */
const RECORD = join(CACHE_DIRECTORY, 'made-images.json')

/**
 * Builds the sample instance's image where the engine has not this very one yet; it is tagged by its content and `latest`.
 * @returns its name by content, `orchestrator/sample:<hash>`
 */
export async function buildSampleImage(engine: LabEngine, say: Say, signal?: AbortSignal): Promise<string> {
  return await buildImage(engine, { folder: 'client-image', name: 'orchestrator/sample', tag: 'latest' }, say, signal)
}

/** Builds the base of the samples in docs/samples, `orchestrator/samples:1`, where the engine has not this very one yet. */
export async function buildSamplesImage(engine: LabEngine, say: Say, signal?: AbortSignal): Promise<string> {
  return await buildImage(engine, { folder: 'docs/samples/image', name: 'orchestrator/samples', tag: '1' }, say, signal)
}

/** @returns its name by content */
async function buildImage(
  engine: LabEngine,
  recipe: { readonly folder: string; readonly name: string; readonly tag: string },
  say: Say,
  signal: AbortSignal | undefined,
): Promise<string> {
  const context = join(SOURCE_DIRECTORY, recipe.folder)
  // The template that lies beside is no part of the image.
  const files = readdirSync(context)
    .filter((file) => !file.endsWith('.yaml'))
    .sort()
  const base = await baseImage(engine, say, signal)
  const hash = createHash('sha256').update(base)
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(join(context, file)))
  const name = `${recipe.name}:${hash.digest('hex').slice(0, 12)}`
  const tagged = `${recipe.name}:${recipe.tag}`
  if (!(await hasImage(engine.docker, name))) {
    const began = performance.now()
    say(`building the image of ${recipe.folder} …`)
    remember(engine, [name, tagged])
    const stream = await engine.docker.buildImage(
      { context, src: files },
      { t: name, buildargs: { BASE: base }, forcerm: true, ...(signal && { abortSignal: signal }) },
    )
    await followed(engine.docker, stream, `docker build of ${recipe.folder}`)
    say(`built ${name} in ${seconds(began)}`)
  }
  remember(engine, [tagged])
  await engine.docker.getImage(name).tag({ repo: recipe.name, tag: recipe.tag })
  return name
}

/** Takes out of an engine of the machine's what the lab put there. An engine of our own keeps its images: they are the cache. */
export async function removeImages(engine: LabEngine): Promise<void> {
  if (engine.own) return
  for (const name of readRecord()) {
    if (await hasImage(engine.docker, name)) await engine.docker.getImage(name).remove({ force: true })
  }
  rmSync(RECORD, { force: true })
}

/** Names `name` as made by the lab, if the machine's engine has it not yet. */
export async function rememberIfNew(engine: LabEngine, name: string): Promise<void> {
  if (!(await hasImage(engine.docker, name))) remember(engine, [name])
}

/** Debian's own image where the engine has it or can pull it at once; else one of our own making, kept in the cache. */
async function baseImage(engine: LabEngine, say: Say, signal: AbortSignal | undefined): Promise<string> {
  if (await hasImage(engine.docker, PULLED_BASE)) return PULLED_BASE
  // An engine of our own has no way out of its namespace: no need to wait for it to find out.
  if (!engine.own && (await pulled(engine, say, signal))) return PULLED_BASE
  const recipe = createHash('sha256')
    .update(JSON.stringify([BASE_SUITE, BASE_PACKAGES]))
    .digest('hex')
    .slice(0, 12)
  const name = `orchestrator/base:${recipe}`
  if (await hasImage(engine.docker, name)) return name
  const archive = await makeArchive(recipe, say, signal)
  remember(engine, [name])
  const stream = await engine.docker.importImage(createReadStream(archive), { repo: 'orchestrator/base', tag: recipe })
  await followed(engine.docker, stream as unknown as Readable, 'docker import of the base image')
  return name
}

async function pulled(engine: LabEngine, say: Say, signal: AbortSignal | undefined): Promise<boolean> {
  const patience = AbortSignal.timeout(PULL_PATIENCE_MS)
  say(`pulling ${PULLED_BASE} …`)
  try {
    const stream = await engine.docker.pull(PULLED_BASE, {
      abortSignal: signal === undefined ? patience : AbortSignal.any([patience, signal]),
    })
    await followed(engine.docker, stream, `docker pull of ${PULLED_BASE}`)
    remember(engine, [PULLED_BASE])
    return true
  } catch (error) {
    if (signal?.aborted) throw error
    say(`${PULLED_BASE} cannot be pulled (${(error as Error).message}); making a base with mmdebstrap instead`)
    return false
  }
}

/** A root file system of Debian with nginx and sshd, as a tar. */
async function makeArchive(recipe: string, say: Say, signal: AbortSignal | undefined): Promise<string> {
  const folder = join(CACHE_DIRECTORY, 'base')
  const archive = join(folder, `${recipe}.tar`)
  if (existsSync(archive)) return archive
  const began = performance.now()
  say('making a base image with mmdebstrap, once (half a minute) …')
  mkdirSync(folder, { recursive: true })
  for (const old of readdirSync(folder)) rmSync(join(folder, old))
  const partial = `${archive}.partial.tar`
  await run(
    'mmdebstrap',
    [
      ...['--quiet', '--variant=minbase', `--include=${BASE_PACKAGES.join(',')}`],
      ...['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*'].map((p) => `--dpkgopt=path-exclude=${p}`),
      // Its packages make SSH host keys when they are installed: none may be part of an image.
      '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
      ...[BASE_SUITE, partial],
    ],
    { timeoutMs: 300_000, signal },
  )
  renameSync(partial, archive)
  say(`made the base image in ${seconds(began)}`)
  return archive
}

async function hasImage(docker: Docker, name: string): Promise<boolean> {
  try {
    await docker.getImage(name).inspect()
    return true
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return false
    throw error
  }
}

/** Waits for the end of a build, pull or import. @throws LabError with what it said last */
function followed(docker: Docker, stream: NodeJS.ReadableStream, what: string): Promise<void> {
  const said: string[] = []
  return new Promise((resolve, reject) => {
    docker.modem.followProgress(
      stream,
      (error) => {
        if (error) reject(new LabError('image-failed', `${what}: ${error.message}\n${said.slice(-20).join('')}`))
        else resolve()
      },
      (progress: { stream?: string; error?: string }) => said.push(progress.stream ?? progress.error ?? ''),
    )
  })
}

function remember(engine: LabEngine, names: readonly string[]): void {
  if (engine.own) return
  mkdirSync(CACHE_DIRECTORY, { recursive: true, mode: 0o755 })
  writeFileSync(RECORD, JSON.stringify([...new Set([...readRecord(), ...names])]))
}

function readRecord(): string[] {
  return existsSync(RECORD) ? (JSON.parse(readFileSync(RECORD, 'utf8')) as string[]) : []
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}
