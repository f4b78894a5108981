import { HostUnreachable } from '../../common/errors.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Way, Ways } from '../../orchestrator/reconciler/context.ts'

/** What hosts were told of ways, kept as they would keep it. */
export interface KeptWays extends Ways {
  of(host: HostName): readonly Way[]
  setReachable(host: HostName, reachable: boolean): void
}

export function keptWays(): KeptWays {
  const hosts = new Map<HostName, Map<string, Way>>()
  const away = new Set<HostName>()
  const on = (host: HostName) => {
    if (away.has(host)) throw new HostUnreachable(host, 'the test says so')
    const kept = hosts.get(host) ?? new Map<string, Way>()
    hosts.set(host, kept)
    return kept
  }
  return {
    async open(host, way) {
      on(host).set(way.instance, way)
    },
    async close(host, instance) {
      on(host).delete(instance)
    },
    async set(host, ways) {
      const kept = on(host)
      kept.clear()
      for (const way of ways) kept.set(way.instance, way)
    },
    of: (host) => [...(hosts.get(host)?.values() ?? [])],
    setReachable: (host, reachable) => void (reachable ? away.delete(host) : away.add(host)),
  }
}
