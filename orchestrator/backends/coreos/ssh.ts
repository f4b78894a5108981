import { createHash, timingSafeEqual } from 'node:crypto'
import { Client, type ClientChannel, type ConnectConfig, type ServerHostKeyAlgorithm } from 'ssh2'
import type { Clock } from '../../../common/clock.ts'
import { HostUnreachable, OrchestratorError, wording } from '../../../common/errors.ts'
import { unlessAborted } from '../../../common/unless-aborted.ts'
import type { MachineWay } from '../../domain/machine.ts'
import type { Shell, ShellOutcome } from './machines/shell.ts'
import { createPermits, type Permits } from './permits.ts'
import { shellLine } from './quoting.ts'

/** How we log in. @property key private key, PEM or OpenSSH's format @property passphrase of that key */
export interface SshKey {
  readonly key: string
  readonly passphrase?: string | undefined
}

/** Programs on machines over SSH; one connection for each machine, shared and kept alive until {@link close}. */
export interface SshShell extends Shell {
  close(): Promise<void>
}

/** Programs at once over one connection; sshd_config(5): MaxSessions is 10. */
const SESSIONS = 8
/** Bytes of output that are kept: more is an error. */
const MOST_OUTPUT = 16 * 1024 * 1024
/** Milliseconds until a machine must have let us in. */
const READY_MS = 15_000
/** A connection is dead when so many keep-alives, so many milliseconds apart, are not answered. */
const ALIVE = { everyMs: 5_000, most: 3 }
/** Milliseconds after a failure in which it is not tried again: doubled with each one. */
const BACKOFF = { first: 250, most: 5_000 }

interface Connection {
  readonly way: MachineWay
  readonly client: Promise<Client>
  readonly permits: Permits
  end(): void
}

/** Why a machine was not reached, and until when it is not tried again. */
interface Failure {
  readonly way: MachineWay
  readonly error: OrchestratorError
  readonly until: number
  readonly wait: number
}

/** @param login asked at each new connection: keys may be rotated */
export function createShell(options: {
  readonly login: () => Promise<SshKey>
  readonly clock: Pick<Clock, 'now'>
}): SshShell {
  const { login, clock } = options
  const connections = new Map<string, Connection>()
  const failed = new Map<string, Failure>()
  let closed = false

  const forget = (name: string): void => {
    failed.delete(name)
    connections.get(name)?.end()
    connections.delete(name)
  }

  const connection = (way: MachineWay): Connection => {
    if (closed) throw new HostUnreachable(way.name, 'the orchestrator is stopping')
    const open = connections.get(way.name)
    if (open !== undefined && sameWay(open.way, way)) return open
    if (open !== undefined) forget(way.name)
    const last = failed.get(way.name)
    const before = last !== undefined && sameWay(last.way, way) ? last : undefined
    if (before !== undefined && before.until > clock.now()) throw before.error
    const made = connect(way, login, () => {
      if (connections.get(way.name) === made) connections.delete(way.name)
    })
    connections.set(way.name, made)
    made.client.then(
      () => failed.delete(way.name),
      (error) => {
        const wait = Math.min((before?.wait ?? BACKOFF.first / 2) * 2, BACKOFF.most)
        failed.set(way.name, { way, error, until: clock.now() + wait, wait })
      },
    )
    return made
  }

  return {
    async run(way, command, { input, signal }) {
      signal.throwIfAborted()
      const shared = connection(way)
      return await shared.permits.hold(signal, async () => {
        const client = await unlessAborted(shared.client, signal)
        const channel = await opened(client, way, shellLine(asRoot(way, command)), signal)
        return await outcome(channel, way, input, signal)
      })
    },
    async *follow(way, command, signal) {
      signal.throwIfAborted()
      const client = await unlessAborted(connection(way).client, signal)
      const channel = await opened(client, way, shellLine(asRoot(way, command)), signal)
      const complaint: Buffer[] = []
      channel.stderr.on('data', (chunk: Buffer) => complaint.push(chunk))
      const code = new Promise<number | null | undefined>((resolve) => channel.once('close', resolve))
      const stop = (): void => end(channel)
      signal.addEventListener('abort', stop, { once: true })
      try {
        const decoder = new TextDecoder()
        for await (const chunk of channel) yield decoder.decode(chunk as Buffer, { stream: true })
      } catch (error) {
        signal.throwIfAborted()
        throw new HostUnreachable(way.name, wording(error), { cause: error })
      } finally {
        signal.removeEventListener('abort', stop)
        end(channel)
      }
      signal.throwIfAborted()
      if ((await code) !== 0) {
        const said = Buffer.concat(complaint).toString().trim().slice(-500)
        throw new HostUnreachable(way.name, said === '' ? 'the connection ended' : said)
      }
    },
    hostKeyOf: (address, port, signal) => shownKey(address, port, signal),
    forget,
    async close() {
      closed = true
      for (const name of [...connections.keys()]) forget(name)
    },
  }
}

/** `SHA256:…` of a public key as `ssh-ed25519 AAAA…`, as ssh-keygen(1) shows it. */
export function fingerprint(hostKey: string): string {
  const [, base64 = ''] = hostKey.split(' ')
  return `SHA256:${createHash('sha256').update(Buffer.from(base64, 'base64')).digest('base64').replace(/=+$/, '')}`
}

function sameWay(a: MachineWay, b: MachineWay): boolean {
  return a.address === b.address && a.port === b.port && a.user === b.user && a.hostKey === b.hostKey
}

function asRoot(way: MachineWay, command: readonly string[]): readonly string[] {
  return way.user === 'root' ? command : ['sudo', '-n', '--', ...command]
}

function connect(way: MachineWay, login: () => Promise<SshKey>, ended: () => void): Connection {
  const client = new Client()
  const made = { changed: null as OrchestratorError | null }
  const { promise, resolve, reject } = Promise.withResolvers<Client>()
  client.once('ready', () => resolve(client))
  client.on('error', (error) => reject(made.changed ?? worded(way, error)))
  client.once('close', () => {
    ended()
    reject(made.changed ?? new HostUnreachable(way.name, 'it closed the connection'))
  })
  login().then(
    ({ key, passphrase }) => {
      const [type = '', known = ''] = way.hostKey.split(' ')
      const settings: ConnectConfig = {
        ...{ host: way.address, port: way.port, username: way.user, privateKey: key, readyTimeout: READY_MS },
        ...{ keepaliveInterval: ALIVE.everyMs, keepaliveCountMax: ALIVE.most },
        ...(passphrase === undefined ? {} : { passphrase }),
        // What it shows must be of the kind that we know: another kind of key proves nothing.
        algorithms: { serverHostKey: algorithmsOf(type) },
        hostVerifier: (shown: Buffer) => {
          if (sameKey(shown, Buffer.from(known, 'base64'))) return true
          made.changed = keyChanged(way, shown)
          return false
        },
      }
      try {
        client.connect(settings)
      } catch (error) {
        reject(keyRefused(way, `the key cannot be read: ${wording(error)}`, error))
        ended()
      }
    },
    (error) => {
      reject(error)
      ended()
    },
  )
  promise.catch(ended)
  return { way, client: promise, permits: createPermits(SESSIONS), end: () => void client.end().destroy() }
}

/** Signature algorithms for a kind of host key (RFC 8332 for RSA). */
function algorithmsOf(type: string): ServerHostKeyAlgorithm[] {
  if (type === 'ssh-rsa') return ['rsa-sha2-512', 'rsa-sha2-256']
  return [type as ServerHostKeyAlgorithm]
}

function sameKey(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

function keyChanged(way: MachineWay, shown: Buffer): OrchestratorError {
  const hash = createHash('sha256').update(shown).digest('base64').replace(/=+$/, '')
  return new OrchestratorError(
    'host-key-changed',
    `${way.name} (${way.address}) shows the SSH host key SHA256:${hash}, not ${fingerprint(way.hostKey)}: another machine ` +
      `answers there, or it was installed anew; if that is so, take it out with "orctl machine remove ${way.name} --dead" and add it again`,
  )
}

function keyRefused(way: MachineWay, why: string, cause: unknown): OrchestratorError {
  return new OrchestratorError(
    'credential-refused',
    `${way.name} does not let us in as ${way.user}: ${why}; set the key with "orctl credential set", or add its public half to ` +
      `~${way.user}/.ssh/authorized_keys there`,
    { cause },
  )
}

/** What ssh2 tells of a connection that failed (its `level` says where). */
function worded(way: MachineWay, error: Error & { level?: string }): OrchestratorError {
  if (error.level === 'client-authentication') return keyRefused(way, 'it refuses our key', error)
  if (/no matching host key/i.test(error.message)) {
    return new OrchestratorError(
      'host-key-changed',
      `${way.name} has no SSH host key of the kind that was pinned (${fingerprint(way.hostKey)}): another machine answers ` +
        `there, or its keys were made anew; if that is so, take it out with "orctl machine remove ${way.name} --dead" and add it again`,
      { cause: error },
    )
  }
  return new HostUnreachable(way.name, wording(error), { cause: error })
}

async function opened(client: Client, way: MachineWay, line: string, signal: AbortSignal): Promise<ClientChannel> {
  const { promise, resolve, reject } = Promise.withResolvers<ClientChannel>()
  const lost = (): void => reject(new HostUnreachable(way.name, 'the connection ended'))
  client.once('close', lost)
  try {
    client.exec(line, (error, channel) => {
      if (error) reject(new HostUnreachable(way.name, wording(error), { cause: error }))
      else if (signal.aborted) end(channel)
      else resolve(channel)
    })
    return await unlessAborted(promise, signal)
  } catch (error) {
    if (error instanceof Error && error.message === 'Not connected') {
      throw new HostUnreachable(way.name, 'the connection ended', { cause: error })
    }
    throw error
  } finally {
    client.removeListener('close', lost)
  }
}

async function outcome(
  channel: ClientChannel,
  way: MachineWay,
  input: string | Buffer | undefined,
  signal: AbortSignal,
): Promise<ShellOutcome> {
  const out: Buffer[] = []
  const err: Buffer[] = []
  const { promise, resolve, reject } = Promise.withResolvers<ShellOutcome>()
  let size = 0
  const take = (into: Buffer[]) => (chunk: Buffer) => {
    size += chunk.length
    if (size <= MOST_OUTPUT) {
      into.push(chunk)
      return
    }
    end(channel)
    reject(new OrchestratorError('too-much-output', `${way.name} printed more than ${MOST_OUTPUT} bytes`))
  }
  channel.on('data', take(out))
  channel.stderr.on('data', take(err))
  const complained = new Promise((done) => channel.stderr.once('close', done))
  // The exit status may come before anybody can listen for it; it is told once more with the end.
  channel.once('close', (code?: number | null) => {
    // Without an exit status nobody knows what came of it.
    if (code === undefined) reject(new HostUnreachable(way.name, 'the connection ended while a program ran there'))
    else
      void complained.then(() =>
        resolve({ code: code ?? -1, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() }),
      )
  })
  // What ended before it read its input is judged by its exit code.
  channel.on('error', () => undefined)
  channel.end(input ?? '')
  try {
    return await unlessAborted(promise, signal)
  } finally {
    end(channel)
  }
}

function end(channel: ClientChannel): void {
  channel.close()
  channel.destroy()
}

/** The key that a server shows, before anything is said about us. */
function shownKey(address: string, port: number, signal: AbortSignal): Promise<string> {
  const client = new Client()
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const fail = (error: unknown) => reject(new HostUnreachable(address, wording(error), { cause: error }))
  const stop = (): void => reject(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  client.on('error', fail)
  client.on('close', () => fail(new Error('it closed the connection')))
  client.connect({
    ...{ host: address, port, username: 'nobody', readyTimeout: READY_MS },
    algorithms: { serverHostKey: [...HOST_KEYS] },
    hostVerifier: (shown: Buffer) => {
      // A key begins with the length and the name of its kind (RFC 4253, section 6.6).
      const type = shown.subarray(4, 4 + shown.readUInt32BE(0)).toString('latin1')
      resolve(`${type} ${shown.toString('base64')}`)
      return false
    },
  })
  return promise.finally(() => {
    signal.removeEventListener('abort', stop)
    client.end().destroy()
  })
}

/** Kinds of host keys that we pin, the best first. */
const HOST_KEYS: readonly ServerHostKeyAlgorithm[] = [
  ...(['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'] as const),
  ...(['rsa-sha2-512', 'rsa-sha2-256'] as const),
]
