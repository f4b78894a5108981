import { createHash } from 'node:crypto'

/** IFNAMSIZ of linux/if.h, less the NUL. */
const NAME_LENGTH = 15
/** Of a name that is too long this much stays, then a dash and six letters and digits that follow from the whole. */
const KEPT = 8
const DIGITS = 6
/** Host ends of ours whose name nobody chose. Not `ui-`: by that the firewall knows the links of instances. */
export const HOST_END_PREFIX = 'un-'

/** A name of at most 15 characters, which is the name itself or, if that is longer, always the same one. */
export function safeName(name: string): string {
  if (name.length <= NAME_LENGTH) return name
  const number = digest(name).readUIntBE(0, 6) % 36 ** DIGITS
  return `${name.slice(0, KEPT)}-${number.toString(36).padStart(DIGITS, '0')}`
}

/** The name of the outer end of an interface, from whose namespace and which interface it is. */
export function hostEndName(key: string, name: string): string {
  return HOST_END_PREFIX + digest(`${key}\0${name}`).toString('hex', 0, 6)
}

/** A locally administered MAC of one station (IEEE 802) that follows from the text. */
export function stationMac(text: string): string {
  const bytes = digest(text).subarray(0, 6)
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/**
 * The MAC of the outer end of a station's link. Higher than most, since a bridge takes the lowest of its ports' unless it
 * has one of its own; and never the station's, however that begins: a bridge keeps frames to a port's own MAC to itself.
 */
export function outerMac(station: string): string {
  return `fe${stationMac(station).slice(2)}`
}

/** The routing table of an interface whose gateway stands beside another default route; out of the way of small numbers. */
export function ownTable(name: string): number {
  return 0x7500_0000 + digest(name).readUIntBE(0, 3)
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
