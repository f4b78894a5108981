import { InvalidInput } from '../../../common/errors.ts'
import { MAX_WAYS, type WireWay } from '../../../unionize/contract.ts'
import type { HostName } from '../../domain/host.ts'
import type { Question } from './requests.ts'

/** How hosts lead their owners to instances that are elsewhere. Rejects as {@link HostsSocket} says. */
export interface HostWays {
  open(host: HostName, way: WireWay, signal: AbortSignal): Promise<void>
  /** Not there is success. */
  close(host: HostName, instance: string, generation: number, signal: AbortSignal): Promise<void>
  /** Makes these the only ones of that host. @throws InvalidInput `ways` when they are too many */
  set(host: HostName, ways: readonly WireWay[], signal: AbortSignal): Promise<void>
}

/** @param ask puts a question to a host and waits for its result */
export function hostWays(ask: (host: HostName, question: Question, signal: AbortSignal) => Promise<unknown>): HostWays {
  return {
    async open(host, way, signal) {
      await ask(host, { type: 'lead', way }, signal)
    },
    async close(host, instance, generation, signal) {
      await ask(host, { type: 'unlead', instance, generation }, signal)
    },
    async set(host, ways, signal) {
      if (ways.length > MAX_WAYS) {
        throw new InvalidInput('ways', `host ${host} would have ${ways.length} of them, and takes at most ${MAX_WAYS}`)
      }
      await ask(host, { type: 'leads', ways: [...ways] }, signal)
    },
  }
}
