import { isIP } from 'node:net'
import { Router } from 'express'
import type { Clock } from '../../../common/clock.ts'
import type { Authority } from '../../pki/authority.ts'
import { makeJoinToken, tokenHash } from '../../pki/tokens.ts'
import type { Store } from '../../store/store.ts'
import { accept } from '../problem.ts'
import { type JoinTokenShape, joinTokenRequest } from '../wire.ts'

/** `POST /v1/join-tokens`: a token that admits one host once, and the line to paste there. */
export function joinTokensRoutes(options: {
  store: Store
  clock: Clock
  authority: Authority
  /** `https://name:port` that hosts are told to dial. */
  url: () => string
}): Router {
  const { store, clock, authority, url } = options
  const router = Router()
  router.post('/v1/join-tokens', async (request, response) => {
    const { host, validSeconds } = accept(joinTokenRequest, request.body ?? {})
    const token = makeJoinToken(authority.fingerprint)
    const expiresAt = clock.now() + validSeconds * 1000
    await store.putToken({ hash: tokenHash(token), kind: 'join', host: host ?? null, expiresAt, usedAt: null })
    const named = host === undefined ? '' : ` --host-name ${host}`
    const shape: JoinTokenShape = {
      token,
      command: `unionize join --server ${url()}${named} --token ${token}`,
      expiresAt: new Date(expiresAt).toISOString(),
    }
    response.status(201).set('Cache-Control', 'no-store').json(shape)
  })
  return router
}

/** `https://name:port`, with brackets where they belong. */
export function serverUrl(name: string, port: number): string {
  return `https://${isIP(name) === 6 ? `[${name}]` : name}:${port}`
}
