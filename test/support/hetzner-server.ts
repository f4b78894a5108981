import { isIP } from 'node:net'
import { z } from 'zod'
import { checkedBody, pageOf, Refusal, type RestCall, restServer } from './rest-server.ts'

/**
 * A strict server made from Hetzner Cloud's published API reference (v1), for the calls that the provider makes. It is no
 * Hetzner Cloud: what the reference does not say, nobody has tried.
 */
export interface HetznerServer {
  readonly url: string
  readonly servers: ReadonlyMap<number, ServedServer>
  readonly firewalls: ReadonlyMap<number, ServedFirewall>
  /** The project's limits, its token, and what goes wrong; a test changes them. */
  readonly state: {
    serverLimit: number
    remaining: number
    /** Epoch seconds. */
    reset: number
    readOnly: boolean
    /** The next create, and only that, is refused with this code. */
    refuse: { status: number; code: string; message: string } | null
    /** Code with which the action of a create fails later; null: it succeeds. */
    actionFails: string | null
    /** The server is locked by its own creation until it runs. */
    locks: boolean
    now: () => number
  }
  close(): Promise<void>
}

interface ServedServer {
  readonly id: number
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly type: string
  readonly ipv4: boolean
  readonly userData: string
  readonly firewalls: readonly number[]
  readonly created: string
  readonly bornAt: number
  readonly failed: string | null
  endedAt: number | null
}

interface ServedFirewall {
  readonly id: number
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly rules: readonly { direction: string; protocol: string; source_ips: readonly string[] }[]
}

export const TOKEN = 'x'.repeat(64)
/** Calls until a server runs, and for which one that is deleted is `deleting`. */
const STARTING_CALLS = 4
const DELETING_CALLS = 2

/** "Labels": a prefix, if any, of a DNS name; keys and values of 63 characters that begin and end with a letter or digit. */
const labelValue = z.string().regex(/^([a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?)?$/)
const labels = z.record(z.string().regex(/^[a-z0-9A-Z]([a-z0-9A-Z._-]{0,61}[a-z0-9A-Z])?$/), labelValue)
const cidr = z.string().refine((text) => {
  const [ip = '', length = ''] = text.split('/')
  const family = isIP(ip)
  return family !== 0 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 6 ? 128 : 32)
}, 'expected CIDR')
const createShape = z.strictObject({
  /** "Must be unique per Project and a valid hostname as per RFC 1123". */
  name: z.string().regex(/^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/),
  server_type: z.string(),
  image: z.union([z.string(), z.int()]),
  location: z.string().optional(),
  labels: labels.optional(),
  firewalls: z
    .array(z.strictObject({ firewall: z.int() }))
    .max(5)
    .optional(),
  public_net: z.strictObject({ enable_ipv4: z.boolean().optional(), enable_ipv6: z.boolean().optional() }).optional(),
  ssh_keys: z.array(z.union([z.string(), z.int()])).optional(),
  user_data: z.string().max(32_768).optional(),
  start_after_create: z.boolean().optional(),
})
const firewallShape = z.strictObject({
  name: z.string().min(1).max(128),
  labels: labels.optional(),
  rules: z
    .array(
      z
        .strictObject({
          direction: z.enum(['in', 'out']),
          protocol: z.enum(['tcp', 'udp', 'icmp', 'esp', 'gre']),
          source_ips: z.array(cidr).max(100).optional(),
          destination_ips: z.array(cidr).max(100).optional(),
          port: z
            .string()
            .regex(/^\d{1,5}(-\d{1,5})?$/)
            .optional(),
          description: z.string().max(255).optional(),
        })
        .refine(
          (r) => ['tcp', 'udp'].includes(r.protocol) === (r.port !== undefined),
          'port: for tcp and udp, and only them',
        )
        .refine(
          (r) => r.direction === 'out' || (r.source_ips ?? []).length > 0,
          'source_ips: required for direction in',
        ),
    )
    .max(50)
    .optional(),
  apply_to: z.array(z.unknown()).max(0).optional(),
})

const TYPES = ['cx22', 'cax11']
const IMAGES = new Set<string | number>(['debian-12', 'ubuntu-24.04', 4711])
const LOCATIONS = [
  { id: 1, name: 'fsn1', description: 'Falkenstein DC Park 1', country: 'DE', network_zone: 'eu-central' },
  { id: 2, name: 'nbg1', description: 'Nuremberg DC Park 1', country: 'DE', network_zone: 'eu-central' },
]
const net = (value: string) => ({ net: value, gross: `${value}9` })
const PRICING = {
  currency: 'EUR',
  vat_rate: '19.000000',
  server_types: TYPES.map((name, id) => ({
    id,
    name,
    prices: LOCATIONS.map((l, n) => ({ location: l.name, price_hourly: net(`0.006${n}`), price_monthly: net('3.79') })),
  })),
}

export async function hetznerServer(): Promise<HetznerServer> {
  const servers = new Map<number, ServedServer>()
  const firewalls = new Map<number, ServedFirewall>()
  const state: HetznerServer['state'] = {
    serverLimit: 1000,
    remaining: 3600,
    reset: Math.floor(Date.now() / 1000) + 3600,
    readOnly: false,
    refuse: null,
    actionFails: null,
    locks: false,
    now: Date.now,
  }
  let calls = 0
  let lastId = 40_000_000
  const invalid = (message: string) => new Refusal(422, 'invalid_input', message)
  const missing = (what: string) => new Refusal(404, 'not_found', `${what} not found`)
  const there = (one: ServedServer) => one.endedAt === null || calls - one.endedAt < DELETING_CALLS
  const young = (one: ServedServer) => calls - one.bornAt <= STARTING_CALLS
  const statusOf = (one: ServedServer) =>
    one.endedAt !== null
      ? 'deleting'
      : one.failed !== null || calls === one.bornAt
        ? 'initializing'
        : young(one)
          ? 'starting'
          : 'running'
  const shown = (one: ServedServer) => ({
    id: one.id,
    name: one.name,
    status: statusOf(one),
    created: one.created,
    labels: one.labels,
    server_type: { name: one.type },
    public_net: {
      ipv4: one.ipv4 ? { id: one.id + 1, ip: '192.0.2.1', blocked: false } : null,
      ipv6: { id: one.id + 2, ip: `2a01:4f8:c0c:${(one.id % 65_536).toString(16)}::/64`, blocked: false, dns_ptr: [] },
      firewalls: one.firewalls.map((id) => ({ id, status: 'applied' })),
    },
  })
  const actionOf = (one: ServedServer, command: string) => ({
    id: one.id * 10,
    command,
    status: one.failed !== null ? 'error' : young(one) ? 'running' : 'success',
    progress: young(one) ? 50 : 100,
    started: one.created,
    finished: null,
    resources: [{ id: one.id, type: 'server' }],
    error: one.failed === null ? null : { code: one.failed, message: 'Action failed' },
  })
  const page = (name: string, all: readonly unknown[], call: RestCall) => {
    const { items, page: at, last, perPage } = pageOf(all, call.query, 25, 50)
    const pagination = {
      page: at,
      per_page: perPage,
      previous_page: at > 1 ? at - 1 : null,
      next_page: at < last ? at + 1 : null,
      last_page: last,
      total_entries: all.length,
    }
    return { status: 200, body: { [name]: items, meta: { pagination } } }
  }
  /** "Label Selector": here `key==value` alone. */
  const selected = <T extends { labels: Readonly<Record<string, string>> }>(call: RestCall, all: Iterable<T>): T[] => {
    const selector = call.query.get('label_selector')
    if (selector === undefined) return [...all]
    const [, key = '', value = ''] = /^([\w.-]+)==?([\w.-]+)$/.exec(selector) ?? []
    if (key === '') throw invalid('label_selector: invalid')
    return [...all].filter((one) => one.labels[key] === value)
  }
  const named = <T extends { name: string }>(call: RestCall, all: readonly T[]) =>
    all.filter(({ name }) => !call.query.has('name') || name === call.query.get('name'))
  const paging = ['page', 'per_page', 'name', 'label_selector', 'sort']

  const server = await restServer({
    before(call) {
      calls++
      if (call.headers.authorization !== `Bearer ${TOKEN}`)
        throw new Refusal(401, 'unauthorized', 'unable to authenticate')
      if (state.remaining <= 0) throw new Refusal(429, 'rate_limit_exceeded', 'limit of 3600 requests per hour reached')
      state.remaining--
      if (state.readOnly && call.method !== 'GET')
        throw new Refusal(403, 'token_readonly', 'token is only allowed to perform GET requests')
    },
    refused: ({ status, code, message }) => ({ status, body: { error: { code, message, details: {} } } }),
    headers: () => ({
      'ratelimit-limit': '3600',
      'ratelimit-remaining': String(state.remaining),
      'ratelimit-reset': String(state.reset),
    }),
    routes: [
      {
        method: 'GET',
        path: /^\/v1\/locations$/,
        query: paging,
        answer: (call) => page('locations', named(call, LOCATIONS), call),
      },
      { method: 'GET', path: /^\/v1\/pricing$/, answer: () => ({ status: 200, body: { pricing: PRICING } }) },
      {
        method: 'GET',
        path: /^\/v1\/servers$/,
        query: [...paging, 'status'],
        answer: (call) => page('servers', named(call, selected(call, servers.values()).filter(there)).map(shown), call),
      },
      {
        method: 'POST',
        path: /^\/v1\/servers$/,
        answer(call) {
          const asked = checkedBody(createShape, call.body, invalid)
          const { refuse } = state
          state.refuse = null
          if (refuse !== null) throw new Refusal(refuse.status, refuse.code, refuse.message)
          if (!TYPES.includes(asked.server_type)) throw invalid("invalid input in field 'server_type'")
          if (!IMAGES.has(asked.image)) throw invalid("invalid input in field 'image'")
          if (asked.location !== undefined && !LOCATIONS.some(({ name }) => name === asked.location)) {
            throw invalid("invalid input in field 'location'")
          }
          const on = (asked.firewalls ?? []).map(({ firewall }) => firewall)
          if (on.some((id) => !firewalls.has(id))) throw missing('firewall')
          const living = [...servers.values()].filter(there)
          if (living.some(({ name }) => name === asked.name))
            throw new Refusal(409, 'uniqueness_error', 'server name is already used')
          if (living.length >= state.serverLimit)
            throw new Refusal(403, 'resource_limit_exceeded', 'server limit exceeded')
          const one: ServedServer = {
            id: ++lastId,
            name: asked.name,
            labels: asked.labels ?? {},
            type: asked.server_type,
            ipv4: asked.public_net?.enable_ipv4 ?? true,
            userData: asked.user_data ?? '',
            firewalls: on,
            created: new Date(state.now()).toISOString().replace(/\.\d+Z/, '+00:00'),
            bornAt: calls,
            failed: state.actionFails,
            endedAt: null,
          }
          servers.set(one.id, one)
          const body = {
            server: shown(one),
            action: actionOf(one, 'create_server'),
            next_actions: [actionOf(one, 'start_server')],
            root_password: 'YItygq1v3GYjjMomLaKc',
          }
          return { status: 201, body }
        },
      },
      {
        method: 'DELETE',
        path: /^\/v1\/servers\/(\d+)$/,
        answer({ parts: [id] }) {
          const one = servers.get(Number(id))
          if (one === undefined || one.endedAt !== null) throw missing('server')
          if (state.locks && young(one)) throw new Refusal(423, 'locked', 'server is locked')
          one.endedAt = calls
          return { status: 200, body: { action: actionOf(one, 'delete_server') } }
        },
      },
      {
        method: 'GET',
        path: /^\/v1\/servers\/(\d+)\/actions$/,
        query: ['page', 'per_page', 'status', 'sort'],
        answer(call) {
          const one = servers.get(Number(call.parts[0]))
          if (one === undefined || !there(one)) throw missing('server')
          const all = [actionOf(one, 'create_server')].filter(
            ({ status }) => status === (call.query.get('status') ?? status),
          )
          return page('actions', all, call)
        },
      },
      {
        method: 'GET',
        path: /^\/v1\/firewalls$/,
        query: paging,
        answer: (call) => page('firewalls', named(call, selected(call, firewalls.values())), call),
      },
      {
        method: 'POST',
        path: /^\/v1\/firewalls$/,
        answer(call) {
          const asked = checkedBody(firewallShape, call.body, invalid)
          if ([...firewalls.values()].some(({ name }) => name === asked.name)) {
            throw new Refusal(409, 'uniqueness_error', 'firewall name is already used')
          }
          const rules = (asked.rules ?? []).map((r) => ({ ...r, source_ips: r.source_ips ?? [] }))
          const one = { id: ++lastId, name: asked.name, labels: asked.labels ?? {}, rules }
          firewalls.set(one.id, one)
          return {
            status: 201,
            body: { firewall: { ...one, created: new Date().toISOString(), applied_to: [] }, actions: [] },
          }
        },
      },
      {
        method: 'DELETE',
        path: /^\/v1\/firewalls\/(\d+)$/,
        answer({ parts: [id] }) {
          if (!firewalls.has(Number(id))) throw missing('firewall')
          const used = [...servers.values()].some((one) => there(one) && one.firewalls.includes(Number(id)))
          if (used) throw new Refusal(422, 'resource_in_use', 'firewall is still in use')
          firewalls.delete(Number(id))
          return { status: 204 }
        },
      },
    ],
  })
  return { url: server.url, servers, firewalls, state, close: server.close }
}
