import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { watch } from 'chokidar'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { Position } from '../contract.ts'
import { LineSplitter } from './lines.ts'
import type { Offsets } from './offsets.ts'

/** Others write this folder: no link out of it is followed, and no pipe in it makes us wait. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** One line of the journal. `text` null: it could not be taken, for the `reason`. */
export interface JournalLine {
  readonly text: string | null
  readonly reason: string
  /** Its beginning, for people. */
  readonly beginning: string
  readonly position: Position
  /** When it was written, epoch ms, as exactly as the file's time tells. */
  readonly writtenAt: number
}

/**
 * The lease hook's journal, followed line by line across rotation by anyone, truncation and restarts. Nothing is lost;
 * what was not acknowledged is read again after a restart.
 */
export interface Journal {
  /** The next lines, at least one and at most `most`; waits for them. @throws the signal's reason when aborted */
  next(most: number, signal: AbortSignal): Promise<readonly JournalLine[]>
  /** Everything in that file up to that place is stored and need not be read again. */
  acknowledge(position: Position): Promise<void>
  /** How far it is written now, read or not. @throws when its folder or one of its files cannot be looked at */
  extent(): Promise<JournalExtent>
  /** Whether every line that ends within this extent is acknowledged. */
  hasStored(extent: JournalExtent): boolean
  close(): Promise<void>
}

/** How far each file of the journal was written at one moment. */
export type JournalExtent = readonly {
  /** Name of the file's contents in positions. */
  readonly journal: string
  readonly bytes: number
  /** Whether it was being followed already. */
  readonly followed: boolean
}[]

export interface JournalOptions {
  readonly path: string
  readonly offsets: Offsets
  readonly log: Log
  readonly now: () => number
  /** Bytes beyond which a journal that is stored to its end is rotated. */
  readonly rotateBytes?: number
  /** Milliseconds for which a renamed file is read on: a hook may have it open still. */
  readonly graceMs?: number
  /** Milliseconds between looks without any event. */
  readonly lookMs?: number
}

/** Bytes of a line at most; a lease event has a few hundred. Of a longer line the beginning is kept. */
const LINE = { most: 64 * 1024, keep: 4096 }
const CHUNK = 64 * 1024
const ROTATE_BYTES = 16 * 1024 * 1024
const GRACE_MS = 5_000
/** Milliseconds between looks without any event: the folder may not exist yet, and the kernel's event queue can overflow. */
const LOOK_MS = 1_000

/** One file of the journal, open. */
interface JournalFile {
  readonly handle: FileHandle
  /** Inode and time of birth. */
  readonly birth: string
  /** Name of the file's present contents in positions. */
  identity: string
  splitter: LineSplitter
  /** When it was seen to be renamed or deleted; null: it is the current one. */
  leftAt: number | null
}

/** Opens the journal; it need not exist yet. */
export async function followJournal(options: JournalOptions): Promise<Journal> {
  const follower = new Follower(options)
  await follower.begin()
  return follower
}

class Follower implements Journal {
  readonly #options: Required<JournalOptions>
  readonly #watcher
  readonly #buffer = Buffer.alloc(CHUNK)
  /** Renamed files that are read on, oldest first; then the current one. */
  #files: JournalFile[] = []
  #pending: JournalLine[] = []
  #woken = true
  #wake: (() => void) | null = null
  #rotationFault = ''

  constructor(options: JournalOptions) {
    this.#options = { rotateBytes: ROTATE_BYTES, graceMs: GRACE_MS, lookMs: LOOK_MS, ...options }
    this.#watcher = watch(dirname(options.path), { depth: 0, ignoreInitial: true })
    const wake = () => {
      this.#woken = true
      this.#wake?.()
    }
    this.#watcher.on('all', wake).on('raw', wake)
    this.#watcher.on('error', (error) => {
      options.log.warn('journal.watch-failed', 'the journal is looked at every second only', { error: wording(error) })
    })
  }

  /** Finds files that were renamed while we were away and not read to their end. */
  async begin(): Promise<void> {
    const { path, offsets } = this.#options
    const names = await readdir(dirname(path)).catch(unlessMissing)
    const found: { file: JournalFile; changed: bigint }[] = []
    for (const name of names ?? []) {
      if (!name.startsWith(basename(path)) || name === basename(path)) continue
      const file = await this.#open(join(dirname(path), name))
      if (!file) continue
      const stats = await file.handle.stat({ bigint: true })
      const known = offsets.saved.offsets[file.identity] !== undefined
      if (stats.isFile() && known) found.push({ file, changed: stats.mtimeNs })
      else await file.handle.close()
    }
    found.sort((a, b) => Number(a.changed - b.changed))
    const now = this.#options.now()
    this.#files = found.map(({ file }) => Object.assign(file, { leftAt: now }))
    // A crash just before the rename, or just after the deletion: nothing is rotated now, and rotation must go on.
    if (!this.#files.some((file) => file.birth === offsets.saved.rotated)) offsets.saved.rotated = null
  }

  async next(most: number, signal: AbortSignal): Promise<readonly JournalLine[]> {
    for (;;) {
      signal.throwIfAborted()
      if (this.#pending.length === 0) {
        this.#woken = false
        await this.#look(most)
      }
      if (this.#pending.length > 0) return this.#pending.splice(0, most)
      await this.#sleep(signal)
    }
  }

  async acknowledge(position: Position): Promise<void> {
    const { saved, save } = this.#options.offsets
    saved.offsets[position.journal] = Math.max(saved.offsets[position.journal] ?? 0, position.offset)
    await save()
  }

  async extent(): Promise<JournalExtent> {
    const extent = []
    for (const { handle, identity } of [...this.#files]) {
      extent.push({ journal: identity, bytes: (await handle.stat()).size, followed: true })
    }
    const current = await stat(this.#options.path, { bigint: true }).catch(unlessMissing)
    if (current && !this.#files.some(({ birth }) => birth === birthOf(current))) {
      extent.push({ journal: this.#identity(birthOf(current)), bytes: Number(current.size), followed: false })
    }
    return extent
  }

  hasStored(extent: JournalExtent): boolean {
    return extent.every(({ journal, bytes, followed }) => {
      const file = this.#files.find(({ identity }) => identity === journal)
      // What was followed and is not any more was stored to its end, or its contents were thrown away.
      if (!file) return followed || bytes === 0
      const { offset, unfinished } = file.splitter
      const stored = this.#options.offsets.saved.offsets[journal] ?? 0
      return offset >= bytes && stored >= Math.min(bytes, offset - unfinished)
    })
  }

  async close(): Promise<void> {
    await this.#watcher.close()
    for (const file of this.#files) await file.handle.close()
    this.#files = []
  }

  async #sleep(signal: AbortSignal): Promise<void> {
    if (this.#woken) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    const timer = setTimeout(resolve, this.#options.lookMs)
    signal.addEventListener('abort', resolve as () => void, { once: true })
    await promise
    clearTimeout(timer)
    signal.removeEventListener('abort', resolve as () => void)
    this.#wake = null
  }

  /** Reads what is new, in order, and keeps up with renames. */
  async #look(most: number): Promise<void> {
    for (const file of [...this.#files]) await this.#read(file, most)
    const next = await this.#keepUp()
    if (next) await this.#read(next, most)
    await this.#retire()
    await this.#rotate()
  }

  async #read(file: JournalFile, most: number): Promise<void> {
    const { size } = await file.handle.stat()
    if (size < file.splitter.offset) await this.#restart(file, size)
    while (this.#pending.length < most) {
      const { bytesRead } = await file.handle.read(this.#buffer, 0, CHUNK, file.splitter.offset)
      if (bytesRead === 0) return
      const lines = file.splitter.push(this.#buffer.subarray(0, bytesRead))
      if (lines.length === 0) continue
      const { mtimeMs } = await file.handle.stat()
      const writtenAt = Math.min(Math.floor(mtimeMs), this.#options.now())
      for (const line of lines) this.#pending.push(journalLine(line, file.identity, writtenAt))
    }
  }

  /** The contents were thrown away: what comes now is something new, under a new name, so that no offset means two things. */
  async #restart(file: JournalFile, size: number): Promise<void> {
    const { offsets, log } = this.#options
    log.warn('journal.truncated', 'the journal was truncated; reading it from its beginning', {
      had: file.splitter.offset,
      has: size,
    })
    offsets.saved.truncations[file.birth] = (offsets.saved.truncations[file.birth] ?? 0) + 1
    delete offsets.saved.offsets[file.identity]
    file.identity = this.#identity(file.birth)
    file.splitter = new LineSplitter({ offset: 0, ...LINE })
    await offsets.save()
  }

  /** Notices that the path leads to another file, or to none. @returns the file that is current from now on */
  async #keepUp(): Promise<JournalFile | null> {
    const { path, now } = this.#options
    const current = this.#files.find((file) => file.leftAt === null)
    const stats = await stat(path, { bigint: true }).catch(unlessMissing)
    if (current && (!stats || birthOf(stats) !== current.birth)) {
      current.leftAt = now()
      this.#woken = true
    }
    if (!stats?.isFile() || this.#files.some((file) => file.leftAt === null)) return null
    const file = await this.#open(path)
    if (file) this.#files.push(file)
    return file
  }

  async #open(path: string): Promise<JournalFile | null> {
    const handle = await open(path, OPEN_FLAGS).catch(unlessMissing)
    if (!handle) return null
    const stats = await handle.stat({ bigint: true })
    if (!stats.isFile()) {
      await handle.close()
      throw new OrchestratorError('journal-no-file', `${path} is not a regular file: remove it`, { retryable: true })
    }
    const birth = birthOf(stats)
    const identity = this.#identity(birth)
    const offset = this.#options.offsets.saved.offsets[identity] ?? 0
    return { handle, birth, identity, splitter: new LineSplitter({ offset, ...LINE }), leftAt: null }
  }

  #identity(birth: string): string {
    const truncations = this.#options.offsets.saved.truncations[birth] ?? 0
    return truncations === 0 ? birth : `${birth}-${truncations}`
  }

  /** Lets go of renamed files that are stored to their end, after the grace; deletes the one that we renamed ourselves. */
  async #retire(): Promise<void> {
    const { offsets, now, graceMs, path } = this.#options
    for (const file of this.#files.filter((f) => f.leftAt !== null && now() - f.leftAt >= graceMs)) {
      const rest = file.splitter.end()
      if (rest) {
        const line = journalLine(rest, file.identity, now())
        this.#pending.push({ ...line, text: null, reason: 'line: the file was rotated before its end was written' })
      }
      if (!this.#isStored(file)) continue
      await file.handle.close()
      this.#files.splice(this.#files.indexOf(file), 1)
      if (offsets.saved.rotated === file.birth) {
        await rm(rotatedPath(path), { force: true })
        offsets.saved.rotated = null
      }
      delete offsets.saved.offsets[file.identity]
      delete offsets.saved.truncations[file.birth]
      await offsets.save()
    }
  }

  #isStored(file: JournalFile): boolean {
    const stored = this.#options.offsets.saved.offsets[file.identity] ?? 0
    return file.splitter.unfinished === 0 && stored === file.splitter.offset && this.#pending.length === 0
  }

  /** Renames a journal that has grown large and is stored to its end; the next hook begins a new one. */
  async #rotate(): Promise<void> {
    const { path, rotateBytes, offsets, log } = this.#options
    const current = this.#files.find((file) => file.leftAt === null)
    if (!current || current.splitter.offset <= rotateBytes || !this.#isStored(current)) return
    if (offsets.saved.rotated !== null) return
    try {
      if (await stat(rotatedPath(path)).catch(unlessMissing)) {
        throw new Error(`${rotatedPath(path)} exists and is not ours`)
      }
      offsets.saved.rotated = current.birth
      await offsets.save()
      await rename(path, rotatedPath(path))
      log.info('journal.rotated', 'the journal was stored to its end and is begun anew', {
        bytes: current.splitter.offset,
      })
      this.#rotationFault = ''
    } catch (error) {
      offsets.saved.rotated = null
      if (this.#rotationFault !== wording(error)) {
        this.#rotationFault = wording(error)
        log.warn('journal.not-rotated', 'the journal grows on: it cannot be rotated', { error: wording(error) })
      }
    }
  }
}

function rotatedPath(path: string): string {
  return `${path}.1`
}

function birthOf(stats: BigIntStats): string {
  return `${stats.ino}-${stats.birthtimeNs}`
}

function journalLine(
  line: { bytes: Buffer; tooLong: boolean; end: number },
  identity: string,
  writtenAt: number,
): JournalLine {
  const text = line.bytes.toString('utf8')
  const reason = line.tooLong
    ? `line: longer than ${LINE.most} bytes`
    : line.bytes.includes(0)
      ? 'line: holds a NUL byte'
      : ''
  const beginning = text.slice(0, LINE.keep).replaceAll('\0', '\u2400').toWellFormed()
  return {
    text: reason === '' ? text : null,
    reason,
    beginning,
    position: { journal: identity, offset: line.end },
    writtenAt,
  }
}

function unlessMissing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null
  throw error
}
