import { setTimeout as wait } from 'node:timers/promises'
import type { Journal, JournalExtent } from './journal.ts'

/** How long the comparison of a lease table waits for events, in milliseconds. */
export interface Patience {
  /** For this long the journal must not have grown … */
  readonly quietMs: number
  /** … but no longer than this is waited for that. */
  readonly settleMs: number
  /** Waiting for its events to be stored ends when none was stored for this long. */
  readonly stuckMs: number
}

/** dnsmasq runs 400 hooks in a second on two cores: after a pause of half a second none is waiting. */
const PATIENCE: Patience = { quietMs: 500, settleMs: 10_000, stuckMs: 10_000 }
/** Milliseconds between two looks at what is stored. */
const LOOK_MS = 50

/**
 * Waits until the events of the leases that a table has, which was just read, are stored. dnsmasq writes its table at once
 * and runs its hooks after that, one at a time: when many devices come together, their lines follow for a while. A journal
 * that cannot be read, or events that cannot be stored, hold the table up for `settleMs` and `stuckMs` at most.
 * @param storedAt when events were last stored, on the clock of performance.now()
 * @returns whether all are stored
 * @throws the signal's reason
 */
export async function eventsFirst(
  journal: Pick<Journal, 'extent' | 'hasStored'>,
  storedAt: () => number,
  signal: AbortSignal,
  { quietMs, settleMs, stuckMs }: Patience = PATIENCE,
): Promise<boolean> {
  const written = await whenQuiet(journal, quietMs, settleMs, signal)
  if (written === null) return false
  const begun = performance.now()
  while (!journal.hasStored(written)) {
    if (performance.now() - Math.max(begun, storedAt()) >= stuckMs) return false
    await wait(LOOK_MS, undefined, { signal })
  }
  return true
}

/** How far the journal is written when it has not grown for a while, or grows all the time; null: it cannot be read. */
async function whenQuiet(
  journal: Pick<Journal, 'extent'>,
  quietMs: number,
  mostMs: number,
  signal: AbortSignal,
): Promise<JournalExtent | null> {
  // Whoever follows the journal tells why it cannot be read.
  const look = () => journal.extent().catch(() => null)
  const until = performance.now() + mostMs
  let last = await look()
  while (performance.now() < until) {
    await wait(quietMs, undefined, { signal })
    const next = await look()
    if (next !== null && same(last, next)) return next
    last = next
  }
  return last
}

function same(a: JournalExtent | null, b: JournalExtent): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
