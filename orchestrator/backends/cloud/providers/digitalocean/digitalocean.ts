import { z } from 'zod'
import { InvalidInput, NoRoom, OrchestratorError } from '../../../../../common/errors.ts'
import type { TargetCheck } from '../../../backend.ts'
import { type Answer, type Call, createHttp, type Refused } from '../../http.ts'
import {
  type CloudMachine,
  type MachineOrder,
  type Provider,
  type ProviderContext,
  type ProviderKind,
  TAG,
} from '../../provider.ts'
import { parse } from '../../settings.ts'
import { answered } from '../answers.ts'
import { busy, type NamedApi, type NamedMachine, namedProvider, tokenOf } from '../named.ts'
import { everyPage } from '../pages.ts'
import {
  account,
  actions,
  type Droplet,
  droplet,
  droplets,
  firewall,
  firewalls,
  type next,
  regions,
  sizes,
  tags,
} from './shapes.ts'

/** `settings.provider` of kind `digitalocean`, with what the region says itself. */
export const digitaloceanSettings = z.strictObject({
  /** Slug of a region that has IPv6: `fra1`. */
  region: z.string().regex(/^[a-z]{3}\d{1,2}$/, 'expected a region of DigitalOcean: fra1'),
  /** Of the API; DigitalOcean's own unless told. */
  endpoint: z.url({ protocol: /^https?$/ }).default('https://api.digitalocean.com'),
  /** The VPC that droplets join; the region's default one unless told. */
  vpc: z.uuid().optional(),
  /** Ids or fingerprints of SSH keys that root gets; without any, DigitalOcean mails a password to the account. */
  sshKeys: z.array(z.union([z.int().positive(), z.string().min(1)])).default([]),
})
export type DigitaloceanSettings = z.output<typeof digitaloceanSettings>

/** API reference, "Create a New Droplet", `user_data`. */
const BOOT_BYTES = 65_536
/** API reference, "Links & Pagination". */
const PAGE_SIZE = 200
/** Milliseconds after which a droplet that is still new is asked what keeps it. */
const SLOW_MS = 60_000

export const provider: ProviderKind = {
  bootBytes: BOOT_BYTES,
  create: (settings, context) =>
    createDigitalocean(parse('settings.provider', digitaloceanSettings, settings), context),
}

/** One region of DigitalOcean (API v2). @param pageSize of lists, 1 to 200: of a test that wants to see pages */
export function createDigitalocean(
  settings: DigitaloceanSettings,
  context: ProviderContext,
  pageSize = PAGE_SIZE,
): Provider {
  const { installation, clock, pace, target } = context
  const http = createHttp({ target, clock, pace, hint, explain: (refused) => explained(refused, settings) })
  const base = `${settings.endpoint.replace(/\/$/, '')}/v2`
  const ours = `${TAG.installation}:${installation}`

  const send = async (method: Call['method'], path: string, signal: AbortSignal, body?: unknown): Promise<Answer> => {
    const authorization = `Bearer ${await tokenOf(context)}`
    return await http.send({ method, url: `${base}${path}`, headers: { authorization }, body }, signal)
  }

  const every = <T, B extends z.infer<typeof next>>(
    path: string,
    shape: z.ZodType<B>,
    items: (body: B) => readonly T[],
    keyOf: (item: T) => string,
    signal: AbortSignal,
  ): Promise<readonly T[]> =>
    everyPage(`GET ${path}`, keyOf, async (page: number | undefined) => {
      const at = page ?? 1
      const query = `${path.includes('?') ? '&' : '?'}page=${at}&per_page=${pageSize}`
      const body = answered(`GET ${path}`, shape, (await send('GET', path + query, signal)).body)
      return { items: items(body), next: body.links?.pages?.next === undefined ? undefined : at + 1 }
    })

  const dropletsOf = (query: string, signal: AbortSignal) =>
    every(
      `/droplets?${query}`,
      droplets,
      (body) => body.droplets,
      ({ id }) => String(id),
      signal,
    )

  /** The machine, and why it is still new, if DigitalOcean gave up. */
  const machineOf = async (found: Droplet, signal: AbortSignal): Promise<NamedMachine[]> => {
    const told = toldBy(found, installation)
    if (told === null) return []
    if (found.status !== 'new' || clock.now() - told.createdAt < SLOW_MS) return [told]
    const body = answered(
      'GET /droplets/ID/actions',
      actions,
      (await send('GET', `/droplets/${found.id}/actions`, signal)).body,
    )
    const failed = body.actions.some(({ type, status }) => type === 'create' && status === 'errored')
    return [
      failed
        ? { ...told, state: 'failed', detail: 'DigitalOcean could not create the droplet and says no reason' }
        : told,
    ]
  }

  const api: NamedApi = {
    async machines(signal) {
      const found = await dropletsOf(`tag_name=${encodeURIComponent(ours)}`, signal)
      const machines: NamedMachine[] = []
      for (const one of found) machines.push(...(await machineOf(one, signal)))
      return machines
    },

    async named(name, order, signal) {
      const found = (await dropletsOf(`name=${name}`, signal)).filter((one) => one.name === name)
      // Tags are set after a droplet was made (API reference): its name is enough.
      return found.map((one) => toldBy(one, installation) ?? ofName(one, order))
    },

    async make(name, order, admit, _, signal) {
      const body = {
        name,
        region: settings.region,
        size: order.size,
        image: /^\d+$/.test(order.image) ? Number(order.image) : order.image,
        ipv6: true,
        ssh_keys: settings.sshKeys,
        user_data: order.bootData,
        tags: tagsOf(order, installation, admit),
        ...(settings.vpc !== undefined && { vpc_uuid: settings.vpc }),
      }
      const made = answered('POST /droplets', droplet, (await send('POST', '/droplets', signal, body)).body)
      return ofName(made.droplet, order)
    },

    erase: (id, signal) => gone(send('DELETE', `/droplets/${id}`, signal)),

    async firewalls(signal) {
      const found = await every(
        '/firewalls',
        firewalls,
        (body) => body.firewalls,
        ({ id }) => id,
        signal,
      )
      const prefix = firewallName(installation, '')
      return found.flatMap(({ id, name }) =>
        name.startsWith(prefix) ? [{ id, admit: name.slice(prefix.length) }] : [],
      )
    },

    async firewall(admit, address, signal) {
      const known = (await api.firewalls(signal)).find((one) => one.admit === admit)
      if (known !== undefined) return known.id
      const tag = admitTag(installation, admit)
      // A firewall refers to tags that exist; to make one that does changes nothing.
      await send('POST', '/tags', signal, { name: tag })
      const body = { name: firewallName(installation, admit), tags: [tag], ...rulesFor(address) }
      return answered('POST /firewalls', firewall, (await send('POST', '/firewalls', signal, body)).body).firewall.id
    },

    async eraseFirewall({ id, admit }, ending, signal) {
      // DigitalOcean takes it away from droplets that have it: it is asked once more, in another way, whether there are some.
      const holders = await dropletsOf(`tag_name=${encodeURIComponent(admitTag(installation, admit))}`, signal)
      if (holders.some((one) => !ending.has(String(one.id)))) return false
      await gone(send('DELETE', `/firewalls/${id}`, signal))
      return true
    },

    /** Tags stay when the last droplet that had them is gone. */
    async tidyRest(signal) {
      const needed = new Set((await api.firewalls(signal)).map(({ admit }) => admitTag(installation, admit)))
      const all = await every(
        '/tags',
        tags,
        (body) => body.tags,
        ({ name }) => name,
        signal,
      )
      for (const { name, resources } of all) {
        const mine = name === ours || name.includes(`:${installation}:`)
        if (!mine || resources.count > 0 || needed.has(name)) continue
        await gone(send('DELETE', `/tags/${encodeURIComponent(name)}`, signal))
      }
    },

    async prices(signal) {
      const all = await every(
        '/sizes',
        sizes,
        (body) => body.sizes,
        ({ slug }) => slug,
        signal,
      )
      return new Map(all.map(({ slug, price_hourly }) => [slug, { perHour: price_hourly, currency: 'USD' }]))
    },

    async check(signal): Promise<TargetCheck> {
      const { account: mine } = answered('GET /account', account, (await send('GET', '/account', signal)).body)
      const all = await every(
        '/regions',
        regions,
        (body) => body.regions,
        ({ slug }) => slug,
        signal,
      )
      const region = all.find(({ slug }) => slug === settings.region)
      if (region === undefined) throw unknownRegion(settings.region)
      const missing: string[] = []
      if (!region.available) missing.push(`room: ${settings.region} takes no new droplets; choose another region`)
      if (!region.features.includes('ipv6')) missing.push(`IPv6 in ${settings.region}: choose another region`)
      if (mine.status !== 'active')
        missing.push(`an active account: it is ${mine.status} (${mine.status_message ?? ''})`)
      const found = (await api.machines(signal)).length
      const abilities = [`list droplets (${found} of ours)`, `${mine.droplet_limit} droplets in the account at most`]
      return { version: `DigitalOcean API v2 in ${settings.region}`, abilities, missing }
    },
  }
  return namedProvider('DigitalOcean', api, context)
}

/** Everything from one address; out, everywhere: a firewall of DigitalOcean lets nothing out that no rule names. */
function rulesFor(address: string) {
  const protocols = ['tcp', 'udp', 'icmp']
  // "0": all ports (API reference, "Firewalls", `ports`).
  const rule = (protocol: string) => ({ protocol, ports: '0' })
  return {
    inbound_rules: protocols.map((protocol) => ({ ...rule(protocol), sources: { addresses: [address] } })),
    outbound_rules: protocols.map((p) => ({ ...rule(p), destinations: { addresses: ['0.0.0.0/0', '::/0'] } })),
  }
}

function firewallName(installation: string, admit: string): string {
  return `orchestrator-${installation}-${admit}`
}

function admitTag(installation: string, admit: string): string {
  return `orchestrator-admit:${installation}:${admit}`
}

/** Letters, digits, `:`, `-` and `_` are allowed. All but the first name the installation: an unused one is ours to remove. */
function tagsOf(order: MachineOrder, installation: string, admit: string): string[] {
  const others = Object.entries(order.tags).filter(([key]) => key !== TAG.installation)
  return [
    `${TAG.installation}:${installation}`,
    ...others.map(([key, value]) => `${key}:${installation}:${value}`),
    admitTag(installation, admit),
  ]
}

const STATES = { new: 'starting', active: 'running', off: 'stopped', archive: 'stopped' } as const

/** By its tags; null: it carries none of ours. */
function toldBy(found: Droplet, installation: string): NamedMachine | null {
  const value = (key: string) => {
    const prefix = `${key}:${installation}:`
    return found.tags.find((tag) => tag.startsWith(prefix))?.slice(prefix.length)
  }
  const [instance, generation] = [value(TAG.instance), value(TAG.generation)]
  if (instance === undefined || !/^\d+$/.test(generation ?? '')) return null
  return { ...bare(found), instance, generation: Number(generation), admit: value('orchestrator-admit') ?? '' }
}

function ofName(found: Droplet, { instance, generation }: MachineOrder): CloudMachine {
  return { ...bare(found), instance, generation }
}

function bare(found: Droplet) {
  const address = found.networks.v6.find(({ type }) => type === 'public')?.ip_address ?? null
  return { id: String(found.id), state: STATES[found.status], address, createdAt: Date.parse(found.created_at) }
}

/** Gone already is what was wanted. */
async function gone(deletion: Promise<Answer>): Promise<void> {
  await deletion.catch((error: unknown) => {
    if ((error as Partial<Refused>).status !== 404) throw error
  })
}

/** `RateLimit-Reset`: epoch seconds at which the oldest call is forgotten and the next one may be made. */
function hint(headers: Headers, status: number, now: number): number | null {
  const reset = Number(headers.get('ratelimit-reset') ?? Number.NaN) * 1000
  const empty = status === 429 || headers.get('ratelimit-remaining') === '0'
  return empty && reset > now ? reset - now : null
}

function explained({ status, said, message }: Refused, settings: DigitaloceanSettings): OrchestratorError | null {
  if (status === 403) {
    const [, method = '', thing = ''] = /^(\w+) \/v2\/(\w+)/.exec(message) ?? []
    const verb = { GET: 'read', POST: 'create', DELETE: 'delete' }[method] ?? 'update'
    const right = `${thing.replace(/s$/, '')}:${verb}`
    return new OrchestratorError('not-permitted', `the token lacks the scope ${right}: add it (${said})`)
  }
  if (status !== 422) return null
  if (/exceed|limit/i.test(said)) return new NoRoom(`DigitalOcean has no room for this account: ${said}`)
  if (/pending event/i.test(said)) return busy(`DigitalOcean still works on the droplet: ${said}`)
  // Sizes are sold out by region.
  if (/not available|unavailable|sold out|capacity/i.test(said))
    return new NoRoom(`${settings.region} has no room: ${said}`)
  if (/size/i.test(said)) return new InvalidInput('options.size', said)
  if (/image/i.test(said)) return new InvalidInput('options.image', said)
  if (/region/i.test(said)) return unknownRegion(settings.region, said)
  if (/vpc/i.test(said)) return new InvalidInput('settings.provider.vpc', said)
  if (/ssh|key/i.test(said)) return new InvalidInput('settings.provider.sshKeys', said)
  return null
}

function unknownRegion(region: string, said = 'see doctl compute region list'): InvalidInput {
  return new InvalidInput('settings.provider.region', `DigitalOcean has no ${region}: ${said}`)
}
