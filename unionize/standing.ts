import { setTimeout as wait } from 'node:timers/promises'
import { errorCode, OrchestratorError, wording } from '../common/errors.ts'
import type { WiringState } from './wiring/service/remote.ts'

/**
 * Whether this host can do what it is asked. Engine and wiring process come and go on their own; each time that one of
 * them is back, stock is taken, alone, and then work goes on.
 */
export interface Standing {
  /** Begins work that changes instances when no stock is being taken. @throws why nothing can be done */
  work<T>(carryOut: () => Promise<T>): Promise<T>
  /** Waits amid {@link work}: stock may be taken meanwhile. @throws why nothing can be done any more */
  aside<T>(wait: () => Promise<T>): Promise<T>
  /** Why nothing can be done; null: it can. */
  fault(): unknown
  /** Takes stock because the engine is there, again or for the first time. @throws what that throws */
  engineReturned(): Promise<void>
  engineAway(error: unknown): void
  wiringChanged(state: WiringState): void
  /** Runs what must not come into a stock-taking, nor keep anybody waiting; skipped while nothing can be done. */
  beside(work: () => Promise<unknown>): Promise<void>
  /** From now on nothing can be done. */
  stop(): void
}

/** Milliseconds between attempts to take stock after a restart of the wiring: doubled, from the first to the most. */
const RETRY = { first: 200, most: 5_000 }

export function createStanding(options: {
  /** Makes the host what it is to be; may be repeated. Comes when no {@link Standing.work} is under way. */
  readonly takeStock: () => Promise<void>
  readonly notice: (level: 'info' | 'warning' | 'error', code: string, message: string) => void
  readonly host: string
  /** Called whenever {@link Standing.fault} may have changed. */
  readonly changed: () => void
  readonly signal: AbortSignal
}): Standing {
  const { takeStock, notice, host, changed, signal } = options
  let engineFault: unknown = new OrchestratorError('starting', 'unionize is starting', { retryable: true })
  let wiringFault: unknown = null
  let stopped: unknown = null
  /** The end of what is done alone at present, however it ends. */
  let last: Promise<unknown> = Promise.resolve()
  /** The end of the stock-taking under way. */
  let taking: Promise<unknown> | null = null
  let working = 0
  let idle: (() => void) | null = null

  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }
  /** What was begun on the ground of the old state ends before the new state is looked at. */
  const takeAlone = () =>
    alone(async () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      taking = promise
      try {
        if (working > 0) {
          await new Promise<void>((ended) => {
            idle = ended
          })
        }
        await takeStock()
      } finally {
        taking = null
        resolve()
      }
    })
  const fault = () => stopped ?? engineFault ?? wiringFault
  const wiringFailed = (error: unknown) => {
    const news = errorCode(error) !== errorCode(wiringFault)
    wiringFault = error
    changed()
    // While the engine is not there either, whoever waits for it tells what it meets.
    if (news && engineFault === null) notice('error', errorCode(error), `host ${host}: ${wording(error)}`)
  }
  const restockUntilDone = async () => {
    // An engine that is away takes stock when it is back.
    for (let pause = RETRY.first; engineFault === null && !signal.aborted; pause = Math.min(pause * 2, RETRY.most)) {
      try {
        await takeAlone()
        if (wiringFault !== null) notice('info', 'wiring-back', `host ${host} wires instances again`)
        wiringFault = null
        changed()
        return
      } catch (error) {
        // It died once more: its successor is told at once, and whoever asks meanwhile only waits.
        if (errorCode(error) !== 'worker-died' || pause > RETRY.first) wiringFailed(error)
        await wait(pause, undefined, { signal }).catch(() => {})
      }
    }
  }

  const begin = async () => {
    while (fault() === null && taking !== null) await taking
    working++
  }
  const end = () => {
    working--
    if (working === 0) idle?.()
  }
  const mustStand = () => {
    const found = fault()
    if (found !== null) throw found
  }

  return {
    async work(carryOut) {
      await begin()
      try {
        mustStand()
        return await carryOut()
      } finally {
        end()
      }
    },
    async aside(wait) {
      end()
      try {
        return await wait()
      } finally {
        await begin()
        mustStand()
      }
    },
    fault,
    async engineReturned() {
      await takeAlone()
      engineFault = null
      wiringFault = null
      changed()
    },
    engineAway(error) {
      engineFault = error
      changed()
    },
    wiringChanged(state) {
      if (!state.there) wiringFailed(state.error)
      else if (state.again) void restockUntilDone()
    },
    beside: (work) =>
      alone(async () => {
        if (fault() === null) await work()
      }),
    stop() {
      stopped = new OrchestratorError('stopping', 'unionize is stopping', { retryable: true })
    },
  }
}
