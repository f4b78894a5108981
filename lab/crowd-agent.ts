// Runs inside a client's namespace and is many devices at once: real DHCPv6 over UDP port 546. Started by crowd.ts.
import { createSocket } from 'node:dgram'
import { addressText, type ClientMessage, decode, duidOctets, encode, MESSAGE, type ServerMessage } from './dhcpv6.ts'
import { dial, page, reachable } from './probes.ts'
import { serve } from './remote.ts'

export interface Device {
  /** Colon-separated hex. */
  readonly duid: string
  readonly iaid: number
  readonly hostname?: string
}
/** The server's answer to one device. */
export interface DeviceAnswer extends Device {
  /** null: the answer held no address. */
  readonly address: string | null
  readonly validSeconds: number
  /** Status code of RFC 8415; 0 is success. */
  readonly status: number
  /** Epoch ms with fractions: the first packet out, the answer in. */
  readonly askedAt: number
  readonly answeredAt: number
}

/** RFC 8415, section 7.6: how long a client first waits for an answer; doubled with each attempt. */
const FIRST_WAIT_MS = 1000
const ATTEMPTS = 5

interface Held {
  readonly address: Uint8Array
  readonly server: Uint8Array
}

const held = new Map<string, Held>()
const waiting = new Map<number, (answer: ServerMessage) => void>()
const now = (): number => performance.timeOrigin + performance.now()
const keyOf = (device: Device): string => `${device.duid}/${device.iaid}`

const socket = createSocket({ type: 'udp6', reuseAddr: true })
const listening = new Promise<void>((resolve, reject) => {
  socket.once('listening', resolve)
  socket.once('error', reject)
})
socket.on('message', (packet) => {
  const answer = decode(packet)
  if (answer?.type === MESSAGE.reply) waiting.get(answer.transaction)?.(answer)
})
socket.bind(546, '::')

async function ask(device: Device, type: ClientMessage['type']): Promise<DeviceAnswer> {
  await listening
  const lease = held.get(keyOf(device))
  if (type !== 'solicit' && lease === undefined) throw new Error(`${keyOf(device)} has no lease to ${type}`)
  let transaction = 0
  do transaction = Math.floor(Math.random() * 0x1_00_00_00)
  while (waiting.has(transaction))
  const packet = encode({
    type,
    transaction,
    duid: duidOctets(device.duid),
    iaid: device.iaid,
    ...(device.hostname === undefined ? {} : { hostname: device.hostname }),
    ...(lease === undefined || type === 'solicit' ? {} : { address: lease.address }),
    ...(lease === undefined || type === 'solicit' || type === 'rebind' ? {} : { server: lease.server }),
  })
  const askedAt = now()
  const answer = await answerTo(packet, transaction)
  if (answer === undefined) throw new Error(`no answer to the ${type} of ${keyOf(device)} after ${ATTEMPTS} attempts`)
  if (type === 'release') held.delete(keyOf(device))
  else if (answer.address !== null) held.set(keyOf(device), { address: answer.address, server: answer.server })
  return {
    ...device,
    address: answer.address && addressText(answer.address),
    validSeconds: answer.validSeconds,
    status: answer.status,
    askedAt,
    answeredAt: now(),
  }
}

/** Sends until the answer is there; undefined when it never comes. */
function answerTo(packet: Buffer, transaction: number): Promise<ServerMessage | undefined> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined
    const settle = (): void => {
      clearTimeout(timer)
      waiting.delete(transaction)
    }
    waiting.set(transaction, (answer) => {
      settle()
      resolve(answer)
    })
    const send = (attempt: number): void => {
      if (attempt === ATTEMPTS) {
        settle()
        resolve(undefined)
        return
      }
      timer = setTimeout(() => send(attempt + 1), FIRST_WAIT_MS * 2 ** attempt)
      socket.send(packet, 547, 'ff02::1:2%eth0', (error) => {
        if (!error) return
        settle()
        reject(error)
      })
    }
    send(0)
  })
}

const verbs = {
  /** All devices say the same at once; the answers come in their order. */
  ask: (p: { type: ClientMessage['type']; devices: readonly Device[] }): Promise<DeviceAnswer[]> =>
    Promise.all(p.devices.map((device) => ask(device, p.type))),
  page,
  dial,
  reachable,
}
export type CrowdVerbs = typeof verbs

serve(verbs)
