import type { Records } from '../../orchestrator/backends/backend.ts'

/** What a backend keeps beyond its restarts, in memory. */
export function memoryRecords(): Records {
  const kept = new Map<string, string>()
  return {
    all: async () => new Map(kept),
    put: async (key, value) => void (value === null ? kept.delete(key) : kept.set(key, value)),
  }
}
