import { Router } from 'express'
import type { Clock } from '../../../common/clock.ts'
import type { Log } from '../../../common/log.ts'
import { HOSTS_SOCKET_PATH, type JoinRequest, type JoinResponse, joinRequest } from '../../../unionize/contract.ts'
import type { HostName } from '../../domain/host.ts'
import type { Authority } from '../../pki/authority.ts'
import { parseJoinToken, sameHash, tokenHash } from '../../pki/tokens.ts'
import type { Store } from '../../store/store.ts'
import { addressOf, type FailureLimit } from '../auth.ts'
import type { ApiMetrics } from '../metrics.ts'
import { accept, Problem } from '../problem.ts'
import type { HostsSocket } from './socket.ts'

export interface JoinOptions {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly authority: Authority
  readonly limit: FailureLimit
  readonly metrics: ApiMetrics
  readonly hosts: Pick<HostsSocket, 'rejoined'>
}

/** `POST /v1/hosts/join`: a one-time token and a signing request become a certificate. A known host that joins again gets a new one; its old one is void. */
export function joinRoutes(options: JoinOptions): Router {
  const { limit, metrics } = options
  const router = Router()
  router.post('/v1/hosts/join', async (request, response) => {
    const address = addressOf(request)
    limit.check(address)
    try {
      const answer = await join(options, accept(joinRequest, request.body ?? {}))
      response.status(201).set('Cache-Control', 'no-store').json(answer)
    } catch (error) {
      const { status } = Problem.from(error)
      if (status === 401 || status === 403) {
        metrics.authFailures.inc()
        limit.failed(address)
      }
      throw error
    }
  })
  router.get(HOSTS_SOCKET_PATH, () => {
    throw new Problem(426, 'upgrade-required', 'this is where unionize connects, by WebSocket', {
      headers: { Upgrade: 'websocket' },
    })
  })
  return router
}

async function join(options: JoinOptions, request: JoinRequest): Promise<JoinResponse> {
  const { store, clock, log, authority, hosts } = options
  const host = request.host as HostName
  const hash = await admittedToken(options, request)
  const signed = await authority.signHost(request.csr, host)
  const joinedAt = clock.now()
  if (!(await store.useToken(hash, joinedAt))) throw usedToken()
  await store.putHost({ name: host, fingerprint: signed.fingerprint, joinedAt })
  hosts.rejoined(host)
  log.info('host.joined', `host ${host} joined`, { host, fingerprint: signed.fingerprint })
  await store.appendEvent({ level: 'info', kind: 'host.joined', message: `host ${host} joined`, host }, joinedAt)
  return { host, certificate: signed.certificate, authority: authority.pem }
}

/** The hash of the request's token, if that may admit this host now. @throws Problem 401 or 403 saying why not */
async function admittedToken(options: JoinOptions, request: JoinRequest): Promise<string> {
  const { store, clock, authority } = options
  const { fingerprint } = parseJoinToken(request.token)
  if (!sameHash(fingerprint, authority.fingerprint)) {
    throw new Problem(401, 'token-of-another', 'the token was made by another orchestrator')
  }
  const hash = tokenHash(request.token)
  const token = await store.token(hash)
  if (token === null || token.kind !== 'join' || !sameHash(token.hash, hash)) {
    throw new Problem(401, 'token-unknown', 'the token is not known here; make one with `orctl create token`')
  }
  if (token.usedAt !== null) throw usedToken()
  if (token.expiresAt !== null && token.expiresAt <= clock.now()) {
    throw new Problem(403, 'token-expired', 'the token has expired; make one with `orctl create token`')
  }
  if (token.host !== null && token.host !== request.host) {
    throw new Problem(403, 'token-for-another-host', `the token admits host ${token.host} only`, { field: 'host' })
  }
  return hash
}

function usedToken(): Problem {
  return new Problem(403, 'token-used', 'the token was used before; make another with `orctl create token`')
}
