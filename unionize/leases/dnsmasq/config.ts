import { readdir, readFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import { hostBits, parseIpv6 } from '../../../common/ipv6.ts'

/** What dnsmasq's configuration says about leases. */
export interface LeaseLimits {
  readonly leaseFile: string
  /** Leases at most, both families (dhcp-lease-max). */
  readonly most: number
  /** Addresses in all DHCPv6 ranges together; null: it gives none. */
  readonly addresses: number | null
}

/** dnsmasq's own defaults (dnsmasq(8)); the lease file's is Debian's. */
const DEFAULT_LEASE_FILE = '/var/lib/misc/dnsmasq.leases'
const DEFAULT_LEASE_MAX = 1000
/** Words in a dhcp-range after which no addresses are given from it. */
const WITHOUT_ADDRESSES = new Set(['ra-only', 'ra-stateless', 'slaac', 'static', 'proxy'])

/** Reads the configuration and, one level deep, what `conf-file` and `conf-dir` name. Rejects as `readFile` does. */
export async function readLeaseLimits(path: string): Promise<LeaseLimits> {
  const main = options(await readFile(path, 'utf8'))
  const included: [string, string][] = []
  for (const [name, value] of main) {
    if (name === 'conf-file') included.push(...options(await readFile(value, 'utf8')))
    if (name === 'conf-dir') {
      for (const file of await filesOf(value)) included.push(...options(await readFile(file, 'utf8')))
    }
  }
  return limitsOf([...main, ...included])
}

/** @param settings options and values in the order of the file; the last one counts, ranges add up */
export function limitsOf(settings: readonly (readonly [string, string])[]): LeaseLimits {
  const last = (...names: string[]) => settings.findLast(([name]) => names.includes(name))?.[1]
  const sizes = settings.filter(([name]) => name === 'dhcp-range').map(([, value]) => rangeSize(value))
  const ranges = sizes.filter((size) => size !== null)
  const most = Number(last('dhcp-lease-max'))
  return {
    leaseFile: last('dhcp-leasefile', 'dhcp-lease-file') ?? DEFAULT_LEASE_FILE,
    most: Number.isInteger(most) && most > 0 ? most : DEFAULT_LEASE_MAX,
    addresses: ranges.length === 0 ? null : ranges.reduce((sum, size) => sum + size, 0),
  }
}

/** Options of a configuration file: `name` or `name=value` a line, `#` begins a comment at a line's start or after space. */
export function options(text: string): [string, string][] {
  return text.split('\n').flatMap((raw): [string, string][] => {
    const line = raw.replace(/(^|\s)#.*$/, '').trim()
    if (line === '') return []
    const [name = '', ...rest] = line.split('=')
    return [
      [
        name.trim(),
        rest
          .join('=')
          .trim()
          .replace(/^"(.*)"$/, '$1'),
      ],
    ]
  })
}

/** Addresses of a DHCPv6 range; null: another family, or none are given from it. */
function rangeSize(value: string): number | null {
  const words = value
    .split(',')
    .map((word) => word.trim())
    .filter((word) => !/^(tag|set|net):/.test(word))
  const [start = '', second = ''] = words
  if (!isIPv6(start) || words.some((word) => WITHOUT_ADDRESSES.has(word))) return null
  const end = isIPv6(second) ? second : start
  return Number(hostBits(parseIpv6(end), 0) - hostBits(parseIpv6(start), 0)) + 1
}

/** Files of a `conf-dir=folder[,suffix…]`: `*suffix` takes only those, a bare suffix leaves those out; editors' copies never. */
async function filesOf(value: string): Promise<string[]> {
  const [folder = '', ...patterns] = value.split(',').map((part) => part.trim())
  const wanted = patterns.filter((p) => p.startsWith('*')).map((p) => p.slice(1))
  const unwanted = patterns.filter((p) => p !== '' && !p.startsWith('*'))
  const names = (await readdir(folder)).sort()
  return names
    .filter((name) => !/^\.|^#.*#$|~$/.test(name))
    .filter((name) => wanted.length === 0 || wanted.some((suffix) => name.endsWith(suffix)))
    .filter((name) => !unwanted.some((suffix) => name.endsWith(suffix)))
    .map((name) => join(folder, name))
}
