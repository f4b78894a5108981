import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InvalidInput } from '../../common/errors.ts'
import { shellWord, unitWord } from '../../orchestrator/backends/coreos/quoting.ts'
import { readList } from '../../orchestrator/backends/coreos/reading.ts'
import { parseSettings } from '../../orchestrator/backends/coreos/settings.ts'
import { type UnitGround, unitsOf } from '../../orchestrator/backends/coreos/units.ts'
import type { Order } from '../../orchestrator/domain/instance.ts'
import { service } from '../support/fixtures.ts'
import { order } from '../support/orders.ts'

const ground: UnitGround = {
  ...{ installation: '0123456789abcdef', engine: 'podman', program: '/usr/bin/podman', quadlet: false, systemd: 252 },
  dns: [],
}
const secret = Buffer.from('top secret').toString('base64')
const full: Order = {
  ...order(1),
  outputs: true,
  services: [
    service({
      environment: { TOKEN: 'hidden-value' },
      files: [{ target: '/etc/key', content: secret, mode: 0o444 }],
      dependsOn: [{ service: 'db', condition: 'healthy', restart: true }],
      command: ['serve', '100%', '$HOME', 'a "b" \\c'],
    }),
    service({ name: 'db' }),
  ],
}
const fileOf = (wanted: Order, end: string, on = ground): string =>
  String(unitsOf(wanted, on).files.find(({ path }) => path.endsWith(end))?.content)

test('a word reaches a program as it is: through systemd, and through a shell', () => {
  assert.equal(unitWord('100% of $HOME "x" \\ y\n'), '"100%% of $$HOME \\"x\\" \\\\ y\\n"')
  assert.equal(shellWord(`it's $HOME`), `'it'\\''s $HOME'`)
  assert.equal(shellWord('plain-1.2'), 'plain-1.2')
})

test('units and arguments hold neither environment nor files, and those are for root alone', () => {
  const { files } = unitsOf(full, ground)
  const open = files.filter(({ path }) => path.startsWith('/etc/'))
  for (const { path, content } of open) assert.doesNotMatch(String(content), /hidden-value|top secret/, path)
  const env = files.find(({ path }) => path.endsWith('/web.env'))
  assert.deepEqual([env?.content, env?.mode], ['TOKEN=hidden-value\n', 0o600])
  const inMemory = files.filter(({ path }) => path.startsWith('/run/orchestrator/i-test1/files/'))
  assert.deepEqual(
    inMemory.map(({ content }) => String(content)),
    ['top secret'],
  )
})

test('a service starts after its network and what it depends on, and waits for files', () => {
  const unit = fileOf(full, 'orc-i-test1-s-web.service')
  assert.match(unit, /^BindsTo=orc-i-test1-wire\.service$/m)
  assert.match(unit, /^After=orc-i-test1-wire\.service orc-i-test1-s-db\.service$/m)
  assert.match(unit, /^PartOf=orc-i-test1\.target orc-i-test1-s-db\.service$/m)
  assert.match(unit, /^ConditionPathExists=\/run\/orchestrator\/i-test1\/complete$/m)
  assert.match(unit, /^ExecStart=.* "serve" "100%%" "\$\$HOME" "a \\"b\\" \\\\c"$/m)
})

test('a newer generation of the same has the same digest, other contents have not', () => {
  const { digest } = unitsOf(full, ground)
  assert.equal(unitsOf({ ...full, generation: 9 }, ground).digest, digest)
  assert.notEqual(unitsOf({ ...full, services: full.services.slice(1) }, ground).digest, digest)
})

test('with Quadlet a service is a .container file, with the same flags', () => {
  const file = fileOf(full, 'orc-i-test1-s-web.container', { ...ground, quadlet: true })
  assert.match(file, /^ContainerName=orc-i-test1-s-web$/m)
  assert.match(file, /^PodmanArgs=.*"--network" "container:orc-i-test1-wire"/m)
  assert.match(file, /^Exec="serve"/m)
})

test('what cannot be said to an engine is refused by its field', () => {
  const refused = (change: Parameters<typeof service>[0], field: string) =>
    assert.throws(
      () => unitsOf({ ...full, services: [service(change)] }, ground),
      (error) => error instanceof InvalidInput && error.field === field,
    )
  refused({ environment: { A: 'two\nlines' } }, 'services.web.environment.A')
  refused({ mounts: [{ kind: 'tmpfs', target: '/a,b' }] }, 'services.web.mounts')
  assert.throws(() => parseSettings({ engine: 'rkt' }), /settings\.engine/)
  assert.throws(() => parseSettings({ credentials: 'x' }), /settings\.credentials: there is no such setting/)
})

/** What a machine prints of one instance whose service is as told. */
function listing(service: Record<string, string>, { digest = true } = {}): string {
  const unit = (id: string, properties: Record<string, string>) =>
    [`Id=${id}`, 'LoadState=loaded', ...Object.entries(properties).map(([name, value]) => `${name}=${value}`)].join(
      '\n',
    )
  const target = '/etc/systemd/system/orc-i-a.target'
  const wire = '/etc/systemd/system/orc-i-a-wire.service'
  return [
    '%% files',
    ...(digest ? [`${target}:Wants=orc-i-a-wire.service orc-i-a-s-web.service`, `${target}:Instance=i-a`] : []),
    ...(digest ? [`${target}:Generation=3`, `${target}:Digest=d`] : []),
    ...[`${wire}:Instance=i-a`, `${wire}:Generation=2`, `${wire}:Address=fd00:1::5`],
    '%% units',
    unit('orc-i-a-wire.service', { ActiveState: 'active', SubState: 'running' }),
    '',
    unit('orc-i-a-s-web.service', service),
    ...['%% containers', 'orc-i-a-s-web Up 3 seconds (unhealthy)', '%% outputs', '%% end', ''],
  ].join('\n')
}

test('the worst of its units is what an instance is, and half of it is no instance', () => {
  const stateOf = (text: string) => readList(text).map(({ state, detail }) => [state, detail])
  assert.deepEqual(stateOf(listing({ ActiveState: 'active' })), [['partial', 'service web is unhealthy']])
  const ended = { ActiveState: 'activating', SubState: 'auto-restart', NRestarts: '2', ExecMainStatus: '7' }
  assert.deepEqual(stateOf(listing(ended)), [['partial', 'service web ended with exit code 7, restarted 2 times']])
  assert.equal(readList(listing({ ActiveState: 'activating', SubState: 'start-pre' }))[0]?.state, 'starting')
  const done = { ActiveState: 'inactive', Restart: 'no', Result: 'success', ExecMainExitTimestampMonotonic: '9' }
  assert.equal(readList(listing(done))[0]?.state, 'running')
  assert.deepEqual(stateOf(listing({ ActiveState: 'active' }, { digest: false })), [
    ['partial', 'its units are not all written'],
  ])
  const [found] = readList(listing({ ActiveState: 'active' }))
  assert.deepEqual([found?.generation, found?.address, found?.services], [3, 'fd00:1::5', ['web']])
})
