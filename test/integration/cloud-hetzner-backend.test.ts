import { after } from 'node:test'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { hetznerServer, TOKEN } from '../support/hetzner-server.ts'

const server = await hetznerServer()
after(() => server.close())

backendContract('cloud, Hetzner Cloud from its reference', async () => {
  server.state.remaining = 1_000_000
  const settings = {
    provider: { kind: 'hetzner', location: 'fsn1' },
    regions: { here: { endpoint: server.url }, away: { endpoint: 'http://127.0.0.1:9' } },
    ...{ credential: 'cloud', size: 'cx22', image: 'debian-12', boot: 'cloud-init' },
    ...{ machines: 20, callsPerSecond: 1000 },
  }
  const token = () => ({ token: TOKEN })
  const context = cloudContext(token)
  const open = () => kind.create(settings, context)
  return {
    backend: await open(),
    host: { name: 'here' as HostName },
    absent: { name: 'away' as HostName },
    order: cloudOrder,
    reopen: open,
    another: () => kind.create(settings, cloudContext(token, { installation: 'fedcba9876543210' })),
    lagMs: 5000,
    // A firewall that a server has which is being deleted goes with the next one.
    things: async () =>
      [...server.servers.values()].filter(({ endedAt }) => endedAt === null).map(({ name }) => `server ${name}`),
  }
})
