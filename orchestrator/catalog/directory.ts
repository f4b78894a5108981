import { watch } from 'chokidar'
import { errorCode, InvalidInput, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { type Fault, faultText } from '../compose/faults.ts'
import { type ApplyOptions, applyFiles, type CatalogContext } from './apply.ts'
import { type DirectoryContent, MOST_DEPTH, readDirectory } from './read-directory.ts'
import { removeTemplate } from './removal.ts'

/** A folder whose files are the catalog: what stands there is in force, what is taken out of it is removed. */
export interface CatalogDirectory {
  /** Looks now, whether anything changed or not; resolves when all is in the store. @throws what {@link look} found wrong */
  reload(): Promise<void>
  stop(): Promise<void>
}

/** Milliseconds of quiet after which changed files are read: an editor writes several at once. */
const QUIET_MS = 300
/** Milliseconds between looks without any news: the kernel's queue can overflow, a folder may appear later, and what is in use becomes free. */
const LOOK_MS = 10_000
/** Milliseconds after which files that go on changing are read all the same. */
const RESTLESS_MS = 5_000
/** Milliseconds that the kernel's watch may take to stand. */
const READY_MS = 2_000
/** Characters of an event's message. */
const MESSAGE_MOST = 4000

/** Begins to follow a folder, and looks at it once. Faults there are told, and never thrown. */
export async function followDirectory(directory: string, context: CatalogContext, log: Log): Promise<CatalogDirectory> {
  const follower = new Follower(directory, context, log)
  await follower.begin()
  return follower
}

class Follower implements CatalogDirectory {
  readonly #directory: string
  readonly #context: CatalogContext
  readonly #log: Log
  readonly #stopping = new AbortController()
  #watcher: ReturnType<typeof watch> | null = null
  #rouse = () => {}
  #news = false
  /** Looks come one after the other. */
  #last: Promise<unknown> = Promise.resolve()
  #done: Promise<void> = Promise.resolve()
  /** What was applied last, as a whole. */
  #applied: string | null = null
  /** The templates that it has. */
  #kept: ReadonlySet<string> = new Set()
  /** What was told to be wrong, so that it is told once. */
  #told = ''

  constructor(directory: string, context: CatalogContext, log: Log) {
    this.#directory = directory
    this.#context = context
    this.#log = log
  }

  async begin(): Promise<void> {
    const watcher = watch(this.#directory, { ignoreInitial: true, depth: MOST_DEPTH })
    this.#watcher = watcher
    const wake = () => {
      this.#news = true
      this.#rouse()
    }
    watcher.on('all', wake).on('raw', wake)
    watcher.on('error', (error) => {
      this.#log.warn('catalog.watch-failed', 'the catalog directory is looked at every 10 s only', {
        error: wording(error),
      })
    })
    // What is written before the watch stands is not told by it: it is read afterwards.
    await Promise.race([
      new Promise<void>((resolve) => watcher.once('ready', resolve)),
      this.#context.clock.wait(READY_MS, this.#stopping.signal).catch(() => {}),
    ])
    await this.look(false).catch(() => {})
    this.#done = this.#follow()
  }

  async reload(): Promise<void> {
    await this.look(true)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#rouse()
    await this.#watcher?.close()
    await this.#done
    await this.#last.catch(() => {})
  }

  /**
   * Reads the folder and applies what stands there, unless it is what was applied last.
   * @throws InvalidInput with all that is wrong; the last good state stays
   */
  look(always: boolean): Promise<void> {
    const looked = this.#last.catch(() => {}).then(() => this.#look(always))
    this.#last = looked
    return looked
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      if (!this.#news) await this.#sleep(LOOK_MS)
      const latest = this.#context.clock.now() + RESTLESS_MS
      while (this.#news && !signal.aborted && this.#context.clock.now() < latest) {
        this.#news = false
        await this.#sleep(QUIET_MS)
      }
      if (!signal.aborted) await this.look(false).catch(() => {})
    }
  }

  async #sleep(ms: number): Promise<void> {
    const roused = new AbortController()
    this.#rouse = () => roused.abort()
    if (this.#news || this.#stopping.signal.aborted) return
    await this.#context.clock.wait(ms, roused.signal).catch(() => {})
  }

  async #look(always: boolean): Promise<void> {
    try {
      const content = await this.#read()
      if (content === null) return
      if (always || content.fingerprint !== this.#applied) await this.#apply(content)
      const inUse = await this.#removeOthers()
      if (inUse.size === 0) this.#told = ''
      // Told once for each template: who uses it changes all the time.
      else await this.#tell([...inUse.values()].join('; '), [...inUse.keys()].join())
    } catch (error) {
      if (!(error instanceof InvalidInput)) {
        this.#log.error('catalog.failed', `the catalog directory could not be applied: ${wording(error)}`)
        throw error
      }
      await this.#tell(error.message, error.message)
      throw error
    }
  }

  /** null: there is no such folder, and there never was one that kept anything. */
  async #read(): Promise<DirectoryContent | null> {
    try {
      return await readDirectory(this.#directory)
    } catch (error) {
      const heads = await this.#context.store.heads()
      const missing =
        error instanceof Error && error.cause instanceof Error && 'code' in error.cause && error.cause.code === 'ENOENT'
      if (missing && !heads.some(({ origin }) => origin === 'directory')) return null
      throw error
    }
  }

  async #apply(content: DirectoryContent): Promise<void> {
    const options: ApplyOptions = { origin: 'directory' }
    const { faults, notes, changes } = await applyFiles(this.#context, content.files, options)
    if (faults.length > 0) throw new InvalidInput('catalog.directory', faultsText(faults))
    this.#applied = content.fingerprint
    this.#kept = new Set(changes.filter(({ kind }) => kind === 'template').map(({ name }) => name))
    const changed = changes.filter(({ action }) => action !== 'unchanged').length
    if (changed > 0) this.#log.info('catalog.applied', `${changed} changes of the catalog directory are in force`)
    for (const note of notes) this.#log.info('catalog.note', faultText(note))
  }

  /** Removes the templates whose files are gone. @returns those that are in use: they stay, and are tried again at each look */
  async #removeOthers(): Promise<ReadonlyMap<string, string>> {
    const inUse = new Map<string, string>()
    for (const { name, origin } of await this.#context.store.heads()) {
      if (origin !== 'directory' || this.#kept.has(name)) continue
      try {
        await removeTemplate(this.#context, name, 'directory')
      } catch (error) {
        if (errorCode(error) !== 'template-in-use') throw error
        inUse.set(name, `its file is gone, but ${wording(error)}`)
      }
    }
    return inUse
  }

  async #tell(what: string, key: string): Promise<void> {
    if (this.#told === key) return
    this.#told = key
    const message = `${what}; what was in force stays`.slice(0, MESSAGE_MOST)
    this.#log.warn('catalog.refused', message)
    await this.#context.store.appendEvent(
      { level: 'error', kind: 'catalog.refused', message },
      this.#context.clock.now(),
    )
  }
}

function faultsText(faults: readonly Fault[]): string {
  return faults.map(faultText).join('; ')
}
