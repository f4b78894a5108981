import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'

const REPOSITORY = new URL('../..', import.meta.url).pathname
const FIXTURE = join(REPOSITORY, 'test/fixtures/backend-typescript')

it('an author outside compiles against the published types, and runs the published suite', () => {
  const directory = mkdtempSync('/tmp/orchestrator-outside-')
  try {
    // What `npm install /path/to/orchestrator` leaves in an author's folder: a link to a checkout that was built.
    const checkout = join(directory, 'orchestrator')
    mkdirSync(checkout)
    cpSync(join(REPOSITORY, 'package.json'), join(checkout, 'package.json'))
    symlinkSync(join(REPOSITORY, 'node_modules'), join(checkout, 'node_modules'))
    run(REPOSITORY, 'tsc', '-p', 'tsconfig.build.json', '--outDir', join(checkout, 'dist'))

    const author = join(directory, 'author')
    cpSync(FIXTURE, author, { recursive: true })
    mkdirSync(join(author, 'node_modules', '@types'), { recursive: true })
    symlinkSync(checkout, join(author, 'node_modules', 'orchestrator'))
    symlinkSync(join(REPOSITORY, 'node_modules/@types/node'), join(author, 'node_modules/@types/node'))
    run(author, 'tsc', '-p', '.')
    const said = run(author, process.execPath, '--test', '--test-reporter=tap', 'out/shelf.test.js')
    assert.match(said, /^# pass 13$/m, said)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

/** @returns what it said. @throws with that when its exit code is not 0 */
function run(cwd: string, command: string, ...args: readonly string[]): string {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const done = spawnSync(command, args, { cwd, env, encoding: 'utf8', timeout: 120_000 })
  const said = `${done.stdout}${done.stderr}`
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${done.error?.message ?? done.status}\n${said}`)
  return said
}
