import { join } from 'node:path'
import { dockerEngine } from '../../engine/containers.ts'
import { startDhcp } from '../dhcp/dhcp.ts'
import type { Interfaces } from '../interfaces/interfaces.ts'
import { startInterfaces } from '../interfaces/start.ts'
import { watchLinks } from '../kernel/monitor.ts'
import type { WiringLog } from '../wiring.ts'
import { watchExits } from './exits.ts'
import { startKeeper } from './keeper.ts'
import { followContainers, whereaboutsOf } from './whereabouts.ts'

/**
 * Declared wirings that last, put together for the wiring process: the engine, its keeper, DHCP clients, and the events
 * that the keeper lives on.
 */
export async function openLasting(options: {
  /** Where declared wirings and what is needed to undo them are kept. */
  readonly directory: string
  /** Socket of the Docker engine, which tells of containers that restart. It may be away. */
  readonly dockerSocket: string
  readonly log: WiringLog
}): Promise<Interfaces> {
  const { directory, log } = options
  const docker = dockerEngine(options.dockerSocket)
  const exits = watchExits(log)
  const keeper = startKeeper({
    interfaces: startInterfaces({ directory, log }),
    dhcp: await startDhcp({ directory: join(directory, 'dhcp'), log, exits }),
    exits,
    whereabouts: (wired) => whereaboutsOf(wired, docker),
    watchLinks,
    log,
  })
  // What happened while no wiring process was there; the engine, which tells the rest, may be away or not exist at all.
  keeper.look()
  const following = new AbortController()
  const followed = followContainers({ engine: docker, look: keeper.look, log, signal: following.signal })
  return {
    ...keeper,
    async stop() {
      following.abort(new Error('the wiring process is stopping'))
      await followed
      await keeper.stop()
      await exits.stop()
    },
  }
}
