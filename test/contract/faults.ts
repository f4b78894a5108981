import assert from 'node:assert/strict'
import { it, type TestContext } from 'node:test'
import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import { ending, type Steps, steps } from './steps.ts'
import type { Fault, FaultInjector, Subject } from './subject.ts'

/** Milliseconds that one call of the backend may take whose target does not hang. */
const CALL_MS = 60_000
/** Number of the order of the first fault; each has one of its own. */
const FIRST = 30

/** Every call to the target goes wrong once, in every way: what is asked for again ends with exactly one, or none. */
export function backendFaults(subject: () => Promise<Subject>): void {
  const promises: Record<Fault, string> = {
    refuse: 'is refused',
    'lose-answer': 'takes effect and its answer is lost',
    hang: 'takes effect and is never answered',
    repeat: 'is carried out twice',
    'wrong-page': 'gives the wrong page of a list',
  }
  for (const [index, fault] of (Object.keys(promises) as Fault[]).entries()) {
    it(`ends with exactly one, and then none, whichever call ${promises[fault]}`, async (t) => {
      const s = await subject()
      if (!s.faults?.faults.includes(fault)) return t.skip('the subject cannot make that fault')
      await everyCall(t, s, fault, FIRST + index)
    })
  }
}

async function everyCall(t: TestContext, s: Subject, fault: Fault, n: number): Promise<void> {
  const injector = s.faults ?? assert.fail('the subject makes no faults')
  const its = steps(s)
  const deadline = performance.now() + (s.faultsMs ?? 60_000)
  const open = { ensure: true, list: true, remove: true }
  for (let call = 1; open.ensure || open.list || open.remove; call++) {
    if (performance.now() > deadline) {
      const rest = Object.entries(open).filter(([, is]) => is)
      t.diagnostic(`${fault}: time is over; not tried from call ${call} on: ${rest.map(([name]) => name).join(', ')}`)
      return
    }
    const strike = { injector, fault, call }
    // Each round is another generation of the same instance: what an earlier round left would be seen.
    const order = s.order(n, 2 * call - 1)
    open.ensure &&= await hit(strike, (signal) => its.backend.ensure(order, s.host, signal))
    await its.restart()
    await its.running(order)
    const found = await its.listed(1, order.instance)
    assert.deepEqual([found.length, found[0]?.state], [1, 'running'], `after ${fault} at call ${call} of ensure`)
    open.list &&= await hit(strike, (signal) => listed(its, s, order, fault, signal))
    const instance = { id: order.instance, generation: 2 * call }
    open.remove &&= await hit(strike, (signal) => its.backend.remove(instance, s.host, signal))
    await its.restart()
    await its.gone(order, instance.generation)
  }
  t.diagnostic(`${fault}: every call was tried`)
}

/** A list that could not be had whole is refused, not shortened: only a page that is itself wrong can deceive. */
async function listed(its: Steps, s: Subject, order: Order, fault: Fault, signal: AbortSignal): Promise<void> {
  const found = (await its.backend.list(s.host, signal)).filter(({ instance }) => instance === order.instance)
  if (fault !== 'wrong-page') assert.equal(found.length, 1, `list hid it when a call ended with ${fault}`)
}

/** @returns whether the call to the target came */
async function hit(
  { injector, fault, call }: { injector: FaultInjector; fault: Fault; call: number },
  run: (signal: AbortSignal) => Promise<unknown>,
): Promise<boolean> {
  const armed = injector.arm(fault, call)
  const enough = new AbortController()
  const limit = setTimeout(() => enough.abort(new Error('it takes too long')), CALL_MS)
  // Whoever waits for an answer that never comes is ended by its signal, as the reconciler does.
  if (fault === 'hang') void armed.hit.then(() => enough.abort(new Error('no answer')))
  const running = run(enough.signal)
  try {
    await ending(running, enough.signal)
    if (fault !== 'hang')
      assert.equal(enough.signal.aborted, false, `${fault} at call ${call}: no end in ${CALL_MS} ms`)
    const error = await running.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    if (error instanceof assert.AssertionError) throw error
    const told = error === null || error instanceof OrchestratorError || enough.signal.aborted
    assert.ok(told, `${fault} at call ${call} ends with no OrchestratorError: ${wording(error)}`)
  } finally {
    clearTimeout(limit)
    armed.end()
  }
  return armed.end()
}
