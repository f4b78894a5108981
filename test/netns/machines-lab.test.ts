import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { machinesLeft } from '../../lab/machines.ts'
import { inNamespace, listNamespaces } from '../../lab/namespaces.ts'
import { pinned } from '../../orchestrator/cli/commands/machine/ssh.ts'

/** `orctl machine lab`: machines that outlive the command that started them. */
const PREFIX = 'mcl'
const main = fileURLToPath(new URL('../../orchestrator/cli/main.ts', import.meta.url))
const env = { ...process.env, MACHINE_LAB_PREFIX: PREFIX, LAB_LOCK_HELD: '1' }
const orctl = (...words: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'machine', 'lab', ...words], {
    env,
    encoding: 'utf8',
  })
  return { code: status, out: stdout, err: stderr }
}
const stop = () => orctl('stop')

before(stop)
after(stop)

test('machines of the lab run after the command has ended, until they are stopped without a trace', () => {
  const started = orctl('start', '1')
  assert.equal(started.code, 0, started.err)
  assert.match(started.out, /\nmcl-m1 +running +fd00:5::11 +SHA256:\S{43}\n/)
  const { items } = JSON.parse(orctl('ls', '-o', 'json').out) as { items: { key: string; address: string }[] }
  const [one] = items
  assert.ok(one)
  const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes']
  const flags = options.flatMap((option) => ['-o', option])
  const ssh = ['ssh', '-q', '-i', one.key, ...flags, `root@${one.address}`, 'cat', '/proc/1/comm']
  const [file = '', ...args] = inNamespace(`${PREFIX}-lan`, ssh)
  assert.equal(spawnSync(file, args, { encoding: 'utf8' }).stdout, 'systemd\n')
  const inside = (...words: string[]) => {
    const [program = '', ...rest] = inNamespace(`${PREFIX}-lan`, words)
    return spawnSync(program, rest, { encoding: 'utf8' })
  }
  const [, type = '', key = ''] = inside('ssh-keyscan', '-t', 'ed25519', one.address).stdout.trim().split(' ')
  const folder = mkdtempSync('/tmp/orchestrator-known-')
  const known = join(folder, 'known_hosts')
  const asked = (hostKey: string) => {
    writeFileSync(known, `m1 ${hostKey}\n`)
    const words = ['ssh', '-o', 'BatchMode=yes', '-i', one.key, ...pinned('m1', hostKey, known), `root@${one.address}`]
    return inside(...words, 'exit 7').status
  }
  // As `orctl machine ssh` does it: the exit code is that of the command there, and another key ends it.
  assert.equal(asked(`${type} ${key}`), 7)
  assert.equal(asked(`${type} ${key.slice(0, -4)}AAAA`), 255)
  rmSync(folder, { recursive: true })
  const again = orctl('start', '1')
  assert.deepEqual([again.code, /machines run already/.test(again.err)], [1, true])

  assert.equal(stop().code, 0)
  assert.deepEqual([listNamespaces(PREFIX), machinesLeft(PREFIX)], [[], []])
  assert.equal(existsSync(`/run/orchestrator-lab/${PREFIX}`), false)
  assert.match(orctl('ls').err, /there are no machines of the lab/)
})

test('how many is checked before anything is made', () => {
  for (const n of ['0', '17', 'three']) assert.equal(orctl('start', n).code, 2)
  assert.deepEqual(listNamespaces(PREFIX), [])
})
