import { z } from 'zod'
import { InvalidInput } from '../../../../../common/errors.ts'
import { parsePrefix } from '../../../../../common/ipv6.ts'
import { parse } from '../../settings.ts'

const name = z.string().min(1).max(255)

const shape = z.strictObject({
  /** Keystone: `https://cloud.example.net:5000/v3`. */
  authUrl: z
    .url({ protocol: /^https?$/ })
    .regex(/\/v3\/?$/, "expected Keystone's address that ends with /v3")
    .transform((url) => url.replace(/\/$/, '')),
  /** Region of its catalog. */
  region: name,
  /** Which of the addresses in its catalog we use. */
  interface: z.enum(['public', 'internal', 'admin']).default('public'),
  /** Network that machines are put on, by name or id; absent: one is made. It needs an IPv6 subnet. */
  network: name.optional(),
  /** For a network that we make: the router, by name or id, through which the hosts reach it. */
  router: name.optional(),
  /** For a network that we make: its IPv6 prefix, /64, which is routed to that router … */
  prefix: z.string().refine(isSlash64, 'expected an IPv6 prefix of 64 bits such as 2001:db8:1:2::/64').optional(),
  /** … or the pool, by name or id, that one is taken from. */
  subnetPool: name.optional(),
  /** For a network that we make: how machines learn their addresses (Neutron, `ipv6_address_mode`). */
  addressing: z.enum(['slaac', 'dhcpv6-stateful', 'dhcpv6-stateless']).default('slaac'),
  availabilityZone: name.optional(),
  /** Stored in Nova: lets its owner in over SSH, when the security group is opened by hand. */
  keyName: name.optional(),
  /** Boot data also on a disk, for clouds whose metadata service is not reached over IPv6. */
  configDrive: z.boolean().default(true),
})

export type OpenStackSettings = z.infer<typeof shape>

/** @throws InvalidInput naming `settings.provider.X` */
export function openStackSettings(given: unknown): OpenStackSettings {
  const settings = parse('settings.provider', shape, given)
  const { network, router, prefix, subnetPool } = settings
  const refuse = (field: string, why: string): never => {
    throw new InvalidInput(`settings.provider.${field}`, why)
  }
  if (network !== undefined) {
    const useless = (['router', 'prefix', 'subnetPool'] as const).find((field) => settings[field] !== undefined)
    if (useless !== undefined) refuse(useless, 'it is for a network that we make; leave it or `network` out')
    return settings
  }
  if (router === undefined)
    refuse('router', 'a network of our own leads nowhere without one; name it, or name a network')
  if ((prefix === undefined) === (subnetPool === undefined)) {
    refuse('prefix', 'a network of our own takes its addresses from `prefix` or `subnetPool`; name one of them')
  }
  return settings
}

const credentialShape = z.union([
  z.looseObject({ application_credential_id: name, application_credential_secret: name }),
  z.looseObject({ username: name, password: name, project_name: name }),
  z.looseObject({ username: name, password: name, project_id: name }),
])

/** The `auth` section of a clouds.yaml, as it is stored: the ways of Keystone v3 that we know. */
export type OpenStackCredential = Readonly<Record<string, string>>

/** The body of `POST /auth/tokens` (Identity API v3). @throws InvalidInput naming the fields that are missing */
export function authentication(credential: OpenStackCredential): unknown {
  if (!credentialShape.safeParse(credential).success) {
    throw new InvalidInput(
      'settings.credential',
      'expected its fields to be application_credential_id and application_credential_secret, or username, password and project_name',
    )
  }
  const { application_credential_id: id, application_credential_secret: secret } = credential
  if (id !== undefined) {
    return { auth: { identity: { methods: ['application_credential'], application_credential: { id, secret } } } }
  }
  const { username, password, project_name, project_id } = credential
  const domain = (kind: 'user' | 'project') => {
    const id = credential[`${kind}_domain_id`]
    return id === undefined ? { name: credential[`${kind}_domain_name`] ?? 'Default' } : { id }
  }
  const user = { name: username, domain: domain('user'), password }
  const project = project_id === undefined ? { name: project_name, domain: domain('project') } : { id: project_id }
  return { auth: { identity: { methods: ['password'], password: { user } }, scope: { project } } }
}

function isSlash64(text: string): boolean {
  try {
    return parsePrefix(text).length === 64
  } catch {
    return false
  }
}
