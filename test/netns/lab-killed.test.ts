import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { clearLab, Lab, whatIsLeft } from '../../lab/lab.ts'
import { until } from '../support/until.ts'

const PREFIX = 'lk'
after(() => clearLab(PREFIX))

/** A process that has opened a lab with a device that holds a lease, and would keep it open. */
async function labOfAnother(): Promise<ReturnType<typeof spawn>> {
  const script = `
    import { Lab } from ${JSON.stringify(join(import.meta.dirname, '../../lab/lab.ts'))}
    const lab = await Lab.open({ prefix: '${PREFIX}' })
    await lab.engine()
    const client = await lab.client({ detectDuplicates: false })
    await client.request()
    await client.lease()
    console.log('open')
    setInterval(() => undefined, 1000)
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  await until('the lab of another process', () => said.includes('open') || child.exitCode !== null, {
    deadlineMs: 30_000,
  })
  assert.ok(said.includes('open'), 'the other process has opened its lab')
  return child
}

test('after kill -9 the next lab opens as if nothing had been, and its close leaves nothing', async () => {
  const other = await labOfAnother()
  assert.ok(
    whatIsLeft(PREFIX).some((line) => line.includes('dhcpcd')),
    'this test would see what is left',
  )
  other.kill('SIGKILL')
  await once(other, 'exit')

  const lab = await Lab.open({ prefix: PREFIX })
  const client = await lab.client({ detectDuplicates: false })
  await client.request()
  const { address } = await client.lease()
  assert.match(address, /^fd00:c::/)
  await lab.close()
  assert.deepEqual(whatIsLeft(PREFIX), [])
})

test('clearing what a killed lab left needs no new lab, and may be done twice', async () => {
  const other = await labOfAnother()
  other.kill('SIGKILL')
  await once(other, 'exit')
  await clearLab(PREFIX)
  assert.deepEqual(whatIsLeft(PREFIX), [])
  await clearLab(PREFIX)
})
