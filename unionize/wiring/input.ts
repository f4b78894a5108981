import { isIPv6, SocketAddress } from 'node:net'
import { InvalidInput } from '../../common/errors.ts'
import { parseIpv6 } from '../../common/ipv6.ts'
import type { Policy } from '../../common/wiring-policy.ts'
import { parsePolicy } from './policy-input.ts'
import type { HostNetwork, Passage, Placement, SandboxLink, Source, Way } from './wiring.ts'

/** Every host-side link of ours bears this prefix; the firewall knows them by it. */
export const LINK_PREFIX = 'ui-'

/** An interface name has at most 15 characters (IFNAMSIZ of linux/if.h, less the NUL). */
const LINK_NAME = /^ui-[A-Za-z0-9_-]{1,12}$/
const INTERFACE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/
/** A MAC of one station: the lowest bit of its first byte is 0 (IEEE 802). */
const MAC = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/
/** Unspecified, loopback, link-local and site-local, multicast (RFC 4291, 2.4). */
const UNROUTABLE = /^(::1?$|fe[89a-f][0-9a-f]:|ff[0-9a-f]{2}:)/

/*
 * What comes in is parsed here, once. What is behind may put these values into firewall text and netlink messages as
 * they are.
 */

/** @throws InvalidInput naming the field */
export function parseNetwork(network: HostNetwork): HostNetwork {
  parseFields(network, 'network')
  if (!isText(network.bridge, INTERFACE_NAME)) throw refused('bridge', 'an interface name', network.bridge)
  if (!Number.isInteger(network.prefixLength) || network.prefixLength < 1 || network.prefixLength > 128) {
    throw refused('prefixLength', 'a number from 1 to 128', network.prefixLength)
  }
  return {
    bridge: network.bridge,
    gateway: parseAddress(network.gateway, 'gateway'),
    prefixLength: network.prefixLength,
    myAddress: parseAddress(network.myAddress, 'myAddress'),
  }
}

/** @throws InvalidInput naming the field */
export function parseSandbox(sandbox: SandboxLink): SandboxLink {
  parseFields(sandbox, 'sandbox')
  const { inside } = sandbox
  if (inside !== undefined && !isText(inside, INTERFACE_NAME)) throw refused('inside', 'an interface name', inside)
  return {
    pid: parsePid(sandbox.pid),
    link: parseLink(sandbox.link),
    mac: parseMac(sandbox.mac),
    ...(inside === undefined ? {} : { inside }),
  }
}

/** @throws InvalidInput naming the field */
export function parsePlacement(placement: Placement): Placement {
  parseFields(placement, 'placement')
  return {
    ...parseSandbox(placement),
    address: parseAddress(placement.address, 'address'),
    ...parsePolicyOf(placement),
    owner: placement.owner === null ? null : parseAddress(placement.owner, 'owner'),
    ...parseOwnerVia(placement),
  }
}

/** @throws InvalidInput naming the field */
export function parsePassage(passage: Passage): Passage {
  parseFields(passage, 'passage')
  return {
    owner: parseAddress(passage.owner, 'owner'),
    instance: parseAddress(passage.instance, 'instance'),
    ...parseOwnerVia(passage),
  }
}

/** @throws InvalidInput naming the field */
export function parseWayName(way: Pick<Way, 'owner' | 'address'>): Pick<Way, 'owner' | 'address'> {
  parseFields(way, 'way')
  return { owner: parseAddress(way.owner, 'owner'), address: parseAddress(way.address, 'address') }
}

/** @throws InvalidInput naming the field */
export function parseWay(way: Way): Way {
  const name = parseWayName(way)
  const { reach } = way
  parseFields(reach, 'reach')
  switch (reach.kind) {
    case 'routed':
      return { ...name, reach: { kind: 'routed', via: parseAddress(reach.via, 'reach.via') } }
    case 'translated': {
      const from = reach.from === undefined ? {} : { from: parseAddress(reach.from, 'reach.from') }
      return { ...name, reach: { kind: 'translated', address: parseAddress(reach.address, 'reach.address'), ...from } }
    }
    default:
      throw refused('reach.kind', 'routed or translated', (reach as { kind?: unknown }).kind)
  }
}

/** @throws InvalidInput naming the field */
export function parsePath(path: Passage | Way): Passage | Way {
  parseFields(path, 'path')
  return 'reach' in path ? parseWay(path) : parsePassage(path)
}

/** @throws InvalidInput naming the field */
export function parseSource(source: Source): Source {
  parseFields(source, 'source')
  return {
    link: parseLink(source.link),
    mac: parseMac(source.mac),
    address: parseAddress(source.address, 'address'),
    ...parsePolicyOf(source),
  }
}

/** @throws InvalidInput naming the field */
export function parseLink(link: string): string {
  if (!isText(link, LINK_NAME)) throw refused('link', `${LINK_PREFIX} and 1 to 12 letters, digits, - or _`, link)
  return link
}

/**
 * The canonical text of an address. Thousands come at once after a restart, so what the system can tell is not worked
 * out anew; its text differs from RFC 5952 only where it writes an IPv4 address.
 * @throws InvalidInput naming the field
 */
export function canonical(text: string, field = 'address'): string {
  if (isIPv6(text) && !text.includes('%')) {
    const { address } = new SocketAddress({ address: text, family: 'ipv6' })
    if (!address.includes('.')) return address
  }
  return parseIpv6(text, field)
}

/** The sixteen bytes of a canonical address. */
export function addressBytes(address: string): Buffer {
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)))
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  const bytes = Buffer.alloc(16)
  for (const [i, group] of left.entries()) bytes.writeUInt16BE(group, 2 * i)
  for (const [i, group] of right.entries()) bytes.writeUInt16BE(group, 16 - 2 * (right.length - i))
  return bytes
}

/** @throws InvalidInput naming the field */
function parseOwnerVia({ ownerVia }: Pick<Passage, 'ownerVia'>): { ownerVia?: string } {
  return ownerVia === undefined ? {} : { ownerVia: parseAddress(ownerVia, 'ownerVia') }
}

/** @throws InvalidInput naming the field */
function parsePolicyOf({ policy }: { readonly policy?: Policy | undefined }): { policy?: Policy } {
  return policy === undefined ? {} : { policy: parsePolicy(policy) }
}

/** @throws InvalidInput naming the field */
export function parsePid(pid: number): number {
  if (!Number.isInteger(pid) || pid < 1 || pid > 0x7fffffff) throw refused('pid', 'the id of a process', pid)
  return pid
}

/** @throws InvalidInput naming the field */
export function parseMac(mac: string): string {
  const lower = String(mac).toLowerCase()
  if (!isText(mac) || !MAC.test(lower) || lower === '00:00:00:00:00:00')
    throw refused('mac', 'a unicast MAC address', mac)
  return lower
}

/** @throws InvalidInput naming the field */
export function parseAddress(text: string, field: string): string {
  if (!isText(text)) throw refused(field, 'an IPv6 address', text)
  const address = canonical(text, field)
  if (UNROUTABLE.test(address)) throw refused(field, 'an address that can be routed to', text)
  return address
}

/** Each of a list from another process. @throws InvalidInput naming the field */
export function parseEach<T>(list: readonly T[], parse: (item: T) => T, field: string): T[] {
  if (!Array.isArray(list)) throw refused(field, 'a list', list)
  return list.map((item) => parse(item))
}

/** What comes from another process may be anything at all, whatever its type says here. */
function parseFields(value: unknown, field: string): void {
  if (typeof value !== 'object' || value === null) throw refused(field, 'an object', value)
}

function isText(value: unknown, pattern?: RegExp): boolean {
  return typeof value === 'string' && (pattern?.test(value) ?? true)
}

function refused(field: string, expected: string, value: unknown): InvalidInput {
  return new InvalidInput(field, `expected ${expected}, got ${(JSON.stringify(value) ?? 'nothing').slice(0, 200)}`)
}
