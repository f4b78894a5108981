import { contains, hostBits, type Ipv6, join, type Prefix, size } from '../../common/ipv6.ts'
import { type Owner, ownerKey } from './lease.ts'

/** The addresses that instances may have. */
export interface AddressPool {
  readonly prefix: Prefix
  /** The lowest addresses of the prefix, which no instance gets: 0 up to and including this one. */
  readonly reserved: number
}

/** Prefixes up to this size are tried address by address when chance finds none free. */
const EXHAUSTIVE_LIMIT = 65_536n
const HASHED_ATTEMPTS = 32

/** Whether an instance may have this address. */
export function allows(pool: AddressPool, address: Ipv6): boolean {
  return contains(pool.prefix, address) && hostBits(address, pool.prefix.length) > BigInt(pool.reserved)
}

/**
 * The addresses to try for an owner, in order: the prefix with the low bits of the lease's address, so that people can
 * tell the two belong together; then stable hashes of DUID and IAID; then, in a small prefix, every address there is.
 */
export function* candidates(pool: AddressPool, owner: Owner, leaseAddress: Ipv6): Generator<Ipv6> {
  const { prefix } = pool
  yield* allowed(pool, join(prefix, hostBits(leaseAddress, 64)))
  const key = ownerKey(owner)
  for (let i = 0; i < HASHED_ATTEMPTS; i++) yield* allowed(pool, join(prefix, fnv1a64(`${key}#${i}`)))
  const all = size(prefix)
  if (all > EXHAUSTIVE_LIMIT) return
  const start = fnv1a64(key) % all
  for (let i = 0n; i < all; i++) yield* allowed(pool, join(prefix, (start + i) % all))
}

function* allowed(pool: AddressPool, address: Ipv6): Generator<Ipv6> {
  if (allows(pool, address)) yield address
}

/** FNV-1a, 64 bits (offset basis and prime of draft-eastlake-fnv): spreads well and will never change. */
function fnv1a64(text: string): bigint {
  let hash = 0xcbf29ce484222325n
  for (let i = 0; i < text.length; i++) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(i) & 0xff)) * 0x100000001b3n)
  }
  // FNV's low bits are weak for texts that differ at the end only: fold the high half in.
  return hash ^ (hash >> 32n)
}
