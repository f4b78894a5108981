/** The six bytes of `aa:bb:cc:dd:ee:ff`. */
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

/** `aa:bb:cc:dd:ee:ff`; empty for none. */
export function macText(bytes: Buffer | undefined): string {
  return bytes === undefined ? '' : bytes.toString('hex').replace(/..(?=.)/g, '$&:')
}
