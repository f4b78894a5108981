import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { watchExits } from '../../unionize/wiring/lasting/exits.ts'

const MODULE = new URL('../../unionize/wiring/lasting/exits.ts', import.meta.url).href

test('the end of a process is told, at once when it has been; a watch that was ended tells nothing', async () => {
  const exits = watchExits(() => {})
  const child = spawn('cat')
  const [told, unwatched] = [Promise.withResolvers<void>(), { told: false }]
  exits.watch(child.pid ?? 0, told.resolve)
  exits.watch(child.pid ?? 0, () => {
    unwatched.told = true
  })()
  child.kill()
  await told.promise
  await new Promise<void>((gone) => exits.watch(child.pid ?? 0, gone))
  assert.equal(unwatched.told, false)
  await exits.stop()
})

for (const [when, script] of [
  ['at once', 'watchExits(() => {}); process.exit(7)'],
  ['while it sleeps', 'watchExits(() => {}).watch(process.ppid, () => {}); setTimeout(() => process.exit(7), 300)'],
] as const) {
  test(`a process that watches others can exit: ${when}`, { timeout: 20_000 }, async () => {
    const code = `const { watchExits } = await import('${MODULE}'); ${script}`
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'inherit' })
    assert.deepEqual(await once(child, 'exit'), [7, null])
  })
}
