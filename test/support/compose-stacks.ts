import assert from 'node:assert/strict'
import { InvalidInput } from '../../common/errors.ts'
import type { ServiceInput } from '../../common/service-spec.ts'
import { DEFAULT_CAPABILITIES } from '../../orchestrator/compose/stack/capabilities.ts'
import { type ReadStack, readStack } from '../../orchestrator/compose/stack/services.ts'
import type { Json } from '../../orchestrator/domain/template.ts'

type JsonMap = { readonly [key: string]: Json }

/** What a stack finds around it: the service web is the entry. */
export interface Around {
  /** Texts of files by path. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>
  readonly variables?: Readonly<Record<string, string>>
}

/** Reads a stack whose entry is web. */
export function readWith(stack: JsonMap, { files = {}, variables = {} }: Around = {}): ReadStack {
  const value = (name: string) => (Object.hasOwn(variables, name) ? variables[name] : undefined)
  return readStack(stack, {
    entry: 'web',
    files: {
      read: (path) => {
        const content = Object.hasOwn(files, path) ? files[path] : undefined
        return content === undefined ? null : Buffer.from(content)
      },
    },
    variables: {
      text: value,
      content: (name) => {
        const text = value(name)
        return text === undefined ? undefined : Buffer.from(text)
      },
    },
  })
}

/** Reads a stack of the service web alone, with the keys that are given. */
export function readWeb(keys: JsonMap, sections: JsonMap = {}, around: Around = {}): ReadStack {
  return readWith({ services: { web: { image: 'nginx', ...keys } }, ...sections }, around)
}

/** What a service is of which the file says nothing but its image. */
export function plainService(change: Partial<ServiceInput> = {}): ServiceInput {
  return {
    name: 'web',
    image: 'nginx',
    environment: {},
    memoryBytes: 256 * 1024 * 1024,
    pids: 256,
    capabilities: [...DEFAULT_CAPABILITIES],
    stopGraceMs: 0,
    ...change,
  }
}

/** The service web with these keys is the plain one with that change, and there is nothing to say about it. */
export function assertWeb(
  keys: JsonMap,
  change: Partial<ServiceInput>,
  sections: JsonMap = {},
  around: Around = {},
): void {
  const { services, notes, weakens } = readWeb(keys, sections, around)
  assert.deepEqual(services, [plainService(change)], JSON.stringify(keys))
  assert.deepEqual({ notes, weakens }, { notes: [], weakens: [] }, JSON.stringify(keys))
}

/** The service web with these keys is refused at that key, in words that match. */
export function assertRefused(
  keys: JsonMap,
  key: string,
  words: RegExp,
  sections: JsonMap = {},
  around: Around = {},
): void {
  refusedAt(() => readWeb(keys, sections, around), key, words)
}

/** Some work is refused at that key, in words that match. */
export function refusedAt(work: () => unknown, key: string, words: RegExp): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof InvalidInput, String(error))
    assert.deepEqual(error.field, key, error.message)
    assert.match(error.message, words)
    return true
  })
}
