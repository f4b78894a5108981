import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Fault, FaultInjector } from '../contract/subject.ts'
import { webTemplate } from './catalogs.ts'
import { LoneHost } from './lone-host.ts'
import { LoneOrchestrator } from './lone-orchestrator.ts'
import { until } from './until.ts'

/** A target that outlives the orchestrator, and how the orchestrator reaches it. */
export interface KillSubject {
  /** What stands under `backends.mine` in its settings: the way to the target leads through `faults`. */
  readonly backend: object
  /** Further settings, nested. */
  readonly settings?: Readonly<Record<string, unknown>>
  /** Image of the one service; `nginx` unless told. */
  readonly image?: string
  readonly faults: FaultInjector
  /** The id of the instance of each machine, service or unit that stands in the target, found by its label alone. */
  instances(): Promise<readonly string[]>
  /** Everything that stands in the target for instances. */
  things(): Promise<readonly string[]>
  /** Milliseconds until an instance runs, at most; 60,000 unless told. */
  readonly startsWithinMs?: number
  /** Milliseconds that each kind of kill may take; calls that were not reached by then are told. 240,000 unless told. */
  readonly mostMs?: number
}

/** When the orchestrator is killed: as the call is refused, or once it took effect and before it is answered. */
const moments: Partial<Record<Fault, string>> = {
  refuse: 'before it takes effect',
  hang: 'after it took effect, and its answer is lost',
}

/** Kills the orchestrator at each call of a backend to its target, for one lease that comes and goes. */
export function backendKills(name: string, subject: () => Promise<KillSubject>): void {
  describe(`the orchestrator is killed at each call to ${name}`, () => {
    for (const [fault, moment] of Object.entries(moments) as [Fault, string][]) {
      it(`${moment}: there is exactly one instance for the lease, and none without`, async (t) => {
        const s = await subject()
        const catalog = { 'sample.yaml': webTemplate(s.image ?? 'nginx', '  backend: mine\n') }
        await using orchestrator = new LoneOrchestrator({ backends: { mine: s.backend }, ...s.settings }, catalog)
        await orchestrator.compile()
        await orchestrator.start()
        await using host = await LoneHost.join(orchestrator, 'h1')
        await host.connect()
        await killAtEach(t, s, orchestrator, host, fault)
      })
    }
  })
}

async function killAtEach(
  t: TestContext,
  s: KillSubject,
  orchestrator: LoneOrchestrator,
  host: LoneHost,
  fault: Fault,
): Promise<void> {
  const patience = { deadlineMs: s.startsWithinMs ?? 60_000, everyMs: 100 }
  const deadline = performance.now() + (s.mostMs ?? 240_000)
  const open = { comes: true, goes: true }
  /** @returns whether the call came before `reached` */
  const killAt = async (call: number, event: 'granted' | 'ended', reached: () => Promise<boolean>) => {
    const armed = s.faults.arm(fault, call)
    let hit = false
    // At once: it must not live to see that the call went wrong.
    const killed = armed.hit.then(() => {
      hit = true
      return orchestrator.kill()
    })
    const stored = host.lease(1, event)
    await until(`call ${call}, or the end of what was ${event}`, async () => hit || (await reached()), patience)
    if (!armed.end()) {
      await stored
      return false
    }
    await killed
    await orchestrator.start()
    await host.connect()
    await stored
    return true
  }
  const living = async () => (await orchestrator.instances()).filter(({ state }) => state !== 'gone')
  const runs = async () => {
    const [one] = await living()
    return one?.state === 'running' && one.timelineMs !== undefined
  }
  const gone = async () => (await living()).length === 0

  for (let call = 1; open.comes || open.goes; call++) {
    if (performance.now() > deadline) {
      t.diagnostic(`time is over; not tried from call ${call} on: ${JSON.stringify(open)}`)
      return
    }
    const where = `call ${call}`
    if (open.comes) open.comes = await killAt(call, 'granted', runs)
    else await host.lease(1, 'granted')
    await until(`it runs after a kill at ${where}`, runs, patience)
    const [instance] = await living()
    await until(`it is there once after a kill at ${where}`, async () => (await s.instances()).length === 1, patience)
    assert.deepEqual(await s.instances(), [instance?.id], `the instance of the lease after a kill at ${where}`)
    if (open.goes) open.goes = await killAt(call, 'ended', gone)
    else await host.lease(1, 'ended')
    await until(`it is gone after a kill at ${where}`, gone, patience)
    const left = await until(
      `nothing is left after a kill at ${where}`,
      async () => (await s.things()).length === 0 && [],
      patience,
    )
    assert.deepEqual(left, [])
  }
  t.diagnostic('every call was tried')
}
