/** Work of one host waiting for its turn: kept in order, taken one at a time, with a word when there is too much of it. */
export class Inbox<T> {
  readonly #items: T[] = []
  readonly #marks: { readonly high: number; readonly low: number; full(): void; spare(): void }
  #wake: (() => void) | null = null
  #ended = false
  #full = false

  /** `full` is called when `high` items wait, `spare` when it is down to `low` again. */
  constructor(marks: { high: number; low: number; full(): void; spare(): void }) {
    this.#marks = marks
  }

  /** Adds to the end; after {@link end} it is dropped. */
  push(item: T): void {
    if (this.#ended) return
    this.#items.push(item)
    if (!this.#full && this.#items.length >= this.#marks.high) {
      this.#full = true
      this.#marks.full()
    }
    this.#wake?.()
  }

  /** No more comes, and what still waits is dropped: whoever sent it sends it again. */
  end(): void {
    this.#ended = true
    this.#items.length = 0
    this.#wake?.()
  }

  /** The next item; null after {@link end}. For one taker. */
  async take(): Promise<T | null> {
    while (this.#items.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = null
    }
    const item = this.#items.shift()
    if (item === undefined) return null
    if (this.#full && this.#items.length <= this.#marks.low) {
      this.#full = false
      this.#marks.spare()
    }
    return item
  }
}
