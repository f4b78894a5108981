import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { type Pack, pack } from 'tar-stream'
import { OrchestratorError } from '../../../common/errors.ts'
import { ownVersion } from '../../../common/version.ts'

/** The program `unionize` with all that it needs, for a machine that has neither Node nor npm. */
export interface Bundle {
  /** Follows from its contents: the same version is never copied twice. */
  readonly version: string
  /** `uname -m` of machines that can run it. */
  readonly machine: string
  /** As a gzipped tar. */
  archive(): Promise<Buffer>
}

/** Packages that `unionize place` and its kin load, all but those that speak to an engine; what they need comes along. */
const PACKAGES = ['cli-table3', 'commander', 'ip6addr', 'koffi', 'pino', 'yaml', 'zod']
/** What runs; types, sources and documentation of packages stay behind. */
const RUNS = /(^|\/)(package\.json|[^/]+\.(js|cjs|mjs|json|node))$/
const MACHINES: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }

interface Entry {
  readonly name: string
  readonly source: string
}

/** What runs here now: the same program, compiled or not, and the same Node. @throws OrchestratorError `unsupported-architecture` */
export function ownBundle(): Bundle {
  made ??= createBundle()
  return made
}
/** The program does not change while it runs. */
let made: Bundle | undefined

function createBundle(): Bundle {
  const machine = MACHINES[process.arch]
  if (machine === undefined) {
    throw new OrchestratorError('unsupported-architecture', `machines cannot be given a unionize for ${process.arch}`)
  }
  const code = join(import.meta.dirname, '../../..')
  const top = basename(code) === 'dist' ? dirname(code) : code
  const entries = [
    ...['common', 'unionize'].flatMap((folder) => filesOf(join(code, folder), top, /\.(js|ts)$/)),
    { name: 'package.json', source: join(top, 'package.json') },
    ...packagesOf(top).flatMap((folder) => filesOf(folder, top, RUNS)),
  ].sort((a, b) => (a.name < b.name ? -1 : 1))
  const main = relative(top, join(code, 'unionize', `main${import.meta.filename.endsWith('.ts') ? '.ts' : '.js'}`))
  // It runs for every instance: what it has compiled once is kept, until the machine restarts.
  const cache = 'export NODE_COMPILE_CACHE=/run/orchestrator/.compiled'
  const launcher = `#!/bin/sh\n${cache}\ntop=$(dirname "$(dirname "$(readlink -f "$0")")")\nexec "$top/bin/node" "$top/${main}" "$@"\n`
  const hash = createHash('sha256').update(`${process.version} ${process.arch}\0${launcher}`)
  for (const { name, source } of entries) hash.update(`\0${name}\0`).update(readFileSync(source))
  return {
    version: `${ownVersion()}-${hash.digest('hex').slice(0, 12)}`,
    machine,
    archive: () => archived(entries, launcher),
  }
}

async function archived(entries: readonly Entry[], launcher: string): Promise<Buffer> {
  const tar = pack()
  const chunks: Buffer[] = []
  const gzip = createGzip({ level: 1 })
  const written = pipeline(tar, gzip, async (source) => {
    for await (const chunk of source) chunks.push(chunk as Buffer)
  })
  tar.entry({ name: 'bin/unionize', mode: 0o755 }, launcher)
  await add(tar, 'bin/node', process.execPath, 0o755)
  for (const { name, source } of entries) await add(tar, name, source, 0o644)
  tar.finalize()
  await written
  return Buffer.concat(chunks)
}

async function add(tar: Pack, name: string, source: string, mode: number): Promise<void> {
  await pipeline(createReadStream(source), tar.entry({ name, mode, size: statSync(source).size }))
}

function filesOf(folder: string, top: string, wanted: RegExp): Entry[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((source) => ({ name: relative(top, source), source }))
    .filter(({ name }) => wanted.test(name))
}

/** Folders of the packages and of all that they depend on, as Node finds them. */
function packagesOf(top: string): string[] {
  const found = new Set<string>()
  const visit = (name: string, from: string, needed: boolean): void => {
    const folder = locate(name, from, top)
    if (folder === null) {
      if (needed) throw new OrchestratorError('package-missing', `${name} is missing from the installation`)
      return
    }
    if (found.has(folder)) return
    found.add(folder)
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    ) as { dependencies?: Record<string, string>; optionalDependencies?: Record<string, string> }
    for (const one of Object.keys(dependencies)) visit(one, folder, !(one in optionalDependencies))
    // Those for other machines are not there.
    for (const one of Object.keys(optionalDependencies)) visit(one, folder, false)
  }
  for (const name of PACKAGES) visit(name, top, true)
  // A package within another one's folder comes with that.
  return [...found].filter((folder) => ![...found].some((other) => other !== folder && folder.startsWith(`${other}/`)))
}

function locate(name: string, from: string, top: string): string | null {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, 'node_modules', name)
    if (existsSync(join(folder, 'package.json'))) return folder
    if (at === top || at === '/') return null
  }
}
