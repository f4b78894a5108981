import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import type { Ipv6 } from '../../common/ipv6.ts'
import {
  addEtcdMember,
  etcdMembers,
  membersIn,
  removeEtcdMember,
  throughAny,
} from '../../orchestrator/backends/coreos/machines/etcd.ts'
import type { Shell } from '../../orchestrator/backends/coreos/machines/shell.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'

/** As etcdctl 3.4.23 wrote it. */
const LISTED = `8e9e05c52164694d, started, m1, http://[fd00::11]:2380, http://[fd00::11]:2379, false
b71f75320dc06a6c, unstarted, , http://[fd00::14]:2380,http://[fd00:1::14]:2380, , true
`
const stop = new AbortController().signal
const way = (name: string) => ({
  ...{ name: name as HostName, address: 'fd00::11' as Ipv6, port: 22, user: 'root', hostKey: '' },
})

function shell(answer: (args: readonly string[]) => { code: number; out?: string; err?: string }): Shell {
  return {
    run: async (_machine, command) => ({ out: '', err: '', ...answer(command.slice(4)) }),
    follow: async function* () {},
    hostKeyOf: async () => '',
    forget() {},
  }
}

test('members are read as etcdctl lists them, also one that has never started', () => {
  assert.deepEqual(membersIn(LISTED), [
    { id: '8e9e05c52164694d', started: true, name: 'm1', peers: ['http://[fd00::11]:2380'], learner: false },
    {
      ...{ id: 'b71f75320dc06a6c', started: false, name: '', learner: true },
      peers: ['http://[fd00::14]:2380', 'http://[fd00:1::14]:2380'],
    },
  ])
  assert.throws(() => membersIn('<html>'), /something else than members/)
})

test('an etcd without learners is given a member with a vote', async () => {
  const asked: (readonly string[])[] = []
  const old = shell((args) => {
    asked.push(args)
    return args.includes('--learner') ? { code: 1, err: 'Error: unknown flag: --learner\n' } : { code: 0 }
  })
  await addEtcdMember(old, way('m1'), { name: 'm4', peer: 'http://[fd00::14]:2380' }, stop)
  assert.deepEqual(asked.at(-1), ['member', 'add', 'm4', '--peer-urls=http://[fd00::14]:2380'])
})

test('a refusal that passes by itself may be tried again, another may not', async () => {
  const refused = (err: string) =>
    etcdMembers(
      shell(() => ({ code: 1, err })),
      way('m1'),
      stop,
    )
  const passing = (error: unknown) =>
    error instanceof OrchestratorError && error.code === 'etcd-unready' && error.retryable
  await assert.rejects(refused('{"level":"warn"}\nError: etcdserver: unhealthy cluster\n'), passing)
  await assert.rejects(
    refused('Error: etcdserver: Peer URLs already exists\n'),
    /m1: member list: etcdserver: Peer URLs/,
  )
})

test('a member whose etcd does not answer is passed over for the next', async () => {
  const err = 'Error: context deadline exceeded\n'
  const answers = { ...shell(() => ({ code: 0 })) }
  answers.run = async (machine) => ({
    code: machine.name === 'm1' ? 1 : 0,
    out: LISTED,
    err: machine.name === 'm1' ? err : '',
  })
  const found = await throughAny([way('m1'), way('m2')], (via) => etcdMembers(answers, via, stop), stop)
  assert.equal(found.length, 2)
})

test('a member that is not there counts as removed', async () => {
  await removeEtcdMember(
    shell(() => ({ code: 1, err: 'Error: etcdserver: member not found\n' })),
    way('m1'),
    'aa',
    stop,
  )
})

test('what one machine cannot be asked is asked of the next, and a cluster that refuses is not asked twice', async () => {
  const asked: string[] = []
  const found = await throughAny(
    [way('m1'), way('m2')],
    async ({ name }) => {
      asked.push(name)
      if (name === 'm1') throw new HostUnreachable(name, 'it is off')
      return 'done'
    },
    stop,
  )
  assert.deepEqual([found, asked], ['done', ['m1', 'm2']])
  const unready = new OrchestratorError('etcd-unready', 'unhealthy cluster', { retryable: true })
  let calls = 0
  await assert.rejects(
    throughAny(
      [way('m1'), way('m2')],
      async () => {
        calls++
        throw unready
      },
      stop,
    ),
    unready,
  )
  assert.equal(calls, 1)
  await assert.rejects(
    throughAny([], async () => 0, stop),
    /no machine of the inventory is a member/,
  )
})
