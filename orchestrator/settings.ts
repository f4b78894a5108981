import { hostname } from 'node:os'
import { z } from 'zod'
import type { SettingsOf } from '../common/config.ts'
import { parsePrefix } from '../common/ipv6.ts'
import { DEFAULT_PORT } from './api/wire.ts'
import { backendsSchema } from './backends/load.ts'
import { buildSettings } from './builds/settings.ts'

const seconds = z.number().min(0).max(31_536_000)
const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected a DNS label: a-z, 0-9, -')
const prefix = z.string().superRefine((text, ctx) => {
  try {
    const { length } = parsePrefix(text)
    if (length < 64 || length > 124) ctx.addIssue(`expected a prefix of 64 to 124 bits, got ${length}`)
  } catch (error) {
    ctx.addIssue(error instanceof Error ? error.message : String(error))
  }
})

/** Every setting of the orchestrator, once. */
export const settingsTable = {
  'server.address': { schema: z.ipv6(), default: '::', summary: 'IPv6 address to listen on; :: is all, IPv4 too' },
  'server.port': {
    schema: z.number().int().min(0).max(65535),
    default: DEFAULT_PORT,
    summary: 'TCP port of the API and of the hosts; 0 takes a free one',
  },
  'server.names': {
    schema: z.array(z.string().min(1).max(253)),
    default: [hostname(), 'localhost', '::1', '127.0.0.1'],
    summary: 'Names and addresses in the server certificate; the first is what hosts are told to dial',
  },
  'state.directory': {
    schema: z.string().startsWith('/'),
    default: '/var/lib/orchestrator',
    summary: 'Where the authority, the API token and the built-in database live',
  },
  'store.url': {
    schema: z
      .string()
      .regex(/^(sqlite:|postgres(ql)?:\/\/)/, 'expected sqlite: or postgres://user:password@host/database'),
    default: 'sqlite:',
    secret: true,
    summary:
      'sqlite: keeps a database in state.directory, sqlite:/path/file keeps it there, postgres://… uses a server',
  },
  'instances.prefix': {
    schema: prefix,
    default: 'fd00:1::/64',
    summary: 'IPv6 prefix of the instances, 64 to 124 bits',
  },
  'instances.reserved': {
    schema: z.number().int().min(0).max(65535),
    default: 15,
    summary: 'Lowest addresses of the prefix that no instance gets (gateway and the like)',
  },
  'catalog.directory': {
    schema: z.string().startsWith('/'),
    default: '/etc/orchestrator/catalog',
    summary: 'Folder that is watched for templates (NAME.yaml, NAME/compose.yaml) and rules (rules.yaml)',
  },
  'templates.default': { schema: label, default: 'sample', summary: 'Template that a lease becomes without any rules' },
  'templates.trusted': {
    schema: z.array(label),
    default: [],
    summary: 'Templates that may weaken isolation: privileged, paths and devices of the host, and the like',
  },
  backends: {
    schema: backendsSchema,
    default: {},
    summary:
      'Places beside docker where instances run, by name: {kind: swarm, settings: {…}} or {package: NAME, settings: {…}}',
  },
  'packages.directory': {
    schema: z.string().startsWith('/'),
    default: '/usr/local/lib/orchestrator',
    summary: 'Folder in whose node_modules packages of backends are installed',
  },
  ...buildSettings,
  'reconciler.concurrency': {
    schema: z.number().int().min(1).max(1024),
    default: 64,
    summary: 'Actions at once over all hosts',
  },
  'reconciler.per-host': {
    schema: z.number().int().min(1).max(64),
    default: 4,
    summary: 'Actions at once on one host',
  },
  'reconciler.resync-seconds': {
    schema: seconds.min(1),
    default: 60,
    summary: 'Seconds between two comparisons of a host with what is stored',
  },
  'reconciler.action-seconds': {
    schema: seconds.min(1),
    default: 60,
    summary: 'Seconds after which an action is given up and tried again',
  },
  'events.keep': {
    schema: z.number().int().min(100),
    default: 100_000,
    summary: 'Number of events kept for operators',
  },
  'log.level': {
    schema: z.enum(['debug', 'info', 'warn', 'error']),
    default: 'info',
    summary: 'Least level that is logged',
  },
} as const

export type Settings = SettingsOf<typeof settingsTable>
