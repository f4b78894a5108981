import { type Family, familyNamed, familyNumber, type Prefix, prefixText } from './ip.ts'
import {
  attribute,
  attributesIn,
  attributeText,
  attributeU8,
  attributeU32,
  type Message,
  message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  sized,
  textOf,
  u8Of,
  u32Of,
  unreadable,
} from './netlink.ts'
import { OUR_PROTOCOL } from './routes.ts'

/** Messages about the routing policy: linux/fib_rules.h. */
const RTM_NEWRULE = 32
const RTM_DELRULE = 33
const RTM_GETRULE = 34

/** Bytes of struct fib_rule_hdr. */
const HEADER = 12
const FRA_DST = 1
const FRA_SRC = 2
const FRA_IIFNAME = 3
const FRA_PRIORITY = 6
const FRA_FWMARK = 10
const FRA_SUPPRESS_PREFIXLEN = 14
const FRA_TABLE = 15
const FRA_OIFNAME = 17
const FRA_PROTOCOL = 21
const FR_ACT_TO_TBL = 1

/** A rule that there is to be: packets that match all that is given look into the table. */
export interface RuleWish {
  readonly family: Family
  readonly from?: Prefix
  readonly to?: Prefix
  /** Names of interfaces. */
  readonly incoming?: string
  readonly outgoing?: string
  readonly mark?: number
  /** Routes whose prefix is at most this long do not count: 0 is the table without its default route. */
  readonly suppressPrefixLength?: number
  readonly table: number
  /** Lower is asked first. */
  readonly priority: number
  /** Absent: ours. */
  readonly protocol?: number
}

/** A rule as the kernel has it. */
export interface Rule {
  readonly family: Family
  readonly from: string | null
  readonly to: string | null
  readonly incoming: string | null
  readonly outgoing: string | null
  readonly mark: number | null
  readonly suppressPrefixLength: number | null
  readonly table: number
  readonly priority: number
  readonly protocol: number
  /** Whether it does nothing else than to lead into its table. */
  readonly plain: boolean
}

/** Adds a rule; EEXIST if there is the same one. */
export function addRule(wish: RuleWish): Buffer {
  const flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
  return message(RTM_NEWRULE, flags, ruleHeader(wish, FR_ACT_TO_TBL), ...ruleAttributes(wish))
}

/** Removes a rule, if its protocol is that of the wish. ENOENT: there is none. */
export function deleteRule(wish: RuleWish): Buffer {
  return message(RTM_DELRULE, NLM_F_REQUEST | NLM_F_ACK, ruleHeader(wish, 0), ...ruleAttributes(wish))
}

/** Asks for all rules of one family. */
export function getRules(family: Family): Buffer {
  const header = Buffer.alloc(HEADER)
  header[0] = familyNumber(family)
  return message(RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, header)
}

/** Reads an RTM_NEWRULE. @throws WiringError `answer-unreadable` */
export function ruleOf(reply: Message): Rule {
  const header = sized(reply.body, HEADER)
  const attributes = attributesIn(header.subarray(HEADER))
  const family = familyNamed(header[0])
  if (family === null) throw unreadable(`a rule of family ${header[0]}`)
  const prefix = (type: number, length: number) => {
    const address = attributes.get(type)
    return address === undefined ? null : prefixText(address, length)
  }
  const read = <T>(type: number, reader: (payload: Buffer) => T): T | null => {
    const payload = attributes.get(type)
    return payload === undefined ? null : reader(payload)
  }
  return {
    family,
    from: prefix(FRA_SRC, header.readUInt8(2)),
    to: prefix(FRA_DST, header.readUInt8(1)),
    incoming: read(FRA_IIFNAME, textOf),
    outgoing: read(FRA_OIFNAME, textOf),
    mark: read(FRA_FWMARK, u32Of),
    suppressPrefixLength: lengthOf(read(FRA_SUPPRESS_PREFIXLEN, u32Of)),
    table: read(FRA_TABLE, u32Of) ?? header.readUInt8(4),
    priority: read(FRA_PRIORITY, u32Of) ?? 0,
    protocol: read(FRA_PROTOCOL, u8Of) ?? 0,
    plain: header.readUInt8(7) === FR_ACT_TO_TBL,
  }
}

/** The kernel tells -1 where nothing is suppressed. */
function lengthOf(told: number | null): number | null {
  return told === 0xffff_ffff ? null : told
}

function ruleHeader(wish: RuleWish, action: number): Buffer {
  const bytes = Buffer.alloc(HEADER)
  bytes[0] = familyNumber(wish.family)
  bytes[1] = wish.to?.prefixLength ?? 0
  bytes[2] = wish.from?.prefixLength ?? 0
  bytes[4] = wish.table > 0xff ? 0 : wish.table
  bytes[7] = action
  return bytes
}

function ruleAttributes(wish: RuleWish): Buffer[] {
  const { from, to, incoming, outgoing, mark, suppressPrefixLength, table, priority } = wish
  return [
    ...(from === undefined ? [] : [attribute(FRA_SRC, from.address)]),
    ...(to === undefined ? [] : [attribute(FRA_DST, to.address)]),
    ...(incoming === undefined ? [] : [attributeText(FRA_IIFNAME, incoming)]),
    ...(outgoing === undefined ? [] : [attributeText(FRA_OIFNAME, outgoing)]),
    ...(mark === undefined ? [] : [attributeU32(FRA_FWMARK, mark)]),
    ...(suppressPrefixLength === undefined ? [] : [attributeU32(FRA_SUPPRESS_PREFIXLEN, suppressPrefixLength)]),
    ...(table > 0xff ? [attributeU32(FRA_TABLE, table)] : []),
    attributeU32(FRA_PRIORITY, priority),
    attributeU8(FRA_PROTOCOL, wish.protocol ?? OUR_PROTOCOL),
  ]
}
