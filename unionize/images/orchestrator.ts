import { createReadStream } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Identity } from '../identity.ts'

/** What is too large for a message: fetched from the orchestrator and put there, with this host's certificate. */
export interface OrchestratorFiles {
  /** @throws code orchestrator-unreachable, or the code with which it refused */
  get(path: string, signal: AbortSignal): Promise<IncomingMessage>
  /** Resolves when it is stored there. @throws as {@link OrchestratorFiles.get} */
  put(path: string, file: { path: string; bytes: number }, signal: AbortSignal): Promise<void>
}

/** Milliseconds without a byte after which the orchestrator counts as gone. */
const SILENT_MS = 60_000
const problem = z.object({ code: z.string(), message: z.string() })

export function orchestratorFiles(url: string, identity: () => Promise<Identity>): OrchestratorFiles {
  const ask = async (
    method: 'GET' | 'PUT',
    path: string,
    file: { path: string; bytes: number } | null,
    signal: AbortSignal,
  ): Promise<IncomingMessage> => {
    const { key, certificate, authority } = await identity()
    const agent = new Agent({ key, cert: certificate, ca: authority, minVersion: 'TLSv1.3' })
    const headers = file === null ? {} : { 'Content-Length': file.bytes, 'Content-Type': 'application/x-tar' }
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const sent = request(new URL(path, url), { method, headers, agent, signal }, resolve)
    sent.once('error', reject)
    sent.setTimeout(SILENT_MS, () => sent.destroy(new Error(`silent for ${SILENT_MS / 1000} s`)))
    if (file === null) sent.end()
    // A refusal comes while we still send: it is the answer that counts, not the broken pipe.
    else pipeline(createReadStream(file.path), sent).catch((error) => setImmediate(reject, error))
    try {
      const response = await promise
      response.once('close', () => agent.destroy())
      if (response.statusCode !== undefined && response.statusCode < 300) return response
      throw await refusalOf(method, path, response)
    } catch (error) {
      agent.destroy()
      if (signal.aborted) throw signal.reason
      if (error instanceof OrchestratorError) throw error
      const message = `the orchestrator cannot be reached (${method} ${path}): ${wording(error, 300)}`
      throw new OrchestratorError('orchestrator-unreachable', message, { retryable: true, cause: error })
    }
  }
  return {
    get: (path, signal) => ask('GET', path, null, signal),
    async put(path, file, signal) {
      const response = await ask('PUT', path, file, signal)
      await text(response)
    },
  }
}

async function refusalOf(method: string, path: string, response: IncomingMessage): Promise<OrchestratorError> {
  const body = problem.safeParse(safeJson(await text(response).catch(() => '')))
  const retryable = (response.statusCode ?? 500) >= 500
  if (body.success) return new OrchestratorError(body.data.code, body.data.message, { retryable })
  return new OrchestratorError('refused', `the orchestrator answered ${response.statusCode} to ${method} ${path}`, {
    retryable,
  })
}

function safeJson(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined // a proxy's page, say
  }
}
