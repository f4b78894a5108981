import { InvalidInput } from '../../../common/errors.ts'
import { given, type JsonMap, textOf } from './reading.ts'

/** `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`: the grammar of github.com/distribution/reference. */
const REFERENCE =
  /^(?:(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?\/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9A-Fa-f]{32,})?$/

/** `image` of a service. */
export function imageOfService(service: JsonMap, key: string): string {
  const value = given(service, 'image')
  if (value === undefined) throw new InvalidInput(`${key}.image`, 'is missing: every service runs an image')
  const image = textOf(value, `${key}.image`)
  if (image.length > 512 || !REFERENCE.test(image)) {
    throw new InvalidInput(
      `${key}.image`,
      'expected the name of an image, such as nginx:1.29 or registry.example.net/team/app',
    )
  }
  return image
}

/** `pull_policy` of a service; undefined: as `missing`. */
export function pullPolicyOfService(service: JsonMap, key: string): 'missing' | 'always' | 'never' | undefined {
  const value = given(service, 'pull_policy')
  if (value === undefined) return undefined
  const policy = textOf(value, `${key}.pull_policy`)
  if (policy === 'if_not_present' || policy === 'missing') return 'missing'
  if (policy === 'always' || policy === 'never') return policy
  const reason = policy === 'build' ? 'hosts do not build' : 'images are not fetched by time'
  throw new InvalidInput(
    `${key}.pull_policy`,
    `${policy} is not supported, as ${reason}: expected always, missing or never`,
  )
}
