import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { withSettings } from '../../lab/dnsmasq.ts'
import { quoted } from '../../lab/processes.ts'

test('a setting of a configuration is replaced in its place, comments and the rest stay', () => {
  const text = '# port=1\nport=53\nuser=dnsmasq\n'
  assert.equal(withSettings(text, { port: '5353' }), '# port=1\nport=5353\nuser=dnsmasq\n')
})

test('a setting that is not there, or is there twice, is an error: the lab would run something else than it says', () => {
  assert.throws(() => withSettings('user=dnsmasq\n', { port: '1' }), { code: 'no-such-setting' })
  assert.throws(() => withSettings('port=1\nport=2\n', { port: '3' }), { code: 'no-such-setting' })
})

test('a quoted word reaches a shell as it is', () => {
  for (const word of ["it's", '$(id) `id` "$HOME"', 'a\nb', '', "''", '\\']) {
    assert.equal(spawnSync('sh', ['-c', `printf %s ${quoted(word)}`], { encoding: 'utf8' }).stdout, word)
  }
})

const RUN = join(import.meta.dirname, '../../lab/run.sh')

test('the lab refuses to run without root, and says so', () => {
  const args = ['--reuid=65534', '--regid=65534', '--clear-groups', 'sh', '-s', 'x.ts']
  // As standard input: a clone below /root cannot be read by others.
  const script = `cd /; set -- x.ts; ${spawnSync('sed', ['s/^cd .*//', RUN], { encoding: 'utf8' }).stdout}`
  const result = spawnSync('setpriv', args, { input: script, encoding: 'utf8' })
  assert.equal(result.status, 1)
  assert.match(result.stderr, /must be run as root/)
})

test('a second lab is refused while one runs, and names it', () => {
  const lock = '/run/orchestrator-lab.lock'
  const script = `exec 9<>${lock}; flock -n 9 || true; unset LAB_LOCK_HELD; sh ${quoted(RUN)} x.ts 9>&-`
  const result = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
  assert.equal(result.status, 1)
  assert.match(result.stderr, /another lab runs on this machine/)
})
