import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../common/clock.ts'
import { createLog } from '../../common/log.ts'
import { createPace } from '../../orchestrator/backends/cloud/pace.ts'
import type { ProviderContext } from '../../orchestrator/backends/cloud/provider.ts'

/** Nobody waits for the pauses between repeated calls. */
const hasty: Clock = {
  now: Date.now,
  async wait(_, signal) {
    signal?.throwIfAborted()
    await setImmediate()
  },
}

/** What a provider under test is given: no prices, and no pace to wait for, unless told. */
export function providerContext(
  given: Pick<ProviderContext, 'target' | 'installation' | 'credential'> & Partial<ProviderContext>,
): ProviderContext {
  return {
    credentialName: 'cloud',
    prices: {},
    pace: createPace(10_000, hasty),
    clock: hasty,
    log: createLog({ name: 'test', level: 'error' }),
    ...given,
  }
}
