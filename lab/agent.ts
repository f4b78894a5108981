// Runs inside a client's namespaces and does there what the client's user would do. Started by clients.ts.
import { dial, exchange, page, reachable, resolve } from './probes.ts'
import { serve } from './remote.ts'

const verbs = { page, dial, exchange, reachable, resolve }
export type AgentVerbs = typeof verbs

serve(verbs)
