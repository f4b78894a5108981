import { InvalidInput } from '../../common/errors.ts'
import type { Json, Template } from '../domain/template.ts'

/** Where the files of a source without a Dockerfile stand in its image: data that a service serves (FHS 3.0, section 3.17). */
export const FILES_PLACE = '/srv/'
/** A reference such as `registry:5000/team/image:tag` or `image@sha256:…` (Docker's distribution/reference grammar, in short). */
const REFERENCE =
  /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(:[0-9]{1,5})?(\/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$/i

/** @throws InvalidInput when it is no reference of an image */
export function checkReference(field: string, image: string): string {
  if (image.length <= 512 && REFERENCE.test(image)) return image
  throw new InvalidInput(field, `expected the name of an image, got ${JSON.stringify(image.slice(0, 200))}`)
}

/** The Dockerfile of a source that has none: its files, put into the base image. @param base a checked reference */
export function generatedDockerfile(base: string): string {
  return `FROM ${base}\nCOPY . ${FILES_PLACE}\n`
}

/** The image that the entry of a template runs: what further files are put into. @throws InvalidInput when it is not fixed */
export function baseImageOf(template: Template): string {
  const { name, entry } = template
  const services = template.stack['services'] as
    | { readonly [service: string]: { readonly [key: string]: Json } }
    | undefined
  const image = services?.[entry.service]?.['image']
  if (typeof image === 'string' && !image.includes('$')) return checkReference('base', image)
  throw new InvalidInput('base', `the entry of template ${name} has no fixed image; name an image instead`)
}
