import { after } from 'node:test'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { digitaloceanServer, TOKEN as OCEAN } from '../support/digitalocean-server.ts'
import { createFaults } from '../support/faults.ts'
import { TOKEN as HETZNER, hetznerServer } from '../support/hetzner-server.ts'
import { targetProxy } from '../support/target-proxy.ts'

const ends: (() => Promise<void>)[] = []
after(async () => {
  for (const end of ends.reverse()) await end()
})

/** Here rather than among the ordinary tests, because the orchestrator is started anew at each call: minutes. */
const MOST_MS = 600_000

/** A cloud of one region behind a proxy that makes its calls go wrong. */
async function behindProxy(url: string, token: string, settings: object) {
  const faults = createFaults({ streams: () => false })
  const proxy = await targetProxy({ faults, target: { host: '127.0.0.1', port: Number(new URL(url).port) } })
  ends.push(async () => await proxy[Symbol.asyncDispose]())
  const regions = { here: { endpoint: `http://127.0.0.1:${proxy.port}` } }
  const more = { credential: 'keys', boot: 'cloud-init', machines: 20, callsPerSecond: 1000 }
  return {
    backend: { kind: 'cloud', settings: { ...settings, ...more, regions } },
    credentials: { keys: { token } },
    faults,
    mostMs: MOST_MS,
  }
}

backendKills('DigitalOcean, from its reference', async (): Promise<KillSubject> => {
  const { droplets, firewalls, tags, state, url, close } = await digitaloceanServer()
  ends.push(close)
  state.remaining = 1_000_000
  const there = () => [...droplets.values()].filter(({ endedAt }) => endedAt === null)
  const settings = {
    provider: { kind: 'digitalocean', region: 'fra1' },
    ...{ size: 's-1vcpu-1gb', image: 'debian-12-x64' },
  }
  return {
    ...(await behindProxy(url, OCEAN, settings)),
    instances: async () =>
      there().map((one) => one.tags.find((tag) => tag.startsWith('orchestrator-instance:'))?.split(':')[2] ?? 'none'),
    things: async () => [
      ...there().map(({ name }) => `droplet ${name}`),
      ...[...firewalls.values()].map(({ name }) => `firewall ${name}`),
      ...[...tags].map((name) => `tag ${name}`),
    ],
  }
})

backendKills('Hetzner Cloud, from its reference', async (): Promise<KillSubject> => {
  const { servers, firewalls, state, url, close } = await hetznerServer()
  ends.push(close)
  state.remaining = 1_000_000
  const there = () => [...servers.values()].filter(({ endedAt }) => endedAt === null)
  const settings = { provider: { kind: 'hetzner', location: 'fsn1' }, size: 'cx22', image: 'debian-12' }
  return {
    ...(await behindProxy(url, HETZNER, settings)),
    instances: async () => there().map(({ labels }) => labels['orchestrator-instance'] ?? 'none'),
    things: async () => [
      ...there().map(({ name }) => `server ${name}`),
      ...[...firewalls.values()].map(({ name }) => `firewall ${name}`),
    ],
  }
})
