import { addressBytes, macBytes } from './wiring-bytes.ts'
import { frame } from './wiring-frames.ts'

/** What a hostile instance could send: IPv6 packets with any headers, valid checksums included. In hexadecimal. */

/** Protocol numbers (IANA). */
export const HOP_BY_HOP = 0
export const TCP = 6
export const UDP = 17
export const ROUTING = 43
export const FRAGMENT = 44
export const ICMPV6 = 58
export const NO_NEXT_HEADER = 59
export const DESTINATION_OPTIONS = 60

export interface Ends {
  readonly from: string
  readonly to: string
}

/** One header between that of IPv6 and what it carries: its number and its bytes, but for the number of the next. */
export interface Extension {
  readonly protocol: number
  readonly rest: Buffer
}

/** Padding only (RFC 8200, 4.2). */
export function padding(protocol: number): Extension {
  return { protocol, rest: Buffer.from([0, 1, 4, 0, 0, 0, 0]) }
}

/** Router alert (RFC 2711), as multicast listener reports have it. */
export const ROUTER_ALERT: Extension = { protocol: HOP_BY_HOP, rest: Buffer.from([0, 5, 2, 0, 0, 1, 0]) }

/** @param at offset of the data in bytes, a multiple of 8 */
export function fragment(at: number, more: boolean): Extension {
  const rest = Buffer.alloc(7)
  rest.writeUInt16BE(at | (more ? 1 : 0), 1)
  rest.writeUInt32BE(0x68360000, 3)
  return { protocol: FRAGMENT, rest }
}

/** An IPv6 packet. */
export function ipv6(
  ends: Ends,
  protocol: number,
  payload: Buffer,
  options: { readonly extensions?: readonly Extension[]; readonly hopLimit?: number; readonly length?: number } = {},
): Buffer {
  const { extensions = [], hopLimit = 255 } = options
  const following = [...extensions.slice(1).map((extension) => extension.protocol), protocol]
  const headers = extensions.map(({ rest }, i) => Buffer.concat([Buffer.of(following[i] ?? 0), rest]))
  const content = Buffer.concat([...headers, payload])
  const header = Buffer.alloc(8)
  header[0] = 0x60
  header.writeUInt16BE(options.length ?? content.length, 4)
  header[6] = extensions[0]?.protocol ?? protocol
  header[7] = hopLimit
  return Buffer.concat([header, addressBytes(ends.from), addressBytes(ends.to), content])
}

/** An ICMPv6 message with its checksum over these ends. */
export function icmpv6(ends: Ends, type: number, body: Buffer, code = 0): Buffer {
  return withChecksum(ends, ICMPV6, Buffer.concat([Buffer.from([type, code, 0, 0]), body]), 2)
}

export function udp(ends: Ends, fromPort: number, toPort: number, data = 'hostile'): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt16BE(fromPort, 0)
  header.writeUInt16BE(toPort, 2)
  header.writeUInt16BE(8 + data.length, 4)
  return withChecksum(ends, UDP, Buffer.concat([header, Buffer.from(data)]), 6)
}

/** A SYN without options. */
export function tcpSyn(ends: Ends, fromPort: number, toPort: number): Buffer {
  const header = Buffer.alloc(20)
  header.writeUInt16BE(fromPort, 0)
  header.writeUInt16BE(toPort, 2)
  header.writeUInt32BE(1, 4)
  header[12] = 0x50
  header[13] = 0x02
  header.writeUInt16BE(1024, 14)
  return withChecksum(ends, TCP, header, 16)
}

/** Source (1) or target (2) link-layer address (RFC 4861, 4.6.1). */
export function linkLayerOption(type: 1 | 2, mac: string): Buffer {
  return Buffer.concat([Buffer.from([type, 1]), macBytes(mac)])
}

/** Body of a neighbour solicitation or advertisement, behind its checksum. */
export function neighbourBody(target: string, options: readonly Buffer[] = [], flags = 0): Buffer {
  return Buffer.concat([Buffer.from([flags, 0, 0, 0]), addressBytes(target), ...options])
}

/** Body of a router advertisement with a lifetime of half an hour. */
export const ADVERTISED_ROUTER = Buffer.from([64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0])

/** A frame for an IPv6 packet. */
export function framed(fromMac: string, toMac: string, packet: Buffer): string {
  return frame({ fromMac, toMac }, 0x86dd, packet.toString('hex'))
}

/** The MAC of an IPv6 group (RFC 2464, 7). */
export function groupMac(address: string): string {
  return [
    '33',
    '33',
    ...[...addressBytes(address).subarray(12)].map((byte) => byte.toString(16).padStart(2, '0')),
  ].join(':')
}

/** An ARP packet (RFC 826): request (1) or reply (2). */
export function arp(
  operation: 1 | 2,
  sender: { mac: string; ip: string },
  target: { mac: string; ip: string },
): string {
  const head = Buffer.from([0, 1, 8, 0, 6, 4, 0, operation])
  const ip = (text: string) => Buffer.from(text.split('.').map(Number))
  return Buffer.concat([head, macBytes(sender.mac), ip(sender.ip), macBytes(target.mac), ip(target.ip)]).toString('hex')
}

/** An IPv4 packet with UDP, without checksum of the latter. */
export function ipv4Udp(from: string, to: string, fromPort: number, toPort: number): string {
  const ip = (text: string) => Buffer.from(text.split('.').map(Number))
  const header = Buffer.from([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0])
  const whole = Buffer.concat([header, ip(from), ip(to)])
  whole.writeUInt16BE(checksum(whole), 10)
  const datagram = Buffer.alloc(16, 'x')
  datagram.writeUInt16BE(fromPort, 0)
  datagram.writeUInt16BE(toPort, 2)
  datagram.writeUInt16BE(16, 4)
  datagram.writeUInt16BE(0, 6)
  return Buffer.concat([whole, datagram]).toString('hex')
}

function withChecksum({ from, to }: Ends, protocol: number, message: Buffer, at: number): Buffer {
  const pseudo = Buffer.alloc(8)
  pseudo.writeUInt32BE(message.length, 0)
  pseudo[7] = protocol
  message.writeUInt16BE(0, at)
  message.writeUInt16BE(checksum(Buffer.concat([addressBytes(from), addressBytes(to), pseudo, message])), at)
  return message
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return ~sum & 0xffff
}
