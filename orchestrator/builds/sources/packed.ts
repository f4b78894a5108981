import { Transform } from 'node:stream'
import { RATIO_ALLOWANCE_BYTES, RATIO_MOST } from './limits.ts'
import { SourceRefused } from './refused.ts'

/** @throws SourceRefused when so few packed bytes cannot honestly be so many */
export function checkRatio(packedBytes: number, unpackedBytes: number): void {
  if (unpackedBytes <= RATIO_ALLOWANCE_BYTES + RATIO_MOST * packedBytes) return
  throw new SourceRefused(
    'ratio',
    `the archive unpacks to more than ${RATIO_MOST} times its size: that is what bombs do`,
  )
}

/** Lets bytes pass up to a limit. */
export class Counted extends Transform {
  bytes = 0
  /** The first two bytes, hex. */
  magic = ''
  constructor(most: number) {
    super({
      transform: (chunk: Buffer, _encoding, done) => {
        this.bytes += chunk.length
        if (this.magic.length < 4) this.magic = (this.magic + chunk.toString('hex', 0, 2)).slice(0, 4)
        if (this.bytes <= most) return done(null, chunk)
        done(new SourceRefused('too-large', `the source is larger than ${most} bytes (builds.most-packed-bytes)`))
      },
    })
  }
}
