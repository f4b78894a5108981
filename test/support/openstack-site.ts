import { OPENSTACK_KEYSTONE } from '../../lab/openstack/machine.ts'
import { TAG } from '../../orchestrator/backends/cloud/provider.ts'
import { until } from './until.ts'

/** One project of the OpenStack of lab/openstack, with all that our backend needs there, made as an administrator would. */
export interface OpenStackSite {
  readonly project: string
  /** Fields of credentials, as operators store them. */
  readonly member: Readonly<Record<string, string>>
  readonly reader: Readonly<Record<string, string>>
  readonly network: string
  readonly router: string
  readonly subnetPool: string
  readonly image: string
  readonly flavor: string
  /** An application credential of the member, which ends then. */
  applicationCredential(expiresAt?: Date): Promise<Readonly<Record<string, string>>>
  /** Instances at most. */
  setInstances(most: number): Promise<void>
  setPorts(most: number): Promise<void>
  /** MiB of memory at most; -1: any. */
  setMemory(most: number): Promise<void>
  /** Servers, ports, groups, networks and subnets of the project, but what the site itself made: in a few words each. */
  things(): Promise<readonly string[]>
  /** The instance that each server of the project is for, as its metadata say. */
  instances(): Promise<readonly string[]>
  /** A call of a service as the project's member. */
  asMember(url: string, method?: string, body?: unknown): Promise<Response>
}

const BASE = OPENSTACK_KEYSTONE.replace(':5000/v3', '')
export const NOVA = `${BASE}:8774/v2.1`
export const NEUTRON = `${BASE}:9696/v2.0`
const GLANCE = `${BASE}:9292/v2`
const PASSWORD = 'correct horse'

type Named = { id: string; name: string }

/** @param name of project and users; another each time */
export async function openStackSite(name: string): Promise<OpenStackSite> {
  const admin = await until('Keystone answers', () => signIn(OPENSTACK_KEYSTONE, 'admin', 'admin', 'admin'), {
    deadlineMs: 120_000,
    everyMs: 500,
  })
  const call = caller(admin.token)
  await servicesUp(call)
  const project = (await call(`${OPENSTACK_KEYSTONE}/projects`, 'POST', { project: { name } })).project as Named
  const { roles } = (await call(`${OPENSTACK_KEYSTONE}/roles`)) as { roles: Named[] }
  const role = (wanted: string) => roles.find((one) => one.name === wanted)?.id ?? ''
  const users: Record<string, Named> = {}
  for (const kind of ['member', 'reader']) {
    const user = { name: `${name}-${kind}`, password: PASSWORD }
    users[kind] = (await call(`${OPENSTACK_KEYSTONE}/users`, 'POST', { user })).user as Named
    const path = `projects/${project.id}/users/${users[kind].id}/roles/${role(kind)}`
    await call(`${OPENSTACK_KEYSTONE}/${path}`, 'PUT')
  }
  const credential = (kind: string) => ({ username: `${name}-${kind}`, password: PASSWORD, project_name: name })
  const { flavor, image } = await offers(call)
  const member = await signIn(OPENSTACK_KEYSTONE, `${name}-member`, PASSWORD, name)
  const asMember = caller(member.token)
  const network = (await asMember(`${NEUTRON}/networks`, 'POST', { network: { name: `${name}-given` } }))
    .network as Named
  const subnet = { network_id: network.id, ip_version: 6, cidr: 'fd00:9:1::/64', ipv6_address_mode: 'slaac' }
  const made = (await asMember(`${NEUTRON}/subnets`, 'POST', { subnet: { ...subnet, ipv6_ra_mode: 'slaac' } })) as {
    subnet: Named
  }
  const router = (await asMember(`${NEUTRON}/routers`, 'POST', { router: { name: `${name}-router` } })).router as Named
  const pool = { name: `${name}-pool`, prefixes: ['fd00:9:8000::/48'], default_prefixlen: 64 }
  const subnetPool = (await asMember(`${NEUTRON}/subnetpools`, 'POST', { subnetpool: pool })).subnetpool as Named
  const own = new Set([network.id, made.subnet.id])
  return {
    ...{ project: project.id, member: credential('member'), reader: credential('reader') },
    ...{ network: network.name, router: router.name, subnetPool: subnetPool.name, image, flavor },
    async applicationCredential(expiresAt) {
      const fields = {
        name: `a${Math.random()}`,
        ...(expiresAt && { expires_at: expiresAt.toISOString().slice(0, -1) }),
      }
      const url = `${OPENSTACK_KEYSTONE}/users/${users['member']?.id}/application_credentials`
      const { application_credential: made } = (await asMember(url, 'POST', { application_credential: fields })) as {
        application_credential: { id: string; secret: string }
      }
      return { application_credential_id: made.id, application_credential_secret: made.secret }
    },
    async setInstances(instances) {
      await call(`${NOVA}/os-quota-sets/${project.id}`, 'PUT', { quota_set: { instances } })
    },
    async setPorts(port) {
      await call(`${NEUTRON}/quotas/${project.id}`, 'PUT', { quota: { port } })
    },
    async setMemory(ram) {
      await call(`${NOVA}/os-quota-sets/${project.id}`, 'PUT', { quota_set: { ram } })
    },
    async things() {
      const { servers } = (await asMember(`${NOVA}/servers/detail`)) as { servers: (Named & { status: string })[] }
      const found = servers.map(({ name: server, status }) => `server ${server} ${status}`)
      for (const kind of ['ports', 'security-groups', 'networks', 'subnets']) {
        const all = (await asMember(`${NEUTRON}/${kind}?project_id=${project.id}`))[kind.replace('-', '_')] as Named[]
        found.push(
          ...all.filter((one) => !own.has(one.id) && one.name !== 'default').map((one) => `${kind} ${one.name}`),
        )
      }
      return found
    },
    async instances() {
      const { servers } = (await asMember(`${NOVA}/servers/detail`)) as { servers: { metadata: object }[] }
      return servers.map(({ metadata }) => (metadata as Record<string, string>)[TAG.instance] ?? 'none')
    },
    asMember: (url, method = 'GET', body) => send(member.token, url, method, body),
  }
}

/** What every project of the cloud may use; made once. */
async function offers(call: Caller): Promise<{ flavor: string; image: string }> {
  const { flavors } = (await call(`${NOVA}/flavors`)) as { flavors: Named[] }
  if (!flavors.some(({ name }) => name === 'm1.tiny')) {
    await call(`${NOVA}/flavors`, 'POST', { flavor: { name: 'm1.tiny', ram: 512, disk: 1, vcpus: 1 } })
    // Nothing has as much memory: no host is valid for it.
    await call(`${NOVA}/flavors`, 'POST', { flavor: { name: 'm1.huge', ram: 1 << 30, disk: 1, vcpus: 1 } })
  }
  const { images } = (await call(`${GLANCE}/images`)) as { images: Named[] }
  if (images.length === 0) {
    const described = { name: 'debian', disk_format: 'raw', container_format: 'bare', visibility: 'public' }
    const { id } = (await call(`${GLANCE}/images`, 'POST', described)) as unknown as Named
    const headers = { 'x-auth-token': call.token, 'content-type': 'application/octet-stream' }
    await fetch(`${GLANCE}/images/${id}/file`, { method: 'PUT', headers, body: 'no disk at all' })
  }
  return { flavor: 'm1.tiny', image: 'debian' }
}

/** Every service answers, and Nova has a place for machines. */
async function servicesUp(call: Caller): Promise<void> {
  const up = (what: string, look: () => Promise<unknown>) =>
    until(`${what} answers`, look, { deadlineMs: 300_000, everyMs: 500 })
  await up('Glance', async () => (await call(`${GLANCE}/images`))['images'])
  await up('Neutron', async () => (await call(`${NEUTRON}/networks`))['networks'])
  await up('the agent of Neutron', async () => {
    const { agents } = (await call(`${NEUTRON}/agents`)) as { agents: { alive: boolean }[] }
    return agents[0]?.alive
  })
  await up('nova-compute', async () => {
    const { services } = (await call(`${NOVA}/os-services?binary=nova-compute`)) as { services: { state: string }[] }
    return services[0]?.state === 'up'
  })
  await up('the scheduler of Nova', async () => {
    const { hypervisors } = (await call(`${NOVA}/os-hypervisors`)) as { hypervisors: unknown[] }
    return hypervisors.length > 0
  })
}

async function signIn(url: string, user: string, password: string, project: string): Promise<{ token: string }> {
  const domain = { name: 'Default' }
  const identity = { methods: ['password'], password: { user: { name: user, domain, password } } }
  const auth = { identity, scope: { project: { name: project, domain } } }
  const answer = await send('', `${url}/auth/tokens`, 'POST', { auth })
  const token = answer.headers.get('x-subject-token')
  if (token === null) throw new Error(`Keystone answered ${answer.status}`)
  return { token }
}

interface Caller {
  (url: string, method?: string, body?: unknown): Promise<Record<string, unknown>>
  readonly token: string
}

/** @throws for anything but success */
function caller(token: string): Caller {
  const call = async (url: string, method = 'GET', body?: unknown) => {
    const answer = await send(token, url, method, body)
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text}`)
    return (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>
  }
  return Object.assign(call, { token })
}

async function send(token: string, url: string, method: string, body: unknown): Promise<Response> {
  const once = () =>
    fetch(url, {
      method,
      headers: { 'content-type': 'application/json', ...(token !== '' && { 'x-auth-token': token }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  // uWSGI may close a connection just when it is used again.
  return await once().catch((error: unknown) => {
    if (method !== 'GET') throw error
    return once()
  })
}
