/** Answers ARP requests for an IPv4 address, late. Arguments: link, address, delay in ms. Run in the namespace of the link. */
import { networkInterfaces } from 'node:os'
import koffi from 'koffi'
import { answer } from './wiring-remote.ts'

const AF_PACKET = 17
const SOCK_RAW = 3
const ETH_P_ARP_BE = 0x0608
const MSG_DONTWAIT = 0x40
/** Where things stand in an ARP frame (RFC 826). */
const [SOURCE, OPERATION, SENDER, TARGET_IP, LENGTH] = [6, 20, 22, 38, 42]

const libc = koffi.load('libc.so.6')
const socket = libc.func('int socket(int family, int type, int protocol)')
const bind = libc.func('int bind(int fd, void *address, uint32_t length)')
const recv = libc.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)')
const send = libc.func('intptr_t send(int fd, void *bytes, size_t length, int flags)')
const ifIndex = libc.func('unsigned int if_nametoindex(const char *name)')

const [link = '', address = '', delay = ''] = process.argv.slice(2)
const ours = Buffer.from(address.split('.').map(Number))
const mac = Buffer.from((networkInterfaces()[link]?.[0]?.mac ?? '').replaceAll(':', ''), 'hex')
const place = Buffer.alloc(20)
place.writeUInt16LE(AF_PACKET, 0)
place.writeUInt16LE(ETH_P_ARP_BE, 2)
place.writeInt32LE(ifIndex(link) as number, 4)
const fd = socket(AF_PACKET, SOCK_RAW, ETH_P_ARP_BE) as number
if (mac.length !== 6 || bind(fd, place, place.length) !== 0) throw new Error(`cannot hear ARP on ${link}`)

function reply(request: Buffer): void {
  const frame = Buffer.alloc(LENGTH)
  request.copy(frame, 0, SOURCE, SOURCE + 6)
  mac.copy(frame, SOURCE)
  request.copy(frame, 12, 12, OPERATION)
  frame.writeUInt16BE(2, OPERATION)
  Buffer.concat([mac, ours, request.subarray(SENDER, SENDER + 10)]).copy(frame, SENDER)
  send(fd, frame, frame.length, 0)
}

const buffer = Buffer.alloc(2048)
setInterval(() => {
  while ((recv(fd, buffer, buffer.length, MSG_DONTWAIT) as number) >= LENGTH) {
    const request = Buffer.from(buffer.subarray(0, LENGTH))
    const forUs = request.readUInt16BE(OPERATION) === 1 && request.subarray(TARGET_IP, LENGTH).equals(ours)
    if (forUs && !request.subarray(SOURCE, SOURCE + 6).equals(mac)) setTimeout(() => reply(request), Number(delay))
  }
}, 10)
answer({ ready: () => true })
