import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import type { LabSwarm } from '../../lab/swarm.ts'
import { swarmCertificates } from '../../lab/swarm-tls.ts'
import { LABEL } from '../../orchestrator/backends/swarm/names.ts'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { createFaults } from '../support/faults.ts'
import { openSwarm, thingsIn } from '../support/swarm.ts'
import { type TargetProxy, targetProxy } from '../support/target-proxy.ts'

/** With a file, so that there are calls for secrets of the swarm. */
const TEMPLATE = `services:
  web:
    image: orchestrator/pause:1
    configs: [word]
configs:
  word: { content: secret }
x-orchestrator:
  summary: a page
  backend: mine
`
const folder = mkdtempSync(join(tmpdir(), 'swarm-kill-'))
const proxies: TargetProxy[] = []
let swarm: LabSwarm

before(async () => {
  await swarmCertificates(folder, ['::1'])
  swarm = await openSwarm({ prefix: 'swk', managers: 1, workers: 0 })
})
after(async () => {
  for (const proxy of proxies) await proxy[Symbol.asyncDispose]()
  await swarm?.close()
  rmSync(folder, { recursive: true })
})

backendKills(
  'a manager of a swarm',
  async (): Promise<KillSubject> => {
    const file = (name: string) => join(folder, `${name}.pem`)
    const pem = (name: string) => readFileSync(file(name))
    const server = { cert: pem('server'), key: pem('server-key'), ca: pem('ca'), requestCert: true }
    const faults = createFaults()
    const proxy = await targetProxy({
      ...{ faults, tls: { server }, listen: { host: '::1' } },
      target: { socketPath: swarm.node('n1').engine.socket },
    })
    proxies.push(proxy)
    return {
      backend: {
        kind: 'swarm',
        settings: {
          managers: [`tcp://[::1]:${proxy.port}`],
          tls: { ca: file('ca'), cert: file('client'), key: file('client-key') },
          nodesForbidNewPrivileges: true,
          // Its looks at nothing are all alike; what happens it hears by events, too.
          pollSeconds: 60,
        },
      },
      template: TEMPLATE,
      faults,
      // However busy the machine is, no call is left out.
      ...{ startsWithinMs: 120_000, mostMs: 600_000 },
      async instances(installation) {
        const filters = { label: [`${LABEL.installation}=${installation}`] }
        const services = await swarm.first.listServices({ filters })
        return services.map(({ Spec }) => Spec?.Labels?.[LABEL.instance] ?? '')
      },
      things: (installation) => thingsIn(swarm, installation),
    }
  },
  { lanes: 4 },
)
