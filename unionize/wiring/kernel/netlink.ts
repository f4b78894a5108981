import { WiringError } from '../errors.ts'

/**
 * The encoding of netlink messages (netlink(7), rtnetlink(7), linux/netlink.h). Numbers are in the byte order of the
 * machine; x86-64 and arm64 are both little endian.
 */

/** Message flags of linux/netlink.h. */
export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_DUMP = 0x300
export const NLM_F_DUMP_INTR = 0x10
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200

/** Types of control messages of linux/netlink.h. */
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3

/** NLA_F_NESTED: a flag in the type of an attribute that holds attributes, where the kernel insists on it. */
export const NLA_F_NESTED = 0x8000

const HEADER = 16
const ATTRIBUTE_HEADER = 4
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER are flags in an attribute's type. */
const ATTRIBUTE_TYPE_MASK = 0x3fff
const NLMSGERR_ATTR_MSG = 1
/** The kernel's texts have one short sentence (NETLINK_MAX_FMTMSG_LEN is 80); what is longer is none of them. */
const TEXT_LENGTH = 300

/** One message as it was received; `body` is what follows the header. */
export interface Message {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly body: Buffer
}

/** A message without a sequence number, which the socket fills in. `body` is the family's header and the attributes. */
export function message(type: number, flags: number, ...body: readonly Buffer[]): Buffer {
  const length = body.reduce((sum, part) => sum + aligned(part.length), HEADER)
  const bytes = zeros(length)
  bytes.writeUInt32LE(length, 0)
  bytes.writeUInt16LE(type, 4)
  bytes.writeUInt16LE(flags, 6)
  let offset = HEADER
  for (const part of body) {
    part.copy(bytes, offset)
    offset += aligned(part.length)
  }
  return bytes
}

/** Gives a message its sequence number. */
export function setSequence(bytes: Buffer, sequence: number): void {
  bytes.writeUInt32LE(sequence, 8)
}

/** Whether the kernel is to acknowledge this message. A refusal it tells in any case. */
export function setAcknowledged(bytes: Buffer, acknowledged: boolean): void {
  const flags = bytes.readUInt16LE(6)
  bytes.writeUInt16LE(acknowledged ? flags | NLM_F_ACK : flags & ~NLM_F_ACK, 6)
}

/** Bytes that are 0. A part of a larger piece of memory: one for each attribute costs the collector more than all else here. */
export function zeros(length: number): Buffer {
  return Buffer.allocUnsafe(length).fill(0)
}

/** An attribute, padded to four bytes. A list of attributes as payload makes a nested one. */
export function attribute(type: number, ...payload: readonly Buffer[]): Buffer {
  const length = payload.reduce((sum, part) => sum + part.length, ATTRIBUTE_HEADER)
  const bytes = zeros(aligned(length))
  bytes.writeUInt16LE(length, 0)
  bytes.writeUInt16LE(type, 2)
  let offset = ATTRIBUTE_HEADER
  for (const part of payload) {
    part.copy(bytes, offset)
    offset += part.length
  }
  return bytes
}

/** An attribute holding an unsigned 32-bit number. */
export function attributeU32(type: number, value: number): Buffer {
  const bytes = zeros(ATTRIBUTE_HEADER + 4)
  bytes.writeUInt16LE(ATTRIBUTE_HEADER + 4, 0)
  bytes.writeUInt16LE(type, 2)
  bytes.writeUInt32LE(value, ATTRIBUTE_HEADER)
  return bytes
}

/** An attribute holding an unsigned 8-bit number. */
export function attributeU8(type: number, value: number): Buffer {
  return attribute(type, Buffer.of(value))
}

/** An attribute holding an unsigned 16-bit number. */
export function attributeU16(type: number, value: number): Buffer {
  const payload = Buffer.alloc(2)
  payload.writeUInt16LE(value)
  return attribute(type, payload)
}

/** An attribute holding an unsigned 16-bit number in the byte order of the network. */
export function attributeBe16(type: number, value: number): Buffer {
  return attribute(type, Buffer.of(value >> 8, value & 0xff))
}

/** An attribute holding an unsigned 64-bit number. */
export function attributeU64(type: number, value: bigint): Buffer {
  const payload = Buffer.alloc(8)
  payload.writeBigUInt64LE(value)
  return attribute(type, payload)
}

/** An attribute holding a text that ends with NUL. */
export function attributeText(type: number, text: string): Buffer {
  return attribute(type, Buffer.from(`${text}\0`))
}

/** The messages in what one receive returned. Ends silently at a torn message: the kernel sends whole ones. */
export function messagesIn(bytes: Buffer): Message[] {
  const messages: Message[] = []
  for (let offset = 0; offset + HEADER <= bytes.length; ) {
    const length = bytes.readUInt32LE(offset)
    if (length < HEADER || offset + length > bytes.length) break
    messages.push({
      type: bytes.readUInt16LE(offset + 4),
      flags: bytes.readUInt16LE(offset + 6),
      sequence: bytes.readUInt32LE(offset + 8),
      body: bytes.subarray(offset + HEADER, offset + length),
    })
    offset += aligned(length)
  }
  return messages
}

/**
 * Tells of each attribute in a part of `bytes`: its type, and where its payload begins and ends. Ends silently at a torn
 * one. For what is read often: `attributesIn` makes a buffer of each.
 */
export function eachAttribute(
  bytes: Buffer,
  from: number,
  to: number,
  tell: (type: number, from: number, to: number) => void,
): void {
  for (let offset = from; offset + ATTRIBUTE_HEADER <= to; ) {
    const length = bytes.readUInt16LE(offset)
    if (length < ATTRIBUTE_HEADER || offset + length > to) return
    tell(bytes.readUInt16LE(offset + 2) & ATTRIBUTE_TYPE_MASK, offset + ATTRIBUTE_HEADER, offset + length)
    offset += aligned(length)
  }
}

/**
 * The attributes in `bytes`, by type; of a type that comes twice, the last. Ends silently at a torn one.
 * @param wanted of these types only; a link is told in about 60 of which we read a third
 */
export function attributesIn(bytes: Buffer | undefined, wanted?: ReadonlySet<number>): Map<number, Buffer> {
  return new Map(attributeList(bytes, wanted))
}

/** The same in their order, for those of which one type comes many times. */
export function attributeList(
  bytes: Buffer | undefined,
  wanted?: ReadonlySet<number>,
): [type: number, payload: Buffer][] {
  const found: [number, Buffer][] = []
  if (bytes === undefined) return found
  eachAttribute(bytes, 0, bytes.length, (type, from, to) => {
    if (wanted === undefined || wanted.has(type)) found.push([type, bytes.subarray(from, to)])
  })
  return found
}

/** The text of an attribute, without its NUL. */
export function textOf(payload: Buffer | undefined): string {
  if (payload === undefined) return ''
  const end = payload.indexOf(0)
  return payload.toString('utf8', 0, end < 0 ? payload.length : end)
}

/** The number in an attribute of at least one byte. @throws WiringError `answer-unreadable` */
export function u8Of(payload: Buffer): number {
  return sized(payload, 1).readUInt8()
}

/** The number in an attribute of at least two bytes. @throws WiringError `answer-unreadable` */
export function u16Of(payload: Buffer): number {
  return sized(payload, 2).readUInt16LE()
}

/** The number in an attribute of at least two bytes in network order. @throws WiringError `answer-unreadable` */
export function be16Of(payload: Buffer): number {
  return sized(payload, 2).readUInt16BE()
}

/** The number in an attribute of at least four bytes. @throws WiringError `answer-unreadable` */
export function u32Of(payload: Buffer): number {
  return sized(payload, 4).readUInt32LE()
}

/** The number in an attribute of at least four bytes, with its sign. @throws WiringError `answer-unreadable` */
export function s32Of(payload: Buffer): number {
  return sized(payload, 4).readInt32LE()
}

/** The number in an attribute of at least eight bytes. @throws WiringError `answer-unreadable` */
export function u64Of(payload: Buffer): bigint {
  return sized(payload, 8).readBigUInt64LE()
}

/** Bytes of which at least `length` are needed. @throws WiringError `answer-unreadable` */
export function sized(bytes: Buffer, length: number): Buffer {
  if (bytes.length < length) throw unreadable(`${bytes.length} bytes where ${length} were expected`)
  return bytes
}

/** What is thrown where the kernel answers in a way that we do not understand. */
export function unreadable(what: string): WiringError {
  return new WiringError('answer-unreadable', `the kernel's answer cannot be read: ${what}`)
}

/**
 * What an NLMSG_ERROR says: the errno (0: an acknowledgement) and the kernel's own words, if it gave any, as one line
 * without control characters.
 * @throws WiringError `answer-unreadable`
 */
export function verdictOf(reply: Message): { errno: number; text: string } {
  const errno = Math.abs(s32Of(reply.body))
  if ((reply.flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' }
  const echoed = reply.flags & NLM_F_CAPPED ? HEADER : u32Of(reply.body.subarray(4))
  return { errno, text: wordsIn(reply.body.subarray(4 + aligned(echoed))) }
}

/**
 * The error in an NLMSG_DONE, with which a dump may end; errno 0: it is complete.
 * @throws WiringError `answer-unreadable`
 */
export function endOf(reply: Message): { errno: number; text: string } {
  const errno = reply.body.length === 0 ? 0 : Math.abs(s32Of(reply.body))
  return { errno, text: reply.flags & NLM_F_ACK_TLVS ? wordsIn(reply.body.subarray(4)) : '' }
}

function wordsIn(bytes: Buffer): string {
  const text = textOf(attributesIn(bytes).get(NLMSGERR_ATTR_MSG))
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim()
    .slice(0, TEXT_LENGTH)
}

/** Not by bits: those of a length that the kernel never meant would make it negative. */
function aligned(length: number): number {
  return Math.ceil(length / 4) * 4
}
