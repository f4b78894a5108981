import { OrchestratorError } from '../../../../common/errors.ts'

/** A page of a list, and what asks for the next one; undefined: there is none. */
export interface Page<T, Next> {
  readonly items: readonly T[]
  readonly next: Next | undefined
}

/** Pages of one list at most: no account holds so much of ours. */
const MOST_PAGES = 1000

/**
 * Every item of every page, once, although a page may come twice and items move between pages while we read.
 * @throws OrchestratorError `provider-answer` when the pages lead in a circle
 */
export async function everyPage<T, Next extends string | number>(
  what: string,
  keyOf: (item: T) => string,
  fetchPage: (next: Next | undefined) => Promise<Page<T, Next>>,
): Promise<readonly T[]> {
  const items = new Map<string, T>()
  const asked = new Set<Next>()
  let next: Next | undefined
  do {
    const page = await fetchPage(next)
    for (const item of page.items) items.set(keyOf(item), item)
    next = page.next
    if (next !== undefined && (asked.has(next) || asked.size >= MOST_PAGES)) {
      throw new OrchestratorError(
        'provider-answer',
        `the pages of ${what} lead in a circle: nothing is concluded from them`,
        {
          retryable: true,
        },
      )
    }
    if (next !== undefined) asked.add(next)
  } while (next !== undefined)
  return [...items.values()]
}
