import type { Clock } from '../../common/clock.ts'
import type { Store } from '../store/store.ts'

/** Milliseconds between two looks at the newest event while someone waits; nobody looks otherwise. */
const LOOK_EVERY_MS = 300

/** Tells readers of events that there are newer ones, whoever wrote them: one look at the store serves all readers. */
export class EventFeed {
  readonly #store: Store
  readonly #clock: Clock
  readonly #waiting = new Map<(error?: unknown) => void, number>()
  #looking = false

  constructor(store: Store, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Resolves when an event after `id` is stored. @throws the signal's reason, or the store's failure */
  async after(id: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: unknown) => {
        this.#waiting.delete(settle)
        signal.removeEventListener('abort', abort)
        if (error === undefined) resolve()
        else reject(error)
      }
      const abort = () => settle(signal.reason)
      signal.addEventListener('abort', abort, { once: true })
      this.#waiting.set(settle, id)
      void this.#look()
    })
  }

  async #look(): Promise<void> {
    if (this.#looking) return
    this.#looking = true
    try {
      while (this.#waiting.size > 0) {
        const [newest] = await this.#store.events({ limit: 1 })
        for (const [settle, id] of [...this.#waiting]) if (newest !== undefined && newest.id > id) settle()
        if (this.#waiting.size > 0) await this.#clock.wait(LOOK_EVERY_MS)
      }
    } catch (error) {
      for (const settle of [...this.#waiting.keys()]) settle(error)
    } finally {
      this.#looking = false
    }
  }
}
