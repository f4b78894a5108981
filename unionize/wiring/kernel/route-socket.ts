import { close, errnoName, errnoOf, lastErrno, recv, send, setsockopt, socket } from './libc.ts'
import {
  endOf,
  type Message,
  messagesIn,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  setAcknowledged,
  setSequence,
  unreadable,
  verdictOf,
} from './netlink.ts'
import { type KernelRefusal, refusal } from './refusals.ts'

export { KernelRefusal } from './refusals.ts'

/** One message for the kernel. */
export interface Request {
  /** What is being done, for the error text: `give the sandbox its address`. */
  readonly purpose: string
  /** The interface that this is about, where the purpose does not name it: the error text begins with it. */
  readonly interface?: string
  /** The message; whether it asks for an acknowledgement is set by the socket. */
  readonly bytes: Buffer
  /** Names of errors that mean success here, such as `ENODEV` where something is to be gone. */
  readonly fine?: readonly string[]
}

/** What the kernel answered to one request: messages, if it asked for any, and its verdict. */
export interface Answer {
  readonly messages: readonly Message[]
  /** Name of the error that was fine; null after success. */
  readonly refused: string | null
}

const AF_NETLINK = 16
const SOCK_RAW_CLOEXEC = 3 | 0o2000000
const NETLINK_ROUTE = 0
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
/** recv(2) then tells the whole length of what came, also of what did not fit. */
const MSG_TRUNC = 0x20
const SOL_NETLINK = 270
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
/** The kernel answers while it is being asked; what takes longer than this many seconds will never come. */
const ANSWER_SECONDS = 10
const DUMP_ATTEMPTS = 5

/** One receive of a dump never returns more than 32 KiB (netlink_dump in net/netlink/af_netlink.c). */
const buffer = Buffer.alloc(128 * 1024)
const ON = Buffer.from([1, 0, 0, 0])
/** struct timeval. */
const TIMEOUT = Buffer.alloc(16)
TIMEOUT.writeBigInt64LE(BigInt(ANSWER_SECONDS))

/** A socket to the kernel's rtnetlink, bound for good to the network namespace its thread was in when it was made. */
export class RouteSocket {
  readonly #fd: number
  #sequence = 0

  /** @param fd a socket that is there already, or none: a new one is made */
  constructor(fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE)) {
    this.#fd = fd
    if (fd < 0) throw refusal({ purpose: 'open a netlink socket' }, errnoName(lastErrno()), '')
  }

  /** Sets what every request relies on. Not part of the constructor, which must be short: see namespaces.ts. */
  configure(): this {
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
      this.#set(SOL_NETLINK, option, ON)
    }
    this.#set(SOL_SOCKET, SO_RCVTIMEO, TIMEOUT)
    return this
  }

  /**
   * Sends all requests in one datagram and returns the answer to each. The kernel carries out every one, also after a
   * failure among them; then the first failure that was not fine is thrown. It carries them out in order and tells every
   * refusal, so the acknowledgement of the last alone says that those before it which it does not mention succeeded.
   * @throws KernelRefusal; WiringError `answer-unreadable`
   */
  ask(...requests: readonly Request[]): Answer[] {
    const first = this.#sequence + 1
    const last = this.#sequence + requests.length
    for (const { bytes } of requests) {
      setSequence(bytes, ++this.#sequence)
      setAcknowledged(bytes, this.#sequence === last)
    }
    const [only] = requests
    if (only === undefined) return []
    this.#send(requests.length === 1 ? only.bytes : Buffer.concat(requests.map(({ bytes }) => bytes)))
    const answers: Answer[] = []
    let failure: KernelRefusal | null = null
    const deadline = this.#deadline()
    for (let messages: Message[] = []; answers.length < requests.length; ) {
      for (const message of this.#receive(deadline)) {
        const index = message.sequence - first
        const request = requests[index]
        if (request === undefined || index < answers.length) continue
        while (answers.length < index) {
          answers.push({ messages, refused: null })
          messages = []
        }
        if (message.type !== NLMSG_ERROR) {
          messages.push(message)
          continue
        }
        const { errno, text } = verdictOf(message)
        const name = errno === 0 ? null : errnoName(errno)
        if (name !== null && !request.fine?.includes(name)) failure ??= refusal(request, name, text)
        answers.push({ messages, refused: name })
        messages = []
      }
    }
    if (failure !== null) throw failure
    return answers
  }

  /** All messages of a dump, asked again when something changed meanwhile. @throws KernelRefusal */
  dump(request: Request): Message[] {
    for (let attempt = 1; ; attempt++) {
      const { messages, interrupted } = this.#dumpOnce(request)
      if (!interrupted || attempt === DUMP_ATTEMPTS) return messages
    }
  }

  close(): void {
    close(this.#fd)
  }

  #dumpOnce(request: Request): { messages: Message[]; interrupted: boolean } {
    const sequence = ++this.#sequence
    setSequence(request.bytes, sequence)
    this.#send(request.bytes)
    const messages: Message[] = []
    const deadline = this.#deadline()
    let interrupted = false
    for (;;) {
      for (const message of this.#receive(deadline)) {
        if (message.sequence !== sequence) continue
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        if (message.type !== NLMSG_DONE && message.type !== NLMSG_ERROR) {
          messages.push(message)
          continue
        }
        const { errno, text } = message.type === NLMSG_DONE ? endOf(message) : verdictOf(message)
        if (errno !== 0) throw refusal(request, errnoName(errno), text)
        if (message.type === NLMSG_DONE) return { messages, interrupted }
        throw unreadable(`an acknowledgement instead of a list, for "${request.purpose}"`)
      }
    }
  }

  #set(level: number, option: number, value: Buffer): void {
    if (setsockopt(this.#fd, level, option, value, value.length) < 0) {
      throw this.#failed(`set option ${option} of a netlink socket`)
    }
  }

  #send(bytes: Buffer): void {
    if (send(this.#fd, bytes, bytes.length, 0) < 0) throw this.#failed('ask the kernel')
  }

  #deadline(): number {
    return performance.now() + ANSWER_SECONDS * 1000
  }

  /** Also an endless stream of answers to somebody else ends at the deadline. */
  #receive(deadline: number): Message[] {
    while (performance.now() < deadline) {
      const length = recv(this.#fd, buffer, buffer.length, MSG_TRUNC)
      if (length === 0 || length > buffer.length) throw unreadable(`${length} bytes at once`)
      if (length > 0) {
        const bytes = Buffer.allocUnsafe(length)
        buffer.copy(bytes, 0, 0, length)
        return messagesIn(bytes)
      }
      if (lastErrno() !== errnoOf('EINTR')) throw this.#failed('hear the answer of the kernel')
    }
    throw unreadable(`it did not come within ${ANSWER_SECONDS} seconds`)
  }

  #failed(purpose: string): KernelRefusal {
    return refusal({ purpose }, errnoName(lastErrno()), '')
  }
}
