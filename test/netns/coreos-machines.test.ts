import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { HostUnreachable, NoRoom, OrchestratorError } from '../../common/errors.ts'
import { run } from '../../lab/command.ts'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { InstanceId, Observed, Order } from '../../orchestrator/domain/instance.ts'
import type { Template } from '../../orchestrator/domain/template.ts'
import { CoreosLab, machineOf, TINY, thingsOn, tinyOrder } from '../support/coreos.ts'
import { content, service } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/** What happens to machines: they go away and come back, are full, are others than we think; and what instances do there. */
let lab: CoreosLab
let backend: Backend
const never = new AbortController().signal

before(async () => {
  lab = await CoreosLab.open('com', 1, { diskMiB: 1500 })
  backend = lab.backend()
})
after(async () => {
  await lab?.close()
})

const target = () => lab.target(1)
const machine = () => lab.lab.machine(1)
const code = (expected: string) => (error: unknown) => error instanceof OrchestratorError && error.code === expected

async function running(order: Order, told: Observed[] = []): Promise<Observed> {
  return await until(
    `${order.instance} runs`,
    async () => {
      const observed = await backend.ensure(order, target(), never)
      told.push(observed)
      return observed.state === 'running' ? observed : undefined
    },
    { deadlineMs: 120_000, everyMs: 300 },
  )
}
async function listed(id: InstanceId): Promise<Observed | undefined> {
  return (await backend.list(target(), never)).find(({ instance }) => instance === id)
}
async function gone(order: Order): Promise<void> {
  await backend.remove({ id: order.instance, generation: order.generation + 1 }, target(), never)
  const left = (await thingsOn(machine())).filter((one) => one.includes(order.instance))
  assert.deepEqual(left, [])
}
/** A page that says what it was given, and outputs. */
function talking(n: number): Order {
  const script = `echo "began with $GREETING"; cat /etc/secret >/orchestrator/outputs.json; exec sleep infinity`
  const secret = Buffer.from('{"secret": "50 % of $HOME"}').toString('base64')
  return tinyOrder(n, 1, {
    outputs: true,
    services: [
      service({
        ...{ image: TINY, pull: 'never', entrypoint: ['/bin/sh', '-c'], command: [script] },
        environment: { GREETING: `100 % of "all" $HOME \\ it's` },
        files: [{ target: '/etc/secret', content: secret, mode: 0o444 }],
        mounts: [{ kind: 'volume', volume: 'data', target: '/srv/data', readOnly: false }],
      }),
    ],
  })
}

describe('instances on a machine', () => {
  it('what a service is given arrives unharmed, what it prints and tells is read, and nothing is seen by others', async () => {
    const order = talking(1)
    const told: Observed[] = []
    const enough = new AbortController()
    const watching = backend.watch?.(target(), (observed) => void told.push(observed), enough.signal)
    // A change is told once, to whoever sees it first.
    await running(order, told)
    const outputs = await until(
      'the outputs are told',
      () => told.find(({ outputs }) => outputs !== undefined)?.outputs,
      { deadlineMs: 20_000 },
    ).finally(() => enough.abort(new Error('enough')))
    await watching?.catch(() => {})
    assert.equal(outputs, '{"secret": "50 % of $HOME"}')
    let printed = ''
    const logs = backend.logs?.(order.instance, target(), { tail: 10, follow: false }, never)
    for await (const text of logs ?? []) printed += text
    assert.equal(printed.trim(), `began with 100 % of "all" $HOME \\ it's`)
    const seen = await machine().sh(
      'cat /proc/[0-9]*/cmdline | tr "\\0" " "; find /etc/systemd/system -type f -exec cat {} +',
    )
    assert.doesNotMatch(
      seen.replaceAll('began with', ''),
      /50 % of|100 % of/,
      'secrets stand in arguments or unit files',
    )
    const modes = await machine().sh(
      'stat -c %a /run/orchestrator /var/lib/orchestrator/instances /var/lib/orchestrator/instances/i-test1/web.env',
    )
    assert.equal(modes, '700\n700\n600\n')
    await gone(order)
  })

  it('its owner reaches it through the machine, and nobody else does', async () => {
    const order = tinyOrder(2)
    await running(order)
    const { lan } = lab.lab
    const addresses = [order.ownerAddress, 'fd00:c::dead']
    for (const address of addresses) await run('ip', ['-n', lan, 'address', 'add', `${address}/128`, 'dev', 'lo'])
    await run('ip', ['-n', lan, 'route', 'add', `${order.address}/128`, 'via', machine().address])
    await machine().sh('ip -6 route add fd00:c::dead/128 via fd00:5::1')
    // Nothing listens there: whoever is let through is refused by the instance itself.
    const said = (localAddress: string): Promise<string> =>
      new Promise((resolve) => {
        const socket = connect({ host: order.address, port: 80, localAddress, timeout: 3000 })
        socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
        socket.once('timeout', () => {
          socket.destroy()
          resolve('nothing')
        })
      })
    assert.equal(await said(order.ownerAddress), 'ECONNREFUSED', 'its owner')
    assert.equal(await said('fd00:c::dead'), 'nothing', 'a stranger')
    await gone(order)
    for (const address of addresses) await run('ip', ['-n', lan, 'address', 'del', `${address}/128`, 'dev', 'lo'])
    await run('ip', ['-n', lan, 'route', 'del', `${order.address}/128`])
  })

  it('services start in the order of what they depend on, and one that ended well stays ended', async () => {
    const parts = { image: TINY, pull: 'never' as const, entrypoint: ['/bin/sh', '-c'] }
    const order = tinyOrder(3, 1, {
      services: [
        service({
          ...parts,
          command: ['cat /srv/data/made && exec sleep infinity'],
          dependsOn: [
            { service: 'prepare', condition: 'completed', restart: false },
            { service: 'db', condition: 'healthy', restart: false },
          ],
          mounts: [{ kind: 'volume', volume: 'data', target: '/srv/data', readOnly: true }],
        }),
        service({
          ...parts,
          name: 'prepare',
          restart: 'no',
          command: ['sleep 1; echo made >/srv/data/made'],
          mounts: [{ kind: 'volume', volume: 'data', target: '/srv/data', readOnly: false }],
        }),
        service({
          ...parts,
          name: 'db',
          command: ['sleep 1; touch /tmp/up; exec sleep infinity'],
          healthcheck: { test: ['CMD', 'cat', '/tmp/up'], intervalMs: 1000, timeoutMs: 1000, retries: 30 },
        }),
      ],
    })
    await running(order)
    const again = await backend.ensure(order, target(), never)
    assert.equal(again.state, 'running')
    const runs = await machine().sh(
      'systemctl show -P NRestarts orc-i-test3-s-web; podman ps -a --format "{{.Names}}" | sort',
    )
    assert.equal(runs, '0\norc-i-test3-s-db\norc-i-test3-s-web\norc-i-test3-wire\n')
    const pid = `$(podman inspect -f '{{.State.Pid}}' orc-i-test3-s-web)`
    assert.match(await machine().sh(`cat /proc/${pid}/root/etc/hosts`), /^::1 db$/m, 'web does not find db by name')
    await gone(order)
  })
})

describe('one clear reason', () => {
  it('a service that never starts: what it said, and where to look', async () => {
    const broken = service({
      image: TINY,
      pull: 'never',
      entrypoint: ['/bin/sh', '-c'],
      command: ['echo no such thing >&2; exit 3'],
    })
    const order = tinyOrder(4, 1, { services: [broken] })
    // Whenever it is asked, and however often it was restarted by then: what it said last, once.
    for (let asked = 0; asked < 3; asked++) {
      const detail = await until(
        'it says why',
        async () => {
          const observed = await backend.ensure(order, target(), never)
          return observed.state === 'partial' ? observed.detail : undefined
        },
        { deadlineMs: 30_000 },
      )
      assert.match(
        detail,
        /^service web ended( with exit code 3)?(, restarted (once|\d+ times))?: no such thing; "journalctl -t orc-i-test4-s-web" on com-m1/,
      )
    }
    await gone(order)
  })

  it('an image that is not there, or cannot be fetched', async () => {
    const absent = tinyOrder(5, 1, { services: [service({ image: 'orchestrator/none:1', pull: 'never' })] })
    await assert.rejects(
      backend.ensure(absent, target(), never),
      /services\.web\.image: com-m1 has no image orchestrator\/none:1, and "pull" is never/,
    )
    const unknown = tinyOrder(6, 1, { services: [service({ image: 'registry.invalid/none:1', pull: 'missing' })] })
    const reason = await until(
      'it cannot be fetched',
      async () => {
        try {
          assert.equal((await backend.ensure(unknown, target(), never)).state, 'starting')
          return undefined
        } catch (error) {
          return error
        }
      },
      { deadlineMs: 60_000, everyMs: 500 },
    )
    assert.ok(code('image-missing')(reason), String(reason))
    assert.match(String(reason), /cannot fetch it \(.*registry\.invalid/)
    await gone(unknown)
  })

  it('a disk that is full: no room, nothing half written, and it goes on when there is room', async () => {
    await machine().fillDisk()
    const fresh = lab.backend()
    await assert.rejects(fresh.ensure(tinyOrder(7), target(), never), (error) => {
      assert.ok(error instanceof NoRoom, String(error))
      assert.match(error.message, /com-m1: .*disk.*free some/)
      return true
    })
    const checked = await fresh.check?.(target(), never)
    assert.match(checked?.missing.join() ?? '', /less than 512 MiB are free/)
    assert.deepEqual(
      (await thingsOn(machine())).filter((one) => one.includes('i-test7')),
      [],
    )
    await machine().freeDisk()
    backend = lab.backend()
    await running(tinyOrder(7))
    await gone(tinyOrder(7))
  })

  it('what machines cannot do is refused before', () => {
    const networks: Template = {
      ...{ name: 't', version: 'v1', number: 1 },
      ...content,
      stack: { services: { web: { image: 'x', networks: ['a'] } } },
    }
    assert.throws(
      () => backend.checkTemplate(networks),
      /services\.web\.networks\[0\]: all services of an instance share one network here/,
    )
    const odd: Template = { ...networks, stack: {}, options: { metal: { label: 'x' } } }
    assert.throws(() => backend.checkTemplate(odd), /x-orchestrator\.options\.metal/)
  })
})

describe('machines that go away', () => {
  it('a restart of the machine: an instance without files comes back by itself, one with files when it is asked for', async () => {
    const [alone, filed] = [tinyOrder(8), talking(9)]
    await running(alone)
    await running(filed)
    await machine().sh('mkdir -p /var/log/journal; journalctl --flush')
    await machine().reboot()
    const back = await until(
      'it runs again',
      async () => {
        const found = await listed(alone.instance).catch(() => undefined)
        return found?.state === 'running' ? found : undefined
      },
      { deadlineMs: 60_000, everyMs: 500 },
    )
    assert.equal(back.generation, 1)
    const waiting = await listed(filed.instance)
    assert.match(waiting?.detail ?? '', /waits for files of its services, which were lost with a restart/)
    await running(filed)
    const wrong = await machine().sh(
      `journalctl -q -o cat --no-pager | grep -E 'ordering cycle|Stopping timed out' || :`,
    )
    assert.equal(wrong, '', 'units stop and start in their order, none by force')
    await gone(alone)
    await gone(filed)
  })

  it('power that fails amid the making: the machine is away, and with it back the same call ends well', async () => {
    const order = tinyOrder(10)
    const going = backend.ensure(order, target(), never)
    // It may have ended before the power fails.
    const outcome = going.then(
      () => null,
      (error: unknown) => error,
    )
    await until(
      'its units are being written',
      () =>
        machine()
          .sh('ls -d /run/orchestrator/i-test10*')
          .catch(() => undefined),
      { deadlineMs: 30_000, everyMs: 20 },
    )
    await machine().kill()
    const fault = await outcome
    assert.ok(fault === null || fault instanceof HostUnreachable, String(fault))
    await assert.rejects(backend.list(target(), never), HostUnreachable)
    await machine().start()
    await running(order)
    await gone(order)
  })

  it('another host key: refused with both fingerprints and the remedy', async () => {
    const before = await machine().hostKey()
    await machine().newHostKey()
    const stranger = lab.backend()
    await assert.rejects(stranger.list(target(), never), (error) => {
      assert.ok(code('host-key-changed')(error), String(error))
      assert.ok(String(error).includes(before), 'it names the one that was pinned')
      assert.match(String(error), /orctl machine remove com-m1 --dead/)
      return true
    })
    await lab.inventory.change(machine().name, (was) => ({ ...was, hostKey: machineOf(machine()).hostKey }))
    await stranger.list(target(), never)
  })
})
