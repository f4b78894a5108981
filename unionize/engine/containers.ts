import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import Docker from 'dockerode'
import { jsonLines } from '../../common/engine-streams.ts'
import {
  type ContainerEvent,
  type InspectedContainer,
  inspected,
  type ListedContainer,
  listed,
  type PathStat,
  pathStatOf,
} from './answers.ts'
import { bounded, DEADLINE_MS, eventsOf, filters, logsOf, made, type PullOptions, pulled, versionOf } from './calls.ts'
import type { ContainerSpec } from './container-spec.ts'
import { ContainerFailure, hasCode } from './failure.ts'

export type { ContainerEvent, Health, InspectedContainer, ListedContainer, PathStat } from './answers.ts'
export type { ContainerSpec } from './container-spec.ts'

/** A volume as the engine lists it. */
export interface ListedVolume {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
}

/** The Docker engine, as much of it as we use. Every call ends: by answer, by its signal, or by its deadline. */
export interface Engine {
  /** Name and version of the engine. */
  version(signal?: AbortSignal): Promise<string>
  /** Makes a container and returns its id. @throws code name-conflict, image-missing, engine-unreachable, … */
  create(spec: ContainerSpec, signal?: AbortSignal): Promise<string>
  /**
   * Started already is success. Cannot be cancelled: the engine goes on with a start whose caller went away, and a removal
   * that comes into it can leave a process of which the engine knows no more.
   */
  start(id: string): Promise<void>
  /** Asks to end, kills after `graceMs`. Stopped or gone already is success. */
  stop(id: string, graceMs: number, signal?: AbortSignal): Promise<void>
  /** Kills and removes. Gone already is success. */
  remove(id: string, signal?: AbortSignal): Promise<void>
  /** @throws code not-found */
  inspect(id: string, signal?: AbortSignal): Promise<InspectedContainer>
  /** All containers, running or not, that bear all of these labels. */
  list(labels: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<readonly ListedContainer[]>
  /**
   * Events of containers with these labels since `since` (epoch ms); ends by an error when the connection is lost, or
   * when aborted.
   */
  events(labels: Readonly<Record<string, string>>, since: number, signal: AbortSignal): AsyncIterable<ContainerEvent>
  /** Output and error output of a container, as text. */
  logs(id: string, options: { follow: boolean; tail: number }, signal: AbortSignal): AsyncIterable<string>
  hasImage(image: string, signal?: AbortSignal): Promise<boolean>
  /** Fetches an image from its registry; given up when nothing comes for a minute. @throws code pull-failed */
  pull(image: string, options: PullOptions, signal?: AbortSignal): Promise<void>
  /** What is at a path inside a container; null: nothing, or there is no such container. */
  statPath(id: string, path: string, signal?: AbortSignal): Promise<PathStat | null>
  /** A tar of what is at a path inside a container; who does not read to the end destroys it. @throws code not-found */
  archive(id: string, path: string, signal?: AbortSignal): Promise<Readable>
  /** All volumes that bear all of these labels. */
  volumes(labels: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<readonly ListedVolume[]>
  /** Gone already is success. @throws code engine-failed while a container uses it */
  removeVolume(name: string, signal?: AbortSignal): Promise<void>
  /** Makes an image out of the tar of a root file system. `changes` are Dockerfile lines. */
  importImage(
    tar: Readable,
    image: { name: string; tag: string; changes: readonly string[] },
    signal?: AbortSignal,
  ): Promise<void>
}

/** What an engine says of a setting that its kernel cannot give, and that it leaves out (moby, daemon/daemon_unix.go). */
const LEFT_OUT = /discarded/i
/**
 * Connects lazily to the engine behind a unix socket.
 * @param warned told what the engine remarks when it makes a container, each remark once
 */
export function dockerEngine(socketPath: string, warned: (remark: string) => void = () => {}): Engine {
  const docker = new Docker({ socketPath })
  const told = new Set<string>()
  const call = <T>(what: string, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>) =>
    bounded(what, socketPath, signal, DEADLINE_MS, work)
  const start = (id: string): Promise<void> =>
    call(`start ${id}`, undefined, (abortSignal) => docker.getContainer(id).start({ abortSignal })).then(
      () => {},
      unless('not-modified'),
    )

  return {
    version: (signal) =>
      call('version', signal, async (abortSignal) => `Docker ${(await versionOf(docker, abortSignal)).Version}`),
    create: (spec, signal) =>
      call(`create ${spec.name} of image ${spec.image}`, signal, async (abortSignal) => {
        const { id, remarks } = await made(docker, spec, abortSignal)
        const leftOut = remarks.find((remark) => LEFT_OUT.test(remark))
        if (leftOut !== undefined) {
          await docker.getContainer(id).remove({ force: true, v: true, abortSignal })
          throw new ContainerFailure('engine-refused', `container ${spec.name}: ${leftOut}`)
        }
        for (const remark of remarks.filter((one) => !told.has(one))) {
          told.add(remark)
          warned(remark)
        }
        return id
      }),
    start: (id) =>
      start(id).catch((error) => {
        if (!hasCode(error, 'start-raced')) throw error
        return start(id)
      }),
    stop: (id, graceMs, signal) =>
      bounded(`stop ${id}`, socketPath, signal, DEADLINE_MS + graceMs, (abortSignal) =>
        docker.getContainer(id).stop({ t: Math.ceil(graceMs / 1000), abortSignal }),
      ).then(() => {}, unless('not-modified', 'not-found')),
    remove: (id, signal) =>
      call(`remove ${id}`, signal, (abortSignal) =>
        docker.getContainer(id).remove({ force: true, v: true, abortSignal }),
      ).then(() => {}, unless('not-found', 'removal-under-way')),
    inspect: (id, signal) =>
      call(`inspect ${id}`, signal, async (abortSignal) => {
        return inspected(await docker.getContainer(id).inspect({ abortSignal }))
      }),
    list: (labels, signal) =>
      call('list', signal, async (abortSignal) => {
        const found = await docker.listContainers({ all: true, filters: { label: filters(labels) }, abortSignal })
        return found.map(listed)
      }),
    events: (labels, since, signal) => eventsOf(docker, socketPath, labels, since, signal),
    logs: (id, options, signal) => logsOf(docker, socketPath, id, options, signal),
    hasImage: (image, signal) =>
      call(`look for image ${image}`, signal, (abortSignal) =>
        docker.getImage(image).inspect({ abortSignal } as object),
      )
        .then(() => true, unless('not-found', 'image-missing'))
        .then((found) => found === true),
    pull: (image, options, signal) => pulled(docker, socketPath, image, options, signal),
    statPath: (id, path, signal) =>
      call(`look at ${path} in ${id}`, signal, async (abortSignal) => {
        const answer = (await docker.getContainer(id).infoArchive({ path, abortSignal } as never)) as IncomingMessage
        answer.resume()
        return pathStatOf(String(answer.headers['x-docker-container-path-stat']))
      })
        .then((stat) => stat, unless('not-found'))
        .then((stat) => stat ?? null),
    archive: (id, path, signal) =>
      call(`read ${path} in ${id}`, signal, async (abortSignal) => {
        return (await docker.getContainer(id).getArchive({ path, abortSignal } as never)) as Readable
      }),
    volumes: (labels, signal) =>
      call('list volumes', signal, async (abortSignal) => {
        const query = { filters: JSON.stringify({ label: filters(labels) }), abortSignal }
        const { Volumes: found } = await docker.listVolumes(query as object)
        return (found ?? []).map((v) => ({ name: v.Name, labels: v.Labels ?? {} }))
      }),
    removeVolume: (name, signal) =>
      call(`remove volume ${name}`, signal, (abortSignal) =>
        docker.getVolume(name).remove({ abortSignal } as object),
      ).then(() => {}, unless('not-found')),
    importImage: (tar, image, signal) =>
      call(`import image ${image.name}:${image.tag}`, signal, async (abortSignal) => {
        const query = { repo: image.name, tag: image.tag, changes: [...image.changes], abortSignal }
        const answer = (await docker.importImage(tar, query)) as Readable
        for await (const { error } of jsonLines<{ error?: string }>(answer)) {
          if (error !== undefined) throw new ContainerFailure('engine-failed', error, { retryable: true })
        }
      }),
  }
}

/** Lets these codes count as success. */
function unless(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (error instanceof ContainerFailure && codes.includes(error.code)) return undefined
    throw error
  }
}
