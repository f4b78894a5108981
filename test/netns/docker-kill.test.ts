import { after, before } from 'node:test'
import { errorCode, wording } from '../../common/errors.ts'
import type { WireObserved } from '../../unionize/contract.ts'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { thingsOf } from '../support/docker-agents.ts'
import { createFaults, type Faults } from '../support/faults.ts'
import type { HostAnswer, HostRequest } from '../support/lone-host.ts'
import { UnionizeHost } from '../support/unionize-host.ts'
import { RemoteError } from '../support/wiring-remote.ts'

const TEMPLATE = `services:
  web:
    image: orchestrator/pause:1
x-orchestrator:
  summary: a page
`
let host: UnionizeHost
before(async () => {
  host = await UnionizeHost.open('dk')
})
after(() => host?.close())

/** What unionize on the host does of what it is asked; null: it agrees to the rest, which has nothing to do with instances. */
function work(request: HostRequest): (() => Promise<readonly WireObserved[]>) | null {
  if (request.type === 'ensure') return async () => [await host.ensure(request.order)]
  if (request.type === 'list') return () => host.list()
  if (request.type !== 'remove') return null
  return async () => {
    await host.unionize.ask('remove', request.instance, request.generation)
    return []
  }
}

async function carriedOut(request: HostRequest): Promise<HostAnswer> {
  try {
    return { observed: [...((await work(request)?.()) ?? [])] }
  } catch (error) {
    const retryable = !(error instanceof RemoteError) || error.retryable
    return { failure: { code: errorCode(error), message: wording(error), retryable } }
  }
}

/** @returns null when the message goes wrong: it is never answered */
async function answered(faults: Faults, request: HostRequest): Promise<HostAnswer | null> {
  const strike = faults.strike({ method: 'POST', path: request.type, body: '' })
  const answer = strike?.fault === 'refuse' ? null : await carriedOut(request)
  strike?.hit()
  return strike === null ? answer : null
}

backendKills('a host with Docker', async (): Promise<KillSubject> => {
  const faults = createFaults()
  return {
    template: TEMPLATE,
    faults,
    carryOut: (request) => answered(faults, request),
    async instances() {
      return (await host.list()).map(({ instance }) => instance)
    },
    things: () => thingsOf(host),
  }
})
