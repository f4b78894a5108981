import type { Clock } from '../../common/clock.ts'
import { HostUnreachable, wording } from '../../common/errors.ts'
import { type CallOutcome, CIRCUIT_LIMITS, type Circuit, CLOSED, enter, leave, type Pass } from '../domain/circuit.ts'
import type { HostName } from '../domain/host.ts'
import type { Observed } from '../domain/instance.ts'
import type { Price } from '../domain/price.ts'
import type { Backend, LogOptions } from './backend.ts'
import type { CallMetrics } from './call-metrics.ts'
import { veiled } from './veiled.ts'

/** The calls of a backend that go to a target. */
export type Call = 'list' | 'ensure' | 'remove' | 'watch' | 'prepare' | 'logs' | 'check'

/** A million an hour, of whatever currency: sums of such prices stay exact. */
const MOST_PER_HOUR = 1_000_000
/** Calls that take as long as whoever asks wants them to. */
const LASTING: ReadonlySet<Call> = new Set(['watch', 'logs'])

export interface GuardOptions {
  readonly clock: Clock
  readonly metrics: CallMetrics
  /** Told when a target no longer answers (`why`), and when it does again (null). */
  readonly changed: (backend: string, target: HostName, why: string | null) => void
  /** What a backend says, without the credentials that it was given; absent: as it is. */
  readonly show?: (backend: string, said: string) => string
}

/** Stands before all backends: counts their calls, and lets nobody wait for targets that do not answer. */
export interface Guards {
  /**
   * The same backend, guarded; methods that it does not have stay absent. While a target's circuit is open its calls reject
   * at once with HostUnreachable, whose `retryAfterMs` says when it is tried again; only `check` always goes there. The
   * hosts that run unionize tell by their connections whether they are there, so a backend without `targets` has no circuits.
   */
  guard(backend: Backend): Backend
  circuit(backend: string, target: HostName): Circuit
}

export function createGuards(options: GuardOptions): Guards {
  const circuits = new Map<string, Circuit>()
  const keyOf = (backend: string, target: HostName) => `${backend}/${target}`
  return {
    guard(backend) {
      const key = (target: HostName) => keyOf(backend.name, target)
      const seen: Seen = {
        circuit: (target) => circuits.get(key(target)) ?? CLOSED,
        note(target, circuit, why) {
          const before = circuits.get(key(target)) ?? CLOSED
          circuits.set(key(target), circuit)
          if ((before.state === 'closed') === (circuit.state === 'closed')) return
          const away = circuit.state !== 'closed'
          options.metrics.away(backend.name, target, away)
          options.changed(backend.name, target, away ? wording(why, 500) : null)
        },
      }
      return guarded(backend, { ...options, seen: backend.targets === undefined ? null : seen })
    },
    circuit: (backend, target) => circuits.get(keyOf(backend, target)) ?? CLOSED,
  }
}

/** What is known of a backend's targets. */
interface Seen {
  circuit(target: HostName): Circuit
  /** @param why what the last call said */
  note(target: HostName, circuit: Circuit, why: unknown): void
}

interface Guarding extends GuardOptions {
  /** null: nothing is known beforehand, all calls go there. */
  readonly seen: Seen | null
}

function guarded(backend: Backend, guarding: Guarding): Backend {
  const through = <T>(call: Call, target: HostName, signal: AbortSignal, work: (heard: () => void) => Promise<T>) =>
    asked(guarding, { backend: backend.name, call, target }, signal, work)
  const { targets, place, price, watch, prepare, logs, check } = backend
  const show = shown(guarding, backend.name)
  const seen = (observed: Observed): Observed =>
    observed.detail === undefined ? observed : { ...observed, detail: show(observed.detail) }
  return {
    name: backend.name,
    ...(targets && { targets: () => targets.call(backend) }),
    ...(place && { place: (template, load) => place.call(backend, template, load) }),
    checkTemplate: (template) => backend.checkTemplate(template),
    ...(price && { price: (template) => priced(guarding, backend.name, () => price.call(backend, template)) }),
    list: (target, signal) =>
      through('list', target.name, signal, async () => (await backend.list(target, signal)).map(seen)),
    ensure: (order, target, signal) =>
      through('ensure', target.name, signal, async () => seen(await backend.ensure(order, target, signal))),
    remove: (instance, target, signal) =>
      through('remove', target.name, signal, () => backend.remove(instance, target, signal)),
    ...(watch && {
      watch: (target, tell, signal) =>
        through('watch', target.name, signal, (heard) => {
          const told: typeof tell = (observed) => {
            heard()
            tell(seen(observed))
          }
          return watch.call(backend, target, told, signal)
        }),
    }),
    ...(prepare && {
      prepare: (target, images, signal) =>
        through('prepare', target.name, signal, () => prepare.call(backend, target, images, signal)),
    }),
    ...(logs && {
      logs: (id, target, wanted: LogOptions, signal) =>
        printed(guarding, { backend: backend.name, call: 'logs', target: target.name }, signal, () =>
          logs.call(backend, id, target, wanted, signal),
        ),
    }),
    ...(check && {
      check: (target, signal) =>
        through('check', target.name, signal, async () => {
          const { version, abilities, missing } = await check.call(backend, target, signal)
          return { version: show(version), abilities: abilities.map(show), missing: missing.map(show) }
        }),
    }),
    close: () => backend.close(),
  }
}

/** The price that a backend tells; what is none is not known, and counted: whoever takes leases in must not fail by it. */
function priced({ metrics }: Guarding, backend: string, ask: () => Price | null): Price | null {
  try {
    const price = ask()
    if (price === null || (price.perHour >= 0 && price.perHour <= MOST_PER_HOUR && /^[A-Z]{3}$/.test(price.currency))) {
      return price
    }
  } catch {
    // Told by the counter below, and to whoever asks for an instance under a limit.
  }
  metrics.call({ backend, call: 'price', target: '', outcome: 'failed' }, 0)
  return null
}

interface Asked {
  readonly backend: string
  readonly call: Call
  readonly target: HostName
}

/** One call. `work` is told how to say that something was heard before its end. */
async function asked<T>(
  guarding: Guarding,
  what: Asked,
  signal: AbortSignal,
  work: (heard: () => void) => Promise<T>,
): Promise<T> {
  const end = begin(guarding, what, signal)
  try {
    const answer = await work(() => end.heard())
    // A stream that ends without an error was ended by whoever had asked.
    end.over(LASTING.has(what.call) ? 'unclear' : 'answered', 'ok', null)
    return answer
  } catch (thrown) {
    const error = veiled(thrown, shown(guarding, what.backend))
    end.failed(error)
    throw error
  }
}

function shown({ show }: Guarding, backend: string): (said: string) => string {
  return (said) => show?.(backend, said) ?? said
}

/** The same for output that comes in parts. */
async function* printed(
  guarding: Guarding,
  what: Asked,
  signal: AbortSignal,
  work: () => AsyncIterable<string>,
): AsyncIterable<string> {
  const end = begin(guarding, what, signal)
  let how: 'ok' | 'failed' = 'ok'
  try {
    for await (const part of work()) {
      end.heard()
      yield part
    }
  } catch (thrown) {
    const error = veiled(thrown, shown(guarding, what.backend))
    how = 'failed'
    end.failed(error)
    throw error
  } finally {
    if (how === 'ok') end.over('unclear', 'ok', null)
  }
}

/** Lets a call in, and notes how it goes. @throws HostUnreachable when its target is known not to answer */
function begin({ seen, clock, metrics }: Guarding, { backend, call, target }: Asked, signal: AbortSignal) {
  const pass = seen === null || call === 'check' ? 'asked' : admitted(seen, call, target, clock.now())
  if (pass === null) {
    metrics.call({ backend, call, target, outcome: 'refused' }, 0)
    throw awayUntil(target, seen?.circuit(target) ?? CLOSED, clock.now())
  }
  const begun = performance.now()
  const note = (outcome: CallOutcome, why: unknown) => {
    const next = seen === null ? null : leave(seen.circuit(target), pass, outcome, CIRCUIT_LIMITS, clock.now())
    if (next !== null) seen?.note(target, next, why)
  }
  const over = (outcome: CallOutcome, counted: 'ok' | 'failed' | 'unreachable' | 'ended', why: unknown) => {
    metrics.call({ backend, call, target, outcome: counted }, (performance.now() - begun) / 1000)
    note(outcome, why)
  }
  return {
    over,
    heard: () => note('answered', null),
    failed(error: unknown) {
      if (error instanceof HostUnreachable || isTimeout(signal)) over('unreachable', 'unreachable', error)
      else if (signal.aborted) over('unclear', 'ended', error)
      else over('answered', 'failed', error)
    },
  }
}

function admitted(seen: Seen, call: Call, target: HostName, now: number): Pass | null {
  const { pass, circuit } = enter(seen.circuit(target), LASTING.has(call), now)
  seen.note(target, circuit, null)
  return pass
}

/** Whoever asked waited for as long as it was willing to. */
function isTimeout({ aborted, reason }: AbortSignal): boolean {
  return aborted && reason instanceof Error && reason.name === 'TimeoutError'
}

/** The words stay the same for as long as it is away: they are told once. */
function awayUntil(target: HostName, circuit: Circuit, now: number): HostUnreachable {
  if (circuit.state === 'closed') return new HostUnreachable(target, 'it does not answer')
  const since = new Date(circuit.since).toISOString()
  return new HostUnreachable(target, `it has not answered since ${since}, so it is not asked each time`, {
    retryAfterMs: circuit.state === 'open' ? Math.max(0, circuit.until - now) : undefined,
  })
}
