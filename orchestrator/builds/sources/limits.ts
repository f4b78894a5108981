/** How much a source may hold; more is refused while it is read, before it is written anywhere. */
export interface SourceLimits {
  /** Bytes as they are sent. */
  readonly packedBytes: number
  /** Bytes of all files together once unpacked. */
  readonly unpackedBytes: number
  /** Files, folders and links; a folder also when only the paths of what is in it name it. */
  readonly entries: number
}

/** Bytes of one path, and of one of its names: PATH_MAX is 4096 (linux/limits.h), and a context is unpacked below a path; NAME_MAX is 255. */
export const PATH_MOST = { path: 1024, name: 255, depth: 64 } as const
/** Bytes that an archive may unpack to for each packed byte, once it is beyond the allowance: text packs 1:10, a bomb 1:1000. */
export const RATIO_MOST = 200
export const RATIO_ALLOWANCE_BYTES = 4 * 1024 * 1024
