import { type Address, FROM_ADVERTISEMENT } from '../kernel/addresses.ts'
import type { Family } from '../kernel/ip.ts'
import { giveAddress, takeAddress, writeSetting } from './act-inside.ts'
import type { End } from './action.ts'
import { type Change, consequent, differing } from './change.ts'
import type { Made } from './state.ts'
import { type AddressWish, isLinkLocal, type Wanted } from './wanted.ts'

/** What is done about addresses, and what follows from it. */
export interface AddressPlan {
  readonly changes: readonly Change[]
  /** Addresses that appear. */
  readonly given: readonly AddressWish[]
  /** Families whose last address goes meanwhile, with which the kernel drops the routes. */
  readonly flushed: ReadonlySet<Family>
}

/**
 * New ones come before former ones go, so that the interface is never without; but one IPv6 address cannot be there with
 * two prefix lengths.
 * @param lent families in which others give addresses too; theirs have lifetimes and are left alone
 */
export function planAddresses(
  on: { name: string; field: string; end: End; fresh: boolean },
  wishes: readonly AddressWish[],
  found: readonly Address[],
  lent: ReadonlySet<Family>,
): AddressPlan {
  const { name, field, end, fresh } = on
  const whom = 'inner' in end ? 'it' : end.outer
  const ours = found.filter((address) => !isTheirs(address, wishes, lent))
  const wanted = new Set(wishes.map((wish) => wish.text))
  const there = new Set(found.filter((address) => isUsable(address)).map(textOf))
  const given = wishes.filter((wish) => !there.has(wish.text))
  const gone = ours.filter((address) => !wanted.has(textOf(address)) || !isUsable(address))
  const takes = gone.map((address) => {
    const text = textOf(address)
    const act = takeAddress(end, Buffer.from(address.hex, 'hex'), address.prefixLength, text)
    if (wanted.has(text)) return consequent(name, `take ${text} from ${whom}, which never became usable`, act)
    return differing(name, { field, wanted: 'nothing', found: text }, `take ${text} from ${whom}`, act)
  })
  const gives = given.map((wish) => {
    const text = `give ${whom} ${wish.text}`
    if (fresh) return consequent(name, text, giveAddress(end, wish))
    return differing(name, { field, wanted: wish.text, found: 'nothing' }, text, giveAddress(end, wish))
  })
  const first = takes.filter((_, i) => gone[i]?.family === 'ipv6')
  const last = takes.filter((_, i) => gone[i]?.family === 'ipv4')
  const left = (['ipv4'] as const).filter((family) => last.length > 0 && !wishes.some((wish) => wish.family === family))
  return { changes: [...first, ...gives, ...last], given, flushed: new Set(left) }
}

/** Settings that are not as they are wanted, and those that nobody wants any more, as they were before us. */
export function planSettings(
  wanted: Wanted,
  made: Made | null,
  found: ReadonlyMap<string, string | null>,
  state: { fresh: boolean; known: boolean },
): Change[] {
  const { name } = wanted
  const wishes = wanted.settings
    .filter(({ path, value, implied }) => {
      const now = found.get(path) ?? null
      if (state.known && now === null && implied) return false
      return !state.known || now !== value
    })
    .map(({ path, value, implied }) => {
      const text = `set ${path} to ${value}`
      const act = writeSetting(name, path, value, implied)
      if (state.fresh) return consequent(name, text, act)
      return differing(
        name,
        { field: `sysctls.${path}`, wanted: value, found: found.get(path) ?? 'nothing' },
        text,
        act,
      )
    })
  if (state.fresh) return wishes
  const asked = new Set(wanted.settings.map((setting) => setting.path))
  const former = Object.entries(made?.sysctls ?? {})
    .filter(([path, value]) => !asked.has(path) && found.get(path) != null && found.get(path) !== value)
    .map(([path, value]) =>
      differing(
        name,
        { field: `sysctls.${path}`, wanted: value, found: found.get(path) ?? 'nothing' },
        `set ${path} back to ${value}`,
        writeSetting(name, path, value, true),
      ),
    )
  return [...wishes, ...former]
}

/** The kernel's own link-local address, and what has a lifetime where others may give some. */
function isTheirs(address: Address, wishes: readonly AddressWish[], lent: ReadonlySet<Family>): boolean {
  const bytes = Buffer.from(address.hex, 'hex')
  if (isLinkLocal(bytes) && !wishes.some((wish) => wish.address.equals(bytes))) return true
  const lasting = !address.dynamic && !address.temporary && address.protocol !== FROM_ADVERTISEMENT
  return lent.has(address.family) && !lasting
}

/** An address that someone else had already when the kernel looked will never be usable. */
function isUsable(address: Address): boolean {
  return !address.duplicate
}

function textOf(address: Address): string {
  return `${address.address}/${address.prefixLength}`
}
