import { isIP } from 'node:net'
import { z } from 'zod'
import { checkedBody, pageOf, Refusal, type RestCall, restServer } from './rest-server.ts'

/**
 * A strict server made from DigitalOcean's published API reference (v2), for the calls that the provider makes. It is no
 * DigitalOcean: what the reference does not say, nobody has tried.
 */
export interface DigitaloceanServer {
  readonly url: string
  readonly droplets: ReadonlyMap<number, ServedDroplet>
  readonly firewalls: ReadonlyMap<string, ServedFirewall>
  readonly tags: ReadonlySet<string>
  /** The account's limits, its token, and what goes wrong; a test changes them. */
  readonly state: {
    dropletLimit: number
    /** Calls that may still be made. */
    remaining: number
    /** Epoch seconds. */
    reset: number
    /** Scopes that the token has; absent: all. */
    scopes: readonly string[] | null
    /** Regions whose sizes are sold out. */
    soldOut: boolean
    /** Droplets whose creation fails later. */
    creationFails: boolean
    /** When droplets were made, epoch ms. */
    now: () => number
  }
  close(): Promise<void>
}

interface ServedDroplet {
  readonly id: number
  readonly name: string
  readonly region: string
  readonly size: string
  readonly tags: readonly string[]
  readonly userData: string
  readonly createdAt: string
  /** The number of the call that made it. */
  readonly bornAt: number
  endedAt: number | null
  readonly fails: boolean
}

interface ServedFirewall {
  readonly id: string
  readonly name: string
  readonly tags: readonly string[]
  readonly inbound: readonly { protocol: string; ports: string; sources: { addresses: readonly string[] } }[]
}

export const TOKEN = 'dop_v1_0123456789abcdef'
/** Calls until tags are set, and until a droplet is active: the reference promises neither at once. */
const UNTAGGED_CALLS = 2
const NEW_CALLS = 5
/** Calls for which a deleted droplet is still listed. */
const LINGERING_CALLS = 2

/** "Tag names": letters, numbers, colons, dashes and underscores; 255 characters at most. */
const tagName = z.string().regex(/^[a-zA-Z0-9_\-:]{1,255}$/)
const hostName = z
  .string()
  .regex(/^[a-zA-Z0-9]?[a-z0-9A-Z.-]*[a-z0-9A-Z]$/)
  .max(255)
const createShape = z.strictObject({
  name: hostName,
  region: z.string(),
  size: z.string(),
  image: z.union([z.string(), z.int()]),
  ssh_keys: z.array(z.union([z.string(), z.int()])).optional(),
  backups: z.boolean().optional(),
  ipv6: z.boolean().optional(),
  monitoring: z.boolean().optional(),
  tags: z.array(tagName).nullish(),
  user_data: z.string().max(65_536).optional(),
  vpc_uuid: z.uuid().optional(),
  with_droplet_agent: z.boolean().optional(),
})
const address = z.string().refine((text) => {
  const [ip = '', length] = text.split('/')
  const family = isIP(ip)
  return (
    family !== 0 && (length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= (family === 6 ? 128 : 32)))
  )
}, 'expected an address or CIDR')
const rule = { protocol: z.enum(['tcp', 'udp', 'icmp']), ports: z.string().regex(/^\d{1,5}(-\d{1,5})?$/) }
const side = z.strictObject({ addresses: z.array(address).min(1) })
const firewallShape = z.strictObject({
  name: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9.-]+$/),
  inbound_rules: z.array(z.strictObject({ ...rule, sources: side })),
  outbound_rules: z.array(z.strictObject({ ...rule, destinations: side })),
  droplet_ids: z.array(z.int()).max(10).optional(),
  tags: z.array(tagName).max(5).optional(),
})

const SIZES = [
  { slug: 's-1vcpu-1gb', price_hourly: 0.00893, price_monthly: 6, available: true, regions: ['fra1', 'nyc3'] },
  { slug: 's-2vcpu-4gb', price_hourly: 0.03571, price_monthly: 24, available: true, regions: ['fra1'] },
]
const REGIONS = [
  {
    slug: 'fra1',
    name: 'Frankfurt 1',
    available: true,
    features: ['backups', 'ipv6', 'metadata'],
    sizes: SIZES.map((s) => s.slug),
  },
  { slug: 'nyc2', name: 'New York 2', available: false, features: ['metadata'], sizes: [] },
]
const IMAGES = new Set<string | number>(['debian-12-x64', 'ubuntu-24-04-x64', 1234567])

export async function digitaloceanServer(): Promise<DigitaloceanServer> {
  const droplets = new Map<number, ServedDroplet>()
  const firewalls = new Map<string, ServedFirewall>()
  const tags = new Set<string>()
  const state: DigitaloceanServer['state'] = {
    dropletLimit: 1000,
    remaining: 5000,
    reset: Math.floor(Date.now() / 1000) + 3600,
    scopes: null,
    soldOut: false,
    creationFails: false,
    now: Date.now,
  }
  let calls = 0
  let lastId = 3_000_000
  const wrong = (message: string) => new Refusal(422, 'unprocessable_entity', message)
  const missing = () => new Refusal(404, 'not_found', 'The resource you were accessing could not be found.')
  const lingers = (one: ServedDroplet) => one.endedAt === null || calls - one.endedAt < LINGERING_CALLS
  const tagged = (one: ServedDroplet) => (calls - one.bornAt > UNTAGGED_CALLS ? one.tags : [])
  const shown = (one: ServedDroplet) => ({
    id: one.id,
    name: one.name,
    status: one.fails || calls - one.bornAt <= NEW_CALLS ? 'new' : 'active',
    created_at: one.createdAt,
    tags: tagged(one),
    size_slug: one.size,
    region: { slug: one.region },
    networks: {
      v4: [],
      v6:
        calls - one.bornAt <= 1
          ? []
          : [
              {
                ip_address: `2a03:b0c0:3:d0::${(one.id % 65_536).toString(16)}:1`,
                netmask: 64,
                gateway: '2a03:b0c0:3:d0::1',
                type: 'public',
              },
            ],
    },
  })
  const page = (name: string, all: readonly unknown[], call: RestCall, path: string) => {
    const { items, page: at, last, perPage } = pageOf(all, call.query, 20, 200)
    const link = (n: number) => `https://api.digitalocean.com${path}?page=${n}&per_page=${perPage}`
    const pages = at < last ? { next: link(at + 1), last: link(last) } : {}
    return { status: 200, body: { [name]: items, links: { pages }, meta: { total: all.length } } }
  }
  const paging = ['page', 'per_page']

  const server = await restServer({
    before(call) {
      calls++
      if (call.headers.authorization !== `Bearer ${TOKEN}`)
        throw new Refusal(401, 'unauthorized', 'Unable to authenticate you')
      if (state.remaining <= 0) throw new Refusal(429, 'too_many_requests', 'API Rate limit exceeded.')
      state.remaining--
      const verb = { GET: 'read', POST: 'create', DELETE: 'delete' }[call.method] ?? 'update'
      const scope = `${call.path.split('/')[2]?.replace(/s$/, '')}:${verb}`
      if (state.scopes !== null && !state.scopes.includes(scope)) {
        throw new Refusal(403, 'forbidden', 'You are not authorized to perform this operation')
      }
    },
    refused: ({ status, code, message }) => ({ status, body: { id: code, message, request_id: 'r-0' } }),
    headers: () => ({
      'ratelimit-limit': '5000',
      'ratelimit-remaining': String(state.remaining),
      'ratelimit-reset': String(state.reset),
    }),
    routes: [
      {
        method: 'GET',
        path: /^\/v2\/account$/,
        answer: () => ({
          status: 200,
          body: {
            account: {
              droplet_limit: state.dropletLimit,
              email: 'a@example.com',
              uuid: 'u',
              email_verified: true,
              status: 'active',
              status_message: '',
            },
          },
        }),
      },
      {
        method: 'GET',
        path: /^\/v2\/regions$/,
        query: paging,
        answer: (call) => page('regions', REGIONS, call, '/v2/regions'),
      },
      {
        method: 'GET',
        path: /^\/v2\/sizes$/,
        query: paging,
        answer: (call) => page('sizes', SIZES, call, '/v2/sizes'),
      },
      {
        method: 'GET',
        path: /^\/v2\/droplets$/,
        query: [...paging, 'tag_name', 'name'],
        answer(call) {
          const [tag, name] = [call.query.get('tag_name'), call.query.get('name')]
          if (tag !== undefined && name !== undefined) throw wrong('tag_name can not be combined with name')
          const found = [...droplets.values()]
            .filter(lingers)
            .filter((one) => tag === undefined || tagged(one).includes(tag))
            .filter((one) => name === undefined || one.name.toLowerCase() === name.toLowerCase())
          return page('droplets', found.map(shown), call, '/v2/droplets')
        },
      },
      {
        method: 'POST',
        path: /^\/v2\/droplets$/,
        answer(call) {
          const asked = checkedBody(createShape, call.body, wrong)
          if (!REGIONS.some(({ slug }) => slug === asked.region))
            throw wrong('You specified an invalid region for Droplet creation.')
          if (!SIZES.some(({ slug }) => slug === asked.size))
            throw wrong('You specified an invalid size for Droplet creation.')
          if (state.soldOut) throw wrong('Size is not available in this region.')
          if (!IMAGES.has(asked.image)) throw wrong('You specified an invalid image for Droplet creation.')
          const living = [...droplets.values()].filter(({ endedAt }) => endedAt === null)
          if (living.length >= state.dropletLimit)
            throw wrong('creating this/these droplet(s) will exceed your droplet limit')
          const one: ServedDroplet = {
            id: ++lastId,
            name: asked.name,
            region: asked.region,
            size: asked.size,
            tags: asked.tags ?? [],
            userData: asked.user_data ?? '',
            createdAt: new Date(state.now()).toISOString().replace(/\.\d+/, ''),
            bornAt: calls,
            endedAt: null,
            fails: state.creationFails,
          }
          droplets.set(one.id, one)
          for (const tag of one.tags) tags.add(tag)
          const action = {
            id: one.id * 10,
            rel: 'create',
            href: `https://api.digitalocean.com/v2/actions/${one.id * 10}`,
          }
          return { status: 202, body: { droplet: { ...shown(one), tags: [] }, links: { actions: [action] } } }
        },
      },
      {
        method: 'DELETE',
        path: /^\/v2\/droplets\/(\d+)$/,
        answer({ parts: [id] }) {
          const one = droplets.get(Number(id))
          if (one === undefined || one.endedAt !== null) throw missing()
          one.endedAt = calls
          return { status: 204 }
        },
      },
      {
        method: 'GET',
        path: /^\/v2\/droplets\/(\d+)\/actions$/,
        query: paging,
        answer(call) {
          const one = droplets.get(Number(call.parts[0]))
          if (one === undefined || !lingers(one)) throw missing()
          const status = one.fails ? 'errored' : calls - one.bornAt <= NEW_CALLS ? 'in-progress' : 'completed'
          return page(
            'actions',
            [{ id: one.id * 10, type: 'create', status, resource_id: one.id, resource_type: 'droplet' }],
            call,
            call.path,
          )
        },
      },
      {
        method: 'GET',
        path: /^\/v2\/firewalls$/,
        query: paging,
        answer: (call) =>
          page(
            'firewalls',
            [...firewalls.values()].map(({ id, name, tags: on }) => ({ id, name, status: 'succeeded', tags: on })),
            call,
            '/v2/firewalls',
          ),
      },
      {
        method: 'POST',
        path: /^\/v2\/firewalls$/,
        answer(call) {
          const asked = checkedBody(firewallShape, call.body, wrong)
          const unknown = (asked.tags ?? []).find((tag) => !tags.has(tag))
          if (unknown !== undefined) throw wrong(`tag ${unknown} does not exist`)
          const id = crypto.randomUUID()
          firewalls.set(id, { id, name: asked.name, tags: asked.tags ?? [], inbound: asked.inbound_rules })
          return {
            status: 202,
            body: { firewall: { id, name: asked.name, status: 'waiting', tags: asked.tags ?? [] } },
          }
        },
      },
      {
        method: 'DELETE',
        path: /^\/v2\/firewalls\/([^/]+)$/,
        answer({ parts: [id = ''] }) {
          if (!firewalls.delete(id)) throw missing()
          return { status: 204 }
        },
      },
      {
        method: 'GET',
        path: /^\/v2\/tags$/,
        query: paging,
        answer(call) {
          const all = [...tags].map((name) => {
            const count = [...droplets.values()].filter((one) => one.endedAt === null && one.tags.includes(name)).length
            return { name, resources: { count, droplets: { count } } }
          })
          return page('tags', all, call, '/v2/tags')
        },
      },
      {
        method: 'POST',
        path: /^\/v2\/tags$/,
        answer(call) {
          const { name } = checkedBody(z.strictObject({ name: tagName }), call.body, wrong)
          tags.add(name)
          return { status: 201, body: { tag: { name, resources: { count: 0 } } } }
        },
      },
      {
        method: 'DELETE',
        path: /^\/v2\/tags\/([^/]+)$/,
        answer({ parts: [name = ''] }) {
          if (!tags.delete(name)) throw missing()
          return { status: 204 }
        },
      },
    ],
  })
  return { url: server.url, droplets, firewalls, tags, state, close: server.close }
}
