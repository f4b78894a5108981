import type { Registry } from '@prometheus-io/client'
import type { Clock } from '../../common/clock.ts'
import { wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import type { Backend, BackendContext } from '../backends/backend.ts'
import { callMetrics } from '../backends/call-metrics.ts'
import { createGuards, type Guards } from '../backends/guarded.ts'
import { type BackendsSetting, type KindTable, loadBackends } from '../backends/load.ts'
import type { HostName } from '../domain/host.ts'
import type { Seal } from '../pki/seal.ts'
import type { Store } from '../store/store.ts'
import { type Credentials, createCredentials } from './credentials.ts'
import { createDesk, type Desk } from './desk.ts'
import { createVeil, type Veil } from './veil.ts'

export interface AccessOptions {
  readonly store: Store
  readonly seal: Seal
  readonly clock: Clock
  readonly log: Log
  readonly registry: Registry
  /** The setting `backends`, and where packages are. */
  readonly setting: BackendsSetting
  readonly packages: string
  readonly kinds: KindTable
  /** Those that are there without a setting. */
  readonly beside: readonly Backend[]
  /** Work may be due now: a target is back, or a backend is let in. */
  readonly wake: () => void
}

/** All backends, guarded, with what lets them in. */
export interface Access {
  readonly backends: ReadonlyMap<string, Backend>
  /** Those of the setting as they were made, unguarded: they may have more than the contract asks for. */
  readonly opened: readonly Backend[]
  readonly desk: Desk
  /** Closes those of the setting. */
  close(): Promise<void>
}

/** Makes all backends. @throws OrchestratorError `backend-unusable` naming what is wrong in the settings */
export async function openAccess(options: AccessOptions): Promise<Access> {
  const { store, seal, clock, setting, kinds, packages } = options
  const backends = new Map<string, Backend>()
  const credentials = createCredentials({
    ...{ store, seal, clock },
    settings: Object.fromEntries(Object.entries(setting).map(([name, { settings }]) => [name, settings])),
    changed: (usedBy) =>
      awaken(
        options,
        usedBy.flatMap((name) => [...(backends.get(name)?.targets?.() ?? [])]),
      ),
  })
  const veil = createVeil()
  const guards = createGuards({
    ...{ clock, metrics: callMetrics(options.registry), show: veil.text },
    changed: (backend, target, why) => targetChanged(options, backend, target, why),
  })
  const contextFor = await contexts(options, credentials, veil)
  const opened = await loadBackends(setting, kinds, contextFor, packages)
  for (const backend of [...options.beside, ...opened]) backends.set(backend.name, guards.guard(backend))
  return {
    ...{ backends, opened },
    desk: deskFor(options, backends, guards, credentials, contextFor),
    async close() {
      for (const backend of opened) await backend.close()
    },
  }
}

/** What backends are given, by their names. */
async function contexts({ store, clock, log }: AccessOptions, credentials: Credentials, veil: Veil) {
  const installation = await store.installation()
  return (name: string): BackendContext => ({
    ...{ name, installation, clock },
    log: veil.log(name, log),
    async credential(asked) {
      const fields = await credentials.openFor(name, asked)
      veil.given(name, asked, fields)
      return fields
    },
    records: {
      all: () => store.backendRecords(name),
      put: (key, value) => store.putBackendRecord(name, key, value),
    },
  })
}

function deskFor(
  { store, setting, kinds, packages }: AccessOptions,
  backends: ReadonlyMap<string, Backend>,
  guards: Guards,
  credentials: Credentials,
  contextFor: (name: string) => BackendContext,
): Desk {
  return createDesk({
    ...{ store, backends, guards, credentials },
    kindOf(name) {
      const given = Object.hasOwn(setting, name) ? setting[name] : undefined
      if (given === undefined) return name
      return 'kind' in given ? given.kind : given.package
    },
    async another(name, credential, fields) {
      const context = contextFor(name)
      // Of its own: what was stored stays veiled, however many others are tried.
      const veil = createVeil()
      veil.given(name, credential, fields)
      const trying: BackendContext = {
        ...context,
        log: veil.log(name, context.log),
        credential: async (asked) => (asked === credential ? fields : await context.credential(asked)),
        // It is there for one check, which changes nothing.
        records: { all: () => context.records.all(), put: async () => {} },
      }
      const own = Object.fromEntries(Object.entries(setting).filter(([one]) => one === name))
      const [backend] = await loadBackends(own, kinds, () => trying, packages)
      if (backend === undefined) throw new TypeError(`backend ${name} is not in the settings`)
      return backend
    },
  })
}

/** Tells operators that a target no longer answers, or does again. */
function targetChanged(options: AccessOptions, backend: string, target: HostName, why: string | null): void {
  const { store, clock, log } = options
  const away = why !== null
  const kind = away ? 'target.away' : 'target.back'
  const message = away
    ? `${target} of backend ${backend} does not answer: ${why}`
    : `${target} of backend ${backend} answers again`
  log[away ? 'warn' : 'info'](kind, message, { backend, host: target })
  store
    .appendEvent({ level: away ? 'warning' : 'info', kind, message, host: target }, clock.now())
    .catch((error) => log.error('event.not-stored', wording(error)))
  if (!away) awaken(options, [target])
}

/** What failed at these targets is tried again now. */
function awaken({ store, clock, log, wake }: AccessOptions, targets: readonly HostName[]): void {
  Promise.all(targets.map((target) => store.wakeHost(target, clock.now())))
    .then(wake)
    .catch((error) => log.error('targets.not-woken', wording(error)))
}
