/** A backend over TLS, in a process of its own: the managers' network is in a namespace. Argument: its settings as JSON. */
import type { Backend } from '../../orchestrator/backends/backend.ts'
import { SWARM, swarmBackend } from './swarm.ts'
import { answer } from './wiring-remote.ts'

const never = new AbortController().signal
const made: Backend = await swarmBackend([], { settings: JSON.parse(process.argv[2] ?? '') as object })

answer({
  ready: () => true,
  list: () => made.list({ name: SWARM }, never),
  check: () => made.check?.({ name: SWARM }, never),
})
