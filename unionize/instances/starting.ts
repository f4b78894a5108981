import type { WireService } from '../contract.ts'
import type { Health } from '../engine/answers.ts'

/** One service of an instance as it stands. Times are epoch ms; null: it never was, or nobody looked. */
export interface ServiceState {
  readonly id: string
  readonly running: boolean
  /** Of its last end; null: it runs, never ran, or did not end by itself. */
  readonly exitCode: number | null
  readonly health: Health
  /** What its last health check said. */
  readonly healthOutput: string
  readonly startedAt: number | null
  readonly finishedAt: number | null
}
export type ServiceStates = ReadonlyMap<string, ServiceState>

/** Why a service is not started yet. */
export interface Waiting {
  /** A sentence. */
  readonly why: string
  /** `failed`: what is waited for failed, and is started again; `never`: it failed and stays so. */
  readonly state: 'patience' | 'failed' | 'never'
}

/** What is to be done to a service. */
export type Step = { readonly kind: 'none' | 'start' | 'restart' } | ({ readonly kind: 'wait' } & Waiting)

type Dependency = WireService['dependsOn'][number]

/** Characters of what a health check said. */
const OUTPUT_CHARACTERS = 300
/** Words that a wait ends with. */
const WANTED = { started: 'run', healthy: 'be healthy', completed: 'end with success' } as const

/** Whether a service that ended is to stay so: that is no fault of the instance. */
export function staysEnded(service: WireService, exitCode: number | null): boolean {
  if (exitCode === null) return false
  return service.restart === 'no' || (service.restart === 'on-failure' && exitCode === 0)
}

/**
 * The next step for one service, from how all of them stand alone: asked again at any time, after any crash, it goes on
 * from there.
 * @param held whether it died and its time to be started again has not come
 */
export function nextStep(
  service: WireService,
  services: readonly WireService[],
  states: ServiceStates,
  held: (name: string) => boolean,
): Step {
  const state = states.get(service.name)
  if (state === undefined) return { kind: 'none' }
  const stale = service.dependsOn.some((dependency) => isOutdated(state, dependency, states))
  if (!stale && (state.running || staysEnded(service, state.exitCode))) return { kind: 'none' }
  if (!state.running && state.exitCode !== null && held(service.name)) {
    const why = `service ${service.name} ended with exit code ${state.exitCode}; it is started again soon`
    return { kind: 'wait', why, state: 'failed' }
  }
  const waiting = service.dependsOn.flatMap((dependency) => {
    const other = services.find(({ name }) => name === dependency.service)
    return other === undefined ? [] : (waitFor(service.name, state, dependency, other, states, held) ?? [])
  })
  const worst = ['never', 'failed', 'patience'].flatMap((one) => waiting.filter((wait) => wait.state === one))[0]
  if (worst) return { kind: 'wait', ...worst }
  return { kind: state.running ? 'restart' : 'start' }
}

/** Whether a service is to be started again because what it depends on was: it runs, or was stopped for that. */
function isOutdated(state: ServiceState, { service, restart }: Dependency, states: ServiceStates): boolean {
  const started = states.get(service)?.startedAt ?? null
  if (!restart || started === null || state.startedAt === null || started <= state.startedAt) return false
  return state.running || (state.finishedAt ?? 0) >= started
}

/** Why `name` has to wait for another one; null: it has not. */
function waitFor(
  name: string,
  state: ServiceState,
  { service, condition }: Dependency,
  other: WireService,
  states: ServiceStates,
  held: (name: string) => boolean,
): Waiting | null {
  const found = states.get(service)
  const wait = (more: string, end: Waiting['state'] = 'patience'): Waiting => ({
    why: `service ${name} waits for ${service} to ${WANTED[condition]}${more === '' ? '' : `: ${more}`}`,
    state: end,
  })
  if (found === undefined) return wait('it is missing')
  const { running, exitCode } = found
  const ended = `it ended with exit code ${exitCode}`
  const stays = staysEnded(other, exitCode)
  // One that is started again at once, or waits for others itself, has not failed.
  const failed = stays ? 'never' : held(service) ? 'failed' : 'patience'
  if (condition === 'completed') {
    if (running || exitCode === null) return wait('')
    return exitCode === 0 ? null : wait(ended, failed)
  }
  if (!running) {
    if (exitCode === null) return wait('')
    return condition === 'started' && stays ? null : wait(ended, failed)
  }
  if (condition === 'started' || hasMet(state, found)) return null
  if (found.health === 'healthy') return null
  if (found.health === 'none') return wait('it has no health check; give it one', 'never')
  const said = lastWords(found.healthOutput)
  return wait(`it is ${found.health}${said === '' ? '' : `; its check said: ${said}`}`, ends(found.health))
}

const ends = (health: Health): Waiting['state'] => (health === 'unhealthy' ? 'failed' : 'patience')

/** A condition that was met once holds for that run of what was waited for: a service that dies is not held down by it. */
function hasMet(state: ServiceState, other: ServiceState): boolean {
  return state.startedAt !== null && other.startedAt !== null && state.startedAt > other.startedAt
}

/** The end of what a health check said, on one line. */
export function lastWords(output: string): string {
  const line = output.replace(/[\s\p{Cc}]+/gu, ' ').trim()
  return line.length > OUTPUT_CHARACTERS ? `…${line.slice(1 - OUTPUT_CHARACTERS)}` : line
}
