/**
 * A process in one namespace of the wiring lab: serves TCP and UDP under its label, and tries to reach others.
 * Arguments: label, port.
 */
import { createSocket } from 'node:dgram'
import { createServer, connect as dial, type Socket } from 'node:net'
import koffi from 'koffi'
import { addressBytes } from './wiring-bytes.ts'
import { answer } from './wiring-remote.ts'

export interface Outcome {
  /** `answered`: by the one whose label is given; `refused`: with an error, at once; `silent`: nothing in time. */
  readonly result: 'answered' | 'refused' | 'silent'
  readonly label: string
  readonly ms: number
}

const [label = '', port = '0'] = process.argv.slice(2)
const AF_INET6 = 10
const AF_PACKET = 17
const SOCK_RAW = 3
const ETH_P_ALL_BE = 0x0300
const IPPROTO_ICMPV6 = 58
const MSG_DONTWAIT = 0x40

const libc = koffi.load('libc.so.6')
const socket = libc.func('int socket(int family, int type, int protocol)')
const bind = libc.func('int bind(int fd, void *address, uint32_t length)')
const close = libc.func('int close(int fd)')
const recv = libc.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)')
const sendto = libc.func(
  'intptr_t sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t addressLength)',
)
const ifIndex = libc.func('unsigned int if_nametoindex(const char *name)')

let flow: Socket | null = null
let flowBytes = 0
/** The last one who connected. */
let accepted: Socket | null = null
let capture: number | null = null

if (label !== '') serve(Number(port))
answer({
  ready: () => true,
  tcp,
  udp,
  icmp,
  listen: serve,
  flowOpen,
  flowEcho,
  flowPush: () => accepted?.write('y'),
  flowClose: () => flow?.resetAndDestroy(),
  sendFrame,
  flood,
  captureStart,
  captureTaken,
  fds: async () => (await import('node:fs')).readdirSync('/proc/self/fd').length,
})

function serve(at: number): void {
  createServer((peer) => {
    accepted = peer
    peer.write(`${label}\n`)
    peer.on('error', () => peer.destroy())
    peer.on('data', (data) => peer.write(data))
  }).listen(at, '::')
  const udpServer = createSocket('udp6')
  udpServer.on('message', (_, from) => udpServer.send(label, from.port, from.address))
  udpServer.on('error', () => {})
  udpServer.bind(at, '::')
}

function tcp(address: string, at: number, timeoutMs: number): Promise<Outcome> {
  return outcome(timeoutMs, (done) => {
    const peer = dial(at, address)
    peer.on('data', (data) => done('answered', data.toString().trim()))
    peer.on('error', () => done('refused'))
    return () => peer.destroy()
  })
}

function udp(address: string, at: number, timeoutMs: number, fromPort = 0): Promise<Outcome> {
  return outcome(timeoutMs, (done) => {
    const peer = createSocket('udp6')
    peer.on('message', (data) => done('answered', data.toString()))
    peer.on('error', () => done('refused'))
    // Its typings do not know that it is given what went wrong, such as that no route leads there.
    const connected = (error?: Error) => (error ? done('refused') : peer.send('hello'))
    peer.bind(fromPort, () => peer.connect(at, address, connected as () => void))
    return () => peer.close()
  })
}

function icmp(address: string, _port: number, timeoutMs: number): Promise<Outcome> {
  const fd = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
  const id = Math.floor(Math.random() * 0x10000)
  const request = Buffer.from([128, 0, 0, 0, id >> 8, id & 255, 0, 1])
  const target = Buffer.alloc(28)
  target.writeUInt16LE(AF_INET6)
  addressBytes(address).copy(target, 8)
  return outcome(timeoutMs, (done) => {
    if (sendto(fd, request, request.length, 0, target, target.length) < 0) done('refused')
    const buffer = Buffer.alloc(2048)
    const timer = setInterval(() => {
      for (let length = recv(fd, buffer, buffer.length, MSG_DONTWAIT); length > 0; ) {
        if (buffer[0] === 129 && buffer.readUInt16BE(4) === id) done('answered')
        if (buffer[0] === 1 && buffer.readUInt16BE(8 + 40 + 4) === id) done('refused')
        length = recv(fd, buffer, buffer.length, MSG_DONTWAIT)
      }
    }, 1)
    return () => {
      clearInterval(timer)
      close(fd)
    }
  })
}

function outcome(
  timeoutMs: number,
  begin: (done: (result: Outcome['result'], label?: string) => void) => () => void,
): Promise<Outcome> {
  const startedAt = performance.now()
  return new Promise((resolve) => {
    let end: (() => void) | null = null
    let told = false
    const done = (result: Outcome['result'], from = '') => {
      if (told) return
      told = true
      clearTimeout(timer)
      setImmediate(() => end?.())
      resolve({ result, label: from, ms: performance.now() - startedAt })
    }
    const timer = setTimeout(() => done('silent'), timeoutMs)
    end = begin(done)
  })
}

function flowOpen(address: string, at: number): Promise<void> {
  flowBytes = 0
  return new Promise((resolve, reject) => {
    flow = dial(at, address)
    flow.on('error', reject)
    flow.on('data', (data) => {
      flowBytes += data.length
      resolve()
    })
  })
}

/** Sends over the open connection, and waits for anything to come back. */
async function flowEcho(timeoutMs: number): Promise<boolean> {
  const before = flowBytes
  flow?.write('x')
  for (const end = performance.now() + timeoutMs; performance.now() < end; ) {
    if (flowBytes > before) return true
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return false
}

function sendFrame(link: string, frame: string): void {
  const bytes = Buffer.from(frame, 'hex')
  const fd = socket(AF_PACKET, SOCK_RAW, ETH_P_ALL_BE)
  const target = packetAddress(link)
  bytes.copy(target, 12, 0, 6)
  const sent = sendto(fd, bytes, bytes.length, 0, target, target.length)
  close(fd)
  if (sent !== bytes.length) throw new Error(`sent ${sent} of ${bytes.length}`)
}

/** Sends the same frame many times, as fast as it can. */
function flood(link: string, frame: string, times: number): void {
  const bytes = Buffer.from(frame, 'hex')
  const fd = socket(AF_PACKET, SOCK_RAW, ETH_P_ALL_BE)
  const target = packetAddress(link)
  for (let sent = 0; sent < times; ) {
    if (sendto(fd, bytes, bytes.length, 0, target, target.length) === bytes.length) sent++
  }
  close(fd)
}

function captureStart(link: string): void {
  if (capture !== null) close(capture)
  capture = socket(AF_PACKET, SOCK_RAW, ETH_P_ALL_BE) as number
  const address = packetAddress(link)
  if (bind(capture, address, address.length) !== 0) throw new Error(`cannot capture on ${link}`)
}

/** The frames seen on the link since the last call, in hexadecimal. */
function captureTaken(): string[] {
  const frames: string[] = []
  const buffer = Buffer.alloc(4096)
  for (;;) {
    const length = recv(capture, buffer, buffer.length, MSG_DONTWAIT)
    if (length <= 0) return frames
    frames.push(buffer.toString('hex', 0, length))
  }
}

/** struct sockaddr_ll of packet(7). */
function packetAddress(link: string): Buffer {
  const bytes = Buffer.alloc(20)
  bytes.writeUInt16LE(AF_PACKET, 0)
  bytes.writeUInt16LE(ETH_P_ALL_BE, 2)
  bytes.writeInt32LE(ifIndex(link), 4)
  bytes[11] = 6
  return bytes
}
