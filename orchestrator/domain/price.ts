import { InvalidInput } from '../../common/errors.ts'
import type { Template } from './template.ts'

/** What something costs while it exists. */
export interface Price {
  /** At least 0. */
  readonly perHour: number
  /** ISO 4217: EUR, USD. */
  readonly currency: string
}

/** What an instance would cost at a backend: `free`, or not known there. */
export type Estimate = Price | 'free' | 'unknown'

/** What a backend says that an instance costs there. @param backend undefined: there is none of that name */
export function estimateOf(
  backend: { price?(template: Template): Price | null } | undefined,
  template: Template,
): Estimate {
  if (backend === undefined) return 'unknown'
  if (backend.price === undefined) return 'free'
  return backend.price(template) ?? 'unknown'
}

/** Millionths of a currency's unit: sums of them are exact, and prices of an hour have at most that many digits. */
const MICROS = 1_000_000
const PRICE = /^(\d{1,6}(?:\.\d{1,6})?) ([A-Z]{3})\/hour$/

/** In millionths of its currency's unit. */
export function microsOf({ perHour }: Price): number {
  return Math.round(perHour * MICROS)
}

export function priceFrom(micros: number, currency: string): Price {
  return { perHour: micros / MICROS, currency }
}

/** What several cost together: one sum for each currency. */
export function sumOf(prices: readonly Price[]): readonly Price[] {
  const sums = new Map<string, number>()
  for (const price of prices) sums.set(price.currency, (sums.get(price.currency) ?? 0) + microsOf(price))
  return [...sums].map(([currency, micros]) => priceFrom(micros, currency))
}

/** `0.5 EUR/hour` */
export function priceText(price: Price): string {
  return `${Number((microsOf(price) / MICROS).toFixed(6))} ${price.currency}/hour`
}

/** What {@link priceText} writes. @throws InvalidInput naming `field` */
export function parsePrice(field: string, text: string): Price {
  const [, amount, currency] = PRICE.exec(text) ?? []
  if (amount === undefined || currency === undefined) {
    throw new InvalidInput(
      field,
      `expected an amount, a currency and /hour, such as 0.50 EUR/hour, got ${JSON.stringify(text)}`,
    )
  }
  return { perHour: Number(amount), currency }
}

/** The higher of two prices of one currency, where both are known; of others the first that is a price. null: neither is one. */
export function dearer(one: Price | null, other: Price | null): Price | null {
  if (one === null || other === null) return one ?? other
  return one.currency === other.currency && microsOf(other) > microsOf(one) ? other : one
}

/** Whether something costs less than before: there is more left to spend. */
export function isLess(price: Price | null, before: Price | null): boolean {
  if (before === null) return false
  return price === null || price.currency !== before.currency || microsOf(price) < microsOf(before)
}
