import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { CACHE_DIRECTORY, RUN_DIRECTORY } from '../../lab/places.ts'
import type { Site } from '../../lab/site.ts'

/** The places of a site where a text may turn up, in words. */
export interface Hunt {
  /** Files on the disk and in /run: logs, settings, databases, state directories. */
  readonly files: readonly string[]
  /** What the engine tells of containers, volumes, networks and images, and what it keeps of containers on its disk. */
  readonly engine: readonly string[]
  /** Command lines and environments of all processes of the machine but this one. */
  readonly processes: readonly string[]
}

/**
 * Looks for a text, as it is and in the ways that programs write texts (Base64 at any offset, hex), wherever a site keeps
 * or shows anything but the memory of processes and the files in memory that containers are given.
 */
export async function hunt(site: Site, text: string): Promise<Hunt> {
  const shapes = shapesOf(text)
  const files = [join(RUN_DIRECTORY, site.prefix), join(CACHE_DIRECTORY, 'state', site.prefix)].flatMap((top) =>
    filesWith(top, shapes),
  )
  return { files, engine: await inEngine(site.engine.docker, shapes), processes: inProcesses(shapes) }
}

/** Whether a text, or one of its shapes, is somewhere in another. */
export function holds(where: string | Buffer, text: string): boolean {
  return shapesOf(text).some((shape) => where.includes(shape))
}

function shapesOf(text: string): string[] {
  // The characters at either end depend on what stands beside it.
  const base64 = [0, 1, 2].map((before) =>
    Buffer.from('-'.repeat(before) + text)
      .toString('base64')
      .replaceAll('=', '')
      .slice(before === 0 ? 0 : 4, -4),
  )
  return [text, ...base64, Buffer.from(text).toString('hex')]
}

function filesWith(top: string, shapes: readonly string[]): string[] {
  return entriesOf(top).flatMap((entry) => {
    const path = join(top, entry.name)
    if (entry.isDirectory()) return filesWith(path, shapes)
    return entry.isFile() && found(path, shapes) ? [path] : []
  })
}

/** Empty: the folder is gone, or never was. */
function entriesOf(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function found(path: string, shapes: readonly string[]): boolean {
  try {
    const bytes = readFileSync(path)
    return shapes.some((shape) => bytes.includes(shape))
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    // Gone meanwhile, or a process that ended.
    if (['ENOENT', 'ESRCH', 'EACCES'].includes(code)) return false
    throw error
  }
}

async function inEngine(docker: Docker, shapes: readonly string[]): Promise<string[]> {
  const [containers, volumes, networks, images, info] = await Promise.all([
    docker.listContainers({ all: true }),
    docker.listVolumes(),
    docker.listNetworks(),
    docker.listImages({ all: true }),
    docker.info() as Promise<{ DockerRootDir: string }>,
  ])
  const told: [string, unknown][] = [
    ...volumes.Volumes.map((volume): [string, unknown] => [`volume ${volume.Name}`, volume]),
    ...networks.map((network): [string, unknown] => [`network ${network.Name}`, network]),
  ]
  const disk: string[] = []
  for (const { Id, Names } of containers) {
    const detail = await docker.getContainer(Id).inspect()
    told.push([`container ${Names[0]}`, detail])
    const { UpperDir } = detail.GraphDriver.Data as { UpperDir?: string }
    disk.push(join(info.DockerRootDir, 'containers', Id), ...(UpperDir === undefined ? [] : [UpperDir]))
  }
  for (const { Id } of images) {
    const image = docker.getImage(Id)
    told.push([`image ${Id}`, [await image.inspect(), await image.history()]])
  }
  return [
    ...told.filter(([, value]) => shapes.some((shape) => JSON.stringify(value).includes(shape))).map(([name]) => name),
    ...disk.flatMap((top) => filesWith(top, shapes)),
  ]
}

function inProcesses(shapes: readonly string[]): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`])
    .filter((path) => found(path, shapes))
}
