import {
  attribute,
  attributesIn,
  attributeText,
  attributeU32,
  attributeU64,
  type Message,
  message,
  NLA_F_NESTED,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  sized,
  textOf,
  u32Of,
} from './netlink.ts'
import { bytesIn, RATESPEC, rateIn, rateSpec, rateTable, TICKS_PER_MICROSECOND, ticks, transmitTicks } from './rates.ts'

/** Messages about queues: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h. */
const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
const RTM_GETQDISC = 38
const RTM_NEWTFILTER = 44
const RTM_GETTFILTER = 46

/** Bytes of struct tcmsg, tc_tbf_qopt, tc_netem_qopt and tc_police. */
const TCMSG = 20
const TBF = 36
const NETEM = 24
const POLICE = 56
const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_TBF_PARMS = 1
const TCA_TBF_RTAB = 2
const TCA_TBF_RATE64 = 4
const TCA_TBF_BURST = 6
const TCA_MATCHALL_ACT = 2
const TCA_ACT_KIND = 1
const TCA_ACT_OPTIONS = 2
const TCA_POLICE_TBF = 1
const TCA_POLICE_RATE = 2
const TCA_POLICE_RATE64 = 8
const TC_ACT_SHOT = 2
const TC_H_ROOT = 0xffff_ffff
const TC_H_INGRESS = 0xffff_fff1
/** Handles: `1:`, `10:`, and `ffff:` where what comes in is looked at. */
const FIRST_HANDLE = 0x1_0000
const SECOND_HANDLE = 0x10_0000
const INGRESS_HANDLE = 0xffff_0000
const ETH_P_ALL = 3
const FILTER_PREFERENCE = 1
/** Packets that wait at most in netem (its default in tc-netem(8)). */
const NETEM_LIMIT = 1000
/** A packet of the largest usual MTU with its Ethernet header must pass at all. */
const LEAST_BURST = 1600
/** What may pass at once unless told: as much as the rate lets through in this time, a tick of a slow timer. */
const BURST_SECONDS = 0.01

const SET = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
const ADD = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
const REMOVE = NLM_F_REQUEST | NLM_F_ACK

/** A rate limit. */
export interface RateWish {
  /** Bits per second. */
  readonly rate: number
  /** Bytes that may pass at once; absent: see `defaultBurst`. */
  readonly burst?: number
}

/** How what comes in is policed: bits per second and bytes. */
export type Police = Required<RateWish>

/** What waits, and how long, on its way out of an interface. */
export interface NetemWish {
  /** Milliseconds, up to 274,000. */
  readonly delayMs?: number
  readonly jitterMs?: number
  /** Share of packets that is lost, 0 to 1. */
  readonly loss?: number
}

/** A queueing discipline as the kernel has it. */
export interface Qdisc {
  readonly index: number
  readonly kind: string
  readonly handle: number
  readonly parent: number
  /** At the root, so that everything goes through it, and made by somebody: the kernel's own have no handle. */
  readonly root: boolean
  readonly tbf: { readonly rate: number; readonly burst: number; readonly latencyMs: number } | null
  readonly netem: { readonly delayMs: number; readonly jitterMs: number; readonly loss: number } | null
}

/** Bytes that may pass at once at a rate (bits per second) for which none were told. */
export function defaultBurst(rate: number): number {
  return Math.max(LEAST_BURST, Math.ceil((rate / 8) * BURST_SECONDS))
}

/**
 * Limits what goes out, and lets it wait. At the root, or under the netem that `setNetem` put there.
 * @param tbf.latencyMs how long a packet may wait before it is dropped
 */
export function setTbf(index: number, tbf: RateWish & { latencyMs: number; under?: 'root' | 'netem' }): Buffer {
  const bytesPerSecond = Math.max(1, Math.floor(tbf.rate / 8))
  const burst = tbf.burst ?? defaultBurst(tbf.rate)
  const parameters = Buffer.alloc(TBF)
  rateSpec(bytesPerSecond).copy(parameters)
  const limit = Math.floor(bytesPerSecond * (Math.floor(tbf.latencyMs * 1000) / 1e6) + burst)
  parameters.writeUInt32LE(Math.min(limit, 0xffff_ffff), 2 * RATESPEC)
  // As tc(8) does, of the rate as it fits into the header; what counts is TCA_TBF_BURST.
  parameters.writeUInt32LE(transmitTicks(Math.min(bytesPerSecond, 0xffff_ffff), burst), 2 * RATESPEC + 4)
  const header =
    tbf.under === 'netem'
      ? tcHeader({ index, handle: SECOND_HANDLE, parent: FIRST_HANDLE | 1 })
      : tcHeader({ index, handle: FIRST_HANDLE, parent: TC_H_ROOT })
  return message(
    RTM_NEWQDISC,
    SET,
    header,
    attributeText(TCA_KIND, 'tbf'),
    attribute(
      TCA_OPTIONS,
      attribute(TCA_TBF_PARMS, parameters),
      attributeU32(TCA_TBF_BURST, burst),
      ...rate64(TCA_TBF_RATE64, bytesPerSecond),
      attribute(TCA_TBF_RTAB, rateTable(bytesPerSecond)),
    ),
  )
}

/** Delays and loses packets on their way out, at the root. @throws InvalidInput beyond 274,000 ms */
export function setNetem(index: number, netem: NetemWish): Buffer {
  const parameters = Buffer.alloc(NETEM)
  parameters.writeUInt32LE(ticks('delayMs', netem.delayMs ?? 0), 0)
  parameters.writeUInt32LE(NETEM_LIMIT, 4)
  parameters.writeUInt32LE(Math.round((netem.loss ?? 0) * 0xffff_ffff), 8)
  parameters.writeUInt32LE(ticks('jitterMs', netem.jitterMs ?? 0), 20)
  const header = tcHeader({ index, handle: FIRST_HANDLE, parent: TC_H_ROOT })
  return message(RTM_NEWQDISC, SET, header, attributeText(TCA_KIND, 'netem'), attribute(TCA_OPTIONS, parameters))
}

/** Makes the place where what comes in is looked at; EEXIST if it is there. */
export function setIngress(index: number): Buffer {
  const header = tcHeader({ index, handle: INGRESS_HANDLE, parent: TC_H_INGRESS })
  return message(RTM_NEWQDISC, ADD, header, attributeText(TCA_KIND, 'ingress'))
}

/** Drops what comes in faster than a rate. Needs `setIngress` first; to change it, remove that and begin anew. */
export function policeIngress(index: number, wish: RateWish): Buffer {
  const bytesPerSecond = Math.max(1, Math.floor(wish.rate / 8))
  const parameters = Buffer.alloc(POLICE)
  parameters.writeUInt32LE(TC_ACT_SHOT, 4)
  parameters.writeUInt32LE(transmitTicks(bytesPerSecond, wish.burst ?? defaultBurst(wish.rate)), 12)
  rateSpec(bytesPerSecond).copy(parameters, 20)
  const police = attribute(
    TCA_ACT_OPTIONS | NLA_F_NESTED,
    attribute(TCA_POLICE_TBF, parameters),
    attribute(TCA_POLICE_RATE, rateTable(bytesPerSecond)),
    ...rate64(TCA_POLICE_RATE64, bytesPerSecond),
  )
  const action = attribute(1, attributeText(TCA_ACT_KIND, 'police'), police)
  return message(
    RTM_NEWTFILTER,
    ADD,
    tcHeader({ index, handle: 0, parent: INGRESS_HANDLE, info: filterInfo() }),
    attributeText(TCA_KIND, 'matchall'),
    attribute(TCA_OPTIONS, attribute(TCA_MATCHALL_ACT, action)),
  )
}

/** Removes what was put at the root; the kernel puts its own there. ENOENT or EINVAL: there was none. */
export function deleteRoot(index: number): Buffer {
  return message(RTM_DELQDISC, REMOVE, tcHeader({ index, handle: 0, parent: TC_H_ROOT }))
}

/** Removes the policing of what comes in. ENOENT or EINVAL: there was none. */
export function deleteIngress(index: number): Buffer {
  const header = tcHeader({ index, handle: INGRESS_HANDLE, parent: TC_H_INGRESS })
  return message(RTM_DELQDISC, REMOVE, header, attributeText(TCA_KIND, 'ingress'))
}

/** Asks for the disciplines of one interface. */
export function getQdiscs(index: number): Buffer {
  return message(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, tcHeader({ index, handle: 0, parent: 0 }))
}

/** Reads an RTM_NEWQDISC. @throws WiringError `answer-unreadable` */
export function qdiscOf(reply: Message): Qdisc {
  const header = sized(reply.body, TCMSG)
  const attributes = attributesIn(header.subarray(TCMSG))
  const kind = textOf(attributes.get(TCA_KIND))
  const options = attributes.get(TCA_OPTIONS)
  const handle = header.readUInt32LE(8)
  const parent = header.readUInt32LE(12)
  return {
    index: header.readInt32LE(4),
    kind,
    handle,
    parent,
    root: parent === TC_H_ROOT && handle !== 0,
    tbf: kind === 'tbf' ? tbfOf(options) : null,
    netem: kind === 'netem' && options !== undefined ? netemOf(options) : null,
  }
}

/** Asks for what is done with packets that come in. */
export function getIngressFilters(index: number): Buffer {
  return message(RTM_GETTFILTER, NLM_F_REQUEST | NLM_F_DUMP, tcHeader({ index, handle: 0, parent: INGRESS_HANDLE }))
}

/** The rate and burst of an RTM_NEWTFILTER that polices; null: it does something else. @throws WiringError `answer-unreadable` */
export function policeOf(reply: Message): Police | null {
  const attributes = attributesIn(sized(reply.body, TCMSG).subarray(TCMSG))
  if (textOf(attributes.get(TCA_KIND)) !== 'matchall') return null
  const actions = attributesIn(attributesIn(attributes.get(TCA_OPTIONS)).get(TCA_MATCHALL_ACT))
  const action = attributesIn(actions.get(1))
  if (textOf(action.get(TCA_ACT_KIND)) !== 'police') return null
  const options = attributesIn(action.get(TCA_ACT_OPTIONS))
  const parameters = options.get(TCA_POLICE_TBF)
  if (parameters === undefined) return null
  const bytesPerSecond = rateIn(sized(parameters, POLICE).subarray(20), options.get(TCA_POLICE_RATE64))
  return { rate: bytesPerSecond * 8, burst: bytesIn(bytesPerSecond, parameters.readUInt32LE(12)) }
}

function tbfOf(payload: Buffer | undefined): Qdisc['tbf'] {
  const options = attributesIn(payload)
  const parameters = options.get(TCA_TBF_PARMS)
  if (parameters === undefined) return null
  const bytesPerSecond = rateIn(sized(parameters, TBF), options.get(TCA_TBF_RATE64))
  const burst = bytesIn(bytesPerSecond, parameters.readUInt32LE(2 * RATESPEC + 4))
  const waiting = parameters.readUInt32LE(2 * RATESPEC) - burst
  return { rate: bytesPerSecond * 8, burst, latencyMs: bytesPerSecond === 0 ? 0 : (waiting / bytesPerSecond) * 1000 }
}

function netemOf(payload: Buffer): Qdisc['netem'] {
  return {
    delayMs: u32Of(payload) / TICKS_PER_MICROSECOND / 1000,
    jitterMs: u32Of(payload.subarray(20)) / TICKS_PER_MICROSECOND / 1000,
    loss: u32Of(payload.subarray(8)) / 0xffff_ffff,
  }
}

/** A rate that does not fit into 32 bits comes once more. */
function rate64(type: number, bytesPerSecond: number): Buffer[] {
  return bytesPerSecond > 0xffff_ffff ? [attributeU64(type, BigInt(bytesPerSecond))] : []
}

/** The preference, and the protocol in network order. */
function filterInfo(): number {
  return FILTER_PREFERENCE * 0x1_0000 + ETH_P_ALL * 0x100
}

function tcHeader(entry: { index: number; handle: number; parent: number; info?: number }): Buffer {
  const bytes = Buffer.alloc(TCMSG)
  bytes.writeInt32LE(entry.index, 4)
  bytes.writeUInt32LE(entry.handle, 8)
  bytes.writeUInt32LE(entry.parent, 12)
  bytes.writeUInt32LE(entry.info ?? 0, 16)
  return bytes
}
