import { after } from 'node:test'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { digitaloceanServer, TOKEN } from '../support/digitalocean-server.ts'

const server = await digitaloceanServer()
after(() => server.close())

backendContract('cloud, DigitalOcean from its reference', async () => {
  server.state.remaining = 1_000_000
  const settings = {
    provider: { kind: 'digitalocean', region: 'fra1' },
    regions: { here: { endpoint: server.url }, away: { endpoint: 'http://127.0.0.1:9' } },
    ...{ credential: 'cloud', size: 's-1vcpu-1gb', image: 'debian-12-x64', boot: 'cloud-init' },
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
    things: async () => [
      ...[...server.droplets.values()].filter(({ endedAt }) => endedAt === null).map(({ name }) => `droplet ${name}`),
      ...[...server.firewalls.values()].map(({ name }) => `firewall ${name}`),
      ...[...server.tags].map((name) => `tag ${name}`),
    ],
  }
})
