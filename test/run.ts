import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { findTraces, type Traces } from './support/traces.ts'

const usage = `npm test [-- OPTIONS] [PART…]

Checks the code (types, format, lint, shell), builds it, runs every test, and fails if anything is left behind.

PART          unit, contract, integration, netns, e2e, or the beginning of a test file's name; all unless named
--only-tests  skip the checks of the code
`

/** Parts in the order in which they run. Those of the second list own the machine's lab, so they run one file at a time. */
const TOGETHER = ['unit', 'contract', 'integration']
const ALONE = ['netns', 'e2e']

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'only-tests': { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}

/** Minutes for all files of a kind; test/support/in-time.ts ends single files before. */
const MOST_MINUTES = { together: 20, alone: 75 } as const

/** Runs a command in the open, for so long at most, and returns whether it succeeded. */
function step(title: string, command: string, args: readonly string[], minutes = 10): Promise<boolean> {
  process.stderr.write(`\n== ${title}\n`)
  const begun = performance.now()
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: 'inherit',
      env: { ...process.env, TERM: 'dumb' },
      timeout: minutes * 60_000,
    })
    child.once('error', (error) => {
      process.stderr.write(`${command}: ${error.message}\n`)
      resolve(false)
    })
    child.once('exit', (code, signal) => {
      if (signal !== null) process.stderr.write(`${command} was ended by ${signal}\n`)
      const seconds = ((performance.now() - begun) / 1000).toFixed(1)
      process.stderr.write(`== ${title}: ${code === 0 ? 'ok' : 'FAILED'} (${seconds} s)\n`)
      resolve(code === 0)
    })
  })
}

function filesOf(parts: readonly string[]): string[] {
  const all = parts.flatMap((part) => globSync(`test/${part}/**/*.test.ts`)).sort()
  if (positionals.length === 0) return all
  return all.filter((file) =>
    positionals.some((p) => file.startsWith(`test/${p}/`) || file.split('/').at(-1)?.startsWith(p) || file === p),
  )
}

function runTests(title: string, files: readonly string[], concurrency: number, minutes: number): Promise<boolean> {
  if (files.length === 0) return Promise.resolve(true)
  const options = [
    '--import',
    './test/support/in-time.ts',
    '--test',
    `--test-concurrency=${concurrency}`,
    '--test-timeout=900000',
    '--test-reporter=spec',
  ]
  return step(title, process.execPath, [...options, ...files], minutes)
}

function tellLeft(before: Traces, after: Traces): boolean {
  const left = [...after].filter((trace) => !before.has(trace))
  for (const trace of left) process.stderr.write(`left behind: ${trace}\n`)
  return left.length === 0
}

const before = await findTraces()
const results: boolean[] = []
if (!values['only-tests']) {
  results.push(await step('types', 'tsc', ['-p', 'tsconfig.json']))
  results.push(await step('format and lint', 'biome', ['check', '.']))
  results.push(await step('import arrows', 'eslint', ['.']))
  results.push(
    await step('shell', 'shellcheck', [
      'dnsmasq/lease-hook',
      'lab/run.sh',
      '.ci/run',
      'test/ec2/run.sh',
      ...globSync('client-image/*.sh'),
    ]),
  )
}
results.push(await step('build', 'tsc', ['-p', 'tsconfig.build.json']))
if (filesOf([...TOGETHER, ...ALONE]).length === 0) {
  process.stderr.write(`no test is called ${positionals.join(' or ')}\n`)
  results.push(false)
}
results.push(await runTests('unit, contract and integration tests', filesOf(TOGETHER), 2, MOST_MINUTES.together))
results.push(await runTests('tests in network namespaces and end to end', filesOf(ALONE), 1, MOST_MINUTES.alone))
results.push(tellLeft(before, await findTraces()))
process.exitCode = results.every(Boolean) ? 0 : 1
process.stderr.write(process.exitCode === 0 ? '\nall is well\n' : '\nFAILED\n')
