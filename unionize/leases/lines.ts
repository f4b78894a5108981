/** A line without its LF. `end`: offset of the byte after its LF. */
export interface Line {
  /** All of it, or the beginning of a line that is too long. */
  readonly bytes: Buffer
  readonly tooLong: boolean
  readonly end: number
}

/** Cuts a stream of bytes into lines. Of a line that is too long only the beginning is held in memory. */
export class LineSplitter {
  readonly #most: number
  readonly #keep: number
  #parts: Buffer[] = []
  #held = 0
  #length = 0
  #at: number

  /** @param options `offset`: where the stream begins; `most`: bytes of the longest line; `keep`: bytes kept of a longer one */
  constructor(options: { offset: number; most: number; keep: number }) {
    this.#at = options.offset
    this.#most = options.most
    this.#keep = options.keep
  }

  /** Offset of the next byte to be pushed. */
  get offset(): number {
    return this.#at
  }

  /** Bytes of the line that has begun and not ended. */
  get unfinished(): number {
    return this.#length
  }

  push(chunk: Buffer): Line[] {
    const lines: Line[] = []
    let from = 0
    for (let lf = chunk.indexOf(10); lf >= 0; lf = chunk.indexOf(10, from)) {
      this.#take(chunk.subarray(from, lf))
      lines.push(this.#finish(this.#at + lf + 1))
      from = lf + 1
    }
    this.#take(chunk.subarray(from))
    this.#at += chunk.length
    return lines
  }

  /** Ends the stream: what was begun, or null. */
  end(): Line | null {
    return this.#length === 0 ? null : this.#finish(this.#at)
  }

  #take(part: Buffer): void {
    this.#length += part.length
    const most = this.#length > this.#most ? this.#keep : this.#most
    const room = most - this.#held
    if (room > 0 && part.length > 0) {
      const kept = Buffer.from(part.subarray(0, room))
      this.#parts.push(kept)
      this.#held += kept.length
    }
  }

  #finish(end: number): Line {
    const tooLong = this.#length > this.#most
    const bytes = Buffer.concat(this.#parts)
    this.#parts = []
    this.#held = 0
    this.#length = 0
    return { bytes: tooLong ? bytes.subarray(0, this.#keep) : bytes, tooLong, end }
  }
}
