import { isIPv6 } from 'node:net'
import ip6addr from 'ip6addr'
import { InvalidInput } from './errors.ts'

/** A canonical IPv6 address (RFC 5952 text: lower case, shortest form, hex groups only, no zone). Made only by {@link parseIpv6}. */
export type Ipv6 = string & { readonly __ipv6: true }

/** An IPv6 prefix: its first address and its length in bits, 0 to 128. */
export interface Prefix {
  readonly base: Ipv6
  readonly length: number
}

/**
 * Parses an IPv6 address in any RFC 4291 spelling but a zone, and returns its RFC 5952 text.
 * @throws InvalidInput naming `field`
 */
export function parseIpv6(text: string, field = 'address'): Ipv6 {
  if (!isIPv6(text) || text.includes('%')) throw new InvalidInput(field, `expected an IPv6 address, got ${show(text)}`)
  return fromBigInt(toBigInt(text))
}

/** Parses `fd00::/64`. Bits below the length must be zero. @throws InvalidInput naming `field` */
export function parsePrefix(text: string, field = 'prefix'): Prefix {
  const [address = '', bits = '', extra] = text.split('/')
  const length = Number(bits)
  if (extra !== undefined || !/^\d{1,3}$/.test(bits) || length > 128) {
    throw new InvalidInput(field, `expected an IPv6 prefix such as fd00:1::/64, got ${show(text)}`)
  }
  const base = parseIpv6(address, field)
  if ((toBigInt(base) & hostMask(length)) !== 0n) {
    throw new InvalidInput(
      field,
      `${text} has bits set below its length; write ${formatPrefix({ base: network(base, length), length })}`,
    )
  }
  return { base, length }
}

/** The prefix of this length that an address lies in. */
export function prefixOf(address: Ipv6, length: number): Prefix {
  return { base: network(address, length), length }
}

/** `fd00:1::/64` */
export function formatPrefix(prefix: Prefix): string {
  return `${prefix.base}/${prefix.length}`
}

/** Whether the address lies in the prefix. */
export function contains(prefix: Prefix, address: Ipv6): boolean {
  return network(address, prefix.length) === prefix.base
}

/** The address in `prefix` whose host bits are the low bits of `host`. */
export function join(prefix: Prefix, host: bigint): Ipv6 {
  return fromBigInt(toBigInt(prefix.base) | (host & hostMask(prefix.length)))
}

/** The low `128 - length` bits of an address. */
export function hostBits(address: Ipv6, length: number): bigint {
  return toBigInt(address) & hostMask(length)
}

/** The number of addresses in the prefix. */
export function size(prefix: Prefix): bigint {
  return 1n << BigInt(128 - prefix.length)
}

function network(address: Ipv6, length: number): Ipv6 {
  return fromBigInt(toBigInt(address) & ~hostMask(length))
}

function hostMask(length: number): bigint {
  return (1n << BigInt(128 - length)) - 1n
}

function toBigInt(text: string): bigint {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text)
  const hex = (a: string | undefined, b: string | undefined) => (Number(a) * 256 + Number(b)).toString(16)
  const plain = dotted ? `${dotted[1]}${hex(dotted[2], dotted[3])}:${hex(dotted[4], dotted[5])}` : text
  return ip6addr
    .parse(plain)
    .toBuffer()
    .reduce((sum: bigint, byte: number) => (sum << 8n) | BigInt(byte), 0n)
}

/** The URL standard's serializer is RFC 5952's; ip6addr would also shorten a single zero group, which section 4.2.2 forbids. */
function fromBigInt(value: bigint): Ipv6 {
  const groups = value.toString(16).padStart(32, '0').match(/.{4}/g)?.join(':') ?? ''
  return new URL(`http://[${groups}]/`).hostname.slice(1, -1) as Ipv6
}

function show(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text)
}
