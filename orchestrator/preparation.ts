import type { Clock } from '../common/clock.ts'
import { wording } from '../common/errors.ts'
import type { Log } from '../common/log.ts'
import type { Backend } from './backends/backend.ts'
import type { WantedImage } from './domain/build.ts'
import type { HostName } from './domain/host.ts'
import type { Store } from './store/store.ts'

/** Makes connected hosts have the images that leases may ask for, before one does. */
export interface Preparation {
  hostConnected(host: HostName): void
  hostDisconnected(host: HostName): void
  /** Other images may be wanted now. */
  changed(): void
  /** An instance is gone, and with it perhaps the last use of an image. Often called: hosts are told at most every 10 s. */
  freed(): void
  stop(): Promise<void>
}

export interface PreparationOptions {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  readonly backends: ReadonlyMap<string, Backend>
  readonly wanted: () => Promise<readonly WantedImage[]>
}

/** Milliseconds after which a host that could not get all images is asked again: a registry may have been away. */
const RETRY_MS = 60_000
/** Milliseconds from an instance's end until it is looked whether fewer images are wanted: many end together. */
const FREED_MS = 10_000

/** The host's connection, and what is being prepared over it. */
interface Connection {
  readonly ended: AbortController
  /** Ends the wait for news. */
  rouse: () => void
  news: boolean
  /** What it was told last that it is to have; null: nothing yet. */
  told: string | null
}

export function startPreparation(options: PreparationOptions): Preparation {
  const { clock, log } = options
  const connections = new Map<HostName, Connection>()
  const work = new Set<Promise<void>>()
  const stopped = new AbortController()
  let looking = false
  const leave = (host: HostName) => {
    connections.get(host)?.ended.abort()
    connections.get(host)?.rouse()
    connections.delete(host)
  }
  const tellNews = (to: readonly Connection[]) => {
    for (const connection of to) {
      connection.news = true
      connection.rouse()
    }
  }
  /** Tells those hosts that were told otherwise. */
  const lookLater = async () => {
    await clock.wait(FREED_MS, stopped.signal)
    // An instance that goes from here on is looked at anew.
    looking = false
    const wanted = JSON.stringify(await options.wanted())
    tellNews([...connections.values()].filter(({ told }) => told !== null && told !== wanted))
  }
  return {
    hostConnected(host) {
      leave(host)
      const connection: Connection = { ended: new AbortController(), rouse: () => {}, news: true, told: null }
      connections.set(host, connection)
      const served = serve(options, host, connection).finally(() => work.delete(served))
      work.add(served)
    },
    hostDisconnected: leave,
    changed: () => tellNews([...connections.values()]),
    freed() {
      if (looking || stopped.signal.aborted) return
      looking = true
      const look = lookLater()
        .catch((error) => {
          if (!stopped.signal.aborted) log.error('host.images-not-looked', wording(error))
        })
        .finally(() => work.delete(look))
      work.add(look)
    },
    async stop() {
      stopped.abort()
      for (const host of [...connections.keys()]) leave(host)
      await Promise.all(work)
    },
  }
}

/** Prepares one host again and again, until its connection ends. Never rejects. */
async function serve(options: PreparationOptions, name: HostName, connection: Connection): Promise<void> {
  const { signal } = connection.ended
  let told = ''
  while (!signal.aborted) {
    connection.news = false
    let fault = ''
    // News in the middle of it: the host goes on with what it fetches, and is told what is wanted now.
    const outdated = new AbortController()
    connection.rouse = () => outdated.abort()
    try {
      await prepare(options, name, connection, AbortSignal.any([signal, outdated.signal]))
    } catch (error) {
      if (signal.aborted) return
      if (outdated.signal.aborted) continue
      fault = wording(error)
    }
    if (fault !== '' && fault !== told) await tell(options, name, fault)
    told = fault
    await untilNews(options.clock, connection, fault === '' ? null : RETRY_MS)
  }
}

async function prepare(
  options: PreparationOptions,
  name: HostName,
  connection: Connection,
  signal: AbortSignal,
): Promise<void> {
  const host = await options.store.host(name)
  if (host === null) return
  const wanted = await options.wanted()
  connection.told = JSON.stringify(wanted)
  for (const backend of options.backends.values()) {
    if (backend.targets === undefined) await backend.prepare?.(host, wanted, signal)
  }
}

/** @param mostMs milliseconds to wait at most; null: however long it takes */
async function untilNews(clock: Clock, connection: Connection, mostMs: number | null): Promise<void> {
  if (connection.news || connection.ended.signal.aborted) return
  const roused = new AbortController()
  const news = new Promise<void>((resolve) => {
    connection.rouse = () => {
      roused.abort()
      resolve()
    }
  })
  await (mostMs === null ? news : clock.wait(mostMs, roused.signal).catch(() => {}))
}

async function tell({ store, clock, log }: PreparationOptions, host: HostName, fault: string): Promise<void> {
  const message = `host ${host} lacks images that leases may ask for: ${fault}`
  log.warn('host.images-missing', message, { host })
  const event = { level: 'warning', kind: 'host.images-missing', message, host } as const
  await store.appendEvent(event, clock.now()).catch((error) => log.error('host.images-missing', wording(error)))
}
