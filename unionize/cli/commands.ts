import type { Command } from 'commander'
import { addCheck } from './commands/check.ts'
import { addCompletion } from './commands/completion.ts'
import { addPlace } from './commands/place.ts'
import { addShow, addSpec } from './commands/show.ts'
import { addUnwire } from './commands/unwire.ts'
import { addWait } from './commands/wait.ts'
import { addPlan, addWire } from './commands/wire.ts'

/** The commands that wire containers, processes and namespaces, with or without an orchestrator. */
export function addWiringCommands(program: Command): void {
  program.commandsGroup('Wiring of containers, also without an orchestrator:')
  addWire(program)
  addUnwire(program)
  addShow(program)
  addCheck(program)
  addPlan(program)
  addWait(program)
  addSpec(program)
  addPlace(program)
  addCompletion(program)
}
