import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Command, Option } from 'commander'
import { EXIT, Usage } from '../../exit.ts'
import { say } from '../../output.ts'
import { wholeNumber } from '../../session.ts'

interface InitFlags {
  readonly image: string
  readonly port?: number
  readonly directory?: string
}

export function addInit(template: Command): void {
  template
    .command('init')
    .summary('begin a template from an image')
    .description(
      'Writes NAME/compose.yaml, a template that works, with what is worth changing as comments. Overwrites nothing.',
    )
    .argument('<name>', 'name of the template: a-z, 0-9 and -')
    .requiredOption('--image <reference>', 'image that it begins with')
    .addOption(new Option('--port <port>', 'TCP port that it listens on').argParser(wholeNumber('--port', 1, 65_535)))
    .option('--directory <path>', 'folder to write to (default: NAME)')
    .addHelpText(
      'after',
      '\nExample:\n  orctl template init web --image nginx:1.27 --port 80\n  orctl template check web/',
    )
    .action(async (name: string, flags: InitFlags) => {
      if (!/^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/.test(name)) {
        throw new Usage(`a template is named a-z, 0-9 and -, at most 31 characters, got ${JSON.stringify(name)}`)
      }
      const file = join(flags.directory ?? name, 'compose.yaml')
      await mkdir(dirname(file), { recursive: true })
      try {
        await writeFile(file, skeleton(name, flags), { flag: 'wx' })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
        say(`orctl: ${file} is there already; nothing was written`)
        process.exitCode = EXIT.refused
        return
      }
      say(`wrote ${file}`)
    })
}

/** The text of a new template. */
export function skeleton(name: string, { image, port }: Pick<InitFlags, 'image' | 'port'>): string {
  const ports =
    port === undefined
      ? '    # ports: ["80"]         # what clients reach; the first is asked whether it answers'
      : `    ports: ["${port}"]          # what clients reach; the first is asked whether it answers`
  return `# A Compose file (https://compose-spec.io), and what it becomes for a lease under x-orchestrator.
# orctl template check ${name}/     orctl apply -f ${name}/
name: ${name}

x-orchestrator:
  summary: ${JSON.stringify(`What people get who get ${name}`)}
  # parameters:             # given by rules; \${GREETING} stands for it below, /orchestrator/parameters.json has it inside
  #   GREETING: { type: string, default: Hello }
  # outputs:                # what instances tell in /orchestrator/outputs.json
  #   url: { type: url }
  # lifetime:
  #   grace: 5m             # how long it outlives its lease
  #   most: 8h              # how long it lives at most

services:
  ${name}:
    image: ${JSON.stringify(image)}
${ports}
    mem_limit: 256m
    # environment:
    #   OWNER: \${LEASE_HOSTNAME:-somebody}
    # healthcheck:
    #   test: [CMD, curl, -fs, 'http://[::1]:80/']    # an instance has IPv6 alone
`
}
