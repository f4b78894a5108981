import { wording } from '../../common/errors.ts'
import { parsePlacement, parseSandbox } from './input.ts'
import type { LinkWatch, LinkWatcher } from './kernel/monitor.ts'
import { createRepairDelay } from './repair-delay.ts'
import type { HostNetwork, Placement, SandboxLink, Wiring, WiringLog } from './wiring.ts'

/** Milliseconds that events gather: a bridge that is made anew gets its MAC, its address and its state one by one. */
const GATHER_MS = 50

/**
 * The same wiring; when the instances' bridge is deleted and made anew, every link that was attached through it becomes a
 * port again with its settings, and every address a neighbour, by the same verbs as before. Sandboxes that were attached
 * before this process began are not known here: whoever attached them does so again.
 */
export function rejoining(
  wiring: Wiring,
  options: { readonly watchLinks: (watcher: LinkWatcher) => LinkWatch; readonly log: WiringLog },
): Wiring {
  const { log } = options
  const attached = new Map<string, SandboxLink>()
  const placed = new Map<string, Placement>()
  const delays = createRepairDelay(Date.now)
  let network: HostNetwork | null = null
  let missing = false
  let timer: NodeJS.Timeout | null = null
  let rejoining: Promise<void> = Promise.resolve()
  let stopped = false

  const later = (inMs: number): void => {
    if (timer !== null || stopped) return
    timer = setTimeout(() => {
      timer = null
      rejoining = rejoining.then(rejoin)
    }, inMs)
  }
  const rejoin = async (): Promise<void> => {
    if (network === null || stopped) return
    try {
      await wiring.prepare(network)
      for (const [link, sandbox] of attached) {
        await wiring.attach(sandbox).catch((error) => tellLost(link, error))
        const placement = placed.get(link)
        // Who may reach it has not changed, and may have been told by `open` since.
        if (placement) await wiring.place({ ...placement, owner: null }).catch((error) => tellLost(link, error))
      }
      delays.forget('')
      log('warn', `${network.bridge} was made anew: its ports and neighbours are back`, { links: attached.size })
    } catch (error) {
      const inMs = delays.next('')
      log('warn', `${network.bridge} was made anew but is not ready`, { error: wording(error), againInMs: inMs })
      later(inMs)
    }
  }
  const tellLost = (link: string, error: unknown): void => {
    log('warn', 'a link could not be made a port again', { link, error: wording(error) })
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

  return {
    ...wiring,
    async prepare(given) {
      await wiring.prepare(given)
      network = given
    },
    async attach(sandbox) {
      const parsed = parseSandbox(sandbox)
      attached.set(parsed.link, parsed)
      await wiring.attach(parsed)
    },
    async place(placement) {
      const parsed = parsePlacement(placement)
      placed.set(parsed.link, parsed)
      await wiring.place(parsed)
    },
    async unplace(placement) {
      const parsed = parsePlacement(placement)
      placed.delete(parsed.link)
      await wiring.unplace(parsed)
    },
    async detach(link) {
      attached.delete(link)
      placed.delete(link)
      await wiring.detach(link)
    },
    async teardown() {
      network = null
      attached.clear()
      placed.clear()
      await wiring.teardown()
    },
    async stop() {
      stopped = true
      if (timer !== null) clearTimeout(timer)
      await links.stop()
      await rejoining
      await wiring.stop()
    },
  }
}
