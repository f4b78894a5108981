import { readFileSync } from 'node:fs'
import { after, before } from 'node:test'
import { MACHINES_NETWORK } from '../../lab/machines.ts'
import type { NewMachineRequest } from '../../orchestrator/api/wire/machines.ts'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { CoreosLab, machineOf, TINY, thingsOn } from '../support/coreos.ts'
import { type SshGate, sshGate } from '../support/ssh-gate.ts'

/** The orchestrator is killed at each program that it has run on a machine over SSH. */
let lab: CoreosLab
let gate: SshGate

before(async () => {
  lab = await CoreosLab.open('cok', 1)
  gate = await sshGate(lab.lab.machine(1))
})
after(async () => {
  await gate?.[Symbol.asyncDispose]()
  await lab?.close()
})

/** The instance of each target unit, and of each container of the service that is one too many. */
async function instances(): Promise<readonly string[]> {
  const machine = lab.lab.machine(1)
  const lines = async (line: string) => (await machine.sh(line)).split('\n').filter(Boolean)
  const units = await lines('sed -n "s/^Instance=//p" /etc/systemd/system/orc-*.target 2>/dev/null || :')
  const format = '{{index .Labels "org.orchestrator.instance"}}'
  const containers = await lines(`podman ps -a --filter label=org.orchestrator.service=web --format '${format}'`)
  return [...units, ...containers.filter((id, at) => !units.includes(id) || containers.indexOf(id) !== at)]
}

const template = `services:
  web:
    image: ${TINY}
    pull_policy: never
    stop_grace_period: 0s
    ports: ['80']
x-orchestrator:
  summary: a page
  backend: mine
`

backendKills('a machine over SSH', async (): Promise<KillSubject> => {
  const machine = lab.lab.machine(1)
  return {
    backend: { kind: 'coreos', settings: { credential: 'machines' } },
    template,
    credentials: { machines: { key: readFileSync(lab.lab.key, 'utf8') } },
    homeAddress: MACHINES_NETWORK.gateway,
    faults: gate.faults,
    async begun(orchestrator) {
      const { name, address, port, user, hostKey } = machineOf(machine)
      const known: NewMachineRequest = { name, address, port, user, hostKey }
      await orchestrator.call('POST', '/v1/machines', known)
    },
    instances,
    things: () => thingsOn(machine),
    startsWithinMs: 120_000,
    mostMs: 400_000,
  }
})
