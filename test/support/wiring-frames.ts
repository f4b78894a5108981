import { addressBytes, macBytes } from './wiring-bytes.ts'

/** Frames and packets made by hand, in hexadecimal: what a hostile instance could send. */

const ICMPV6 = 58
const UDP = 17
const ROUTER_MAC = '02:00:00:00:0c:fe'

interface Ends {
  readonly from: string
  readonly to: string
}
interface Macs {
  readonly fromMac: string
  readonly toMac: string
}

/** An Ethernet frame. */
export function frame(macs: Macs, type: number, payload: string): string {
  return `${macBytes(macs.toMac).toString('hex')}${macBytes(macs.fromMac).toString('hex')}${hex16(type)}${payload}`
}

/** An Ethernet frame that holds an IPv6 packet. */
export function ipv6Frame(macs: Macs, packet: string): string {
  return frame(macs, 0x86dd, packet)
}

export function udpPacket(options: Ends & { fromPort: number; toPort: number }): string {
  const data = Buffer.from('spoof')
  const header = Buffer.alloc(8)
  header.writeUInt16BE(options.fromPort, 0)
  header.writeUInt16BE(options.toPort, 2)
  header.writeUInt16BE(header.length + data.length, 4)
  return packet(options, UDP, Buffer.concat([header, data]), 6)
}

/** A neighbour advertisement (RFC 4861, 4.4) that claims `target` for `mac`. */
export function neighbourAdvertisement(options: Ends & { target: string; mac: string; options?: Buffer }): string {
  const body = Buffer.concat([
    Buffer.from([136, 0, 0, 0, 0x60, 0, 0, 0]),
    addressBytes(options.target),
    Buffer.from([2, 1]),
    macBytes(options.mac),
  ])
  return packet(options, ICMPV6, body, 2, options.options)
}

/** A neighbour solicitation (RFC 4861, 4.3) for `target`. */
export function neighbourSolicitation(options: Ends & { target: string; mac: string }): string {
  const body = Buffer.concat([
    Buffer.from([135, 0, 0, 0, 0, 0, 0, 0]),
    addressBytes(options.target),
    Buffer.from([1, 1]),
    macBytes(options.mac),
  ])
  return packet(options, ICMPV6, body, 2)
}

/** A router advertisement (RFC 4861, 4.2) with a router lifetime of half an hour. */
export function routerAdvertisement(options: Ends): string {
  return packet(options, ICMPV6, Buffer.from([134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]), 2)
}

/** A redirect (RFC 4861, 4.5) of `target` to the sender. */
export function redirect(options: Ends & { target: string }): string {
  const head = Buffer.from([137, 0, 0, 0, 0, 0, 0, 0])
  return packet(options, ICMPV6, Buffer.concat([head, addressBytes(options.from), addressBytes(options.target)]), 2)
}

/** A frame with a Packet Too Big (RFC 4443, 3.2) about a packet, for the sender of that packet. */
export function packetTooBig(options: { toMac: string; from: string; about: string; mtu: number }): string {
  const about = Buffer.from(options.about, 'hex')
  const head = Buffer.alloc(8)
  head[0] = 2
  head.writeUInt32BE(options.mtu, 4)
  const ends = { from: options.from, to: textOf(about.subarray(8, 24)) }
  const body = packet(ends, ICMPV6, Buffer.concat([head, about]), 2)
  return ipv6Frame({ fromMac: ROUTER_MAC, toMac: options.toMac }, body)
}

/** A destination options header (RFC 8200, 4.6) of 24 bytes whose padding holds `hidden`. */
export function destinationOptions(hidden: Buffer): Buffer {
  return Buffer.concat([Buffer.from([ICMPV6, 2, 1, 4, 0, 0, 0, 0]), hidden])
}

function packet(ends: Ends, protocol: number, body: Buffer, checksumAt: number, extension?: Buffer): string {
  const pseudo = Buffer.alloc(8)
  pseudo.writeUInt32BE(body.length, 0)
  pseudo[7] = protocol
  const addresses = Buffer.concat([addressBytes(ends.from), addressBytes(ends.to)])
  body.writeUInt16BE(0, checksumAt)
  body.writeUInt16BE(checksum(Buffer.concat([addresses, pseudo, body])), checksumAt)
  const rest = Buffer.concat([extension ?? Buffer.alloc(0), body])
  const header = Buffer.alloc(8)
  header[0] = 0x60
  header.writeUInt16BE(rest.length, 4)
  header[6] = extension === undefined ? protocol : 60
  header[7] = 255
  return Buffer.concat([header, addresses, rest]).toString('hex')
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return ~sum & 0xffff
}

function textOf(address: Buffer): string {
  return address.toString('hex').match(/.{4}/g)?.join(':') ?? ''
}

function hex16(value: number): string {
  return value.toString(16).padStart(4, '0')
}
