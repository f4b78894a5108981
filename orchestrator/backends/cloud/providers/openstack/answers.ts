import type { z } from 'zod'
import { HostUnreachable, OrchestratorError } from '../../../../../common/errors.ts'
import { Refused } from '../../http.ts'
import { everyPage } from '../pages.ts'
import type { Service, ServiceCall, Session } from './session.ts'

/** The calls of one region, their answers checked. */
export interface Services {
  /** @throws HostUnreachable when the answer is not what the API promises: a proxy's page, say */
  ask<T>(service: Service, call: ServiceCall, shape: z.ZodType<T>, signal: AbortSignal): Promise<T>
  /** A call whose answer says nothing. */
  tell(service: Service, call: ServiceCall, signal: AbortSignal): Promise<void>
  /** Every page of a list, by the marker of each page's last item. @param key of the list in the answer */
  list<T extends { readonly id: string }>(
    service: Service,
    path: string,
    key: string,
    shape: z.ZodType<T>,
    signal: AbortSignal,
  ): Promise<readonly T[]>
}

export function createServices(session: Session, target: string): Services {
  const ask: Services['ask'] = async (service, call, shape, signal) => {
    const { body } = await session.call(service, call, signal)
    const parsed = shape.safeParse(body)
    if (parsed.success) return parsed.data
    const [issue] = parsed.error.issues
    const what = `${call.method} ${call.path.split('?')[0]} of the ${service} service`
    throw new HostUnreachable(target, `${what} answered something else: ${issue?.path.join('.')}: ${issue?.message}`)
  }
  return {
    ask,
    async tell(service, call, signal) {
      await session.call(service, call, signal)
    },
    async list(service, path, key, shape, signal) {
      const page = async (marker: string | undefined) => {
        const from = marker === undefined ? '' : `${path.includes('?') ? '&' : '?'}marker=${marker}`
        const { body } = await session.call(service, { method: 'GET', path: path + from }, signal)
        const parsed = shape.array().safeParse((body as Record<string, unknown> | null)?.[key])
        if (!parsed.success) throw new HostUnreachable(target, `the list ${path} answered something else`)
        // Nova and Neutron tell of more in links, Glance in `next`.
        const { [`${key}_links`]: links, next } = body as Record<string, unknown>
        const more = next !== undefined || (Array.isArray(links) && links.some((link) => link?.rel === 'next'))
        return { items: parsed.data, next: more ? parsed.data.at(-1)?.id : undefined }
      }
      return (await everyPage(path, (item: { readonly id: string }) => item.id, page)) as never
    },
  }
}

/** What is gone already is as it should be, and what is still used goes later. @param statuses that are no fault */
export async function unless(statuses: readonly number[], call: Promise<unknown>): Promise<boolean> {
  try {
    await call
    return true
  } catch (error) {
    if (error instanceof Refused && statuses.includes(error.status)) return false
    throw error
  }
}

/** Whether an error leaves nothing behind at the cloud. */
export function isSure(error: unknown): boolean {
  return error instanceof OrchestratorError && !(error instanceof HostUnreachable)
}
