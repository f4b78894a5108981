import { isIPv4, isIPv6 } from 'node:net'
import { InvalidInput } from '../../../common/errors.ts'
import { canonical } from '../input.ts'
import { unreadable } from './netlink.ts'

/** Addresses as the kernel has them: 4 bytes are IPv4, 16 are IPv6. */

export type Family = 'ipv4' | 'ipv6'

/** Address families of linux/socket.h. */
const AF_INET = 2
export const AF_INET6 = 10

const BYTES = { ipv4: 4, ipv6: 16 } as const

/** An address and how many of its first bits name the network. */
export interface Prefix {
  readonly address: Buffer
  readonly prefixLength: number
}

/** The bytes of an address in any usual spelling but with a zone. @throws InvalidInput */
export function ipBytes(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number))
  if (!isIPv6(text) || text.includes('%')) {
    throw new InvalidInput('address', `expected an IPv4 or IPv6 address, got ${JSON.stringify(text.slice(0, 64))}`)
  }
  const [head = '', tail] = text.split('::')
  const left = groupsOf(head)
  const right = tail === undefined ? [] : groupsOf(tail)
  const bytes = Buffer.alloc(BYTES.ipv6)
  for (const [i, group] of left.entries()) bytes.writeUInt16BE(group, 2 * i)
  for (const [i, group] of right.entries()) bytes.writeUInt16BE(group, BYTES.ipv6 - 2 * (right.length - i))
  return bytes
}

/** The canonical text of an address (RFC 5952). @throws WiringError `answer-unreadable` unless it has 4 or 16 bytes */
export function ipText(bytes: Buffer): string {
  if (bytes.length === BYTES.ipv4) return bytes.join('.')
  if (bytes.length !== BYTES.ipv6) throw unreadable(`an address of ${bytes.length} bytes`)
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16))
  return canonical(groups.join(':'))
}

/** @throws WiringError `answer-unreadable` unless it has 4 or 16 bytes */
export function familyOf(address: Buffer): Family {
  if (address.length === BYTES.ipv4) return 'ipv4'
  if (address.length === BYTES.ipv6) return 'ipv6'
  throw unreadable(`an address of ${address.length} bytes`)
}

/** The kernel's number of a family. */
export function familyNumber(family: Family): number {
  return family === 'ipv4' ? AF_INET : AF_INET6
}

/** The kernel's number of the family of an address. */
export function familyNumberOf(address: Buffer): number {
  return familyNumber(familyOf(address))
}

/** The family of the kernel's number; null: neither. */
export function familyNamed(number: number | undefined): Family | null {
  return number === AF_INET ? 'ipv4' : number === AF_INET6 ? 'ipv6' : null
}

/** The address none of whose bits is set: `0.0.0.0` or `::`. */
export function unspecified(family: Family): Buffer {
  return Buffer.alloc(BYTES[family])
}

/** Reads `fd00::5/64`, bits behind the prefix kept; without a length it is that of the whole address. @throws InvalidInput */
export function prefixOf(text: string): Prefix {
  const [base = '', bits, extra] = text.split('/')
  const address = ipBytes(base)
  const prefixLength = bits === undefined ? address.length * 8 : Number(bits)
  if (extra !== undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits)) || prefixLength > address.length * 8) {
    throw new InvalidInput('prefix', `expected such as fd00::5/64 or 10.1.1.5/24, got ${JSON.stringify(text)}`)
  }
  return { address, prefixLength }
}

/** `fd00::5/64` */
export function prefixText(address: Buffer, prefixLength: number): string {
  return `${ipText(address)}/${prefixLength}`
}

/** The first address of the network: bits behind the prefix are 0, as the kernel insists for a route. */
export function networkOf(address: Buffer, prefixLength: number): Buffer {
  return Buffer.from(address.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefixLength - 8 * i)))))
}

/** The last address of an IPv4 network, to which `ip address add … broadcast +` would set the broadcast address. */
export function broadcastOf(address: Buffer, prefixLength: number): Buffer {
  return Buffer.from(address.map((byte, i) => byte | (0xff >> Math.min(8, Math.max(0, prefixLength - 8 * i)))))
}

/** The last group may be an IPv4 address (RFC 4291, 2.2). */
function groupsOf(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [a * 256 + b, c * 256 + d]
  })
}
