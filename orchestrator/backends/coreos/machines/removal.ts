import { HostUnreachable, wording } from '../../../../common/errors.ts'
import type { Machine, RemovalTask } from '../../../domain/machine.ts'
import { ask } from './ask.ts'
import type { CareContext } from './care-context.ts'
import { ETCD_UNIT } from './etcd.ts'
import { leaveEtcd } from './membership.ts'

/** Milliseconds until the next look while it does not get on, and while it does. */
const STUCK_MS = 2_000
const AGAIN_MS = 500
/** Milliseconds that one step on a machine may take. */
const STEP_MS = 60_000

/**
 * Takes a removal one step further: its instances are placed elsewhere and taken away there, then it leaves its etcd cluster,
 * then what we installed goes, then the machine is forgotten. Of a dead one nothing is asked. Every step may be repeated.
 * @returns milliseconds until the next look
 */
export async function stepRemoval(
  context: CareContext,
  machine: Machine,
  task: RemovalTask,
  stop: AbortSignal,
): Promise<number> {
  try {
    const next = task.step === 'draining' ? await drain(context, machine, task, stop) : null
    if (next === 'again') return AGAIN_MS
    if (next === 'leaving') {
      await progress(context, machine, { step: 'leaving', problem: null })
      return 0
    }
    await leave(context, machine, task, stop)
    return 0
  } catch (error) {
    stop.throwIfAborted()
    const dead = error instanceof HostUnreachable && !task.dead
    const remedy = dead ? `; if it will not come back: orctl machine remove ${machine.name} --dead` : ''
    await progress(context, machine, { problem: `${wording(error, 400)}${remedy}` })
    return STUCK_MS
  }
}

async function drain(
  context: CareContext,
  machine: Machine,
  task: RemovalTask,
  stop: AbortSignal,
): Promise<'again' | 'leaving'> {
  const { residents, look, drop } = context
  const moved = await residents.moveAway(machine.name)
  if (task.dead) return moved === 0 ? 'leaving' : 'again'
  const signal = AbortSignal.any([stop, AbortSignal.timeout(STEP_MS)])
  const there = await look(machine.name, signal)
  for (const { instance, generation } of there) await drop(machine.name, { id: instance, generation }, signal)
  return moved === 0 && there.length === 0 ? 'leaving' : 'again'
}

/**
 * A living member leaves its cluster before its etcd is stopped: of two members one alone could decide nothing. A dead one is
 * taken out now that it is gone.
 */
async function leave(context: CareContext, machine: Machine, task: RemovalTask, stop: AbortSignal): Promise<void> {
  const { inventory, shell, tell } = context
  await leaveEtcd(context, machine, stop)
  if (!task.dead) {
    if (machine.etcd !== null) {
      const script = `for unit in ${ETCD_UNIT} etcd.service; do systemctl disable --now $unit || :; done`
      await ask(shell, machine, ['sh', '-c', script], stop)
    }
    await context.leave(machine.name, AbortSignal.any([stop, AbortSignal.timeout(STEP_MS)]))
  }
  shell.forget(machine.name)
  await inventory.remove(machine.name)
  const how = task.dead ? 'was given up as dead' : 'was drained'
  await tell({ level: 'info', kind: 'machine.removed', message: `machine ${machine.name} ${how} and removed` })
}

async function progress(context: CareContext, machine: Machine, change: Partial<RemovalTask>): Promise<void> {
  await context.inventory.change(machine.name, (now) => {
    if (now.task?.kind !== 'removal') return null
    const task = { ...now.task, ...change }
    return JSON.stringify(task) === JSON.stringify(now.task) ? null : { ...now, task }
  })
}
