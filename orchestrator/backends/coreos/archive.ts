import { pack } from 'tar-stream'

export interface TarFile {
  /** Path within the archive. */
  readonly name: string
  readonly content: string | Buffer
  /** Permission bits. */
  readonly mode: number
}

/** A tar of files, owned by root. */
export async function tarOf(files: readonly TarFile[]): Promise<Buffer> {
  const tar = pack()
  for (const { name, content, mode } of files) tar.entry({ name, mode, uid: 0, gid: 0 }, content)
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of tar) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
