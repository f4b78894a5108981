import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import { followJournal, type Journal, type JournalLine } from '../../unionize/leases/journal.ts'
import { loadOffsets } from '../../unionize/leases/offsets.ts'
import { silent } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** A journal in a folder of its own, with as many followers after one another as a test wants. */
class Scene implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'unionize-journal-'))
  readonly path = join(this.folder, 'journal')
  readonly #over = new AbortController()
  #journal: Journal | null = null

  async follow(options: { rotateBytes?: number; graceMs?: number; lookMs?: number } = {}): Promise<Journal> {
    await this.#journal?.close()
    const { offsets } = await loadOffsets(join(this.folder, 'saved.json'))
    this.#journal = await followJournal({
      path: this.path,
      offsets,
      log: silent,
      now: Date.now,
      graceMs: 100,
      ...options,
    })
    return this.#journal
  }

  /** Somebody waits for a line until the test is over. */
  listen(journal: Journal): void {
    void journal.next(1, this.#over.signal).catch(() => {})
  }

  append(text: string | Buffer): void {
    appendFileSync(this.path, text)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort()
    await this.#journal?.close()
    rmSync(this.folder, { recursive: true })
  }
}

/** The next `n` lines, acknowledged if asked. */
async function take(journal: Journal, n: number, acknowledge = true): Promise<JournalLine[]> {
  const lines: JournalLine[] = []
  const signal = AbortSignal.timeout(30_000)
  while (lines.length < n) {
    const some = await journal.next(200, signal)
    lines.push(...some)
    if (acknowledge) for (const line of some) await journal.acknowledge(line.position)
  }
  return lines
}
const texts = (lines: readonly JournalLine[]) => lines.map((line) => line.text)
/** Whether nothing comes for a while. */
async function nothingComes(journal: Journal): Promise<boolean> {
  try {
    await journal.next(1, AbortSignal.timeout(300))
    return false
  } catch {
    return true
  }
}

test('lines come in order, with the place after each, as soon as they are written', async () => {
  await using scene = new Scene()
  const journal = await scene.follow({ lookMs: 3_600_000 })
  const begun = Date.now()
  scene.append('one\ntwo\n')
  const lines = await take(journal, 2)
  assert.deepEqual(texts(lines), ['one', 'two'])
  assert.deepEqual(
    lines.map((line) => line.position.offset),
    [4, 8],
  )
  // The next look is due in an hour: what is written while it sleeps comes by the watch of the folder alone.
  const signal = AbortSignal.timeout(60_000)
  const asleep = () => until('it sleeps', () => getEventListeners(signal, 'abort').length > 0)
  const woken = journal.next(200, signal)
  await asleep()
  let written = 0
  const early = await until('the watch has begun', () => {
    scene.append(`early ${++written}\n`)
    return Promise.race([woken, wait(100, null)])
  })
  await take(journal, written - early.length)
  const waiting = journal.next(10, signal)
  await asleep()
  scene.append('three\n')
  assert.deepEqual(texts(await waiting), ['three'])
  const [{ writtenAt } = { writtenAt: 0 }] = lines
  assert.ok(writtenAt > begun - 10_000 && writtenAt <= Date.now())
})

test('half a line waits for its end', async () => {
  await using scene = new Scene()
  const journal = await scene.follow()
  scene.append('whole\nha')
  assert.deepEqual(texts(await take(journal, 1)), ['whole'])
  assert.ok(await nothingComes(journal))
  scene.append('lf\n')
  assert.deepEqual(texts(await take(journal, 1)), ['half'])
})

test('a restart goes on after what was acknowledged, and reads the rest again', async () => {
  await using scene = new Scene()
  scene.append('a\nb\nc\n')
  const first = await scene.follow()
  const [a] = await take(first, 3, false)
  assert.ok(a)
  await first.acknowledge(a.position)
  assert.deepEqual(texts(await take(await scene.follow(), 2)), ['b', 'c'])
  scene.append('d\n')
  assert.deepEqual(texts(await take(await scene.follow(), 1)), ['d'])
})

test('losing the saved offsets means reading everything again, under the same positions', async () => {
  await using scene = new Scene()
  scene.append('a\nb\n')
  const before = await take(await scene.follow(), 2)
  writeFileSync(join(scene.folder, 'saved.json'), '{ broken')
  const after = await take(await scene.follow(), 2)
  assert.deepEqual(
    after.map((l) => l.position),
    before.map((l) => l.position),
  )
})

test('a file renamed by others is read to its end, also what a slow hook still writes into it', async () => {
  await using scene = new Scene()
  const journal = await scene.follow({ graceMs: 1_500 })
  scene.append('a\n')
  await take(journal, 1)
  renameSync(scene.path, join(scene.folder, 'journal.7'))
  appendFileSync(join(scene.folder, 'journal.7'), 'late\n')
  scene.append('new\n')
  assert.deepEqual(texts(await take(journal, 2)), ['late', 'new'])
  appendFileSync(join(scene.folder, 'journal.7'), 'later\n')
  assert.deepEqual(texts(await take(journal, 1)), ['later'])
  assert.ok(existsSync(join(scene.folder, 'journal.7')), 'what others renamed is theirs to delete')
})

test('a file renamed while nobody followed is found and read to its end', async () => {
  await using scene = new Scene()
  scene.append('a\nb\n')
  const first = await scene.follow()
  const [a] = await take(first, 2, false)
  assert.ok(a)
  await first.acknowledge(a.position)
  await first.close()
  renameSync(scene.path, `${scene.path}.1`)
  scene.append('c\n')
  assert.deepEqual(texts(await take(await scene.follow(), 2)), ['b', 'c'])
})

test('a truncated file is read from its beginning, under another name', async () => {
  await using scene = new Scene()
  const journal = await scene.follow()
  scene.append('a long first line\n')
  const [before] = await take(journal, 1)
  truncateSync(scene.path)
  scene.append('b\n')
  const [after] = await take(journal, 1)
  assert.equal(after?.text, 'b')
  assert.notEqual(after?.position.journal, before?.position.journal)
  scene.append('c\n')
  assert.deepEqual(texts(await take(await scene.follow(), 1)), ['c'], 'a restart remembers the new name')
})

test('a journal that is large and stored is rotated and deleted, and nothing is lost', async () => {
  await using scene = new Scene()
  const journal = await scene.follow({ rotateBytes: 1_000 })
  const wanted = Array.from({ length: 500 }, (_, n) => `line ${n} ${'x'.repeat(50)}`)
  const reading = take(journal, wanted.length)
  for (let n = 0; n < wanted.length; n += 10) {
    scene.append(`${wanted.slice(n, n + 10).join('\n')}\n`)
    await turn()
  }
  assert.deepEqual(texts(await reading), wanted)
  scene.listen(journal)
  await until('the rotated file is gone', () => !existsSync(scene.path) && !existsSync(`${scene.path}.1`), {
    deadlineMs: 60_000,
  })
})

test('a crash just before the journal is renamed, or just after it is deleted, does not end rotation', async () => {
  await using scene = new Scene()
  scene.append(`${'x'.repeat(2_000)}\n`)
  writeFileSync(join(scene.folder, 'saved.json'), JSON.stringify({ offsets: {}, truncations: {}, rotated: '1-1' }))
  const journal = await scene.follow({ rotateBytes: 1_000 })
  await take(journal, 1)
  scene.listen(journal)
  await until('the journal is rotated', () => !existsSync(scene.path), { deadlineMs: 60_000 })
})

test('lines that are too long or hold NUL bytes are refused with their beginning, and the next line is fine', async () => {
  await using scene = new Scene()
  const journal = await scene.follow()
  scene.append(`${'A'.repeat(1_000_000)}\n`)
  scene.append(Buffer.from('x\0y\n\n'))
  scene.append(Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('\nfine\n')]))
  const [long, nul, empty, bytes, fine] = await take(journal, 5)
  assert.equal(long?.text, null)
  assert.match(long?.reason ?? '', /longer than 65536 bytes/)
  assert.equal(long?.beginning, 'A'.repeat(4096))
  assert.equal(long?.position.offset, 1_000_001)
  assert.match(nul?.reason ?? '', /NUL/)
  assert.equal(nul?.beginning, 'x\u2400y')
  assert.equal(empty?.text, '')
  assert.equal(bytes?.text, '\ufffd\ufffd')
  assert.equal(fine?.text, 'fine')
})

test('a journal whose folder does not exist yet is followed when it comes', async () => {
  await using scene = new Scene()
  const { offsets } = await loadOffsets(join(scene.folder, 'saved.json'))
  const path = join(scene.folder, 'later', 'journal')
  const journal = await followJournal({ path, offsets, log: silent, now: Date.now })
  try {
    const waiting = journal.next(1, AbortSignal.timeout(30_000))
    mkdirSync(join(scene.folder, 'later'))
    writeFileSync(path, 'hello\n')
    assert.deepEqual(texts(await waiting), ['hello'])
  } finally {
    await journal.close()
  }
})

test('what is written is stored when its last whole line is acknowledged', async () => {
  await using scene = new Scene()
  const journal = await scene.follow()
  const nothing = await journal.extent()
  assert.ok(journal.hasStored(nothing), 'a journal that does not exist yet')
  scene.append('a\nb\nha')
  const written = await journal.extent()
  assert.ok(!journal.hasStored(written), 'nobody has looked yet')
  const [a, b] = await take(journal, 2, false)
  assert.ok(a && b)
  await journal.acknowledge(a.position)
  assert.ok(!journal.hasStored(written))
  await journal.acknowledge(b.position)
  assert.ok(journal.hasStored(written), 'half a line is not waited for')
  scene.append('lf\nc\n')
  assert.ok(!journal.hasStored(await journal.extent()))
  await take(journal, 2)
  assert.ok(journal.hasStored(await journal.extent()))
})

test('what a restart finds in a journal is not stored, as far as it was not acknowledged before', async () => {
  await using scene = new Scene()
  scene.append('a\nb\n')
  const [a] = await take(await scene.follow(), 2, false)
  assert.ok(a)
  const journal = await scene.follow()
  const written = await journal.extent()
  assert.ok(!journal.hasStored(written))
  await take(journal, 2)
  assert.ok(journal.hasStored(written))
})

test('what is written is looked for in a renamed file too, and not any more in one that was thrown away', async () => {
  await using scene = new Scene()
  const journal = await scene.follow()
  scene.append('a\n')
  await take(journal, 1)
  scene.append('b\n')
  renameSync(scene.path, join(scene.folder, 'journal.7'))
  scene.append('the current one\n')
  const written = await journal.extent()
  assert.equal(written.length, 2)
  const [b, c] = await take(journal, 2, false)
  assert.ok(b && c)
  await journal.acknowledge(c.position)
  assert.ok(!journal.hasStored(written), 'the renamed one is not')
  await journal.acknowledge(b.position)
  assert.ok(journal.hasStored(written))
  scene.append('a long line that nobody reads any more\n')
  const lost = await journal.extent()
  truncateSync(scene.path)
  scene.append('d\n')
  assert.deepEqual(texts(await take(journal, 1)), ['d'])
  assert.ok(journal.hasStored(lost))
})
