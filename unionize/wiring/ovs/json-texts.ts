const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPENING = new Set([0x7b, 0x5b])
const CLOSING = new Set([0x7d, 0x5d])

/**
 * Finds where JSON objects and arrays end that follow one another in a stream with nothing or white space between them, as
 * RFC 7047 has them (4). Bytes may come in any pieces: all that counts is ASCII, which no other UTF-8 character contains.
 */
export class JsonTexts {
  #pieces: Buffer[] = []
  #depth = 0
  #quoted = false
  #escaped = false

  /** Takes the next bytes. @returns the values that are complete now @throws SyntaxError when they are not JSON */
  take(bytes: Buffer): unknown[] {
    const values: unknown[] = []
    let begin = 0
    for (const [i, byte] of bytes.entries()) {
      if (!this.#ends(byte)) continue
      const text = Buffer.concat([...this.#pieces, bytes.subarray(begin, i + 1)]).toString()
      this.#pieces = []
      begin = i + 1
      values.push(JSON.parse(text))
    }
    if (begin < bytes.length) this.#pieces.push(bytes.subarray(begin))
    return values
  }

  /** Whether an outermost value ends with this byte. */
  #ends(byte: number): boolean {
    if (this.#escaped) this.#escaped = false
    else if (this.#quoted && byte === BACKSLASH) this.#escaped = true
    else if (byte === QUOTE) this.#quoted = !this.#quoted
    else if (!this.#quoted && OPENING.has(byte)) this.#depth++
    else if (!this.#quoted && CLOSING.has(byte)) return --this.#depth === 0
    return false
  }
}
