import { chmodSync, lstatSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { sendable, WiringError } from '../errors.ts'
import type { WiringLog } from '../wiring.ts'
import { carryOut, type Hosted } from './calls.ts'
import { encode, type FromProcess, Lines, MAX_CALLS, parseCall, parseGreeting, WIRING_PROTOCOL } from './messages.ts'

/** The socket of the wiring process. */
export interface WiringServer {
  /** Takes no more calls, and resolves when those under way are answered and the socket is gone. */
  close(): Promise<void>
}

/** Clients at once: the agent, and a few commands. */
const MAX_CLIENTS = 32
/** Milliseconds for a client to say who it is. */
const GREETING_MS = 5_000
/** Milliseconds that a client gets to read the last answers. */
const LAST_WORDS_MS = 1_000

/**
 * Listens on a unix socket that its owner (and root) alone may use.
 * @throws WiringError `already-running` when another process answers there; what listening itself throws
 */
export async function serveWiring(options: {
  readonly socket: string
  readonly version: string
  readonly hosted: Hosted
  readonly log: WiringLog
}): Promise<WiringServer> {
  const { socket: path } = options
  await makeRoom(path)
  const clients = new Set<Client>()
  const server = createServer((socket) => {
    const client = new Client(socket, options)
    clients.add(client)
    socket.once('close', () => clients.delete(client))
  })
  server.maxConnections = MAX_CLIENTS
  await listen(server, path)
  // Without the right to write nobody connects (unix(7)); the process's umask has kept others out until here.
  chmodSync(path, 0o600)
  return {
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      await Promise.all([...clients].map((client) => client.end()))
      await closed
    },
  }
}

/** One client: its calls begin in the order in which they come. */
class Client {
  readonly #socket: Socket
  readonly #hosted: Hosted
  readonly #log: WiringLog
  readonly #lines = new Lines()
  /** Lines that wait for calls under way to end. */
  #waiting: string[] = []
  #calls = 0
  #greeted = false
  #ending: (() => void) | null = null

  constructor(socket: Socket, options: { hosted: Hosted; version: string; log: WiringLog }) {
    this.#socket = socket
    this.#hosted = options.hosted
    this.#log = options.log
    socket.setTimeout(GREETING_MS, () => socket.destroy())
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk: Buffer) => this.#heard(chunk))
    socket.on('drain', () => this.#proceed())
    this.#send({ hello: { protocol: WIRING_PROTOCOL, version: options.version } })
  }

  /** Lets the calls under way end and be answered; others are dropped. */
  async end(): Promise<void> {
    this.#socket.pause()
    this.#waiting = []
    if (this.#calls > 0) {
      await new Promise<void>((resolve) => {
        this.#ending = resolve
      })
    }
    if (this.#socket.closed) return
    const gone = new Promise((resolve) => this.#socket.once('close', resolve))
    this.#socket.end()
    this.#socket.resume()
    const timer = setTimeout(() => this.#socket.destroy(), LAST_WORDS_MS)
    await gone
    clearTimeout(timer)
  }

  #heard(chunk: Buffer): void {
    if (this.#ending !== null || this.#socket.destroyed) return
    try {
      this.#waiting.push(...this.#lines.add(chunk))
    } catch (thrown) {
      this.#hangUp(thrown)
      return
    }
    this.#proceed()
  }

  /** Takes lines as long as there is room for their answers; beyond that the socket is not read. */
  #proceed(): void {
    while (this.#waiting.length > 0 && this.#calls < MAX_CALLS && !this.#socket.writableNeedDrain) {
      if (this.#socket.destroyed) return
      try {
        this.#take(this.#waiting.shift() ?? '')
      } catch (thrown) {
        this.#hangUp(thrown)
        return
      }
    }
    if (this.#waiting.length > 0) this.#socket.pause()
    else if (this.#ending === null) this.#socket.resume()
  }

  #take(line: string): void {
    if (!this.#greeted) {
      parseGreeting(line)
      this.#greeted = true
      this.#socket.setTimeout(0)
      return
    }
    const { id, verb, args } = parseCall(line)
    this.#calls++
    void this.#answer(id, verb, args).finally(() => {
      this.#calls--
      if (this.#calls === 0) this.#ending?.()
      this.#proceed()
    })
  }

  /** Also an answer that cannot be sent becomes an error. */
  async #answer(id: number, verb: string, args: readonly unknown[]): Promise<void> {
    try {
      this.#send({ id, answer: await carryOut(this.#hosted, verb, args) })
    } catch (thrown) {
      this.#send({ id, error: sendable(thrown) })
    }
  }

  #send(message: FromProcess): void {
    if (this.#socket.writable) this.#socket.write(encode(message))
  }

  #hangUp(thrown: unknown): void {
    const bye = sendable(thrown)
    this.#log('warn', 'a client of the wiring was sent away', { code: bye.code, error: bye.message })
    this.#waiting = []
    this.#send({ bye })
    // What still comes in is neither kept nor read, but the answer must arrive: a reset would take it along.
    this.#socket.removeAllListeners('data')
    this.#socket.resume()
    this.#socket.end()
    setTimeout(() => this.#socket.destroy(), LAST_WORDS_MS).unref()
  }
}

/** Removes a socket that a killed process left. @throws WiringError `already-running` */
async function makeRoom(path: string): Promise<void> {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return
  const probe = connect(path)
  const answered = await new Promise<boolean>((resolve) => {
    probe.once('connect', () => resolve(true))
    probe.once('error', () => resolve(false))
  })
  probe.destroy()
  if (answered) {
    throw new WiringError('already-running', `a wiring process answers on ${path} already: stop it first`)
  }
  rmSync(path, { force: true })
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
