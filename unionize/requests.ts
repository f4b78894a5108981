import { errorCode, OrchestratorError, wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import type { FromHost, WireFailure, WireObserved } from './contract.ts'
import type { Builder } from './images/builder.ts'
import type { ImageStock } from './images/stock.ts'
import type { Instances } from './instances/instances.ts'
import type { Leads } from './leads.ts'
import type { Request } from './link.ts'
import type { Standing } from './standing.ts'

/** Characters of one `output` message; some of them take several bytes. */
const OUTPUT_CHARACTERS = 256 * 1024

/** Carries out what the orchestrator asks and answers each request once, also when it was cancelled. */
export function createRequests(options: {
  instances: Instances
  standing: Pick<Standing, 'work' | 'aside' | 'fault'>
  stock: Pick<ImageStock, 'keep'>
  builder: Builder
  leads: Pick<Leads, 'lead' | 'unlead' | 'set'>
  log: Log
}): (request: Request, answer: (message: FromHost) => Promise<void>, connection: AbortSignal) => void {
  const { instances, standing, stock, builder, leads, log } = options
  const underWay = new Map<string, AbortController>()

  const perform = async (
    request: Exclude<Request, { type: 'cancel' }>,
    answer: (message: FromHost) => Promise<void>,
    signal: AbortSignal,
  ): Promise<readonly WireObserved[] | undefined> => {
    // Images need the engine alone: they are fetched and built also while nothing can be wired.
    const fault = request.type === 'images' || request.type === 'build' ? null : standing.fault()
    if (fault !== null) throw fault
    const print = async (text: string) => {
      for (let at = 0; at < text.length; at += OUTPUT_CHARACTERS) {
        await answer({ type: 'output', id: request.id, text: text.slice(at, at + OUTPUT_CHARACTERS) })
      }
    }
    switch (request.type) {
      case 'ensure':
        return [await standing.work(() => instances.ensure(request.order, signal, standing.aside))]
      case 'remove':
        await standing.work(() => instances.remove(request.instance, request.generation, signal))
        return undefined
      case 'list':
        return instances.list(signal)
      case 'lead':
        await standing.work(() => leads.lead(request.way))
        return undefined
      case 'unlead':
        await standing.work(() => leads.unlead(request.instance, request.generation))
        return undefined
      case 'leads':
        await standing.work(() => leads.set(request.ways))
        return undefined
      case 'images':
        await stock.keep(request.wanted, signal)
        return undefined
      case 'build':
        await builder.build(request, print, signal)
        return undefined
      case 'logs': {
        const { instance, service, follow, tail } = request
        for await (const text of instances.logs(instance, { service, follow, tail }, signal)) await print(text)
        return undefined
      }
    }
  }

  const serve = async (
    request: Exclude<Request, { type: 'cancel' }>,
    answer: (message: FromHost) => Promise<void>,
    connection: AbortSignal,
  ): Promise<void> => {
    const cancelled = new AbortController()
    const lost = () => cancelled.abort(connection.reason)
    // An order is carried out to its end though the connection breaks: the next connection finds it done.
    // So are images fetched; but a build that nobody waits for any more is begun again elsewhere.
    const ends = request.type === 'logs' || request.type === 'list' || request.type === 'build'
    if (ends) connection.addEventListener('abort', lost, { once: true })
    underWay.set(request.id, cancelled)
    try {
      const observed = await perform(request, answer, cancelled.signal)
      await answer({ type: 'result', id: request.id, ...(observed ? { observed: [...observed] } : {}) })
    } catch (error) {
      const failure = failureOf(error)
      const what = instanceOf(request)
      log.warn('request.failed', `${request.type} failed`, { instance: what, ...failure })
      await answer({ type: 'result', id: request.id, failure })
    } finally {
      if (underWay.get(request.id) === cancelled) underWay.delete(request.id)
      connection.removeEventListener('abort', lost)
    }
  }

  return (request, answer, connection) => {
    if (request.type === 'cancel') {
      underWay.get(request.id)?.abort(new OrchestratorError('cancelled', 'the orchestrator cancelled the request'))
      return
    }
    serve(request, answer, connection).catch((error) => {
      log.error('request.not-answered', 'a request could not be answered', { id: request.id, error: wording(error) })
    })
  }
}

function instanceOf(request: Request): string | undefined {
  if ('instance' in request) return request.instance
  if ('order' in request) return request.order.instance
  return 'way' in request ? request.way.instance : undefined
}

function failureOf(error: unknown): WireFailure {
  const retryable = error instanceof OrchestratorError ? error.retryable : true
  return { code: errorCode(error).slice(0, 64), message: wording(error, 4000), retryable }
}
