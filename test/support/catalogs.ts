import { mkdtempSync, rmSync } from 'node:fs'
import { systemClock } from '../../common/clock.ts'
import { InvalidInput } from '../../common/errors.ts'
import type { CatalogContext } from '../../orchestrator/catalog/apply.ts'
import { openSeal, type Seal } from '../../orchestrator/pki/seal.ts'
import type { Store } from '../../orchestrator/store/store.ts'

/** A catalog over a store, with nothing behind it that acts. */
export interface TestCatalog extends Disposable {
  readonly context: CatalogContext
  readonly seal: Seal
  /** How often it told that something changed. */
  readonly changes: () => number
}

export async function testCatalog(store: Store, change: Partial<CatalogContext> = {}): Promise<TestCatalog> {
  const directory = mkdtempSync('/tmp/orchestrator-catalog-')
  const seal = await openSeal(directory)
  let changes = 0
  const context: CatalogContext = {
    store,
    clock: systemClock,
    seal,
    backends: ['docker', 'fake'],
    trusted: [],
    checkTemplate: ({ backend }) => {
      if (backend === 'none') throw new InvalidInput('x-orchestrator.backend', 'there is no backend none')
    },
    changed: () => {
      changes++
    },
    counted: () => {},
    ...change,
  }
  return { context, seal, changes: () => changes, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) }
}

/** Files as an apply takes them: texts by path. */
export function filesOf(texts: Readonly<Record<string, string>>): ReadonlyMap<string, Uint8Array> {
  return new Map(Object.entries(texts).map(([path, text]) => [path, Buffer.from(text)]))
}

/** A template file of one service. @param more further lines of `x-orchestrator`, indented by two */
export function webTemplate(image = 'nginx', more = ''): string {
  return `services:\n  web:\n    image: ${image}\n    ports: ['80']\nx-orchestrator:\n  summary: a page\n${more}`
}
