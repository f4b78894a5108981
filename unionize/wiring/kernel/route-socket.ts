import { WiringError } from '../errors.ts'
import { close, errnoName, errnoOf, lastErrno, recv, send, setsockopt, socket } from './libc.ts'
import {
  type Message,
  messagesIn,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  setSequence,
  verdictOf,
} from './netlink.ts'

/** One message for the kernel. */
export interface Request {
  /** What is being done, for the error text: `give the sandbox its address`. */
  readonly purpose: string
  /** A message asking for an acknowledgement. */
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
const SOL_NETLINK = 270
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
/** The kernel answers while it is being asked; what takes longer than this many seconds will never come. */
const ANSWER_SECONDS = 10
const DUMP_ATTEMPTS = 5

/** One receive of a dump never returns more than 32 KiB (netlink_dump in net/netlink/af_netlink.c). */
const buffer = Buffer.alloc(128 * 1024)

/** A kernel's refusal, with its errno name for those who can go on. */
export class KernelRefusal extends WiringError {
  readonly errno: string
  constructor(code: string, message: string, errno: string) {
    super(code, message, { retryable: errno === 'EBUSY' || errno === 'EAGAIN' || errno === 'ENOBUFS' })
    this.errno = errno
  }
}

/** A socket to the kernel's rtnetlink, bound for good to the network namespace its thread was in when it was made. */
export class RouteSocket {
  readonly #fd: number
  #sequence = 0

  constructor() {
    this.#fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE)
    if (this.#fd < 0) throw refusal('open a netlink socket', errnoName(lastErrno()), '')
  }

  /** Sets what every request relies on. Not part of the constructor, which must be short: see namespaces.ts. */
  configure(): this {
    const on = Buffer.from([1, 0, 0, 0])
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
      this.#set(SOL_NETLINK, option, on)
    }
    const timeout = Buffer.alloc(16)
    timeout.writeBigInt64LE(BigInt(ANSWER_SECONDS))
    this.#set(SOL_SOCKET, SO_RCVTIMEO, timeout)
    return this
  }

  /**
   * Sends all requests in one datagram and returns the answer to each. The kernel carries out every one, also after a
   * failure among them; then the first failure that was not fine is thrown.
   * @throws KernelRefusal
   */
  ask(...requests: readonly Request[]): Answer[] {
    const first = this.#sequence + 1
    for (const request of requests) setSequence(request.bytes, ++this.#sequence)
    this.#send(Buffer.concat(requests.map((request) => request.bytes)))
    const answers: Answer[] = []
    let failure: KernelRefusal | null = null
    for (let messages: Message[] = []; answers.length < requests.length; ) {
      for (const message of this.#receive()) {
        const index = message.sequence - first
        const request = requests[index]
        if (request === undefined || index !== answers.length) continue
        if (message.type !== NLMSG_ERROR) {
          messages.push(message)
          continue
        }
        const { errno, text } = verdictOf(message)
        const name = errno === 0 ? null : errnoName(errno)
        if (name !== null && !request.fine?.includes(name)) failure ??= refusal(request.purpose, name, text)
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
    let interrupted = false
    for (;;) {
      for (const message of this.#receive()) {
        if (message.sequence !== sequence) continue
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        if (message.type === NLMSG_DONE) return { messages, interrupted }
        if (message.type === NLMSG_ERROR) {
          const { errno, text } = verdictOf(message)
          throw refusal(request.purpose, errnoName(errno), text)
        }
        messages.push(message)
      }
    }
  }

  #set(level: number, option: number, value: Buffer): void {
    if (setsockopt(this.#fd, level, option, value, value.length) < 0) {
      throw refusal(`set option ${option} of a netlink socket`, errnoName(lastErrno()), '')
    }
  }

  #send(bytes: Buffer): void {
    if (send(this.#fd, bytes, bytes.length, 0) < 0) throw refusal('ask the kernel', errnoName(lastErrno()), '')
  }

  #receive(): Message[] {
    for (;;) {
      const length = recv(this.#fd, buffer, buffer.length, 0)
      if (length >= 0) return [...messagesIn(Buffer.from(buffer.subarray(0, length)))]
      const errno = lastErrno()
      if (errno !== errnoOf('EINTR')) throw refusal('hear the answer of the kernel', errnoName(errno), '')
    }
  }
}

function refusal(purpose: string, errno: string, text: string): KernelRefusal {
  const words = text === '' ? errno : `${errno}: ${text}`
  if (errno === 'EPERM') {
    return new KernelRefusal('not-permitted', `cannot ${purpose} (${words}): CAP_NET_ADMIN is needed`, errno)
  }
  if (errno === 'EXFULL') {
    return new KernelRefusal('bridge-full', `cannot ${purpose} (${words}): a bridge takes 1,023 ports`, errno)
  }
  return new KernelRefusal('kernel-refused', `cannot ${purpose} (${words})`, errno)
}
