import { z } from 'zod'
import type { Clock } from '../../../../../common/clock.ts'
import { suggestion } from '../../../../../common/config.ts'
import { InvalidInput } from '../../../../../common/errors.ts'
import type { Services } from './answers.ts'
import type { Nova } from './nova.ts'

/** What the cloud offers, by the names that settings and templates use. */
export interface Catalogue {
  /** Id of a flavor. @throws InvalidInput `options.size` */
  flavor(nameOrId: string, signal: AbortSignal): Promise<string>
  /** Id of an image; of several with that name the newest. @throws InvalidInput `options.image` */
  image(nameOrId: string, signal: AbortSignal): Promise<string>
}

/** Milliseconds that a name is remembered: images are replaced by newer ones of the same name. */
const KNOWN_MS = 60_000
const imageShape = z.looseObject({ id: z.string(), name: z.string().nullish(), created_at: z.string() })

export function createCatalogue(services: Services, nova: Nova, clock: Clock): Catalogue {
  const known = new Map<string, { readonly id: string; readonly at: number }>()
  const remembered = async (key: string, look: () => Promise<string>): Promise<string> => {
    const found = known.get(key)
    if (found !== undefined && clock.now() - found.at < KNOWN_MS) return found.id
    const id = await look()
    known.set(key, { id, at: clock.now() })
    return id
  }
  return {
    flavor: (wanted, signal) =>
      remembered(`flavor ${wanted}`, async () => {
        const all = await nova.flavors(signal)
        const found = all.find(({ name }) => name === wanted) ?? all.find(({ id }) => id === wanted)
        if (found !== undefined) return found.id
        const names = all.map(({ name }) => name)
        const hint = suggestion(wanted, names)
        throw new InvalidInput('options.size', `the cloud has no flavor ${wanted}${hint}; it has ${some(names)}`)
      }),
    image: (wanted, signal) =>
      remembered(`image ${wanted}`, async () => {
        const look = (filter: Record<string, string>) => {
          const query = new URLSearchParams({ ...filter, status: 'active' })
          return services.list('image', `/images?${query}`, 'images', imageShape, signal)
        }
        const all = await look({ name: wanted })
        const [newest] = all.toSorted((a, b) => (a.created_at < b.created_at ? 1 : -1))
        const [found = newest] = newest === undefined ? await look({ id: wanted }) : []
        if (found !== undefined) return found.id
        throw new InvalidInput('options.image', `the cloud shows this project no active image of name or id ${wanted}`)
      }),
  }
}

/** Names of a list that may be long. */
function some(names: readonly string[]): string {
  const shown = names.toSorted().slice(0, 10).join(', ')
  return names.length > 10 ? `${shown} and ${names.length - 10} more` : shown || 'none'
}
