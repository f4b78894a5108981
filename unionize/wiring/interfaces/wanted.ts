import { InvalidInput } from '../../../common/errors.ts'
import type { InterfaceSpec, LinkSpec, RouteSpec, RuleSpec, WiringSpec } from '../../../common/wiring-spec.ts'
import { type Family, familyOf, ipBytes, ipText, networkOf, type Prefix, prefixOf, prefixText } from '../kernel/ip.ts'
import type { RouteWish } from '../kernel/routes.ts'
import type { RuleWish } from '../kernel/rules.ts'
import { hostEndName, ownTable, safeName, stationMac } from './names.ts'

/** An address that an interface is to have. */
export interface AddressWish extends Prefix {
  readonly family: Family
  /** Canonical, with prefix length. */
  readonly text: string
}

/** A route without the index of its interface, which may not exist yet. */
export type PathWish = Omit<RouteWish, 'index'> & {
  readonly metric: number
  readonly table: number
  /** As `ip route` would say it. */
  readonly text: string
}

/** The default route of one family. */
export interface GatewayWish {
  readonly family: Family
  readonly address: Buffer
  readonly text: string
  readonly onlink: boolean
  readonly metric: number
  /** Where it goes if there is a default route of somebody else's already. */
  readonly table: number
}

export interface SettingWish {
  /** Such as `ipv6.conf.accept_ra`. */
  readonly path: string
  readonly value: string
  /** Not asked for, but what `addressing` and the addresses need; without IPv6 in the kernel there is none. */
  readonly implied: boolean
}

/** One interface as it is to be: names are safe, texts canonical, defaults that need no look at the kernel filled in. */
export interface Wanted {
  readonly spec: InterfaceSpec
  /** Path in the spec: `interfaces.0`. */
  readonly field: string
  readonly name: string
  /** Name of the outer end of a veth pair; null: the kind has none. */
  readonly hostName: string | null
  readonly link: LinkSpec
  /** Null: as the kernel or the parent gives it. */
  readonly mac: string | null
  readonly addresses: readonly AddressWish[]
  /** Families in which others (DHCP, router advertisements) give addresses beside ours. */
  readonly lent: ReadonlySet<Family>
  readonly gateways: readonly GatewayWish[]
  readonly routes: readonly PathWish[]
  readonly rules: readonly RuleWish[]
  readonly settings: readonly SettingWish[]
}

export const MAIN_TABLE = 254
/** Better than the 1,024 of a default route out of a router advertisement. Those of further interfaces follow one by one. */
const GATEWAY_METRIC = 512
/** What the kernel makes of no metric: IP6_RT_PRIO_USER of net/ip6_fib.h, and for IPv4 none. */
const DEFAULT_METRIC = { ipv4: 0, ipv6: 1024 } as const
/** Octets that every IPv6 link must carry (RFC 8200, 5); with less the kernel takes IPv6 away. */
export const IPV6_MIN_MTU = 1280
const OUTER_KINDS: readonly LinkSpec['kind'][] = ['bridge', 'ovs', 'veth']

/** @throws InvalidInput naming the field */
export function wantedOf(key: string, spec: WiringSpec): Wanted[] {
  const wanted = spec.interfaces.map((one, i) => interfaceOf(key, one, i))
  for (const names of [wanted.map((w) => w.name), wanted.flatMap((w) => w.hostName ?? [])]) {
    const twice = names.find((name, i) => names.indexOf(name) !== i)
    if (twice !== undefined) throw new InvalidInput('interfaces', `two of them come to the name ${twice}: rename one`)
  }
  return wanted
}

function interfaceOf(key: string, spec: InterfaceSpec, position: number): Wanted {
  const field = `interfaces.${position}`
  const name = safeName(spec.name)
  const addresses = spec.addresses.map(addressOf)
  const wanted = {
    spec,
    field,
    name,
    hostName: hostNameOf(key, spec),
    link: spec.link,
    mac: macOf(key, spec, field),
    addresses: addresses.filter((one, i) => addresses.findIndex((other) => other.text === one.text) === i),
    lent: lentOf(spec),
    gateways: gatewaysOf(spec, name, addresses, position, field),
    routes: spec.up ? spec.routes.map((route, i) => routeOf(route, `${field}.routes.${i}`)) : [],
    rules: spec.rules.flatMap(rulesOf),
    settings: settingsOf(spec, addresses),
  }
  const ipv6 = wanted.addresses.some((one) => one.family === 'ipv6') || wanted.lent.has('ipv6')
  if (ipv6 && spec.mtu !== undefined && spec.mtu < IPV6_MIN_MTU) {
    throw new InvalidInput(`${field}.mtu`, `IPv6 needs at least ${IPV6_MIN_MTU} bytes (RFC 8200, 5), got ${spec.mtu}`)
  }
  return wanted
}

function hostNameOf(key: string, spec: InterfaceSpec): string | null {
  if (!OUTER_KINDS.includes(spec.link.kind)) return null
  if (spec.link.kind === 'veth' && spec.link.peer.name !== undefined) return safeName(spec.link.peer.name)
  return spec.hostName === undefined ? hostEndName(key, safeName(spec.name)) : safeName(spec.hostName)
}

function macOf(key: string, spec: InterfaceSpec, field: string): string | null {
  const { link, mac } = spec
  if (mac !== undefined && link.kind === 'ipvlan') {
    throw new InvalidInput(`${field}.mac`, 'an ipvlan has the MAC of its parent: leave it out, or take macvlan')
  }
  if (mac?.startsWith('hash:')) return stationMac(mac.slice('hash:'.length))
  if (mac !== undefined) return mac
  const inherits = ['ipvlan', 'vlan', 'physical'].includes(link.kind)
  if (inherits || (link.kind === 'macvlan' && link.mode === 'passthru')) return null
  return stationMac(`${key}\0${safeName(spec.name)}`)
}

function addressOf(text: string): AddressWish {
  const { address, prefixLength } = prefixOf(text)
  return { address, prefixLength, family: familyOf(address), text: prefixText(address, prefixLength) }
}

function lentOf(spec: InterfaceSpec): Set<Family> {
  const lent = { static: [], slaac: ['ipv6'], dhcp: ['ipv4', 'ipv6'], dhcp4: ['ipv4'], dhcp6: ['ipv6'] } as const
  return new Set<Family>(lent[spec.addressing])
}

function gatewaysOf(
  spec: InterfaceSpec,
  name: string,
  addresses: readonly AddressWish[],
  position: number,
  field: string,
): GatewayWish[] {
  if (!spec.up) return []
  const gateways = spec.gateways.map((text) => {
    const address = ipBytes(text)
    const family = familyOf(address)
    const onlink = !isLinkLocal(address) && !addresses.some((one) => one.family === family && covers(one, address))
    return {
      family,
      address,
      text: ipText(address),
      onlink,
      metric: GATEWAY_METRIC + position,
      table: ownTable(name),
    }
  })
  if (new Set(gateways.map((gateway) => gateway.family)).size < gateways.length) {
    throw new InvalidInput(`${field}.gateways`, 'expected at most one of each family; write others as routes')
  }
  return gateways
}

function routeOf(spec: RouteSpec, field: string): PathWish {
  const via = spec.via === undefined ? undefined : ipBytes(spec.via)
  if (spec.to === 'default' && via === undefined) {
    throw new InvalidInput(`${field}.to`, 'a default route without "via" says no family: write 0.0.0.0/0 or ::/0')
  }
  const to = spec.to === 'default' ? null : prefixOf(spec.to)
  const family = to === null ? familyOf(via ?? Buffer.alloc(0)) : familyOf(to.address)
  const whole = to === null || to.prefixLength === 0
  const source = spec.source === undefined ? undefined : ipBytes(spec.source)
  if (source !== undefined && familyOf(source) !== family) {
    throw new InvalidInput(`${field}.source`, `expected an ${family} address like the route's`)
  }
  const network = to === null ? null : networkOf(to.address, to.prefixLength)
  return {
    family,
    to: whole || to === null || network === null ? null : { address: network, prefixLength: to.prefixLength },
    ...(via === undefined ? {} : { via }),
    metric: spec.metric === undefined || spec.metric === 0 ? DEFAULT_METRIC[family] : spec.metric,
    table: spec.table === undefined || spec.table === 0 ? MAIN_TABLE : spec.table,
    ...(source === undefined ? {} : { source }),
    ...(spec.onlink ? { onlink: true } : {}),
    ...(spec.mtu === undefined ? {} : { mtu: spec.mtu }),
    text: [
      whole || to === null || network === null ? 'default' : prefixText(network, to.prefixLength),
      ...(via === undefined ? [] : [`via ${ipText(via)}`]),
      ...(spec.metric === undefined ? [] : [`metric ${spec.metric}`]),
      ...(spec.table === undefined ? [] : [`table ${spec.table}`]),
      ...(source === undefined ? [] : [`src ${ipText(source)}`]),
    ].join(' '),
  }
}

/** A rule that names no family and no prefix is for both. */
function rulesOf(spec: RuleSpec): RuleWish[] {
  const prefixes = [spec.from, spec.to].map((text) => (text === undefined ? undefined : prefixOf(text)))
  const told = new Set(prefixes.flatMap((prefix) => (prefix === undefined ? [] : familyOf(prefix.address))))
  if (spec.family !== undefined) told.add(spec.family)
  if (told.size > 1) throw new InvalidInput('rules', `the rule of priority ${spec.priority} mixes IPv4 and IPv6`)
  const [from, to] = prefixes.map(masked)
  const families: Iterable<Family> = told.size === 0 ? ['ipv4', 'ipv6'] : told
  return [...families].map((family) => ({
    family,
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(spec.incoming === undefined ? {} : { incoming: spec.incoming }),
    ...(spec.outgoing === undefined ? {} : { outgoing: spec.outgoing }),
    ...(spec.mark === undefined ? {} : { mark: spec.mark }),
    table: spec.table,
    priority: spec.priority,
  }))
}

/** A rule's prefix as the kernel keeps it; one of length 0 is none. */
function masked(prefix: Prefix | undefined): Prefix | undefined {
  if (prefix === undefined || prefix.prefixLength === 0) return undefined
  return { address: networkOf(prefix.address, prefix.prefixLength), prefixLength: prefix.prefixLength }
}

/**
 * Docker takes IPv6 away from a container without a network, and a router on the bridge would add addresses to what is to
 * have ours alone. `accept_ra` 2 listens to routers on an interface of a forwarding namespace too.
 */
function settingsOf(spec: InterfaceSpec, addresses: readonly AddressWish[]): SettingWish[] {
  const needsIpv6 =
    addresses.some((one) => one.family === 'ipv6') ||
    spec.gateways.some((gateway) => gateway.includes(':')) ||
    ['slaac', 'dhcp', 'dhcp6'].includes(spec.addressing)
  const implied: Record<string, string> = {
    ...(needsIpv6 ? { 'ipv6.conf.disable_ipv6': '0' } : {}),
    ...(spec.addressing === 'slaac' ? { 'ipv6.conf.accept_ra': '2', 'ipv6.conf.autoconf': '1' } : {}),
    ...(spec.addressing === 'static' || spec.addressing === 'dhcp4' ? { 'ipv6.conf.accept_ra': '0' } : {}),
  }
  return [
    ...Object.entries(implied)
      .filter(([path]) => !(path in spec.sysctls))
      .map(([path, value]) => ({ path, value, implied: true })),
    ...Object.entries(spec.sysctls).map(([path, value]) => ({ path, value: value.trim(), implied: false })),
  ]
}

/** Whether an address is in the network of a prefix. */
export function covers(prefix: Prefix, address: Buffer): boolean {
  const { prefixLength } = prefix
  return networkOf(prefix.address, prefixLength).equals(networkOf(address, prefixLength))
}

/** fe80::/10 (RFC 4291, 2.5.6). */
export function isLinkLocal(address: Buffer): boolean {
  return address.length === 16 && address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80
}
