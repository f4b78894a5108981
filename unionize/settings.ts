import { hostname } from 'node:os'
import { z } from 'zod'
import type { SettingsOf } from '../common/config.ts'

const path = z.string().startsWith('/', 'expected an absolute path')
const linkName = z.string().regex(/^[^\s/:]{1,15}$/, 'expected an interface name of 1 to 15 characters')

/** Every setting of unionize, once. */
export const settingsTable = {
  'server.url': {
    schema: z.url({ protocol: /^https$/ }),
    default: 'https://localhost:8998',
    summary: 'Where the orchestrator answers',
  },
  'host.name': {
    schema: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected a DNS label: a-z, 0-9, -'),
    default: (hostname().toLowerCase().split('.')[0] ?? '').replace(/[^a-z0-9-]/g, '-'),
    summary: 'Name of this host, as it joined',
  },
  'state.directory': {
    schema: path,
    default: '/var/lib/unionize',
    summary: 'Where key, certificate and journal offset live',
  },
  'docker.socket': { schema: path, default: '/var/run/docker.sock', summary: 'Socket of the Docker engine' },
  'wiring.socket': {
    schema: path.max(107, 'expected at most 107 characters, as unix(7) allows'),
    default: '/run/unionize/wiring.sock',
    summary: 'Socket of the wiring process (unionize wiring), which alone holds the network capabilities',
  },
  'wiring.directory': {
    schema: path,
    default: '/var/lib/unionize/wiring',
    summary: 'Where the wiring process keeps what it needs to undo declared wirings',
  },
  'network.bridge': {
    schema: linkName,
    default: 'br-instances',
    summary: 'Bridge that instances are wired onto; it must exist',
  },
  'network.gateway': { schema: z.ipv6(), default: 'fd00:1::1', summary: "This host's address on that bridge" },
  'network.prefix-length': {
    schema: z.number().int().min(64).max(124),
    default: 64,
    summary: 'Bits of the instances prefix',
  },
  'network.my-address': {
    schema: z.ipv6(),
    default: 'fd00:1:0:ffff::1',
    summary: 'Address that my.instance answers; leads each client to its own instance',
  },
  'network.address': {
    schema: z.ipv6().nullable(),
    default: null,
    summary:
      'IPv6 address at which other hosts and machines reach this one; null: the one that its connection to the orchestrator comes from',
  },
  'leases.journal': {
    schema: path,
    default: '/var/lib/orchestrator-leases/journal',
    summary: 'File to which the lease hook appends',
  },
  'leases.dnsmasq-config': {
    schema: path.nullable(),
    default: '/etc/orchestrator/dnsmasq/clients.conf',
    summary:
      'Configuration of the dnsmasq that gives the leases: tells lease file, range and limit; null: no lease file is compared',
  },
  'leases.compare-seconds': {
    schema: z.number().min(1).max(86_400),
    default: 60,
    summary: 'Seconds between two comparisons with the lease file',
  },
  'names.directory': {
    schema: path,
    default: '/run/unionize/hosts.d',
    summary: 'Folder that dnsmasq reads instance names from (its hostsdir)',
  },
  'names.domain': {
    schema: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
    default: 'instance',
    summary: 'DNS domain in which instance names resolve',
  },
  'files.directory': {
    schema: path,
    default: '/run/unionize/files',
    summary: 'Folder for configs, secrets and parameters of instances; it must be in memory (tmpfs)',
  },
  'images.credentials-file': {
    schema: path.nullable(),
    default: null,
    summary: 'config.json as docker login writes it, with the passwords of registries; null: none are shown',
  },
  'images.keep-seconds': {
    schema: z.number().min(0).max(31_536_000),
    default: 3600,
    summary: 'Seconds that a fetched or built image stays though nothing wants or uses it',
  },
  'images.build-network': {
    schema: z.enum(['none', 'bridge']),
    default: 'none',
    summary: "Network of what builds run: none, or bridge, the engine's own, to install packages",
  },
  'images.build-memory-bytes': {
    schema: z
      .number()
      .int()
      .min(16 << 20),
    default: 1 << 30,
    summary: 'Bytes of memory that a step of a build may use',
  },
  'images.build-cpus': {
    schema: z.number().positive().max(4096),
    default: 1,
    summary: 'Processors that a build may use, as a fraction',
  },
  'pool.size': { schema: z.number().int().min(0).max(256), default: 4, summary: 'Wired sandboxes kept ready' },
  'engine.parallel': { schema: z.number().int().min(1).max(64), default: 4, summary: 'Containers made at once' },
  'orphans.grace-seconds': {
    schema: z.number().min(1).max(86_400),
    default: 60,
    summary: 'Seconds before leftovers of ours that nobody asks for are removed',
  },
  'log.level': {
    schema: z.enum(['debug', 'info', 'warn', 'error']),
    default: 'info',
    summary: 'Least level that is logged',
  },
} as const

export type Settings = SettingsOf<typeof settingsTable>
