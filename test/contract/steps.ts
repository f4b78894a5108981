import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { InstanceId, Observed, Order } from '../../orchestrator/domain/instance.ts'
import type { Subject } from './subject.ts'

/** Milliseconds in which a call must end after its signal was aborted. */
const ABORT_MS = 5_000

export const never: AbortSignal = new AbortController().signal

/** What an orchestrator does with a backend again and again, with the patience that the subject asks for. */
export interface Steps {
  /** The backend as it is since the last restart. */
  readonly backend: Backend
  /** Makes the backend anew, if the subject can. */
  readonly restart: () => Promise<void>
  /** Asks for it until it runs, restarting the backend each time that it says `starting`. */
  readonly running: (order: Order) => Promise<Observed>
  /** What is listed of these instances, as soon as it is `count` long; else what it was at last. */
  readonly listed: (count: number, ...ids: InstanceId[]) => Promise<readonly Observed[]>
  /** Removes it and makes sure that nothing is listed or left of it. */
  readonly gone: (order: Order, generation: number) => Promise<void>
}

export function steps(subject: Subject): Steps {
  const { host, startsWithinMs = 30_000, lagMs = 0 } = subject
  let backend = subject.backend
  const restart = async () => {
    backend = (await subject.reopen?.()) ?? backend
  }
  const listed: Steps['listed'] = async (count, ...ids) => {
    const deadline = performance.now() + lagMs
    for (;;) {
      const found = (await backend.list(host, never)).filter((observed) => ids.includes(observed.instance))
      if (found.length === count || performance.now() >= deadline) return found
      await delay(100)
    }
  }
  return {
    get backend() {
      return backend
    },
    restart,
    listed,
    async running(order) {
      const deadline = performance.now() + startsWithinMs
      for (;;) {
        const observed = await backend.ensure(order, host, never)
        assert.equal(observed.instance, order.instance)
        assert.equal(observed.generation, order.generation)
        if (observed.state === 'running') return observed
        assert.equal(observed.state, 'starting', `ensure resolved with ${observed.state}: ${observed.detail}`)
        assert.ok(performance.now() < deadline, `still starting after ${startsWithinMs} ms: ${observed.detail}`)
        await delay(observed.againMs ?? 5000)
        await restart()
      }
    },
    async gone(order, generation) {
      await backend.remove({ id: order.instance, generation }, host, never)
      assert.deepEqual(await listed(0, order.instance), [], 'it is removed, but still listed')
      await bare(subject)
    },
  }
}

/** Nothing of any instance stands in the target. */
export async function bare({ things, lagMs = 0 }: Subject): Promise<void> {
  if (things === undefined) return
  const deadline = performance.now() + lagMs
  for (;;) {
    const left = await things()
    if (left.length === 0) return
    if (performance.now() >= deadline) assert.deepEqual(left, [], 'something is left in the target')
    await delay(100)
  }
}

/** Waits for a call to end, however it does; once its signal is aborted it must end soon. */
export async function ending(call: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const settled = call.then(
    () => true,
    () => true,
  )
  if (!signal.aborted) {
    const aborted = new Promise((resolve) => signal.addEventListener('abort', () => resolve(false), { once: true }))
    if (await Promise.race([settled, aborted])) return
  }
  const limit = new AbortController()
  const late = delay(ABORT_MS, false, { signal: limit.signal }).catch(() => true)
  assert.ok(await Promise.race([settled, late]), `a call goes on ${ABORT_MS} ms after its signal was aborted`)
  limit.abort()
}
