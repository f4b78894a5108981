import { close as closeFile } from 'node:fs'
import { WiringError } from '../errors.ts'
import { familyOf } from './ip.ts'
import { errnoName, lastErrno, sendto, socket } from './libc.ts'
import { macBytes } from './mac.ts'
import type { Sandbox } from './namespaces.ts'

const AF_PACKET = 17
const SOCK_RAW_CLOEXEC = 3 | 0o2000000
/** Bytes of struct sockaddr_ll (packet(7)). */
const SOCKADDR_LL = 20
const ETHERTYPE = { arp: 0x0806, ipv6: 0x86dd }
const BROADCAST = Buffer.alloc(6, 0xff)
/** All nodes, and its MAC (RFC 4291, 2.7.1; RFC 2464, 7). */
const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex')
const ALL_NODES_MAC = Buffer.from('333300000001', 'hex')
const ICMPV6 = 58
const NEIGHBOUR_ADVERTISEMENT = 136
const TARGET_LINK_ADDRESS = 2
/** RFC 4861, 7.1.2: a receiver takes no other. */
const HOP_LIMIT = 255
const ROUTER = 0x80
const OVERRIDE = 0x20

/** Whose address it is. */
export interface Announcement {
  readonly mac: string
  readonly address: Buffer
}

/** An ARP announcement (RFC 5227, 3): a request for one's own address, which renews the caches of all who hear it. */
export function gratuitousArp({ mac, address }: Announcement): Buffer {
  const own = macBytes(mac)
  const ethernetAndIpv4 = Buffer.from('0001080006040001', 'hex')
  const body = Buffer.concat([ethernetAndIpv4, own, address, Buffer.alloc(6), address])
  return frame(BROADCAST, own, ETHERTYPE.arp, body)
}

/** An unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6) with the Override flag. */
export function neighbourAdvertisement({ mac, address, router }: Announcement & { router?: boolean }): Buffer {
  const own = macBytes(mac)
  const flags = Buffer.of((router ? ROUTER : 0) | OVERRIDE, 0, 0, 0)
  const head = Buffer.of(NEIGHBOUR_ADVERTISEMENT, 0, 0, 0)
  const icmp = Buffer.concat([head, flags, address, Buffer.of(TARGET_LINK_ADDRESS, 1), own])
  icmp.writeUInt16BE(checksum(address, ALL_NODES, icmp), 2)
  const ip = Buffer.alloc(8)
  ip[0] = 0x60
  ip.writeUInt16BE(icmp.length, 4)
  ip[6] = ICMPV6
  ip[7] = HOP_LIMIT
  return frame(ALL_NODES_MAC, own, ETHERTYPE.ipv6, Buffer.concat([ip, address, ALL_NODES, icmp]))
}

/**
 * Tells everybody on the link who has these addresses now. The interface must be up. Needs CAP_NET_RAW.
 * @throws WiringError `not-permitted`, `kernel-refused`
 */
export function announce(sandbox: Sandbox, index: number, mac: string, addresses: readonly Buffer[]): void {
  const frames = addresses.map((address) =>
    familyOf(address) === 'ipv4' ? gratuitousArp({ mac, address }) : neighbourAdvertisement({ mac, address }),
  )
  if (frames.length > 0) sandbox.inside(() => sendFrames(index, frames))
}

/**
 * Sends frames through an interface of the namespace in which the thread is.
 * @throws WiringError `not-permitted`, `kernel-refused`
 */
export function sendFrames(index: number, frames: readonly Buffer[]): void {
  const fd = socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0)
  if (fd < 0) throw cannotAnnounce(errnoName(lastErrno()))
  try {
    for (const bytes of frames) {
      const to = linkAddress(index, bytes)
      if (sendto(fd, bytes, bytes.length, 0, to, to.length) < 0) throw cannotAnnounce(errnoName(lastErrno()))
    }
  } finally {
    // In another thread: the kernel waits some 13 ms until nobody uses a packet socket any more (packet_release).
    closeFile(fd, (error) => {
      if (error !== null) throw error
    })
  }
}

function cannotAnnounce(errno: string): WiringError {
  if (errno === 'EPERM') {
    return new WiringError('not-permitted', `cannot announce addresses (${errno}): CAP_NET_RAW is needed`)
  }
  return new WiringError('kernel-refused', `cannot announce addresses (${errno})`, { retryable: errno === 'ENOBUFS' })
}

/** struct sockaddr_ll: where a frame goes. */
function linkAddress(index: number, bytes: Buffer): Buffer {
  const to = Buffer.alloc(SOCKADDR_LL)
  to.writeUInt16LE(AF_PACKET, 0)
  bytes.copy(to, 2, 12, 14)
  to.writeInt32LE(index, 4)
  to[11] = BROADCAST.length
  bytes.copy(to, 12, 0, 6)
  return to
}

function frame(to: Buffer, from: Buffer, type: number, body: Buffer): Buffer {
  return Buffer.concat([to, from, Buffer.of(type >> 8, type & 0xff), body])
}

/** That of ICMPv6, over a pseudo-header too (RFC 8200, 8.1). */
function checksum(source: Buffer, destination: Buffer, icmp: Buffer): number {
  const length = Buffer.alloc(8)
  length.writeUInt32BE(icmp.length, 0)
  length[7] = ICMPV6
  const bytes = Buffer.concat([source, destination, length, icmp])
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
