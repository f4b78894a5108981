import { plain } from '../../common/plain.ts'
import type { InstanceShape } from '../api/wire.ts'

export type PriceShape = NonNullable<InstanceShape['price']>

/** `0.04 EUR/hour` */
export function priceText({ perHour, currency }: PriceShape): string {
  return `${perHour} ${plain(currency)}/hour`
}

/** `0.48 of 0.5 EUR/hour`: how much of a limit is spent. */
export function spentOf(most: PriceShape, spent: readonly PriceShape[]): string {
  const already = spent.find(({ currency }) => currency === most.currency)
  return `${already?.perHour ?? 0} of ${priceText(most)}`
}
