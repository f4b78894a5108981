/**
 * Just enough DHCPv6 (RFC 8415) for a client that takes, renews and returns one IA_NA: messages as octets. Written for the
 * lab: it speaks for many devices at once, which no ordinary client does.
 */

/** RFC 8415, section 7.3. */
export const MESSAGE = { solicit: 1, advertise: 2, request: 3, renew: 5, rebind: 6, reply: 7, release: 8 } as const
export type MessageName = keyof typeof MESSAGE

/** RFC 8415, section 21, and RFC 4704 for the name. */
const OPTION = {
  clientId: 1,
  serverId: 2,
  iaNa: 3,
  iaAddress: 5,
  optionRequest: 6,
  elapsedTime: 8,
  statusCode: 13,
  rapidCommit: 14,
  dnsServers: 23,
  clientFqdn: 39,
} as const

export interface ClientMessage {
  readonly type: Exclude<MessageName, 'advertise' | 'reply'>
  /** 24 bits. */
  readonly transaction: number
  readonly duid: Uint8Array
  readonly iaid: number
  readonly hostname?: string
  /** 16 octets; for every message about a lease that one has. */
  readonly address?: Uint8Array
  /** As it came in the reply; for renew, request and release. */
  readonly server?: Uint8Array
}

export interface ServerMessage {
  readonly type: number
  readonly transaction: number
  readonly duid: Uint8Array
  readonly server: Uint8Array
  /** null: the server offers none. */
  readonly address: Uint8Array | null
  readonly validSeconds: number
  /** Status of the message or of the IA; 0 is success. */
  readonly status: number
}

export function encode(message: ClientMessage): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(message.transaction & 0xff_ffff)
  head.writeUInt8(MESSAGE[message.type])
  const parts = [head, option(OPTION.clientId, message.duid), option(OPTION.elapsedTime, Buffer.alloc(2))]
  if (message.server !== undefined) parts.push(option(OPTION.serverId, message.server))
  if (message.type === 'solicit') parts.push(option(OPTION.rapidCommit, Buffer.alloc(0)))
  parts.push(option(OPTION.optionRequest, Buffer.from([0, OPTION.dnsServers])))
  if (message.hostname !== undefined && message.type !== 'release') {
    const name = Buffer.from(message.hostname)
    // No flags: the server decides about DNS. A partial name: one label, no root.
    parts.push(option(OPTION.clientFqdn, Buffer.concat([Buffer.from([0, name.length]), name])))
  }
  const ia = Buffer.alloc(12)
  ia.writeUInt32BE(message.iaid)
  const inside =
    message.address === undefined
      ? Buffer.alloc(0)
      : option(OPTION.iaAddress, Buffer.concat([message.address, Buffer.alloc(8)]))
  parts.push(option(OPTION.iaNa, Buffer.concat([ia, inside])))
  return Buffer.concat(parts)
}

/** @returns undefined for what is no answer of a server to one client */
export function decode(packet: Buffer): ServerMessage | undefined {
  if (packet.length < 4 || ![MESSAGE.advertise, MESSAGE.reply].some((type) => type === packet[0])) return undefined
  const options = optionsOf(packet.subarray(4))
  const duid = options.get(OPTION.clientId)
  const server = options.get(OPTION.serverId)
  if (duid === undefined || server === undefined) return undefined
  const ia = options.get(OPTION.iaNa)
  const inside = ia === undefined ? new Map<number, Buffer>() : optionsOf(ia.subarray(12))
  const address = inside.get(OPTION.iaAddress)
  const status = inside.get(OPTION.statusCode) ?? options.get(OPTION.statusCode)
  return {
    type: packet[0] ?? 0,
    transaction: packet.readUInt32BE() & 0xff_ffff,
    duid,
    server,
    address: address?.subarray(0, 16) ?? null,
    validSeconds: address === undefined || address.length < 24 ? 0 : address.readUInt32BE(20),
    status: status === undefined || status.length < 2 ? 0 : status.readUInt16BE(),
  }
}

/** `fd00:c::1` from 16 octets, canonical. */
export function addressText(octets: Uint8Array): string {
  const groups = Buffer.from(octets).toString('hex').match(/.{4}/g) ?? []
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

/** `00:03:…` -> octets, and back. */
export function duidOctets(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex')
}
export function duidText(octets: Uint8Array): string {
  return (Buffer.from(octets).toString('hex').match(/../g) ?? []).join(':')
}

function option(code: number, value: Uint8Array): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt16BE(code)
  head.writeUInt16BE(value.length, 2)
  return Buffer.concat([head, value])
}

/** The first option of each code. A length beyond the end ends the list. */
function optionsOf(octets: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  for (let at = 0; at + 4 <= octets.length; ) {
    const code = octets.readUInt16BE(at)
    const end = at + 4 + octets.readUInt16BE(at + 2)
    if (end > octets.length) break
    if (!found.has(code)) found.set(code, octets.subarray(at + 4, end))
    at = end
  }
  return found
}
