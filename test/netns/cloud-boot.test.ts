import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { run } from '../../lab/command.ts'
import type { LabMachine } from '../../lab/machine.ts'
import { LabMachines } from '../../lab/machines.ts'
import { inNamespace } from '../../lab/namespaces.ts'
import { bootData, outputsIn } from '../../orchestrator/backends/cloud/boot/boot.ts'
import { cloudOrder } from '../support/cloud-backend.ts'
import { importTinyInto, TINY } from '../support/coreos.ts'
import { FirstBoots } from '../support/first-boots.ts'
import { service } from '../support/fixtures.ts'
import { until } from '../support/until.ts'

/**
 * What a cloud's machine does with our boot data: machines with systemd, their container engine, and cloud-init or Ignition
 * themselves, which find the data where a cloud would have put them. Their image of a container comes late.
 */
const GREETING = `100 % of "all" $HOME \\ it's`
const SECRET = '{"url": "50 % of $HOME"}'
const PATIENTLY = { deadlineMs: 120_000, everyMs: 500 }
const ways = [
  { boot: 'cloud-init', engine: 'docker' },
  { boot: 'ignition', engine: 'podman' },
] as const
type Way = (typeof ways)[number]

const boots = new FirstBoots()
let lab: LabMachines

function dataOf({ boot, engine }: Way): string {
  const tiny = { image: TINY, pull: 'never', restart: 'always' } as const
  const page = `test "$PWD" = /srv; cat /etc/secret >/orchestrator/outputs.json; echo "$GREETING" >index.html; exec busybox httpd -f -p '[::]:80'`
  const order = cloudOrder(1, 1, {
    outputs: true,
    services: [
      service({
        ...tiny,
        entrypoint: ['/bin/sh', '-ec'],
        command: [page],
        workingDirectory: '/srv',
        environment: { GREETING },
        capabilities: ['NET_BIND_SERVICE'],
        files: [{ target: '/etc/secret', content: Buffer.from(SECRET).toString('base64'), mode: 0o444 }],
        dependsOn: [{ service: 'first', condition: 'completed', restart: false }],
      }),
      service({
        ...tiny,
        name: 'first',
        restart: 'no',
        entrypoint: ['/bin/sh', '-ec'],
        command: ['touch /srv/data/was-here'],
        mounts: [{ kind: 'volume', volume: 'data', target: '/srv/data', readOnly: false }],
      }),
    ],
  })
  return bootData(order, { boot, engine, packages: [], mostBytes: 16_384 })
}

before(async () => {
  lab = await LabMachines.open('clb', ways.length, {
    diskMiB: 1500,
    start: false,
    services: ['docker.service'],
    firstBoot: boots.script,
  })
  for (const [at, way] of ways.entries()) boots.write(lab.machine(at + 1).name, dataOf(way), way.boot)
  await Promise.all(lab.machines.map((machine) => machine.start()))
})
after(async () => {
  await lab?.close()
  boots.remove()
})

for (const [at, { boot, engine }] of ways.entries()) {
  describe(`a machine booted by ${boot}, with ${engine}`, () => {
    const machine = () => lab.machine(at + 1)

    it('becomes the instance, as soon as its image can be had', async () => {
      await importTinyInto(machine(), engine, ['busybox'])
      assert.equal(await until('its page answers', () => page(machine()), PATIENTLY), `${GREETING}\n`)
      assert.equal((await machine().run(['hostname'])).trim(), 'test1')
    })

    it('tells its outputs on its console, where they are found', async () => {
      assert.equal(await until('they are told', () => told(machine()), PATIENTLY), SECRET)
    })

    it('shows what its services were given to root alone', async () => {
      assert.equal(await machine().run(['stat', '-c', '%a %U', '/var/lib/orchestrator']), '700 root\n')
      // The brackets keep grep from finding itself.
      const seen = await machine().sh(
        `cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c -e '[5]0 %' -e '[1]00 %' || :`,
      )
      assert.equal(seen, '0\n')
    })

    it('is the same instance after a restart', async () => {
      const before = readFileSync(machine().console, 'utf8').length
      await machine().reboot()
      assert.equal(await until('its page answers again', () => page(machine()), PATIENTLY), `${GREETING}\n`)
      const since = () => outputsIn(readFileSync(machine().console, 'utf8').slice(before)) ?? undefined
      assert.equal(await until('its outputs are told again', since, PATIENTLY), SECRET)
    })
  })
}

/** What a client in the machines' network gets; undefined: no answer. */
async function page(machine: LabMachine): Promise<string | undefined> {
  const [file = '', ...args] = inNamespace(lab.lan, ['curl', '-gfs', '--max-time', '2', `http://[${machine.address}]/`])
  return await run(file, args).catch(() => undefined)
}
function told(machine: LabMachine): string | undefined {
  return outputsIn(readFileSync(machine.console, 'utf8')) ?? undefined
}
