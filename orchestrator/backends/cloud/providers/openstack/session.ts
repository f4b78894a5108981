import { createHash } from 'node:crypto'
import { z } from 'zod'
import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../../../../common/errors.ts'
import { type Answer, type Call, createHttp, type Refused } from '../../http.ts'
import type { ProviderContext } from '../../provider.ts'
import { authentication, type OpenStackCredential, type OpenStackSettings } from './settings.ts'

/** The services that we talk to, by their types in the catalog. */
export type Service = 'compute' | 'network' | 'image'

/** A call of one service: its path begins after the address in the catalog and the API's version. */
export interface ServiceCall {
  readonly method: Call['method']
  readonly path: string
  readonly body?: unknown
  readonly repeatable?: boolean
}

/** What Keystone said about us. */
export interface Scope {
  readonly project: string
  readonly roles: readonly string[]
}

/** Signed in to one region: a token that is renewed before it ends, and when a service no longer takes it. */
export interface Session {
  /** @throws as `createHttp`; Refused for what depends on the call */
  call(service: Service, call: ServiceCall, signal: AbortSignal): Promise<Answer>
  scope(signal: AbortSignal): Promise<Scope>
}

/**
 * Microversion of Nova that every call states: tags of servers when they are made (2.52, Pike), lists by tag (2.26), flavors
 * told in servers (2.47). Newer ones change answers that we read.
 */
export const NOVA_MICROVERSION = '2.52'
/** The version's part of the path, where the catalog does not have it. Nova's catalog entry has it by its own rules. */
const VERSIONS: Readonly<Record<Service, string>> = { compute: '', network: '/v2.0', image: '/v2' }
/** Milliseconds before its end at which a token is renewed: a call that waits its turn must still find it good. */
const RENEW_MS = 120_000

const tokenShape = z.looseObject({
  token: z.looseObject({
    expires_at: z.iso.datetime(),
    project: z.looseObject({ id: z.string() }),
    roles: z.array(z.looseObject({ name: z.string() })).default([]),
    catalog: z.array(
      z.looseObject({
        type: z.string(),
        endpoints: z.array(z.looseObject({ interface: z.string(), region: z.string().nullish(), url: z.string() })),
      }),
    ),
  }),
})

interface Token {
  readonly text: string
  /** Digest of the credential that it was got with. */
  readonly of: string
  /** Epoch ms. */
  readonly until: number
  readonly scope: Scope
  readonly urls: ReadonlyMap<string, string>
}

export function createSession(settings: OpenStackSettings, context: ProviderContext): Session {
  const { target, clock } = context
  const http = createHttp({ target, clock, pace: context.pace, explain })
  let token: Promise<Token> | null = null

  const signIn = async (credential: OpenStackCredential, signal: AbortSignal): Promise<Token> => {
    const body = authentication(credential)
    const url = `${settings.authUrl}/auth/tokens`
    const answer = await http.send({ method: 'POST', url, body, repeatable: true }, signal)
    return { ...readToken(answer, settings, target), of: digest(credential) }
  }
  /**
   * One that is good for a while and was got with the credential as it is now; asked for once, whoever waits for it.
   * @param refused one that a service did not take
   */
  const current = async (signal: AbortSignal, refused?: string): Promise<Token> => {
    const credential = await context.credential()
    const known = await token?.catch(() => null)
    const isGood = known && known.of === digest(credential) && known.until - RENEW_MS > clock.now()
    if (isGood && known.text !== refused) return known
    const mine = signIn(credential, signal)
    token = mine
    return await mine
  }

  return {
    async call(service, { path, ...call }, signal) {
      const send = async ({ text, urls }: Token): Promise<Answer> => {
        const version = service === 'compute' ? { 'openstack-api-version': `compute ${NOVA_MICROVERSION}` } : {}
        const headers = { 'x-auth-token': text, ...version }
        return await http.send({ ...call, url: urlOf(urls, service, settings) + path, headers }, signal)
      }
      const first = await current(signal)
      try {
        return await send(first)
      } catch (error) {
        if (!(error instanceof OrchestratorError) || error.code !== 'credential-refused') throw error
        return await send(await current(signal, first.text))
      }
    },
    async scope(signal) {
      return (await current(signal)).scope
    },
  }
}

function digest(credential: OpenStackCredential): string {
  return createHash('sha256')
    .update(JSON.stringify(Object.entries(credential).toSorted()))
    .digest('hex')
}

function readToken({ headers, body }: Answer, settings: OpenStackSettings, target: string): Omit<Token, 'of'> {
  const text = headers.get('x-subject-token')
  const parsed = tokenShape.safeParse(body)
  if (text === null || !parsed.success) {
    throw new HostUnreachable(target, `what answers at ${new URL(settings.authUrl).host} is no Keystone v3`)
  }
  const { expires_at: until, project, roles, catalog } = parsed.data.token
  const here = catalog.flatMap(({ type, endpoints }) =>
    endpoints
      .filter((one) => one.interface === settings.interface && one.region === settings.region)
      .map(({ url }) => [type, url.replace(/\/$/, '')] as const),
  )
  const regions = [...new Set(catalog.flatMap(({ endpoints }) => endpoints.map((one) => one.region ?? '')))]
  if (!regions.includes(settings.region)) {
    const known = regions.filter((one) => one !== '').toSorted()
    throw new InvalidInput(
      'settings.provider.region',
      `the cloud has no region ${settings.region}; its catalog has ${known.join(', ') || 'none'}`,
    )
  }
  return {
    text,
    until: Date.parse(until),
    scope: { project: project.id, roles: roles.map((role) => role.name) },
    urls: new Map(here),
  }
}

function urlOf(urls: ReadonlyMap<string, string>, service: Service, settings: OpenStackSettings): string {
  const url = urls.get(service)
  if (url !== undefined) return url.endsWith(VERSIONS[service]) ? url : url + VERSIONS[service]
  throw new InvalidInput(
    'settings.provider.interface',
    `the catalog has no ${settings.interface} address of the ${service} service in region ${settings.region}`,
  )
}

/**
 * Quotas: Nova answers 403 and 413 (Compute API, "Create server"), Neutron 409 with OverQuota, or with
 * IpAddressGenerationFailure when a subnet is full.
 */
function explain({ status, said, body }: Refused): OrchestratorError | null {
  const type = (body as { NeutronError?: { type?: unknown } } | null)?.NeutronError?.type
  if (status === 413 || (status === 403 && /quota/i.test(said))) return new NoRoom(said)
  if (status === 409 && (type === 'OverQuota' || type === 'IpAddressGenerationFailure')) return new NoRoom(said)
  return null
}
