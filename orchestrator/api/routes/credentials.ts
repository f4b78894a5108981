import { Router } from 'express'
import { z } from 'zod'
import type { CredentialFields, CredentialInfo } from '../../domain/credential.ts'
import type { BackendReport } from '../../domain/standing.ts'
import { accept, flagParameter } from '../problem.ts'
import { type CredentialShape, credentialRequest } from '../wire.ts'
import { reportToShape } from './backends.ts'

/** Credentials as this API needs them. What it throws has the code of a problem, and shows no value. */
export interface CredentialDesk {
  all(): Promise<readonly CredentialInfo[]>
  /** @param tested only if every backend that uses it answers with it */
  set(name: string, fields: CredentialFields, tested: boolean, signal: AbortSignal): Promise<CredentialInfo>
  test(name: string, signal: AbortSignal): Promise<readonly BackendReport[]>
  remove(name: string, options: { readonly force: boolean }): Promise<void>
}

const removeQuery = z.strictObject({ force: flagParameter })

/** `/v1/credentials`: list, set, test and remove what lets backends in. Values come in and never go out. */
export function credentialsRoutes(options: { credentials: CredentialDesk; stopping: AbortSignal }): Router {
  const { credentials, stopping } = options
  const router = Router()

  router.get('/v1/credentials', async (_request, response) => {
    response.json({ items: (await credentials.all()).map(credentialToShape) })
  })

  router.put('/v1/credentials/:name', async (request, response) => {
    const { fields, test } = accept(credentialRequest, request.body ?? {})
    response.json(credentialToShape(await credentials.set(request.params.name, fields, test, stopping)))
  })

  router.post('/v1/credentials/:name/test', async (request, response) => {
    const reports = await credentials.test(request.params.name, stopping)
    response.json({ items: reports.map(reportToShape) })
  })

  router.delete('/v1/credentials/:name', async (request, response) => {
    await credentials.remove(request.params.name, accept(removeQuery, request.query))
    response.status(204).end()
  })
  return router
}

function credentialToShape({ name, fields, changedAt, usedBy }: CredentialInfo): CredentialShape {
  return { name, fields: [...fields], changedAt: new Date(changedAt).toISOString(), usedBy: [...usedBy] }
}
