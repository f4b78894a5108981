import { execFileSync } from 'node:child_process'
import { createReadStream, realpathSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { pack } from 'tar-stream'
import type { Engine } from '../../unionize/engine/containers.ts'

/** Programs of this machine that are in the image. */
const PROGRAMS = [
  'sh',
  'cat',
  'ls',
  'id',
  'env',
  'pwd',
  'stat',
  'dd',
  'tail',
  'sleep',
  'touch',
  'ln',
  'mkfifo',
  'mv',
  'rm',
  'mkdir',
]

/** Makes an image of a shell and a few programs of this machine, which does nothing unless told. */
export async function importTinyImage(
  engine: Pick<Engine, 'importImage'>,
  image: {
    readonly name: string
    readonly tag: string
    readonly changes?: readonly string[]
    readonly programs?: readonly string[]
  },
): Promise<void> {
  const tar = pack()
  const importing = engine.importImage(Readable.from(tar), { changes: ['CMD ["/bin/sleep", "infinity"]'], ...image })
  for (const name of ['bin', 'lib', 'lib64', 'etc', 'tmp', 'srv', 'orchestrator'])
    tar.entry({ name: `${name}/`, type: 'directory' })
  tar.entry({ name: 'etc/passwd' }, 'root:x:0:0::/:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n')
  tar.entry({ name: 'etc/group' }, 'root:x:0:\nworker:x:1000:\nmakers:x:2000:\n')
  tar.entry({ name: 'srv/of-the-image' }, 'here\n')
  const programs = [...PROGRAMS, ...(image.programs ?? [])].map((name) =>
    execFileSync('which', [name], { encoding: 'utf8' }).trim(),
  )
  for (const path of programs) await add(tar, path, `bin/${path.split('/').at(-1)}`)
  for (const path of librariesOf(programs)) await add(tar, path, path.slice(1))
  tar.finalize()
  await importing
}

async function add(tar: ReturnType<typeof pack>, path: string, name: string): Promise<void> {
  const real = realpathSync(path)
  const entry = tar.entry({ name, mode: 0o755, size: statSync(real).size })
  await pipeline(createReadStream(real), entry)
}

/** What ldd(1) names: `libc.so.6 => /lib/… (0x…)`, and the loader. */
function librariesOf(programs: readonly string[]): Set<string> {
  const told = execFileSync('ldd', programs, { encoding: 'utf8' })
  return new Set([...told.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path = '']) => path))
}
