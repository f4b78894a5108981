import { createReadStream } from 'node:fs'
import { Router } from 'express'
import { z } from 'zod'
import { contextPath } from '../../../unionize/contract.ts'
import type { HostName } from '../../domain/host.ts'
import type { Store } from '../../store/store.ts'
import { accept, Problem } from '../problem.ts'
import { sendFile } from './archives.ts'
import { admittedHost } from './socket.ts'

/** Contexts of builds as this API needs them. */
export interface HostContexts {
  /** Path of the context of a build that this host makes now; null: it makes none of that id. */
  contextFor(build: string, host: HostName): string | null
}

const id = z.string().regex(/^b-[0-9a-z]{10}$/)

/** Where a host gets the context of what it builds, with its certificate; nobody else gets it. */
export function hostBuildsRoutes(options: { store: Store; contexts: HostContexts }): Router {
  const { store, contexts } = options
  const router = Router()
  router.get(contextPath(':id'), async (request, response) => {
    const host = await admittedHost(request, store)
    const build = accept(id, request.params['id'])
    const path = contexts.contextFor(build, host)
    if (path === null) throw new Problem(404, 'not-found', `host ${host} builds nothing by the id ${build}`)
    response.set('Content-Type', 'application/x-tar')
    await sendFile(createReadStream(path), response)
  })
  return router
}
