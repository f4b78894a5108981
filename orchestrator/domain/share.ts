/**
 * Where an owner stands in a rule's draw: 0 to 100, evenly spread, always the same for the same two texts. A rule of 10
 * percent takes those below 10, so raising a share keeps those who were in.
 */
export function standing(draw: Draw, owner: string): number {
  return (mixed(fold(draw.state, owner)) / 2 ** 32) * 100
}

/** The part of the hash that depends on the rule alone. */
export interface Draw {
  readonly state: number
}

export function drawOf(rule: string): Draw {
  return { state: fold(0x811c9dc5, `${rule}\0`) }
}

/** FNV-1a, 32 bits (offset basis and prime of draft-eastlake-fnv). */
function fold(state: number, text: string): number {
  let hash = state
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash
}

/** The finalizer of MurmurHash3 (fmix32): texts that differ in one digit end up far apart. */
function mixed(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
