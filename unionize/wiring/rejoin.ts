import { wording } from '../../common/errors.ts'
import type { LinkWatch, LinkWatcher } from './kernel/monitor.ts'
import { createRepairDelay } from './lasting/repair-delay.ts'
import type { Caller } from './threads/protocol.ts'
import type { HostNetwork, Wiring, WiringLog } from './wiring.ts'

/** Milliseconds that events gather: a bridge that is made anew gets its MAC, its address and its state one by one. */
const GATHER_MS = 50

/**
 * The same wiring; when the instances' bridge is deleted and made anew, every link of ours that was a port of it becomes
 * one again with its settings, and every address behind it a neighbour. Which those are the kernel alone tells, so it does
 * not matter who attached them, nor whether that was before this process began.
 */
export function rejoining(
  wiring: Wiring,
  options: {
    /** Who carries out the wiring's calls. */
    readonly kernel: Pick<Caller, 'call'>
    readonly watchLinks: (watcher: LinkWatcher) => LinkWatch
    readonly log: WiringLog
  },
): Wiring {
  const { kernel, log } = options
  const delays = createRepairDelay(Date.now)
  let network: HostNetwork | null = null
  let missing = false
  let timer: NodeJS.Timeout | null = null
  let rejoined: Promise<void> = Promise.resolve()
  let stopped = false

  const later = (inMs: number): void => {
    if (timer !== null || stopped) return
    timer = setTimeout(() => {
      timer = null
      rejoined = rejoined.then(rejoin)
    }, inMs)
  }
  const rejoin = async (): Promise<void> => {
    const present = network
    if (present === null || stopped) return
    try {
      await wiring.prepare(present)
      const { found: strays, unknown } = await kernel.call('strays', {})
      if (unknown.length > 0)
        log('warn', 'links without a bridge lead to no process that can be found', { links: unknown })
      const lost = new Map<string, string>()
      for (const stray of strays) {
        await kernel.call('rejoin', stray).catch((error) => lost.set(stray.link, wording(error)))
      }
      if (strays.length > 0) {
        log('warn', `${present.bridge} was made anew: its ports and neighbours are back`, {
          links: strays.length - lost.size,
        })
      }
      if (lost.size === 0) delays.forget('')
      else {
        const inMs = delays.next('')
        log('warn', 'links could not be made ports again', { links: Object.fromEntries(lost), againInMs: inMs })
        later(inMs)
      }
    } catch (error) {
      const inMs = delays.next('')
      log('warn', `${present.bridge} is not ready`, { error: wording(error), againInMs: inMs })
      later(inMs)
    }
  }
  const links = options.watchLinks({
    onChange: (changes) => {
      for (const { gone, link } of changes) {
        if (link.name !== network?.bridge) continue
        if (!gone && missing) later(GATHER_MS)
        missing = gone
      }
    },
    onLost: () => later(GATHER_MS),
  })
  // What happened before is told by nobody.
  void links.ready.then(() => later(0))

  return {
    ...wiring,
    async prepare(given) {
      await wiring.prepare(given)
      network = given
      // It may have been made anew while nobody watched.
      later(0)
    },
    async teardown() {
      network = null
      await wiring.teardown()
    },
    async stop() {
      stopped = true
      if (timer !== null) clearTimeout(timer)
      await links.stop()
      await rejoined
      await wiring.stop()
    },
  }
}
