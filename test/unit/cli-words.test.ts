import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Command, CommanderError } from 'commander'
import { plain } from '../../common/plain.ts'
import { aligned } from '../../common/table.ts'
import { eventMessages } from '../../orchestrator/api/event-messages.ts'
import { Refused, ServerUnreachable } from '../../orchestrator/api/transport.ts'
import type { InstanceDetailShape, InstanceShape, LeaseShape } from '../../orchestrator/api/wire.ts'
import { age, span, until } from '../../orchestrator/cli/ages.ts'
import { describedInstance } from '../../orchestrator/cli/described-instance.ts'
import { describedLease } from '../../orchestrator/cli/described-lease.ts'
import { exitCodeOf, NoToken, NotFound, Usage } from '../../orchestrator/cli/exit.ts'
import { appended, shown } from '../../orchestrator/cli/output.ts'
import { instancesResource, resourceOf } from '../../orchestrator/cli/resources.ts'
import { withSession } from '../../orchestrator/cli/session.ts'

const now = Date.parse('2026-01-01T00:10:00Z')

const instance: InstanceShape = {
  id: 'i-1',
  name: 'laptop',
  owner: { duid: '00:01', iaid: 7 },
  template: { name: 'sample', version: 'v1', number: 3 },
  rule: 'laptops',
  backend: 'docker',
  otherwise: [],
  host: 'h1',
  reach: null,
  price: null,
  wanted: 'running',
  state: 'running',
  status: 'running',
  generation: 2,
  settled: 2,
  address: 'fd00:1::7',
  ownerAddress: 'fd00:c::7',
  failures: 0,
  lastError: null,
  nextAttemptAt: null,
  endsAt: null,
  timelineMs: { hook: 0, stored: 3, decided: 4, sandbox: 12, started: 61, reachable: 80.4 },
  createdAt: '2026-01-01T00:00:00.000Z',
  updatedAt: '2026-01-01T00:00:01.000Z',
}

test('spans read as people say them', () => {
  const cases: [number, string][] = [
    [-5, '0s'],
    [999, '0s'],
    [45_000, '45s'],
    [192_000, '3m12s'],
    [720_000, '12m'],
    [3_600_000, '1h'],
    [5_400_000, '1h30m'],
    [400 * 86_400_000, '400d'],
  ]
  for (const [ms, text] of cases) assert.equal(span(ms), text)
  assert.equal(age(null, now), '-')
  assert.equal(until(null, now), 'never')
  assert.equal(until('2026-01-01T00:10:00.500Z', now), 'now')
  assert.equal(until('2026-01-01T00:13:00Z', now), 'in 3m')
})

test('text from strangers cannot steer the terminal or break a row', () => {
  assert.equal(plain('a\u001b[2Jb\nc\rd\u009bm\u202ee\u0000'), 'a\ufffd[2Jb\ufffdc\ufffdd\ufffdm\ufffde\ufffd')
  assert.equal(plain(''), '-')
  const hostile = { ...instance, name: 'x\u001b]0;owned\u0007\ny' }
  const table = shown(instancesResource, [hostile], 'wide', now)
  assert.equal(table.split('\n').length, 3)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  assert.doesNotMatch(table, /[\u0000-\u0009\u000b-\u001f]/)
})

test('a table is aligned columns without lines', () => {
  assert.equal(
    aligned([
      ['A', 'BB'],
      ['ccc', 'd'],
    ]),
    'A    BB\nccc  d\n',
  )
  assert.equal(aligned([]), '')
})

test('each format shows lists and single things as promised', () => {
  assert.deepEqual(JSON.parse(shown(instancesResource, [instance], 'json', now)), { items: [instance] })
  assert.deepEqual(JSON.parse(shown(instancesResource, [instance], 'json', now, true)), instance)
  assert.equal(shown(instancesResource, [instance], 'name', now), 'laptop\n')
  assert.match(shown(instancesResource, [instance], 'yaml', now), /^items:\n {2}- id: i-1\n/)
  const [head = '', row = ''] = shown(instancesResource, [instance], 'table', now).split('\n')
  assert.match(head, /^NAME +STATUS +ADDRESS +OWNER +HOST +TEMPLATE +AGE$/)
  assert.match(row, /^laptop +running +fd00:1::7 +fd00:c::7 +h1 +sample@3 +10m$/)
  assert.equal(appended(instancesResource, [instance, instance], 'json', now).trim().split('\n').length, 2)
})

test('an instance is described with its timeline, its error and its events', () => {
  const detail: InstanceDetailShape = {
    ...instance,
    lastError: 'no such image',
    failures: 3,
    nextAttemptAt: '2026-01-01T00:10:05Z',
    lease: null,
    endsAt: '2026-01-01T01:10:00Z',
    parameters: { TITLE: 'Hello', PASSWORD: { secret: true } },
    outputs: { url: 'http://[fd00:1::7]/' },
    events: [
      {
        id: 1,
        at: '2026-01-01T00:09:00Z',
        level: 'error',
        kind: 'instance.failed',
        message: 'no such image',
        instance: 'i-1',
        owner: null,
        host: 'h1',
      },
    ],
  }
  const text = describedInstance(detail, now)
  assert.match(text, /Template: +sample@3 \(v1\)\nRule: +laptops/)
  assert.match(text, /Ends: +in 1h/)
  assert.match(text, /Parameter TITLE: +Hello\nParameter PASSWORD: +\(secret\)\nOutput url: +http:/)
  assert.match(text, /Last error: +no such image/)
  assert.match(text, /Next step: +in 5s/)
  assert.match(text, /reachable +80 +\+19 +it answered/)
  assert.match(text, / {2}1m +error +instance\.failed +no such image/)
})

test('a lease is described with why it has no instance, and when it ended', () => {
  const lease: LeaseShape = {
    owner: instance.owner,
    address: 'fd00:c::7',
    state: 'active',
    source: 'h1',
    hostname: null,
    mac: null,
    tags: ['lab', 'red'],
    expiresAt: '2026-01-01T01:10:00Z',
    grantedAt: '2026-01-01T00:09:00Z',
    updatedAt: '2026-01-01T00:09:00Z',
    endedAt: null,
    instance: null,
    refusal: 'the quota of 1 instance is used up',
  }
  const text = describedLease(lease, now)
  assert.match(text, /Instance: +error: the quota of 1 instance is used up\n/)
  assert.match(text, /Tags: +lab, red\n/)
  assert.match(text, /Expires: +in 1h/)
  const ended = { ...lease, state: 'ended', endedAt: '2026-01-01T00:09:00Z', refusal: null } as const
  assert.match(describedLease(ended, now), /Instance: +-\n[\s\S]*Ended: +1m ago/)
})

test('every kind of failure has its exit code', () => {
  const cases: [unknown, number][] = [
    [new CommanderError(0, 'commander.help', ''), 0],
    [new CommanderError(1, 'commander.unknownOption', ''), 2],
    [new Usage('x'), 2],
    [new Refused(400, 'invalid-input', ''), 2],
    [new NotFound('x'), 3],
    [new Refused(404, 'not-found', ''), 3],
    [new NoToken('x'), 4],
    [new Refused(401, 'unauthorized', ''), 4],
    [new Refused(403, 'x', ''), 4],
    [new ServerUnreachable('x', new Error('y')), 5],
    [new Refused(503, 'store-failed', ''), 5],
    [new Refused(409, 'x', ''), 6],
    [new Refused(422, 'x', ''), 6],
    [new Refused(429, 'x', ''), 6],
    [new Refused(500, 'internal', ''), 1],
    [new Error('x'), 1],
    ['x', 1],
  ]
  for (const [thrown, code] of cases) assert.equal(exitCodeOf(thrown), code, String(thrown))
})

test('a resource is named in singular or plural; a near miss is told', () => {
  assert.equal(resourceOf('lease'), resourceOf('leases'))
  assert.throws(() => resourceOf('instanecs'), /did you mean instances/)
})

test('a verb without a usable token or server says what to do, before it dials', async () => {
  const command = (args: string[]) =>
    new Command()
      .option('--server <u>')
      .option('--token-file <f>')
      .option('--ca <f>')
      .parse(['node', 'x', ...args])
  const run = (args: string[]) => withSession(command(args), async () => {})
  await assert.rejects(run(['--server', 'http://plain']), Usage)
  await assert.rejects(run(['--token-file', '/nowhere/token']), NoToken)
  await assert.rejects(run(['--token-file', '/dev/null']), NoToken)
})

test('event messages are read across any cut, comments left out', async () => {
  const stream = ': hello\nretry: 5\n\nid: 1\ndata: {"a":1}\n\nevent: gap\ndata: x\ndata: y\n\nid: 2\ndata: cut'
  for (const size of [1, 2, 7, stream.length]) {
    const parts = async function* () {
      for (let at = 0; at < stream.length; at += size) yield stream.slice(at, at + size)
    }
    const found = []
    for await (const message of eventMessages(parts())) found.push(message)
    assert.deepEqual(found, [
      { event: 'message', data: '{"a":1}' },
      { event: 'gap', data: 'x\ny' },
    ])
  }
})
