import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { OrchestratorError } from '../../../../common/errors.ts'
import { EXIT, Usage } from '../../exit.ts'
import type { Format } from '../../output.ts'

/** In a clone, from the sources and from dist/ alike: the lab is no part of an installation, and runs as a program of its own. */
const PLACES = ['../../../../lab/', '../../../../../lab/']
const PROGRAM = 'machine-cluster.ts'
const MOST = 16

export function addLab(machine: Command): void {
  const lab = machine
    .command('lab')
    .summary('run machines on this host, for development')
    .description(
      'Runs machines on this host, for development: real systemd machines (systemd-nspawn) on a network of their own, that go on until they are stopped. Needs root, Debian, and a clone of the sources.',
    )
    .addHelpText('after', '\nExamples:\n  orctl machine lab start 3\n  orctl machine lab ls\n  orctl machine lab stop')
  lab
    .command('start')
    .summary('start machines')
    .description('Starts machines m1, m2 … and says how they are reached. The first time it makes their disk image.')
    .argument('<n>', `how many, 1 to ${MOST}`)
    .action(async (n: string) => {
      if (!/^\d+$/.test(n) || Number(n) < 1 || Number(n) > MOST)
        throw new Usage(`expected a number from 1 to ${MOST}, got ${JSON.stringify(n)}`)
      await run(['start', n])
    })
  lab
    .command('stop')
    .summary('end them and remove their disks')
    .description('Ends all machines of the lab and removes them with their disks. None there is fine.')
    .action(() => run(['stop']))
  lab
    .command('ls')
    .summary('list them')
    .description('Lists the machines of the lab.')
    .action((_flags: unknown, command: Command) => {
      const { output } = command.optsWithGlobals<{ output: Format }>()
      return run(['ls', output])
    })
}

async function run(words: readonly string[]): Promise<void> {
  const found = PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url))).find((place) =>
    existsSync(join(place, PROGRAM)),
  )
  if (found === undefined) {
    throw new OrchestratorError(
      'no-lab',
      'the lab is not part of an installation: run this from a clone of the sources',
    )
  }
  if (process.getuid?.() !== 0) {
    throw new OrchestratorError(
      'not-root',
      'machines of the lab need root: they have network namespaces and disks of their own',
    )
  }
  // What makes machines first makes this host ready for that, and is alone meanwhile; the rest asks for nothing.
  const program = join(found, PROGRAM)
  const [file, ...args] = words[0] === 'start' ? ['sh', join(found, 'run.sh'), program] : [process.execPath, program]
  const child = spawn(file, [...args, ...words], { stdio: 'inherit' })
  const [code] = (await once(child, 'close')) as [number | null]
  process.exitCode = code === 0 ? EXIT.ok : EXIT.failure
}
