import { registerHooks } from 'node:module'
import { extname, isAbsolute, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { z } from 'zod'
import { suggestion } from '../../common/config.ts'
import { InvalidInput, OrchestratorError, wording } from '../../common/errors.ts'
import { type Backend, type BackendContext, type BackendKind, CONTRACT_VERSION } from './backend.ts'

const name = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/, 'a backend is named by a-z, 0-9 and -, at most 31 characters')
  .refine((text) => text !== 'docker', 'docker is always there, and has no settings here: choose another name')

/** The setting `backends`: by name, what it is, one of ours (`kind`) or a package, and what is told to it. */
export const backendsSchema = z.record(
  name,
  z.union(
    [
      z.strictObject({ kind: z.string().min(1).max(63), settings: z.unknown() }),
      z.strictObject({ package: z.string().min(1).max(1024), settings: z.unknown() }),
    ],
    'expected `kind: NAME` or `package: NAME`, and `settings`',
  ),
)
export type BackendsSetting = z.infer<typeof backendsSchema>

/** Kinds of ours by name, each loaded when it is asked for: a cloud's library is nothing to who has no cloud. */
export type KindTable = Readonly<Record<string, () => Promise<{ readonly backend: BackendKind }>>>

/**
 * Makes every backend that the settings name.
 * @param contextFor what a backend of that name is given
 * @param from folder from whose `node_modules` packages are taken, where they are not installed beside us
 * @throws OrchestratorError `backend-unusable` naming `backends.NAME` and what is wrong; none of them is left open then
 */
export async function loadBackends(
  setting: BackendsSetting,
  table: KindTable,
  contextFor: (name: string) => BackendContext,
  from: string,
): Promise<readonly Backend[]> {
  const made: Backend[] = []
  try {
    for (const [backendName, given] of Object.entries(setting)) {
      made.push(await load(backendName, given, table, contextFor(backendName), from))
    }
    return made
  } catch (error) {
    await Promise.allSettled(made.map((backend) => backend.close()))
    throw error
  }
}

async function load(
  backendName: string,
  given: BackendsSetting[string],
  table: KindTable,
  context: BackendContext,
  from: string,
): Promise<Backend> {
  const refuse = (why: string, cause?: unknown) =>
    new OrchestratorError('backend-unusable', `backends.${backendName}: ${why}`, { cause })
  const kind = 'kind' in given ? await ours(given.kind, table, refuse) : await foreign(given.package, from, refuse)
  try {
    const backend = await kind.create(given.settings, context)
    const wrong = shapeFault(backend, backendName)
    if (wrong !== null) throw refuse(`create() of ${'kind' in given ? given.kind : given.package} ${wrong}`)
    return backend
  } catch (error) {
    if (error instanceof OrchestratorError && error.code === 'backend-unusable') throw error
    if (error instanceof InvalidInput) throw refuse(error.message)
    throw refuse(`it cannot be made: ${wording(error)}`, error)
  }
}

type Refuse = (why: string, cause?: unknown) => OrchestratorError

async function ours(kindName: string, table: KindTable, refuse: Refuse): Promise<BackendKind> {
  const found = Object.hasOwn(table, kindName) ? table[kindName] : undefined
  if (found === undefined) {
    const known = Object.keys(table)
    throw refuse(`there is no kind ${kindName}${suggestion(kindName, known)}; there is ${known.join(', ')}`)
  }
  return (await found()).backend
}

async function foreign(specifier: string, from: string, refuse: Refuse): Promise<BackendKind> {
  const exported = await importPackage(specifier, from).catch((error) => {
    throw refuse(`package ${specifier} cannot be loaded: ${wording(error)}`, error)
  })
  const kind: unknown = (exported as { backend?: unknown }).backend
  if (typeof kind !== 'object' || kind === null) {
    throw refuse(`package ${specifier} exports no \`backend\`: see docs/write-a-backend.md`)
  }
  const { contract, create } = kind as Partial<BackendKind>
  if (contract !== CONTRACT_VERSION) {
    const has = contract === undefined ? 'no `contract`' : `contract ${JSON.stringify(contract)}`
    throw refuse(`package ${specifier} has ${has}, and this orchestrator has contract ${CONTRACT_VERSION}`)
  }
  if (typeof create !== 'function') throw refuse(`package ${specifier}: \`backend.create\` is no function`)
  return kind as BackendKind
}

/** The module that packages import of us, compiled or not, as we are. */
const CONTRACT = new URL(`../contract${extname(import.meta.url)}`, import.meta.url).href

let shared = false
/** Gives packages the very classes that we use, wherever they stand: an error of theirs is one of ours. */
function shareContract(): void {
  if (shared) return
  shared = true
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'orchestrator/contract' ? { url: CONTRACT, shortCircuit: true } : next(specifier, context),
  })
}

/** A package installed beside the orchestrator, else beside its settings; or the absolute path of a module. */
async function importPackage(specifier: string, from: string): Promise<unknown> {
  shareContract()
  if (isAbsolute(specifier)) return await import(pathToFileURL(specifier).href)
  try {
    return await import(specifier)
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw error
    const { createRequire } = await import('node:module')
    return await import(pathToFileURL(createRequire(join(from, 'package.json')).resolve(specifier)).href)
  }
}

const NEEDED = ['checkTemplate', 'list', 'ensure', 'remove', 'close'] as const
const OPTIONAL = ['targets', 'place', 'price', 'watch', 'prepare', 'logs', 'check'] as const

/** What is missing of a backend; null: nothing. */
function shapeFault(backend: unknown, backendName: string): string | null {
  if (typeof backend !== 'object' || backend === null) return 'gave no backend'
  const given = backend as Record<string, unknown>
  if (given['name'] !== backendName) return `gave a backend named ${JSON.stringify(given['name'])}, not ${backendName}`
  const missing = NEEDED.filter((call) => typeof given[call] !== 'function')
  if (missing.length > 0) return `gave a backend without ${missing.join(', ')}`
  const wrong = OPTIONAL.find((call) => given[call] !== undefined && typeof given[call] !== 'function')
  return wrong === undefined ? null : `gave a backend whose ${wrong} is no function`
}
