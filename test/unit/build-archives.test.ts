import assert from 'node:assert/strict'
import { createReadStream, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, describe, it } from 'node:test'
import { deflateRawSync, gzipSync } from 'node:zlib'
import { extract, type Header } from 'tar-stream'
import type { Context } from '../../orchestrator/builds/sources/context.ts'
import { ignoreRules } from '../../orchestrator/builds/sources/ignore.ts'
import type { SourceLimits } from '../../orchestrator/builds/sources/limits.ts'
import { type RefusalReason, SourceRefused } from '../../orchestrator/builds/sources/refused.ts'
import { CONTEXT_FILE, makeContext, type SourceFormat } from '../../orchestrator/builds/sources/source.ts'
import { zipEntries } from '../../orchestrator/builds/sources/zip.ts'
import { pax, TAR_END, type TarEntry, tar, tarEntry, type ZipEntry, zip } from '../support/archives.ts'

const MIB = 1024 * 1024
const LIMITS: SourceLimits = { packedBytes: 2 * MIB, unpackedBytes: 16 * MIB, entries: 100 }
const DOCKERFILE = { name: 'Dockerfile', content: 'FROM scratch\n' }
const around = mkdtempSync('/tmp/build-archives-')
after(() => rmSync(around, { recursive: true }))

interface Made {
  readonly context: Context
  readonly entries: readonly (Header & { text: string })[]
}

/** Reads an archive as a build does; whatever comes of it, nothing but the context may be left. */
async function make(bytes: Buffer, format: SourceFormat, dockerfile: string | null = null): Promise<Made> {
  const directory = mkdtempSync(join(around, 'case-'))
  const never = new AbortController().signal
  try {
    // In small parts, as a network brings it.
    const parts = Array.from({ length: Math.ceil(bytes.length / 1000) }, (_, i) =>
      bytes.subarray(i * 1000, i * 1000 + 1000),
    )
    const how = { format, directory, limits: LIMITS, dockerfile }
    const context = await makeContext(Readable.from(parts), how, never)
    assert.deepEqual(readdirSync(directory), [CONTEXT_FILE])
    return { context, entries: await listed(join(directory, CONTEXT_FILE)) }
  } catch (error) {
    assert.deepEqual(readdirSync(directory), [], 'a refused source leaves nothing')
    throw error
  }
}

async function listed(file: string): Promise<Made['entries']> {
  const reader = extract()
  const found: (Header & { text: string })[] = []
  const stream = createReadStream(file)
  stream.on('data', (chunk) => reader.write(chunk as Buffer)).on('end', () => reader.end(null))
  for await (const entry of reader) found.push({ ...entry.header, text: await text(entry as never) })
  return found
}

const refuses = async (bytes: Buffer, format: SourceFormat, reason: RefusalReason) => {
  await assert.rejects(make(bytes, format), (error) => {
    assert.ok(error instanceof SourceRefused, String(error))
    assert.equal(error.reason, reason, error.message)
    return true
  })
}

const evil = (entry: TarEntry, ...more: TarEntry[]) => tar(DOCKERFILE, entry, ...more)
const deep = Array.from({ length: 70 }, () => 'd').join('/')
const symlink = (name: string, link: string): TarEntry => ({ name, type: '2', link })

const HOSTILE_TARS: readonly [what: string, bytes: Buffer, reason: RefusalReason][] = [
  ['an absolute path', evil({ name: '/etc/passwd' }), 'absolute-path'],
  ['a path with ..', evil({ name: '../outside' }), 'parent-path'],
  ['.. in the middle of a path', evil({ name: 'a/../../outside' }), 'parent-path'],
  ['a backslash', evil({ name: '..\\outside' }), 'backslash'],
  ['a drive letter', evil({ name: 'C:/windows' }), 'drive-letter'],
  ['NUL in a pax path', tar(DOCKERFILE, pax({ path: 'fine\0/../../evil' }), { name: 'fine' }), 'control-character'],
  ['an escape sequence in a name', evil({ name: '\x1b[2Jgone' }), 'control-character'],
  ['a name that is no UTF-8', tar(DOCKERFILE, badUtf8()), 'not-text'],
  ['a pax path that leads out', tar(DOCKERFILE, pax({ path: '../../evil' }), { name: 'fine' }), 'parent-path'],
  [
    'a GNU long name that leads out',
    tar(DOCKERFILE, { name: '././@LongLink', type: 'L', content: '../evil\0' }, { name: 'fine' }),
    'parent-path',
  ],
  ['a ustar prefix that leads out', evil({ name: 'x', prefix: '..' }), 'parent-path'],
  ['a symbolic link to an absolute path', evil(symlink('etc', '/etc')), 'link-leads-out'],
  ['a symbolic link that leads out', evil(symlink('a/up', '../../x')), 'link-leads-out'],
  ['a file written through a link', evil(symlink('dir', 'other'), { name: 'dir/file' }), 'link-over-link'],
  ['a link made where files were', evil({ name: 'dir/file' }, symlink('dir', 'other')), 'duplicate'],
  ['a link over a link', evil(symlink('a', 'b'), symlink('b', 'c')), 'link-over-link'],
  ['a hard link that leads out', evil({ name: 'h', type: '1', link: '../../etc/shadow' }), 'parent-path'],
  ['a hard link to an absolute path', evil({ name: 'h', type: '1', link: '/etc/shadow' }), 'absolute-path'],
  ['a hard link to a link', evil(symlink('s', 'Dockerfile'), { name: 'h', type: '1', link: 's' }), 'link-over-link'],
  [
    'a hard link to what comes later',
    evil({ name: 'h', type: '1', link: 'later' }, { name: 'later' }),
    'link-over-link',
  ],
  ['a character device', evil({ name: 'null', type: '3' }), 'special-file'],
  ['a block device', evil({ name: 'sda', type: '4' }), 'special-file'],
  ['a fifo', evil({ name: 'pipe', type: '6' }), 'special-file'],
  ['an unknown type', evil({ name: 'x', type: 'Z' }), 'unknown-kind'],
  ['a GNU sparse file', evil({ name: 'x', type: 'S' }), 'unknown-kind'],
  [
    'a pax sparse file',
    tar(DOCKERFILE, pax({ 'GNU.sparse.realsize': '1000000000000' }), { name: 'x' }),
    'unknown-kind',
  ],
  ['the same file twice', evil({ name: 'a', content: '1' }, { name: './a', content: '2' }), 'duplicate'],
  ['a second Dockerfile', evil({ name: 'Dockerfile', content: 'FROM evil' }), 'duplicate'],
  ['names that differ in case', evil({ name: 'dockerfile' }), 'case-clash'],
  ['folders that differ in case', evil({ name: 'A/x' }, { name: 'a/y' }), 'case-clash'],
  ['names that differ in how Unicode is composed', evil({ name: '\u00e9' }, { name: 'e\u0301' }), 'case-clash'],
  ['a file that is also a folder', evil({ name: 'a' }, { name: 'a/b' }), 'duplicate'],
  ['a name of 300 bytes', tar(DOCKERFILE, pax({ path: 'n'.repeat(300) }), { name: 'x' }), 'long-path'],
  ['a path of 2000 bytes', tar(DOCKERFILE, pax({ path: `${'n/'.repeat(1000)}x` }), { name: 'x' }), 'long-path'],
  ['a path 70 folders deep', tar(DOCKERFILE, pax({ path: deep }), { name: 'x' }), 'deep-path'],
  ['a header of 5 MiB', tar(DOCKERFILE, pax({ comment: 'c'.repeat(5 * MIB) }), { name: 'x' }), 'long-path'],
  ['a size beyond the limit, told only', evil({ name: 'big', size: 17 * MIB }), 'too-large'],
  ['a pax size beyond the limit', tar(DOCKERFILE, pax({ size: '99999999999999' }), { name: 'big' }), 'too-large'],
  ['a negative pax size', tar(DOCKERFILE, pax({ size: '-1' }), { name: 'x' }), 'damaged'],
  ['101 files', tar(...Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` }))), 'too-many'],
  ['101 folders', tar(...Array.from({ length: 101 }, (_, i) => ({ name: `f${i}/`, type: '5' }))), 'too-many'],
  [
    '135 folders that only paths name',
    tar(DOCKERFILE, ...['a', 'b', 'c'].map((name) => ({ name: `${`${name}/`.repeat(45)}x` }))),
    'too-many',
  ],
  ['the source itself 101 times', tar(...Array.from({ length: 101 }, () => ({ name: './', type: '5' }))), 'too-many'],
  ['a wrong checksum', evil({ name: 'x', checksum: 1 }), 'damaged'],
  ['a tar cut off in a file', evil({ name: 'x', content: 'x'.repeat(2000) }).subarray(0, 2000), 'truncated'],
  ['a tar cut off between files', evil({ name: 'x' }).subarray(0, -TAR_END.length), 'truncated'],
  ['garbage behind the end', Buffer.concat([tar(DOCKERFILE), Buffer.alloc(512, 'evil')]), 'damaged'],
  ['a little garbage behind the end', Buffer.concat([tar(DOCKERFILE), Buffer.from('evil')]), 'truncated'],
  ['no tar at all', Buffer.alloc(4096, 'text '), 'damaged'],
  ['nothing', Buffer.alloc(0), 'wrong-format'],
  ['no Dockerfile', tar({ name: 'index.html' }), 'no-dockerfile'],
  ['a Dockerfile below the top only', tar({ name: 'a/Dockerfile' }), 'no-dockerfile'],
  ['a .dockerignore of 100 KiB', evil({ name: '.dockerignore', content: 'x\n'.repeat(50 * 1024) }), 'too-large'],
]

function badUtf8(): Buffer {
  const entry = tarEntry({ name: 'XX' })
  entry[0] = 0xc3
  entry[1] = 0x28
  entry.fill(' ', 148, 156)
  entry.write(
    entry
      .subarray(0, 512)
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0'),
    148,
  )
  return entry
}

const good = tar(DOCKERFILE, { name: 'x', content: 'text' })
const HOSTILE_TGZS: readonly [what: string, bytes: Buffer, reason: RefusalReason][] = [
  ['a bomb of zeros', gzipSync(evil({ name: 'zeros', content: Buffer.alloc(15 * MIB) })), 'ratio'],
  ['a bomb behind a bomb', gzipSync(gzipSync(Buffer.alloc(15 * MIB))), 'damaged'],
  ['two gzip streams, the second a bomb', Buffer.concat([gzipSync(good), gzipSync(Buffer.alloc(15 * MIB))]), 'ratio'],
  ['more than may be sent', gzipSync(evil({ name: 'x', content: noise(3 * MIB) })), 'too-large'],
  ['a stream that was cut off', gzipSync(good).subarray(0, -20), 'truncated'],
  ['a wrong checksum', flipped(gzipSync(good), -6), 'bad-checksum'],
  ['a wrong length', flipped(gzipSync(good), -2), 'bad-checksum'],
  ['garbage behind the stream', Buffer.concat([gzipSync(good), Buffer.from('evil evil evil')]), 'trailing-data'],
  ['no gzip at all', good, 'wrong-format'],
  ['a path with .. inside', gzipSync(evil({ name: '../outside' })), 'parent-path'],
]

function noise(bytes: number): Buffer {
  // xorshift32: what cannot be packed, the same each time.
  let state = 2463534242
  return Buffer.from(
    Uint8Array.from({ length: bytes }, () => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return state & 0xff
    }),
  )
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  const place = copy.length + at
  copy[place] = (copy[place] ?? 0) ^ 0xff
  return copy
}

const SYMLINK = 0o120777
const evilZip = (entry: ZipEntry, ...more: ZipEntry[]) => zip([DOCKERFILE, entry, ...more])
const HOSTILE_ZIPS: readonly [what: string, bytes: Buffer, reason: RefusalReason][] = [
  ['a path with .. (zip slip)', evilZip({ name: '../../evil' }), 'parent-path'],
  ['an absolute path', evilZip({ name: '/etc/passwd' }), 'absolute-path'],
  ['a drive letter', evilZip({ name: 'c:/x' }), 'drive-letter'],
  ['backslashes', evilZip({ name: '..\\..\\evil' }), 'backslash'],
  ['NUL in a name', evilZip({ name: 'a\0.txt' }), 'control-character'],
  ['a symbolic link that leads out', evilZip({ name: 'l', mode: SYMLINK, content: '../../etc' }), 'link-leads-out'],
  [
    'a file written through a link',
    evilZip({ name: 'l', mode: SYMLINK, content: 'd' }, { name: 'l/x' }),
    'link-over-link',
  ],
  ['a link with a target of 1 MiB', evilZip({ name: 'l', mode: SYMLINK, content: noise(MIB) }), 'long-path'],
  ['a device', evilZip({ name: 'null', mode: 0o020666 }), 'special-file'],
  ['a fifo', evilZip({ name: 'pipe', mode: 0o010666 }), 'special-file'],
  ['a socket', evilZip({ name: 'socket', mode: 0o140666 }), 'special-file'],
  ['the same name twice', evilZip({ name: 'a', content: '1' }, { name: 'a', content: '2' }), 'duplicate'],
  ['names that differ in case', evilZip({ name: 'README' }, { name: 'readme' }), 'case-clash'],
  ['an encrypted file', evilZip({ name: 'secret', flags: 0x801 }), 'encrypted'],
  ['a strongly encrypted file', evilZip({ name: 'secret', flags: 0x841 }), 'encrypted'],
  ['an unknown method', evilZip({ name: 'x', method: 99 }), 'unknown-kind'],
  ['a wrong checksum', evilZip({ name: 'x', content: 'text', crc: 1 }), 'bad-checksum'],
  ['a size that is told too small', evilZip({ name: 'x', content: 'x'.repeat(5000), size: 10 }), 'wrong-size'],
  ['a size that is told too large', evilZip({ name: 'x', content: 'x', size: 5000 }), 'wrong-size'],
  ['sizes of a stored file that differ', evilZip({ name: 'x', content: 'xx', stored: true, size: 1 }), 'wrong-size'],
  ['a zip64 size beyond everything', evilZip({ name: 'x', content: 'x', zip64: true, size: 2 ** 50 }), 'ratio'],
  ['a bomb of zeros', evilZip({ name: 'x', content: Buffer.alloc(15 * MIB) }), 'ratio'],
  ['a bomb that says it is small', evilZip({ name: 'x', content: Buffer.alloc(15 * MIB), size: 100 }), 'wrong-size'],
  ['files that share one kernel of data', overlapping(), 'overlap'],
  [
    'two entries for one place',
    zip([DOCKERFILE, { name: 'twin', content: DOCKERFILE.content, at: 0, directoryOnly: true }]),
    'hidden-data',
  ],
  ['another name where the data lies', evilZip({ name: 'safe', localName: '../evil' }), 'hidden-data'],
  ['more entries than are counted', zip([DOCKERFILE, { name: 'hidden' }], { count: 1 }), 'hidden-data'],
  ['a directory inside the data', directoryInData(), 'damaged'],
  ['something before the first file', zip([DOCKERFILE], { before: Buffer.from('#!/bin/sh\n') }), 'hidden-data'],
  ['something behind the end', zip([DOCKERFILE], { after: Buffer.from('evil') }), 'trailing-data'],
  ['a zip that was cut off', evilZip({ name: 'x' }).subarray(0, -30), 'truncated'],
  ['data that was damaged', damagedData(), 'damaged'],
  ['a folder with content', evilZip({ name: 'dir/', content: 'x' }), 'hidden-data'],
  ['no zip at all', Buffer.alloc(4096, 'text '), 'truncated'],
  ['101 files', zip(Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` }))), 'too-many'],
  [
    '101 files, before what is listed behind them is looked at',
    zip([...Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` })), { name: 'x', method: 99 }]),
    'too-many',
  ],
  ['more than may be sent', evilZip({ name: 'x', content: noise(3 * MIB) }), 'too-large'],
  ['more than may be unpacked', zip([DOCKERFILE, ...largeFiles(20)]), 'too-large'],
]

/** The trick of the zip bombs that need no nesting: the second entry's data begins inside the first one's. */
function overlapping(): Buffer {
  const inner = zip([{ name: 'inner', content: 'x', stored: true }])
  const local = inner.subarray(0, inner.indexOf('PK\x01\x02', 'latin1'))
  const outerName = 'outer'
  return zip([
    { name: outerName, content: local, stored: true },
    { name: 'inner', content: 'x', stored: true, at: 30 + outerName.length, directoryOnly: true },
  ])
}

function largeFiles(count: number): ZipEntry[] {
  const content = Buffer.concat([noise(50_000), Buffer.alloc(MIB)])
  return Array.from({ length: count }, (_, i) => ({ name: `f${i}`, content }))
}

function directoryInData(): Buffer {
  return zip([DOCKERFILE, { name: 'x', stored: true, content: 'x'.repeat(100) }], { directoryBack: 20 })
}

function damagedData(): Buffer {
  const bytes = zip([DOCKERFILE, { name: 'x', content: noise(2000) }])
  const packed = deflateRawSync(noise(2000))
  const at = bytes.indexOf(packed)
  bytes.fill(0xff, at, at + 20)
  return bytes
}

describe('hostile archives are refused, each by its reason, and leave nothing behind', () => {
  for (const [what, bytes, reason] of HOSTILE_TARS) it(`tar: ${what}`, () => refuses(bytes, 'tar', reason))
  for (const [what, bytes, reason] of HOSTILE_TGZS) it(`tgz: ${what}`, () => refuses(bytes, 'tgz', reason))
  for (const [what, bytes, reason] of HOSTILE_ZIPS) it(`zip: ${what}`, () => refuses(bytes, 'zip', reason))

  it('an archive inside an archive stays packed, whatever it holds', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * MIB))
    const { entries } = await make(gzipSync(evil({ name: 'bomb.gz', content: bomb })), 'tgz')
    assert.equal(entries[1]?.size, bomb.length)
  })

  it('a global pax header does not rename what follows', async () => {
    const { entries } = await make(tar(pax({ path: '../evil' }, 'g'), DOCKERFILE), 'tar')
    assert.deepEqual(
      entries.map((e) => e.name),
      ['Dockerfile'],
    )
  })

  it('a message shows a hostile name without its control characters', async () => {
    await assert.rejects(make(evil({ name: '\x1b[2J' }), 'tar'), (error: Error) => !error.message.includes('\x1b'))
  })

  it('is over at once when nobody waits any more', async () => {
    const directory = mkdtempSync(join(around, 'case-'))
    const over = new AbortController()
    const endless = new Readable({
      read() {
        over.abort(new Error('the client left'))
        this.push(tarEntry({ name: `f${Math.random()}` }))
      },
    })
    const how = { format: 'tar', directory, limits: { ...LIMITS, entries: Infinity }, dockerfile: null } as const
    await assert.rejects(makeContext(endless, how, over.signal), /the client left/)
    assert.deepEqual(readdirSync(directory), [])
  })
})

it('the directory of a zip is read no further when nobody waits any more', async () => {
  const path = join(mkdtempSync(join(around, 'case-')), 'source.zip')
  writeFileSync(path, zip([DOCKERFILE, { name: 'x', method: 99 }]))
  const over = AbortSignal.abort(new Error('the client left'))
  await assert.rejects(async () => {
    for await (const { name } of zipEntries(path, 100, over)) assert.fail(name)
  }, /the client left/)
})

describe('an honest source becomes a context', () => {
  const entries: TarEntry[] = [
    DOCKERFILE,
    { name: './site/', type: '5', mode: 0o2775 },
    { name: './site/index.html', content: 'hello' },
    { name: 'run.sh', content: '#!/bin/sh', mode: 0o4755 },
    symlink('site/home.html', 'index.html'),
    { name: 'again', type: '1', link: 'run.sh' },
    { name: 'empty', type: '5' },
  ]

  it('with its files, links and folders, without owners, times and setuid bits', async () => {
    const { entries: found, context } = await make(tar(...entries), 'tar')
    const short = found.map(
      (e) => `${e.type} ${e.name} ${e.mode.toString(8)} ${e.uid} ${e.mtime.getTime()} ${e.linkname ?? ''}${e.text}`,
    )
    assert.deepEqual(short, [
      'file Dockerfile 644 0 0 FROM scratch\n',
      'directory site 755 0 0 ',
      'file site/index.html 644 0 0 hello',
      'file run.sh 755 0 0 #!/bin/sh',
      'symlink site/home.html 644 0 0 index.html',
      'link again 644 0 0 run.sh',
      'directory empty 755 0 0 ',
    ])
    assert.deepEqual([context.files, context.bytes, context.hasDockerfile], [3, 27, true])
  })

  it('of the same hash from every format, in every order', async () => {
    const files = [DOCKERFILE, { name: 'a/b', content: 'b' }, { name: 'c', content: 'c', mode: 0o100755 }]
    const tars = files.map((f) => ({ ...f, mode: 'mode' in f ? 0o755 : 0o600 }))
    const hashes = [
      await make(tar(...tars), 'tar'),
      await make(gzipSync(tar(...[...tars].reverse())), 'tgz'),
      await make(zip(files), 'zip'),
      await make(tar({ name: 'a', type: '5' }, ...tars), 'tar'),
    ].map(({ context }) => context.hash)
    assert.equal(new Set(hashes).size, 1)
    const other = await make(tar(...tars.map((f) => ({ ...f, mode: 0o644 }))), 'tar')
    assert.notEqual(other.context.hash, hashes[0], 'whether a file may be executed is part of it')
  })

  it('with names of every script and of 200 bytes', async () => {
    const name = `${'å'.repeat(50)}/${'n'.repeat(99)}/файл.html`
    const { entries: found } = await make(tar(DOCKERFILE, pax({ path: name }), { name: 'x', content: 'y' }), 'tar')
    assert.equal(found[1]?.name, name)
  })

  it('with a generated Dockerfile that is not copied into the image', async () => {
    const { entries: found } = await make(tar({ name: 'index.html' }), 'tar', 'FROM base\nCOPY . /srv/\n')
    assert.deepEqual(
      found.map(({ name, text: content }) => [name, content]),
      [
        ['index.html', ''],
        ['Dockerfile', 'FROM base\nCOPY . /srv/\n'],
        ['.dockerignore', 'Dockerfile\n.dockerignore\n'],
      ],
    )
    await assert.rejects(make(tar(DOCKERFILE), 'tar', 'FROM base\n'), { reason: 'two-dockerfiles' })
  })

  it('without what .dockerignore names', async () => {
    const ignore = { name: '.dockerignore', content: '# secrets\n.env\nnode_modules\n**/*.log\n!keep.log\n' }
    const names = ['.env', 'a/.env', 'node_modules/x/y', 'a/b.log', 'keep.log', 'index.html']
    const { entries: found } = await make(tar(ignore, DOCKERFILE, ...names.map((name) => ({ name }))), 'tar')
    assert.deepEqual(
      found.map((e) => e.name),
      ['.dockerignore', 'Dockerfile', 'a/.env', 'keep.log', 'index.html'],
    )
  })

  it('of a true zip64, and of one that tells its sizes behind the data', async () => {
    const { context } = await make(zip([DOCKERFILE, { name: 'x', content: 'text', zip64: true }]), 'zip')
    assert.equal(context.files, 2)
  })
})

describe('.dockerignore', () => {
  const cases: readonly [pattern: string, path: string, left: boolean][] = [
    ['a', 'a', true],
    ['a', 'a/b', true],
    ['a', 'b/a', false],
    ['/a/', 'a/b', true],
    ['./a', 'a', true],
    ['*/temp*', 'somedir/temporary.txt', true],
    ['*/temp*', 'somedir/subdir/temp', false],
    ['*/*/temp*', 'somedir/subdir/temporary.txt', true],
    ['temp?', 'tempa', true],
    ['temp?', 'temp', false],
    ['**/*.go', 'x.go', true],
    ['**/*.go', 'a/b/x.go', true],
    ['a/**/b', 'a/b', true],
    ['a/**/b', 'a/x/y/b', true],
    ['a/**', 'a/x/y', true],
    ['a/**', 'b', false],
    ['**', 'anything/at/all', true],
    ['[a-c]x', 'bx', true],
    ['[^a-c]x', 'bx', false],
    ['a.b', 'axb', false],
    ['\\*', '*', true],
    ['\\*', 'x', false],
    ['a/../b', 'b', true],
    ['*', 'Dockerfile', false],
    ['#a', '#a', false],
    ['*\n!*.md', 'README.md', false],
    ['*.md\n!README*.md\nREADME-secret.md', 'README-secret.md', true],
  ]
  for (const [pattern, path, left] of cases) {
    it(`${JSON.stringify(pattern)} ${left ? 'leaves out' : 'keeps'} ${path}`, () => {
      assert.equal(ignoreRules(pattern)(path), left)
    })
  }

  it('no pattern takes for ever', () => {
    const pattern = `${'**/a/'.repeat(40)}b`
    const path = 'a/'.repeat(60)
    assert.equal(ignoreRules(pattern)(`${path}c`), false)
  })

  it('all patterns and all paths of a source have a limit together', async () => {
    const pattern = `${'*a'.repeat(60)}[b]\n`
    const files = Array.from({ length: 15 }, (_, i) => [
      pax({ path: `${'a'.repeat(240)}${String(i).padStart(2, '0')}` }),
      tarEntry({ name: 'x' }),
    ])
    const source = tar({ name: '.dockerignore', content: pattern.repeat(500) }, DOCKERFILE, ...files.flat())
    await assert.rejects(make(source, 'tar'), {
      code: 'invalid-input',
      message: /\.dockerignore: its patterns take more than 100000000 steps .*; use fewer patterns/,
    })
    // As many as an honest source may have.
    const ignore = ignoreRules(Array.from({ length: 500 }, (_, i) => `**/name${i}/*.log`).join('\n'))
    for (let n = 0; n < 10_000; n++)
      assert.equal(ignore(`packages/module-${n}/src/components/deep/file.test.ts`), false)
  })

  it('a broken or endless one is refused', () => {
    assert.throws(() => ignoreRules('[a'), /closing/)
    assert.throws(() => ignoreRules('a\n'.repeat(501)), /at most 500/)
  })
})
