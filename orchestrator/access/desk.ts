import { OrchestratorError } from '../../common/errors.ts'
import type { Backend } from '../backends/backend.ts'
import { checkTargets } from '../backends/checks.ts'
import type { Guards } from '../backends/guarded.ts'
import type { Circuit } from '../domain/circuit.ts'
import type { CredentialFields, CredentialInfo } from '../domain/credential.ts'
import type { HostName, Target } from '../domain/host.ts'
import type { Instance } from '../domain/instance.ts'
import type { BackendReport, BackendStanding, TargetReport, TargetStanding } from '../domain/standing.ts'
import type { Store } from '../store/store.ts'
import { type Credentials, checkFields, noCredential, without } from './credentials.ts'

/** Backends and what lets them in, for operators. */
export interface Desk {
  readonly backends: {
    all(): Promise<readonly BackendStanding[]>
    /** @throws OrchestratorError `not-found` */
    check(name: string, signal: AbortSignal): Promise<BackendReport>
  }
  readonly credentials: Pick<Credentials, 'all' | 'remove'> & {
    /**
     * @param tested only if every backend that uses it answers with it
     * @throws InvalidInput; OrchestratorError `credential-unused`, `credential-test-failed`, and nothing is changed then
     */
    set(name: string, fields: CredentialFields, tested: boolean, signal: AbortSignal): Promise<CredentialInfo>
    /** Checks every backend that uses it, as if it were new to it. @throws OrchestratorError `not-found`, `credential-unused` */
    test(name: string, signal: AbortSignal): Promise<readonly BackendReport[]>
  }
}

export interface DeskOptions {
  readonly store: Pick<Store, 'hosts' | 'instances'>
  readonly backends: ReadonlyMap<string, Backend>
  /** What a backend is: `docker`, a kind, or the name of a package. */
  readonly kindOf: (backend: string) => string
  readonly guards: Pick<Guards, 'circuit'>
  readonly credentials: Credentials
  /** Makes a backend of the settings once more, which is given these fields in the place of that stored credential. */
  readonly another: (backend: string, credential: string, fields: CredentialFields) => Promise<Backend>
}

export function createDesk(options: DeskOptions): Desk {
  const { store, backends, credentials } = options
  return {
    backends: {
      async all() {
        const [hosts, living] = [await store.hosts(), await store.instances({ live: true })]
        return [...backends.values()].map((backend) => {
          const mine = living.filter((instance) => instance.backend === backend.name)
          const targets: readonly TargetStanding[] =
            backend.targets?.().map((name) => standing(name, options.guards.circuit(backend.name, name), mine)) ??
            hosts.map(({ name, connected, seenAt }) => ({
              ...{ name, state: connected ? 'answers' : 'away', since: connected ? null : seenAt, tryAt: null },
              instances: on(name, mine),
            }))
          return { name: backend.name, kind: options.kindOf(backend.name), targets, instances: mine.length }
        })
      },
      async check(name, signal) {
        const backend = backends.get(name)
        if (backend === undefined) throw noBackend(name, backends)
        return { backend: name, targets: await checkTargets(backend, await targetsOf(backend, store), signal) }
      },
    },
    credentials: {
      all: () => credentials.all(),
      remove: (name, how) => credentials.remove(name, how),
      async set(name, fields, tested, signal) {
        checkFields(name, fields)
        if (tested) refuseFailed(name, await tried(options, name, fields, signal))
        return await credentials.put(name, fields)
      },
      async test(name, signal) {
        const fields = await credentials.open(name)
        if (fields === null) throw noCredential(name)
        return await tried(options, name, fields, signal)
      },
    },
  }
}

/** How each backend that uses a credential answers with these fields. */
async function tried(
  { store, backends, credentials, another }: DeskOptions,
  name: string,
  fields: CredentialFields,
  signal: AbortSignal,
): Promise<readonly BackendReport[]> {
  const users = credentials.usersOf(name).filter((user) => backends.has(user))
  if (users.length === 0) {
    throw new OrchestratorError(
      'credential-unused',
      `no backend uses credential ${name}, so there is nothing to test it with: name it in the settings of one first`,
    )
  }
  return await Promise.all(
    users.map(async (user) => {
      const backend = await another(user, name, fields)
      try {
        const reports = await checkTargets(backend, await targetsOf(backend, store), signal)
        return { backend: user, targets: reports.map((report) => cleaned(report, fields)) }
      } finally {
        await backend.close()
      }
    }),
  )
}

/** @throws OrchestratorError `credential-test-failed` */
function refuseFailed(name: string, reports: readonly BackendReport[]): void {
  const failures = reports.flatMap(({ backend, targets }) =>
    targets.flatMap(({ target, error }) => (error === null ? [] : [`${backend} at ${target}: ${error.message}`])),
  )
  const asked = reports.some(({ targets }) => targets.length > 0)
  if (asked && failures.length === 0) return
  const why = asked ? failures.join('; ') : 'there is no target to ask'
  throw new OrchestratorError('credential-test-failed', `credential ${name} was not set, as its test failed: ${why}`)
}

/** Without whatever a target quotes of what it was sent. */
function cleaned(report: TargetReport, fields: CredentialFields): TargetReport {
  const { error } = report
  return error === null ? report : { ...report, error: { ...error, message: without(fields, error.message) } }
}

async function targetsOf(backend: Backend, store: Pick<Store, 'hosts'>): Promise<readonly Target[]> {
  return backend.targets?.().map((name) => ({ name })) ?? (await store.hosts())
}

function noBackend(name: string, backends: ReadonlyMap<string, Backend>): OrchestratorError {
  const known = [...backends.keys()].join(', ')
  return new OrchestratorError(
    'not-found',
    `there is no backend ${JSON.stringify(name.slice(0, 64))}; there is ${known}`,
  )
}

function standing(name: HostName, circuit: Circuit, mine: readonly Instance[]): TargetStanding {
  const instances = on(name, mine)
  switch (circuit.state) {
    case 'closed':
      return { name, state: 'answers', since: null, tryAt: null, instances }
    case 'half-open':
      return { name, state: 'trying', since: circuit.since, tryAt: null, instances }
    case 'open':
      return { name, state: 'away', since: circuit.since, tryAt: circuit.until, instances }
  }
}

function on(target: HostName, instances: readonly Instance[]): number {
  return instances.filter(({ host }) => host === target).length
}
