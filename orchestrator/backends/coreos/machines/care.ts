import { wording } from '../../../../common/errors.ts'
import type { Machine } from '../../../domain/machine.ts'
import type { CareContext } from './care-context.ts'
import { factsOf } from './facts.ts'
import { joinEtcd } from './membership.ts'
import { stepRemoval } from './removal.ts'
import { stepRoll } from './roll.ts'
import { stepUpgrade } from './upgrade.ts'

/** Brings machines to what the inventory says of them: whatever was begun goes on after a restart. */
export interface Care {
  /** There is something to do for this machine, or for all. */
  wake(name?: string): void
  stop(): Promise<void>
}

/** Milliseconds between two looks at a machine for which nothing is to be done. */
const REGULAR_MS = 15_000
/** Milliseconds between two looks at one that is to become a member of an etcd cluster. */
const JOINING_MS = 2_000
/** Milliseconds after which what a machine told is written down again although it is the same. */
const NOTE_MS = 60_000
/** Machines looked at at once. */
const AT_ONCE = 16

export function startCare(context: CareContext): Care {
  const { inventory, clock, log } = context
  const stopping = new AbortController()
  const { signal } = stopping
  const busy = new Map<string, Promise<void>>()
  const due = new Map<string, number>()
  let rouse = () => {}
  let woken = false

  const wake = (name?: string): void => {
    if (name === undefined) due.clear()
    else due.delete(name)
    woken = true
    rouse()
  }
  const begin = (machine: Machine): void => {
    // Woken while at work means: again, at once.
    due.set(machine.name, Number.POSITIVE_INFINITY)
    const work = visit(context, machine, signal)
      .catch((error) => {
        if (!signal.aborted) log.error('machine.care', wording(error), { machine: machine.name })
        return REGULAR_MS
      })
      .then((again) => {
        busy.delete(machine.name)
        if (due.has(machine.name)) due.set(machine.name, clock.now() + again)
        woken = true
        rouse()
      })
    busy.set(machine.name, work)
  }
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      woken = false
      try {
        for (const name of await stepRoll(context)) due.delete(name)
      } catch (error) {
        log.error('machine.roll', wording(error))
      }
      const machines = inventory.all()
      for (const name of due.keys()) if (inventory.find(name) === null && !busy.has(name)) due.delete(name)
      for (const machine of machines) {
        if (busy.size >= AT_ONCE) break
        if (!busy.has(machine.name) && (due.get(machine.name) ?? 0) <= clock.now()) begin(machine)
      }
      if (woken) continue
      const next = Math.min(
        ...machines.map(({ name }) => due.get(name) ?? 0).filter((at) => at > clock.now()),
        Infinity,
      )
      const roused = new AbortController()
      rouse = () => roused.abort()
      const sleepMs = Math.min(REGULAR_MS, Math.max(1, next - clock.now()))
      await clock.wait(sleepMs, AbortSignal.any([roused.signal, signal])).catch(() => {})
    }
  }
  const done = run()
  const unfollow = inventory.onChange(() => {
    woken = true
    rouse()
  })
  return {
    wake,
    async stop() {
      stopping.abort(new Error('the orchestrator stops'))
      unfollow()
      await done
      await Promise.allSettled(busy.values())
    },
  }
}

/** One look at one machine, and one step of what is to be done. @returns milliseconds until the next look */
async function visit(context: CareContext, machine: Machine, stop: AbortSignal): Promise<number> {
  const { task } = machine
  if (task?.kind === 'upgrade') return (await stepUpgrade(context, machine, task, stop)) ?? 0
  if (task?.kind === 'removal') return await stepRemoval(context, machine, task, stop)
  const now = await observe(context, machine, stop)
  if (now === null || (await joinEtcd(context, now, stop))) return REGULAR_MS
  return JOINING_MS
}

/** Asks a machine how it is. @returns it with what was learnt; null: it is not there any more */
async function observe(context: CareContext, machine: Machine, stop: AbortSignal): Promise<Machine | null> {
  const { inventory, shell, clock } = context
  try {
    const seen = await factsOf(shell, machine, clock.now(), stop)
    return await inventory.change(machine.name, (now) => {
      const { at: _at, ...before } = now.seen ?? { at: 0 }
      const { at: _now, ...after } = seen
      const same = now.away === null && JSON.stringify(before) === JSON.stringify(after)
      return same && seen.at - (now.seen?.at ?? 0) < NOTE_MS ? null : { ...now, seen, away: null }
    })
  } catch (error) {
    stop.throwIfAborted()
    const away = wording(error, 500)
    return await inventory.change(machine.name, (now) => (now.away === away ? null : { ...now, away }))
  }
}
