import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Fault, FaultInjector } from '../contract/subject.ts'
import { webTemplate } from './catalogs.ts'
import { type HostAnswer, type HostRequest, LoneHost } from './lone-host.ts'
import { LoneOrchestrator } from './lone-orchestrator.ts'
import { until } from './until.ts'

/** A target that outlives the orchestrator, and how the orchestrator reaches it. */
export interface KillSubject {
  /** What stands under `backends.mine` in its settings: the way to the target leads through `faults`. Absent: nothing. */
  readonly backend?: object
  /** Further settings, nested. */
  readonly settings?: Readonly<Record<string, unknown>>
  /** What is stored before the first lease comes: fields by the names of credentials. */
  readonly credentials?: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** Image of the one service; `nginx` unless told. */
  readonly image?: string
  /** What a lease gets instead of one service of that image: a template file that says `backend: mine`, where there is one. */
  readonly template?: string
  readonly faults: FaultInjector
  /** What the host of the leases does of what it is asked; unless told it agrees to all, and runs nothing. */
  carryOut?(request: HostRequest): Promise<HostAnswer | null>
  /** Where the target reaches the host of the leases; an address that leads nowhere unless told. */
  readonly homeAddress?: string
  /** What an operator does once before the first lease comes, beside credentials. */
  begun?(orchestrator: LoneOrchestrator): Promise<void>
  /**
   * The id of the instance of each machine, service or unit that stands in the target, found by its label alone.
   * @param installation of the orchestrator: others may use the same target
   */
  instances(installation: string): Promise<readonly string[]>
  /** Everything that stands in the target for instances of that orchestrator. */
  things(installation: string): Promise<readonly string[]>
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

/** The last calls of a share that came, as the lease did and as it went, and which were left out as time was over. */
interface Tried {
  readonly comes: number
  readonly goes: number
  readonly late: string | null
}

/**
 * Kills the orchestrator at each call of a backend to its target, for one lease that comes and goes.
 * @param subject asked for once for each orchestrator
 * @param lanes orchestrators that share the calls of one kind of kill, all kinds at once: for targets where most of the time is
 *   waiting. With one, one kind comes after the other.
 */
export function backendKills(name: string, subject: () => Promise<KillSubject>, { lanes = 1 } = {}): void {
  describe(`the orchestrator is killed at each call to ${name}`, { concurrency: lanes > 1 }, () => {
    for (const [fault, moment] of Object.entries(moments) as [Fault, string][]) {
      it(`${moment}: there is exactly one instance for the lease, and none without`, async (t) => {
        const shares = Array.from({ length: lanes }, (_, at) => share(subject, fault, { first: at + 1, step: lanes }))
        const ended = await Promise.allSettled(shares)
        for (const one of ended) if (one.status === 'rejected') throw one.reason
        const tried = ended.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
        const count = (of: 'comes' | 'goes') => Math.max(...tried.map((one) => one[of]))
        const calls = `${count('comes')} as the lease came, ${count('goes')} as it went`
        for (const { late } of tried) if (late !== null) t.diagnostic(`time is over; not tried: ${late}`)
        if (tried.every(({ late }) => late === null)) t.diagnostic(`every call was tried: ${calls}`)
      })
    }
  })
}

/** One orchestrator on the target, and its share of the calls: every `step`-th from `first` on. */
async function share(
  subject: () => Promise<KillSubject>,
  fault: Fault,
  calls: { readonly first: number; readonly step: number },
): Promise<Tried> {
  const s = await subject()
  const catalog = { 'sample.yaml': s.template ?? webTemplate(s.image ?? 'nginx', '  backend: mine\n') }
  await using orchestrator = new LoneOrchestrator(
    { ...(s.backend && { backends: { mine: s.backend } }), ...s.settings },
    catalog,
  )
  await orchestrator.compile()
  await orchestrator.start()
  for (const [name, fields] of Object.entries(s.credentials ?? {})) {
    await orchestrator.call('PUT', `/v1/credentials/${name}`, { fields })
  }
  await s.begun?.(orchestrator)
  await using host = await LoneHost.join(orchestrator, 'h1', { address: s.homeAddress, carryOut: s.carryOut })
  await host.connect()
  try {
    return await killAtEach(s, orchestrator, host, fault, calls)
  } catch (error) {
    throw new Error(`the orchestrator said at last: ${orchestrator.said.slice(-4000)}`, { cause: error })
  }
}

async function killAtEach(
  s: KillSubject,
  orchestrator: LoneOrchestrator,
  host: LoneHost,
  fault: Fault,
  { first, step }: { readonly first: number; readonly step: number },
): Promise<Tried> {
  const patience = { deadlineMs: s.startsWithinMs ?? 60_000, everyMs: 200 }
  const deadline = performance.now() + (s.mostMs ?? 240_000)
  const open = { comes: true, goes: true }
  const last = { comes: 0, goes: 0 }
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

  for (let call = first; open.comes || open.goes; call += step) {
    if (performance.now() > deadline) return { ...last, late: `from call ${call} on, ${JSON.stringify(open)}` }
    const where = `call ${call}`
    if (open.comes) open.comes = await killAt(call, 'granted', runs)
    else await host.lease(1, 'granted')
    await until(`it runs after a kill at ${where}`, runs, patience)
    const [instance] = await living()
    const found = () => s.instances(orchestrator.installation)
    await until(`it is there once after a kill at ${where}`, async () => (await found()).length === 1, patience)
    assert.deepEqual(await found(), [instance?.id], `the instance of the lease after a kill at ${where}`)
    if (open.goes) open.goes = await killAt(call, 'ended', gone)
    else await host.lease(1, 'ended')
    await until(`it is gone after a kill at ${where}`, gone, patience)
    const left = await until(
      `nothing is left after a kill at ${where}`,
      async () => (await s.things(orchestrator.installation)).length === 0 && [],
      patience,
    )
    assert.deepEqual(left, [])
    if (open.comes) last.comes = call
    if (open.goes) last.goes = call
  }
  return { ...last, late: null }
}
