#!/usr/bin/env node
import { Command, Option } from 'commander'
import { ownVersion } from '../../common/version.ts'
import { addApply } from './commands/apply.ts'
import { addBackend } from './commands/backend.ts'
import { addCompletion } from './commands/completion.ts'
import { addCreate } from './commands/create.ts'
import { addCredential } from './commands/credential/credential.ts'
import { addDescribe } from './commands/describe.ts'
import { addEvents } from './commands/events.ts'
import { addGet } from './commands/get.ts'
import { addLogs } from './commands/logs.ts'
import { addMachine } from './commands/machine/machine.ts'
import { addRm } from './commands/rm.ts'
import { addRule } from './commands/rule.ts'
import { addTemplate } from './commands/template/template.ts'
import { CONNECTION_HELP } from './connection.ts'
import { EXIT, EXIT_HELP, exitCodeOf, wordsFor } from './exit.ts'
import { FORMATS, print, say } from './output.ts'
import { oneOf } from './session.ts'

function commandLine(): Command {
  const version = ownVersion()
  const program = new Command('orctl')
    .description(
      'Looks at and steers an orchestrator: leases, the instances that they became, hosts, and the templates and rules by which they did.',
    )
    .version(version, '-V, --version')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'orctl: ')) })
    .addOption(
      new Option('-o, --output <format>', 'how data is written')
        .choices(FORMATS)
        .argParser(oneOf(FORMATS))
        .default('table'),
    )
    .option('--server <url>', 'where the orchestrator answers (ORCTL_SERVER)')
    .option('--token-file <file>', 'file with the API token (ORCTL_TOKEN_FILE, or the token in ORCTL_TOKEN)')
    .option('--ca <file>', "the orchestrator's ca.crt (ORCTL_CA)")
    .addHelpText(
      'after',
      `
Examples:
  orctl get instances                  what runs, and for whom
  orctl describe instance laptop       all about one: its timeline, what went wrong
  orctl events -w                      what happens, as it happens
  orctl logs laptop -f                 what it prints
  orctl rm instance laptop             away with it
  orctl apply -f catalog/              templates and rules in force, all or none
  orctl template init web --image …    begin a template: see orctl template --help
  orctl rule test --tag lab            what such a lease would get, and why
  orctl machine ls                     the machines of coreos backends
  orctl backend check                  whether all that instances run on answers
  orctl create token                   the line by which a new host joins
  orctl get instances -o json | jq     data, on standard output; all else is on standard error

${CONNECTION_HELP}

${EXIT_HELP}

NO_COLOR turns colours off.`,
    )
  addGet(program)
  addDescribe(program)
  addEvents(program)
  addLogs(program)
  addRm(program)
  addApply(program)
  addTemplate(program)
  addRule(program)
  addBackend(program)
  addCredential(program)
  addMachine(program)
  addCreate(program)
  addCompletion(program)
  program
    .command('version')
    .summary('print the version')
    .description('Prints the version of orctl.')
    .addHelpText('after', '\nExample:\n  orctl version')
    .action(() => print(`${version}\n`))
  return program
}

/** A reader that has seen enough (`orctl get leases | head`) is no failure. */
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok)
    if (stream === process.stdout) process.stderr.write(`orctl: cannot write the output: ${error.message}\n`)
    process.exit(EXIT.failure)
  })
}

try {
  await commandLine().parseAsync()
} catch (error) {
  const words = wordsFor(error)
  if (words !== null) say(`orctl: ${words}`)
  process.exitCode = exitCodeOf(error)
}
