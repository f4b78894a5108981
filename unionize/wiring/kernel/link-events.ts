import { hearBridgesOnly } from './bridges-only.ts'
import { bind, close, errnoName, eventfd, lastErrno, poll, read, recv, setsockopt, socket } from './libc.ts'
import { type Link, linkOf } from './link.ts'
import { type Message, messagesIn } from './netlink.ts'
import { type KernelRefusal, refusal } from './refusals.ts'

const AF_NETLINK = 16
const AF_UNSPEC = 0
const SOCK_RAW_CLOEXEC = 3 | 0o2000000
const NETLINK_ROUTE = 0
/** Bytes of struct sockaddr_nl (netlink(7)). */
const SOCKADDR_NL = 12
/** The bit of RTNLGRP_LINK. */
const RTMGRP_LINK = 1
const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const MSG_DONTWAIT = 0x40
const MSG_TRUNC = 0x20
const EFD_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000
const POLLIN = 1
/** struct pollfd of poll(2). */
const ENTRY = 8
const EVENT_COUNTER = 8
/** A link is told in at most some kilobytes. */
const LARGEST = 64 * 1024
/** What the kernel keeps for us while we are busy, unless `net.core.rmem_max` allows less; a link takes about 4 KiB of it. */
const KEPT = 4 * 1024 * 1024
/** Datagrams taken at once, so that a storm of changes still lets other work come between. */
const AT_ONCE = 256

/** A link that was made, or is not what it was before; `gone`: removed, or moved to another namespace. */
export interface LinkChange {
  readonly gone: boolean
  readonly link: Link
}

/** What is told of; nothing given: every link. */
export interface Heard {
  /** Of bridges only. What happens to other links then costs neither a wake nor memory. */
  readonly bridgesOnly?: boolean
}

/** What happened to the links of the namespace in which this was made. */
export class LinkEvents {
  /**
   * An event descriptor: eight bytes, a number that is not 0, written to it by any thread end a wait. To be closed by
   * who writes to it: another might have its number at once.
   */
  readonly wake: number
  readonly #fd: number
  readonly #buffer = Buffer.alloc(LARGEST)

  /** @param kept bytes that the kernel keeps for us while we are busy @throws KernelRefusal */
  constructor(kept = KEPT, { bridgesOnly = false }: Heard = {}) {
    this.#fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE)
    if (this.#fd < 0) throw failed('open a netlink socket')
    this.wake = eventfd(0, EFD_CLOEXEC_NONBLOCK)
    const size = Buffer.alloc(4)
    size.writeInt32LE(kept)
    const address = Buffer.alloc(SOCKADDR_NL)
    address.writeUInt16LE(AF_NETLINK, 0)
    address.writeUInt32LE(RTMGRP_LINK, 8)
    const ready =
      this.wake >= 0 &&
      setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUF, size, size.length) >= 0 &&
      (!bridgesOnly || hearBridgesOnly(this.#fd) >= 0) &&
      bind(this.#fd, address, address.length) >= 0
    if (ready) return
    const error = failed('listen for changes of links')
    this.close()
    if (this.wake >= 0) close(this.wake)
    throw error
  }

  /**
   * Waits for changes, but not longer than told, nor after it was woken; then there are none.
   * @returns `lost` says why changes may have been missed, so that everything has to be read anew; else null
   */
  next(timeoutMs: number): { changes: LinkChange[]; lost: string | null } {
    const entries = Buffer.alloc(2 * ENTRY)
    for (const [i, fd] of [this.#fd, this.wake].entries()) {
      entries.writeInt32LE(fd, i * ENTRY)
      entries.writeInt16LE(POLLIN, i * ENTRY + 4)
    }
    if (poll(entries, 2, timeoutMs) <= 0) return { changes: [], lost: null }
    if (entries.readInt16LE(ENTRY + 6) !== 0) read(this.wake, Buffer.alloc(EVENT_COUNTER), EVENT_COUNTER)
    return this.#take()
  }

  /** Ends the listening; `wake` stays. */
  close(): void {
    close(this.#fd)
  }

  #take(): { changes: LinkChange[]; lost: string | null } {
    const changes: LinkChange[] = []
    for (let taken = 0; taken < AT_ONCE; taken++) {
      const length = recv(this.#fd, this.#buffer, LARGEST, MSG_DONTWAIT | MSG_TRUNC)
      if (length < 0) {
        const errno = errnoName(lastErrno())
        if (errno === 'EAGAIN' || errno === 'EINTR') break
        if (errno === 'ENOBUFS') return { changes, lost: 'more changed at once than the kernel keeps (ENOBUFS)' }
        throw refusal({ purpose: 'hear of changes of links' }, errno, '')
      }
      if (length > LARGEST) return { changes, lost: `a change came in ${length} bytes` }
      try {
        changes.push(...changesIn(Buffer.from(this.#buffer.subarray(0, length))))
      } catch (thrown) {
        return { changes, lost: (thrown as Error).message }
      }
    }
    return { changes, lost: null }
  }
}

/** The changes in one datagram. @throws WiringError `answer-unreadable` */
export function changesIn(bytes: Buffer): LinkChange[] {
  return messagesIn(bytes)
    .filter(isChange)
    .map((message) => ({
      gone: message.type === RTM_DELLINK,
      link: linkOf(message),
    }))
}

/** A bridge tells of its ports with its own family, also RTM_DELLINK for one that leaves it but is still there. */
function isChange({ type, body }: Message): boolean {
  return (type === RTM_NEWLINK || type === RTM_DELLINK) && body[0] === AF_UNSPEC
}

function failed(purpose: string): KernelRefusal {
  return refusal({ purpose }, errnoName(lastErrno()), '')
}
