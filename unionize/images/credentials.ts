import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { InvalidInput } from '../../common/errors.ts'
import type { RegistryCredentials } from '../engine/calls.ts'

/** Docker's own config.json (docker-login(1), "Credentials store"): `auth` is base64 of `user:password`. */
const file = z.looseObject({
  auths: z.record(z.string(), z.looseObject({ auth: z.string().optional() })).default({}),
})
/** How the config calls the registry of images whose name has no host (moby, registry/config.go). */
const HUB = 'https://index.docker.io/v1/'

/** The host that an image's name begins with; null: none, so it is Docker's own registry (distribution/reference, splitDockerDomain). */
export function registryOf(image: string): string | null {
  const first = image.split('/', 1)[0] ?? ''
  const isHost = image.includes('/') && (/[.:]/.test(first) || first === 'localhost')
  return isHost ? first : null
}

/**
 * What a registry is to be shown for this image, from a config.json as `docker login` writes it; undefined: nothing.
 * @param path null: there is no such file @throws InvalidInput when the file cannot be read; it is never quoted
 */
export async function credentialsFor(image: string, path: string | null): Promise<RegistryCredentials | undefined> {
  if (path === null) return undefined
  const fault = (why: string) => new InvalidInput('images.credentials-file', `${path} ${why}`)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw fault(`cannot be read (${error.code})`)
  })
  const parsed = file.safeParse(safeJson(text))
  if (!parsed.success) throw fault('is no config.json as docker login writes it')
  const host = registryOf(image)
  const names = host === null ? [HUB, 'docker.io'] : [host, `https://${host}`, `https://${host}/`]
  const found = names.map((name) => parsed.data.auths[name]?.auth).find((auth) => auth !== undefined && auth !== '')
  if (found === undefined) return undefined
  const [username = '', ...rest] = Buffer.from(found, 'base64').toString('utf8').split(':')
  return { username, password: rest.join(':'), serveraddress: host ?? HUB }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // told by the caller, without a word of what may be a secret
  }
}
