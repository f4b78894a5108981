import { isIP } from 'node:net'

/** What a server said about names, and which address it gave. */
export interface Lease {
  readonly family: 'ipv4' | 'ipv6'
  readonly address: string | null
  readonly nameServers: readonly string[]
  readonly searchDomains: readonly string[]
}

/** A domain of labels (RFC 1035, 2.3.1; underscores are met in the wild), at most 253 characters. */
const DOMAIN =
  /^(?=.{1,253}\.?$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$/
/** What a resolver reads (MAXNS of resolv.h); more of the others would only be carried along. */
const MOST = { servers: 3, domains: 6 }

/**
 * The lease in what our hook kept: the environment that dhcpcd gives it. A server is not trusted: what is no address or no
 * domain is left out.
 */
export function parseLease(family: Lease['family'], text: string): Lease {
  const values = new Map(
    text.split('\n').flatMap((line) => {
      const at = line.indexOf('=')
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : []
    }),
  )
  const words = (name: string) => (values.get(name) ?? '').split(/\s+/).filter((word) => word !== '')
  const v4 = family === 'ipv4'
  const servers = words(v4 ? 'new_domain_name_servers' : 'new_dhcp6_name_servers')
  const search = v4 ? words('new_domain_search') : words('new_dhcp6_domain_search')
  const domains = v4 && search.length === 0 ? words('new_domain_name').slice(0, 1) : search
  const address = values.get(v4 ? 'new_ip_address' : 'new_dhcp6_ia_na1_ia_addr1') ?? ''
  return {
    family,
    address: isIP(address) === 0 ? null : address,
    nameServers: servers.filter((server) => isIP(server) !== 0).slice(0, MOST.servers),
    searchDomains: domains.filter((domain) => DOMAIN.test(domain)).slice(0, MOST.domains),
  }
}

/** The first line of what we write. */
export const RESOLVER_HEADER = '# From DHCP, by unionize; what was here before comes back at the end.'

/** The leases of one namespace as a resolver's configuration (resolv.conf(5)); null: they name no server. */
export function resolverText(leases: readonly Lease[], former: string): string | null {
  const unique = (words: readonly string[], most: number) => [...new Set(words)].slice(0, most)
  const servers = unique(
    leases.flatMap((lease) => lease.nameServers),
    MOST.servers,
  )
  if (servers.length === 0) return null
  const domains = unique(
    leases.flatMap((lease) => lease.searchDomains),
    MOST.domains,
  )
  const options = former.split('\n').filter((line) => /^options\s/.test(line))
  const lines = [
    RESOLVER_HEADER,
    ...(domains.length > 0 ? [`search ${domains.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...options,
  ]
  return `${lines.join('\n')}\n`
}
