import type { KindTable } from './load.ts'

/** The backends that come with the orchestrator, besides docker, which needs the hosts' socket. */
export const kinds: KindTable = {
  swarm: () => import('./swarm/swarm.ts'),
  cloud: () => import('./cloud/cloud.ts'),
  coreos: () => import('./coreos/coreos.ts'),
}
