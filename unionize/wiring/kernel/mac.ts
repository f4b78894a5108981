/** The six bytes of `aa:bb:cc:dd:ee:ff`. */
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

/** `aa:bb:cc:dd:ee:ff`; empty for none. */
export function macText(bytes: Buffer | undefined): string {
  if (bytes === undefined) return ''
  let text = ''
  for (let at = 0; at < bytes.length; at++) text += at === 0 ? HEX[bytes[at] ?? 0] : `:${HEX[bytes[at] ?? 0]}`
  return text
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
