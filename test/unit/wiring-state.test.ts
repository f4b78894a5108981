import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { whileEditing } from '../../unionize/cli/edit-lock.ts'
import { locked } from '../../unionize/wiring/interfaces/lock.ts'
import { type Kept, State } from '../../unionize/wiring/interfaces/state.ts'

const KEPT: Kept = {
  version: 1,
  key: 'netns:/run/netns/lab',
  label: 'netns:lab',
  namespace: { path: '/run/netns/lab' },
  identity: 'boot:1',
  peers: {},
  spec: { interfaces: [] },
  made: {},
  supports: [],
}

/** A directory of state, and beside it a file that is none of its business. */
function places(t: TestContext): { directory: string; precious: string } {
  const top = mkdtempSync(join(tmpdir(), 'wiring-state-'))
  t.after(() => rmSync(top, { recursive: true }))
  const precious = join(top, 'precious')
  writeFileSync(precious, 'precious')
  const directory = join(top, 'state')
  new State(directory).prepare()
  return { directory, precious }
}

/* The command runs as root in a directory that is the daemon's: what the daemon might put there must not lead root away. */

test('a link in the place of an interim file is not written through', (t) => {
  const { directory, precious } = places(t)
  const state = new State(directory)
  state.write(KEPT)
  const [name = ''] = readdirSync(directory)
  symlinkSync(precious, join(directory, `${name}.interim`))
  state.write({ ...KEPT, label: 'another' })
  assert.equal(readFileSync(precious, 'utf8'), 'precious')
  assert.equal(state.read(KEPT.key)?.label, 'another')
  assert.deepEqual(readdirSync(directory), [name])
})

test('a link in the place of a lock file is refused', async (t) => {
  const { directory, precious } = places(t)
  const refused = { code: 'state-unwritable', message: /\(ELOOP\): nothing was changed/ }
  symlinkSync(precious, join(directory, '.lock'))
  assert.throws(() => locked(directory, () => assert.fail('it was taken')), refused)
  symlinkSync(precious, join(directory, '.edit'))
  await assert.rejects(
    whileEditing(directory, async () => assert.fail('it was taken')),
    refused,
  )
})
