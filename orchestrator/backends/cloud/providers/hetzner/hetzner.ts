import { z } from 'zod'
import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../../../../common/errors.ts'
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
  actions,
  failure,
  firewall,
  firewalls,
  locations,
  type next,
  pricing,
  type Server,
  server,
  servers,
} from './shapes.ts'

/** `settings.provider` of kind `hetzner`, with what the region says itself. */
export const hetznerSettings = z.strictObject({
  /** `fsn1`. */
  location: z.string().regex(/^[a-z]{3}\d?$/, 'expected a location of Hetzner Cloud: fsn1'),
  /** Of the API; Hetzner's own unless told. */
  endpoint: z.url({ protocol: /^https?$/ }).default('https://api.hetzner.cloud'),
  /** Ids or names of SSH keys that root gets; without any, Hetzner makes a password, which we forget. */
  sshKeys: z.array(z.union([z.int().positive(), z.string().min(1)])).default([]),
  /** Whether servers get an IPv4 address too, for registries that have no IPv6. It costs extra. */
  ipv4: z.boolean().default(false),
})
export type HetznerSettings = z.output<typeof hetznerSettings>

/** API reference, "Create a Server", `user_data`. */
const BOOT_BYTES = 32_768
/** API reference, "Pagination". */
const PAGE_SIZE = 50
/** Milliseconds after which a server that does not run yet is asked what keeps it. */
const SLOW_MS = 30_000
/** Milliseconds to wait when the limit is used up. A call comes back each second; `RateLimit-Reset` says when all are. */
const REFILL_MS = 10_000
const ADMIT = 'orchestrator-admit'

export const provider: ProviderKind = {
  bootBytes: BOOT_BYTES,
  create: (settings, context) => createHetzner(parse('settings.provider', hetznerSettings, settings), context),
}

/** One location of Hetzner Cloud (API v1). @param pageSize of lists, 1 to 50: of a test that wants to see pages */
export function createHetzner(settings: HetznerSettings, context: ProviderContext, pageSize = PAGE_SIZE): Provider {
  const { installation, clock, pace, target } = context
  const http = createHttp({ target, clock, pace, hint, explain: (refused) => explained(refused, target) })
  const base = `${settings.endpoint.replace(/\/$/, '')}/v1`
  const ours = `label_selector=${encodeURIComponent(`${TAG.installation}==${installation}`)}`

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
      const query = `${path.includes('?') ? '&' : '?'}page=${page ?? 1}&per_page=${pageSize}`
      const body = answered(`GET ${path}`, shape, (await send('GET', path + query, signal)).body)
      return { items: items(body), next: body.meta.pagination.next_page ?? undefined }
    })

  const serversOf = (query: string, signal: AbortSignal) =>
    every(
      `/servers?${query}`,
      servers,
      (body) => body.servers,
      ({ id }) => String(id),
      signal,
    )

  /** The machine, and why it does not run, if Hetzner gave up. */
  const machineOf = async (found: Server, signal: AbortSignal): Promise<NamedMachine[]> => {
    const told = toldBy(found)
    if (told === null || found.labels[TAG.installation] !== installation) return []
    if (told.state !== 'starting' || clock.now() - told.createdAt < SLOW_MS) return [told]
    const path = `/servers/${found.id}/actions?status=error`
    const failed = await every(
      path,
      actions,
      (body) => body.actions,
      ({ command }) => command,
      signal,
    )
    const reason = failed.find(({ command }) => command === 'create_server' || command === 'start_server')?.error
    if (!reason) return [told]
    const detail = `${reason.code}: ${reason.message}`
    return [{ ...told, state: 'failed', detail, noRoom: FULL.has(reason.code) }]
  }

  const api: NamedApi = {
    async machines(signal) {
      const machines: NamedMachine[] = []
      for (const one of await serversOf(ours, signal)) machines.push(...(await machineOf(one, signal)))
      return machines
    },

    async named(name, _, signal) {
      const found = (await serversOf(`name=${name}`, signal)).filter((one) => one.name === name)
      return found.map((one) => {
        const told = toldBy(one)
        if (told !== null && one.labels[TAG.installation] === installation) return told
        throw new OrchestratorError(
          'name-taken',
          `the project has a server ${name} that is not ours: rename or delete it`,
        )
      })
    },

    async make(name, order, admit, firewallId, signal) {
      const body = {
        name,
        server_type: order.size,
        image: /^\d+$/.test(order.image) ? Number(order.image) : order.image,
        location: settings.location,
        labels: { ...order.tags, [TAG.installation]: installation, [ADMIT]: admit },
        firewalls: [{ firewall: Number(firewallId) }],
        public_net: { enable_ipv4: settings.ipv4, enable_ipv6: true },
        user_data: order.bootData,
        start_after_create: true,
        ...(settings.sshKeys.length > 0 && { ssh_keys: settings.sshKeys }),
      }
      const made = answered('POST /servers', server, (await send('POST', '/servers', signal, body)).body)
      return ofName(made.server, order)
    },

    erase: (id, signal) => gone(send('DELETE', `/servers/${id}`, signal)),

    async firewalls(signal) {
      const found = await every(
        `/firewalls?${ours}`,
        firewalls,
        (body) => body.firewalls,
        ({ id }) => String(id),
        signal,
      )
      return found
        .filter(({ labels }) => labels[TAG.installation] === installation)
        .map(({ id, labels }) => ({ id: String(id), admit: labels[ADMIT] ?? '' }))
    },

    async firewall(admit, address, signal) {
      const known = (await api.firewalls(signal)).find((one) => one.admit === admit)
      if (known !== undefined) return known.id
      const body = {
        name: `orchestrator-${installation}-${admit}`,
        labels: { [TAG.installation]: installation, [ADMIT]: admit },
        rules: rulesFor(address),
      }
      const made = answered('POST /firewalls', firewall, (await send('POST', '/firewalls', signal, body)).body)
      return String(made.firewall.id)
    },

    async eraseFirewall({ id }, _, signal) {
      try {
        await gone(send('DELETE', `/firewalls/${id}`, signal))
        return true
      } catch (error) {
        if (codeOf(error) !== 'resource_in_use') throw error
        return false
      }
    },

    async prices(signal) {
      const { pricing: told } = answered('GET /pricing', pricing, (await send('GET', '/pricing', signal)).body)
      const here = told.server_types.flatMap(({ name, prices }) =>
        prices
          .filter(({ location }) => location === settings.location)
          .map(({ price_hourly }) => [name, price_hourly.net] as const),
      )
      return new Map(here.map(([name, net]) => [name, { perHour: Number(net), currency: told.currency }]))
    },

    async check(signal): Promise<TargetCheck> {
      const query = `/locations?name=${settings.location}`
      const found = await every(
        query,
        locations,
        (body) => body.locations,
        ({ name }) => name,
        signal,
      )
      if (found.length === 0) throw unknownLocation(settings.location)
      const abilities = [`list servers (${(await api.machines(signal)).length} of ours)`]
      return { version: `Hetzner Cloud API v1 in ${settings.location}`, abilities, missing: [] }
    },
  }
  return namedProvider('Hetzner Cloud', api, context)
}

/** Everything from one address; out, everywhere: that is so where no rule of direction `out` is. */
function rulesFor(address: string) {
  const rule = { direction: 'in', source_ips: [`${address}/128`] }
  return [
    { ...rule, protocol: 'tcp', port: '1-65535' },
    { ...rule, protocol: 'udp', port: '1-65535' },
    { ...rule, protocol: 'icmp' },
  ]
}

const STATES: Readonly<Record<string, CloudMachine['state']>> = {
  initializing: 'starting',
  starting: 'starting',
  rebuilding: 'starting',
  running: 'running',
  migrating: 'running',
  // Its hypervisor does not tell: nothing is concluded.
  unknown: 'running',
  stopping: 'stopped',
  off: 'stopped',
  deleting: 'ending',
}

/** By its labels; null: it carries none of ours. */
function toldBy(found: Server): NamedMachine | null {
  const { [TAG.instance]: instance, [TAG.generation]: generation = '', [ADMIT]: admit = '' } = found.labels
  if (instance === undefined || !/^\d+$/.test(generation)) return null
  return { ...bare(found), instance, generation: Number(generation), admit }
}

function ofName(found: Server, { instance, generation }: MachineOrder): CloudMachine {
  return { ...bare(found), instance, generation }
}

function bare(found: Server) {
  const address = found.public_net.ipv6?.ip.replace(/::\/\d+$/, '::1') ?? null
  const state = STATES[found.status] ?? ('starting' as const)
  return { id: String(found.id), state, address, createdAt: Date.parse(found.created) }
}

/** Gone already is what was wanted. */
async function gone(deletion: Promise<Answer>): Promise<void> {
  await deletion.catch((error: unknown) => {
    if ((error as Partial<Refused>).status !== 404) throw error
  })
}

function hint(headers: Headers, status: number, now: number): number | null {
  if (status !== 429 && headers.get('ratelimit-remaining') !== '0') return null
  const reset = Number(headers.get('ratelimit-reset') ?? Number.NaN) * 1000
  return reset > now ? Math.min(reset - now, REFILL_MS) : REFILL_MS
}

function codeOf(error: unknown): string {
  return failure.safeParse((error as Partial<Refused>).body).data?.error.code ?? ''
}

/** Of refusals and of actions that failed (API reference, "Errors", "Create a Server"). */
const FULL = new Set(['resource_limit_exceeded', 'resource_unavailable', 'placement_error'])
const PASSING = new Set(['locked', 'conflict', 'uniqueness_error'])
const AWAY = new Set(['maintenance', 'unavailable', 'timeout', 'bad_gateway', 'robot_unavailable'])

function explained(refused: Refused, target: string): OrchestratorError | null {
  const { said } = refused
  const code = codeOf(refused)
  if (FULL.has(code)) return new NoRoom(`Hetzner Cloud has no room: ${code}: ${said}`)
  // Of a name that is taken: a repeated request finds what the first one made.
  if (PASSING.has(code)) return busy(`Hetzner Cloud: ${code}: ${said}`)
  if (AWAY.has(code)) return new HostUnreachable(target, `${code}: ${said}`)
  if (code === 'token_readonly') {
    return new OrchestratorError('not-permitted', `the token may only read: make one with Read & Write (${said})`)
  }
  if (code === 'invalid_server_type') return new InvalidInput('options.size', said)
  if (code !== 'invalid_input' && code !== 'not_found') return null
  if (/firewall/i.test(said) && refused.message.startsWith('POST /v1/servers'))
    return busy(`its firewall is gone: ${said}`)
  if (/server.?type/i.test(said)) return new InvalidInput('options.size', said)
  if (/image/i.test(said)) return new InvalidInput('options.image', said)
  if (/location/i.test(said)) return unknownLocation(said)
  if (/ssh.?key/i.test(said)) return new InvalidInput('settings.provider.sshKeys', said)
  return null
}

function unknownLocation(said: string): InvalidInput {
  return new InvalidInput('settings.provider.location', `Hetzner Cloud has no such location: ${said}`)
}
