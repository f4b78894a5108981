import type { Roll } from '../../../domain/machine.ts'
import type { CareContext } from './care-context.ts'

/**
 * Takes a rolling upgrade one step further: the first machine that is left is upgraded, and the next one begins when it has
 * come through. The first that fails stops it, with what is left.
 * @returns machines for which there is something to do now
 */
export async function stepRoll(context: Pick<CareContext, 'inventory' | 'clock' | 'tell'>): Promise<readonly string[]> {
  const { inventory, clock, tell } = context
  const roll = inventory.roll()
  if (roll?.state !== 'running') return []
  const [first, ...rest] = roll.left
  if (first === undefined) {
    await inventory.putRoll({ ...roll, state: 'done' })
    await tell({ level: 'info', kind: 'machine.rolled', message: `${roll.done.length} machines are upgraded` })
    return []
  }
  const machine = inventory.find(first)
  if (machine === null || machine.task?.kind === 'removal') {
    await inventory.putRoll({ ...roll, left: rest })
    return [first]
  }
  if (machine.task !== null) return []
  if (machine.rolled === roll.id) {
    await inventory.putRoll({ ...roll, left: rest, done: [...roll.done, first] })
    return [first]
  }
  if (machine.fault !== null && machine.fault.at >= roll.beganAt) {
    await stop(context, roll, `${first}: ${machine.fault.message}`)
    return []
  }
  await inventory.change(first, (now) => {
    if (now.task !== null) return null
    const step = { step: 'checking', since: clock.now(), boot: null } as const
    const task = { kind: 'upgrade', to: roll.to, ...step, wasCordoned: now.cordoned, roll: roll.id } as const
    return { ...now, task, cordoned: true, fault: null }
  })
  return [first]
}

async function stop({ inventory, tell }: Pick<CareContext, 'inventory' | 'tell'>, roll: Roll, fault: string) {
  await inventory.putRoll({ ...roll, state: 'stopped', fault })
  const message = `the rolling upgrade stopped at ${fault}; left: ${roll.left.join(', ')}`
  await tell({ level: 'error', kind: 'machine.roll-stopped', message })
}
