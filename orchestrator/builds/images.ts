import type { WantedImage } from '../domain/build.ts'
import type { Template } from '../domain/template.ts'
import type { Store } from '../store/store.ts'
import type { Archives } from './archives.ts'

/**
 * What hosts are to have before a lease asks for it: the images of the templates that are rolled out, of the versions that
 * rules name, and of those that living instances were made from.
 * @param backend whose templates count
 */
export async function wantedImages(
  store: Pick<Store, 'heads' | 'ruleset' | 'templates' | 'instances'>,
  archives: Pick<Archives, 'of'>,
  backend = 'docker',
): Promise<readonly WantedImage[]> {
  const [heads, ruleset, templates, instances] = await Promise.all([
    store.heads(),
    store.ruleset(),
    store.templates(),
    store.instances({ live: true }),
  ])
  const key = (name: string, version: string | number) => `${name}@${version}`
  const used = new Set(heads.map(({ name, version }) => key(name, version)))
  for (const { give } of ruleset?.rules ?? []) {
    if (give?.version !== undefined) used.add(key(give.template, give.version))
  }
  for (const { template } of instances) used.add(key(template.name, template.version))
  const isUsed = ({ name, version, number }: Template) => used.has(key(name, version)) || used.has(key(name, number))
  const images = templates.filter((t) => t.backend === backend && isUsed(t)).flatMap((t) => t.images)
  return [...new Set(images)].sort().map((image) => wanted(image, archives))
}

function wanted(image: string, archives: Pick<Archives, 'of'>): WantedImage {
  const archive = archives.of(image)
  if (archive === null) return { image, from: { kind: 'registry' } }
  return { image, from: { kind: 'archive', sha256: archive.sha256, bytes: archive.bytes } }
}

/**
 * Removes archives that nothing refers to: no version of a template that is stored, and no build that ended less than
 * `keepMs` ago, whose image may be about to be put into a template. Of each image the newest stays.
 * @returns the images whose archives went
 */
export async function pruneArchives(
  store: Pick<Store, 'templates'>,
  archives: Archives,
  keepMs: number,
  now: number,
): Promise<readonly string[]> {
  const named = new Set((await store.templates()).flatMap(({ images, stack }) => [...images, ...fixedImages(stack)]))
  return await archives.keepOnly(
    ({ image, sha256, at }) => archives.of(image)?.sha256 === sha256 && (named.has(image) || at > now - keepMs),
  )
}

/** Images of all services, also of those that are not fetched beforehand. */
function fixedImages(stack: Template['stack']): string[] {
  return Object.values(stack['services'] ?? {}).flatMap((service) => {
    const image = typeof service === 'object' && service !== null && 'image' in service ? service['image'] : null
    return typeof image === 'string' ? [image] : []
  })
}
