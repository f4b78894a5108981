import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readList } from '../../orchestrator/backends/coreos/reading.ts'

/** What is listed of an instance with one service, whose network's unit has these properties. */
function listed(network: Readonly<Record<string, string>>) {
  const unit = (id: string, properties: object) =>
    [`Id=${id}.service`, ...Object.entries(properties).map(([name, value]) => `${name}=${value}`), ''].join('\n')
  const target = '/etc/systemd/system/orc-i-1.target'
  const text = [
    '%% files',
    `${target}:Instance=i-1`,
    `${target}:Generation=1`,
    `${target}:Digest=d`,
    `${target}:Wants=orc-i-1-wire.service orc-i-1-s-web.service`,
    '%% units',
    unit('orc-i-1-wire', { LoadState: 'loaded', ...network }),
    unit('orc-i-1-s-web', { LoadState: 'loaded', ActiveState: 'inactive', SubState: 'dead', Job: '7' }),
    '%% complete',
    '/run/orchestrator/i-1/complete',
  ].join('\n')
  const [found = assert.fail()] = readList(text)
  return [found.state, found.passing, found.detail]
}

test('a network that failed to start and is started again may come up by itself, but not for ever', () => {
  const failed = { ActiveState: 'activating', SubState: 'auto-restart', ExecMainStatus: '127' }
  const again = { ActiveState: 'activating', SubState: 'start' }
  assert.deepEqual(listed({ ...failed, NRestarts: '0' }), ['partial', true, 'its network ended with exit code 127'])
  assert.deepEqual(listed({ ...again, NRestarts: '2' }), ['partial', true, 'its network ended, restarted 2 times'])
  assert.deepEqual(listed({ ...failed, NRestarts: '3' }).slice(0, 2), ['partial', false])
  assert.deepEqual(listed({ ActiveState: 'failed', Result: 'exit-code' }).slice(0, 2), ['partial', false])
  assert.deepEqual(listed({ ...again, NRestarts: '0' }).slice(0, 2), ['starting', false])
})
