import { InvalidInput } from '../../../common/errors.ts'
import { u32Of, u64Of } from './netlink.ts'

/** Rates and times as the kernel's traffic control counts them: linux/pkt_sched.h, and tc_core.c of iproute2. */

/** Bytes of struct tc_ratespec. */
export const RATESPEC = 12
const TC_LINKLAYER_ETHERNET = 1
/** PSCHED_SHIFT of net/pkt_sched.h: the kernel tells times in ticks of 64 ns; /proc/net/psched says so too. */
export const TICKS_PER_MICROSECOND = 1000 / 64
/** The table of times for packet sizes has 256 slots of 8 bytes, for up to 2,047 bytes (tc's `mtu` for tbf and police). */
const SLOTS = 256
const SLOT_SHIFT = 3

/** How many bytes take so many ticks; the ticks were rounded down, so this is at most some bytes off. */
export function bytesIn(bytesPerSecond: number, ticksTaken: number): number {
  return Math.round((ticksTaken / TICKS_PER_MICROSECOND / 1e6) * bytesPerSecond)
}

/** struct tc_ratespec as tc(8) fills it for Ethernet. */
export function rateSpec(bytesPerSecond: number): Buffer {
  const bytes = Buffer.alloc(RATESPEC)
  bytes[0] = SLOT_SHIFT
  bytes[1] = TC_LINKLAYER_ETHERNET
  bytes.writeInt16LE(-1, 4)
  bytes.writeUInt32LE(Math.min(bytesPerSecond, 0xffff_ffff), 8)
  return bytes
}

/** How long each size of packet takes. The kernel has long calculated that itself, but police wants the table. */
export function rateTable(bytesPerSecond: number): Buffer {
  const table = Buffer.alloc(SLOTS * 4)
  for (let i = 0; i < SLOTS; i++) table.writeUInt32LE(transmitTicks(bytesPerSecond, (i + 1) << SLOT_SHIFT), 4 * i)
  return table
}

/** Rounded down to microseconds and then to ticks, as tc(8) does. */
export function transmitTicks(bytesPerSecond: number, bytes: number): number {
  const microseconds = Math.floor(1e6 * (bytes / bytesPerSecond))
  return Math.min(Math.floor(microseconds * TICKS_PER_MICROSECOND), 0xffff_ffff)
}

/** @throws InvalidInput naming `field` when it does not fit */
export function ticks(field: string, milliseconds: number): number {
  const count = Math.floor(Math.floor(milliseconds * 1000) * TICKS_PER_MICROSECOND)
  if (count > 0xffff_ffff) throw new InvalidInput(field, `expected at most 274,000 milliseconds, got ${milliseconds}`)
  return count
}

/** Bytes per second of a struct tc_ratespec, or of the attribute that tells more than it can. */
export function rateIn(spec: Buffer, wide: Buffer | undefined): number {
  return wide === undefined ? u32Of(spec.subarray(8)) : Number(u64Of(wide))
}
