import { readdirSync } from 'node:fs'
import { wording } from '../../../common/errors.ts'
import type { Interfaces } from '../interfaces/interfaces.ts'
import { type LinkWatcher, watchLinks } from '../kernel/monitor.ts'
import { rejoining } from '../rejoin.ts'
import { Lane } from '../threads/lane.ts'
import { OwnThread } from '../threads/own-thread.ts'
import { type WiringLog, wiringOver } from '../wiring.ts'
import type { Hosted } from './calls.ts'
import { serveWiring } from './server.ts'

/** The wiring process as it runs. */
export interface WiringService {
  /** Lets the calls under way end, then hangs up. Nothing in the kernel changes. */
  stop(): Promise<void>
}

/**
 * The part of unionize that touches network namespaces, rtnetlink and the firewall, and that alone holds the capabilities
 * for it: a fault in native code ends this process and nothing else. It knows no orchestrator and no lease; clients tell it
 * what to do over a socket, see remote.ts. It keeps nothing that cannot be lost: the kernel has the state, and what is
 * needed for keeping and undoing declared wirings is on disk.
 * @throws WiringError `already-running`
 */
export async function startWiringService(options: {
  /** Path of the unix socket to listen on. */
  readonly socket: string
  /** Where declared wirings and what is needed to undo them are kept. */
  readonly directory: string
  /** Socket of the Docker engine; asked only while there are declared wirings. */
  readonly dockerSocket: string
  readonly version: string
  readonly log: WiringLog
}): Promise<WiringService> {
  const { log } = options
  const quick = new OwnThread(log)
  // Only the instances' bridge matters there; every instance that comes or goes would wake it some ten times.
  const watchBridges = (watcher: LinkWatcher) => watchLinks(watcher, { bridgesOnly: true })
  const wiring = rejoining(wiringOver({ quick, slow: new Lane('slow', log) }), {
    kernel: quick,
    watchLinks: watchBridges,
    log,
  })
  let opened: Promise<Interfaces> | null = null
  const interfaces = (): Promise<Interfaces> => {
    // Only when there is need: a host without declared wirings carries neither their code nor their threads.
    opened ??= import('../lasting/lasting.ts').then(({ openLasting }) => openLasting(options))
    // One that could not be opened is tried again by the next call.
    opened.catch(() => {
      opened = null
    })
    return opened
  }
  const hosted: Hosted = { wiring, interfaces }
  const server = await serveWiring({ socket: options.socket, version: options.version, hosted, log })
  if (hasDeclared(options.directory)) {
    interfaces().catch((error) => log('error', 'declared wirings are not looked after', { error: wording(error) }))
  }
  return {
    async stop() {
      await server.close()
      await wiring.stop()
      await (await opened?.catch(() => null))?.stop()
    },
  }
}

/** Whether a former run left declared wirings to look after. */
function hasDeclared(directory: string): boolean {
  try {
    return readdirSync(directory).some((name) => name.endsWith('.json'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}
