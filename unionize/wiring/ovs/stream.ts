import { WiringError } from '../errors.ts'
import { close, connect, errnoName, errnoOf, lastErrno, recv, send, setsockopt, socket } from '../kernel/libc.ts'

const AF_UNIX = 1
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const MSG_NOSIGNAL = 0x4000
/** sun_path of unix(7), with its NUL. */
const PATH_LENGTH = 108
const CHUNK = 64 * 1024

/** A connection to a unix socket that blocks its thread, each step for a limited time. */
export class UnixStream {
  readonly #fd: number
  readonly #path: string

  /** @throws WiringError `ovs-unreachable` */
  constructor(path: string, timeoutMs: number) {
    this.#path = path
    const name = Buffer.from(`${path}\0`)
    if (name.length > PATH_LENGTH) throw unreachable(path, `its path is longer than ${PATH_LENGTH - 1} bytes`)
    this.#fd = socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0)
    if (this.#fd < 0) throw unreachable(path, errnoName(lastErrno()))
    const timeout = Buffer.alloc(16)
    timeout.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0)
    timeout.writeBigInt64LE(BigInt((timeoutMs % 1000) * 1000), 8)
    for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) setsockopt(this.#fd, SOL_SOCKET, option, timeout, timeout.length)
    const family = Buffer.alloc(2)
    family.writeUInt16LE(AF_UNIX)
    const address = Buffer.concat([family, name])
    if (connect(this.#fd, address, address.length) < 0) {
      const errno = errnoName(lastErrno())
      this.close()
      throw unreachable(path, errno)
    }
  }

  /** @throws WiringError `ovs-unreachable` */
  write(bytes: Buffer): void {
    for (let rest = bytes; rest.length > 0; ) {
      const sent = send(this.#fd, rest, rest.length, MSG_NOSIGNAL)
      if (sent < 0) this.#failed()
      else rest = rest.subarray(Number(sent))
    }
  }

  /** What comes next: at least one byte. @throws WiringError `ovs-unreachable` */
  read(): Buffer {
    const chunk = Buffer.alloc(CHUNK)
    for (;;) {
      const length = Number(recv(this.#fd, chunk, chunk.length, 0))
      if (length > 0) return chunk.subarray(0, length)
      if (length === 0) throw unreachable(this.#path, 'it closed the connection')
      this.#failed()
    }
  }

  close(): void {
    close(this.#fd)
  }

  /** Returns when the call is to be made again. */
  #failed(): void {
    const errno = lastErrno()
    if (errno === errnoOf('EINTR')) return
    throw unreachable(this.#path, errno === errnoOf('EAGAIN') ? 'it does not answer in time' : errnoName(errno))
  }
}

function unreachable(path: string, reason: string): WiringError {
  return new WiringError(
    'ovs-unreachable',
    `Open vSwitch cannot be reached at ${path} (${reason}): install openvswitch-switch and run "systemctl start openvswitch-switch"`,
    { retryable: true },
  )
}
