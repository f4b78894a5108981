import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Router } from 'express'
import { z } from 'zod'
import type { Log } from '../../../common/log.ts'
import { archivePath } from '../../../unionize/contract.ts'
import type { HostName } from '../../domain/host.ts'
import type { Store } from '../../store/store.ts'
import { withBody } from '../body-stream.ts'
import { accept, Problem } from '../problem.ts'
import { admittedHost } from './socket.ts'

/** Archives of images as this API needs them. */
export interface HostArchives {
  /** The image that this host makes now by that build; null: none. */
  imageFor(build: string, host: HostName): string | null
  receive(told: { image: string; sha256: string; bytes: number }, input: Readable, signal: AbortSignal): Promise<void>
  open(sha256: string): { bytes: number; stream: Readable } | null
}

const name = z.string().regex(/^[0-9a-f]{64}$/)
const putQuery = z.strictObject({ build: z.string().regex(/^b-[0-9a-z]{10}$/) })

/**
 * Where a host puts the archive of what it built (`PUT …?build=ID`, only while it builds that) and every host gets it
 * (`GET`). For hosts, by their certificates.
 */
export function hostArchivesRoutes(options: { store: Store; archives: HostArchives; log: Log }): Router {
  const { store, archives, log } = options
  const router = Router()
  const path = archivePath(':sha256')

  router.put(path, async (request, response) => {
    const host = await admittedHost(request, store)
    const sha256 = accept(name, request.params['sha256'])
    const { build } = accept(putQuery, request.query)
    const image = archives.imageFor(build, host)
    if (image === null) throw new Problem(409, 'not-building', `host ${host} builds nothing by the id ${build}`)
    const bytes = Number(request.get('content-length') ?? Number.NaN)
    if (!Number.isSafeInteger(bytes)) throw new Problem(411, 'length-required', 'the length of an archive must be told')
    await withBody(request, 'the archive', (body, signal) => archives.receive({ image, sha256, bytes }, body, signal))
    log.info('archive.received', `host ${host} sent the image ${image}`, { host, sha256, bytes })
    response.status(201).end()
  })

  router.get(path, async (request, response) => {
    await admittedHost(request, store)
    const archive = archives.open(accept(name, request.params['sha256']))
    if (archive === null) throw new Problem(404, 'not-found', 'there is no such archive here')
    response.set({ 'Content-Type': 'application/x-tar', 'Content-Length': String(archive.bytes) })
    await sendFile(archive.stream, response)
  })
  return router
}

/** Sends a stream to its end, or as long as it is read. */
export async function sendFile(stream: Readable, response: NodeJS.WritableStream): Promise<void> {
  try {
    await pipeline(stream, response)
  } catch (error) {
    const left = error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE'
    if (!left) throw error // else the reader went away
  }
}
