import type { Command } from 'commander'
import { addBuild } from './build.ts'
import { addCheck } from './check.ts'
import { addInit } from './init.ts'
import { addLog } from './log.ts'
import { addSchema } from './schema.ts'
import { addDiff, addRollout } from './versions.ts'

export function addTemplate(program: Command): void {
  const template = program
    .command('template')
    .summary('write, check, build and roll out templates')
    .description(
      'Works on templates: Compose files that say what a lease becomes. `init`, `check` and `schema` need no server. `orctl get templates` lists them, `orctl apply` puts them in force, `orctl rm template` removes one.',
    )
    .addHelpText(
      'after',
      `
From nothing to an instance:
  orctl template init web --image nginx:1.27 --port 80
  orctl template check web/
  orctl apply -f web/
  orctl rule test --hostname laptop`,
    )
  addInit(template)
  addCheck(template)
  addBuild(template)
  addLog(template)
  addRollout(template)
  addDiff(template)
  addSchema(template)
}
