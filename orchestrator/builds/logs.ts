import { EventEmitter } from 'node:events'
import { appendFile, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { StringDecoder } from 'node:string_decoder'

/** What builds print, a file for each. */
export interface BuildLogs {
  /** From now on something may be written, and followers wait for it. @param mostBytes of what the build itself prints */
  begin(id: string, mostBytes: number): void
  /** Keeps what the build printed. @returns false: the log is full; the beginning was kept, and the cut stands in the log */
  print(id: string, text: string): Promise<boolean>
  /** Keeps a line of our own, also in a full log: why a build ended belongs to it. */
  note(id: string, line: string): Promise<void>
  /** Nothing more comes: followers end. */
  end(id: string): void
  /** The log so far, and with `follow` what comes until its end. */
  read(id: string, follow: boolean, signal: AbortSignal): AsyncIterable<string>
}

/** Bytes that are read at once. */
const PART = 64 * 1024

interface Open {
  readonly mostBytes: number
  bytes: number
  full: boolean
  /** Resolves when all that came is written. */
  written: Promise<void>
}

/** @param fileOf where the log of a build is kept */
export function createBuildLogs(fileOf: (id: string) => string): BuildLogs {
  const logs = new Map<string, Open>()
  const events = new EventEmitter().setMaxListeners(0)

  const openLog = (id: string): Open => {
    const log = logs.get(id)
    if (log === undefined) throw new Error(`the log of build ${id} is closed`)
    return log
  }
  const write = (id: string, log: Open, text: string): Promise<void> => {
    log.written = log.written
      .catch(() => {})
      .then(async () => {
        await mkdir(dirname(fileOf(id)), { recursive: true, mode: 0o700 })
        await appendFile(fileOf(id), text, { mode: 0o600 })
        events.emit(id)
      })
    return log.written
  }

  return {
    begin(id, mostBytes) {
      logs.set(id, { mostBytes, bytes: 0, full: false, written: Promise.resolve() })
    },
    async print(id, text) {
      const log = openLog(id)
      if (log.full) return false
      const room = log.mostBytes - log.bytes
      log.bytes += Buffer.byteLength(text)
      log.full = log.bytes > log.mostBytes
      await write(id, log, log.full ? `${cut(text, room)}\n[cut here: a log may have ${log.mostBytes} bytes]\n` : text)
      return !log.full
    },
    async note(id, line) {
      await write(id, openLog(id), `${line}\n`)
    },
    end(id) {
      logs.delete(id)
      events.emit(id)
    },
    async *read(id, follow, signal) {
      const decoder = new StringDecoder('utf8')
      let at = 0
      for (;;) {
        const isOpen = logs.has(id)
        // Listened for before the file is looked at: what comes between would be waited for in vain.
        const changed = Promise.withResolvers<void>()
        const wake = () => changed.resolve()
        events.once(id, wake)
        signal.addEventListener('abort', wake, { once: true })
        try {
          for await (const part of partsFrom(fileOf(id), at)) {
            at += part.length
            const text = decoder.write(part)
            if (text !== '') yield text
          }
          if (!follow || !isOpen) return
          signal.throwIfAborted()
          await changed.promise
          signal.throwIfAborted()
        } finally {
          events.off(id, wake)
          signal.removeEventListener('abort', wake)
        }
      }
    },
  }
}

async function* partsFrom(path: string, from: number): AsyncIterable<Buffer> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null // nothing was written yet
    throw error
  })
  if (file === null) return
  try {
    for (let at = from; ; ) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(PART), 0, PART, at)
      if (bytesRead === 0) return
      at += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await file.close()
  }
}

/** The beginning of a text, in whole characters. */
function cut(text: string, bytes: number): string {
  return new StringDecoder('utf8').write(Buffer.from(text).subarray(0, Math.max(0, bytes)))
}
