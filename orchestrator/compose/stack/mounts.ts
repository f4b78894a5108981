import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import {
  booleanOf,
  fieldsOf,
  given,
  isMap,
  type JsonMap,
  listOf,
  modeOf,
  pathOf,
  type Remarks,
  textOf,
  textsOf,
} from './reading.ts'
import { sizeOf } from './sizes.ts'

export type Mount = NonNullable<ServiceInput['mounts']>[number]
/** A mount, and where it stands in the file. */
export interface PlacedMount {
  readonly mount: Mount
  readonly key: string
}

/** As in service-spec: names of Docker's volumes. */
const VOLUME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/

/** The top-level `volumes`: their names. All of them are folders that are gone with the instance. */
export function volumesOf(section: Json): readonly string[] {
  return Object.entries(fieldsOfAny(section, 'volumes')).map(([name, definition]) => {
    const key = `volumes.${name}`
    if (!VOLUME.test(name)) throw new InvalidInput(key, 'expected a name of letters, digits, _, . and -, at most 63')
    const driver = given(fieldsOf(definition, key, ['driver']), 'driver')
    if (driver !== undefined && driver !== 'local') throw new InvalidInput(`${key}.driver`, 'expected local')
    return name
  })
}

/** `volumes` and `tmpfs` of a service. @param volumes names that the top-level `volumes` has */
export function mountsOfService(
  service: JsonMap,
  key: string,
  volumes: readonly string[],
  remarks: Remarks,
): readonly PlacedMount[] {
  const [mounts, tmpfs] = [given(service, 'volumes'), given(service, 'tmpfs')]
  return [
    ...(mounts === undefined ? [] : listOf(mounts, `${key}.volumes`)).map((item, index) => {
      const at = `${key}.volumes[${index}]`
      const mount = isMap(item) ? longMount(item, at) : shortMount(textOf(item, at), at)
      checkVolume(mount, at, volumes)
      if (mount.kind === 'host') remarks.weaken(at)
      return { mount, key: at }
    }),
    ...(tmpfs === undefined ? [] : textsOf(tmpfs, `${key}.tmpfs`)).map(({ text, key: at }) => ({
      mount: shortTmpfs(text, at),
      key: at,
    })),
  ]
}

/** @throws InvalidInput where two of them stand at the same place in the container */
export function checkTargets(places: readonly { readonly target: string; readonly key: string }[]): void {
  const taken = new Map<string, string>()
  for (const { target, key } of places) {
    const other = taken.get(target)
    if (other !== undefined) throw new InvalidInput(key, `${target} is taken by ${other}`)
    taken.set(target, key)
    if (/^\/orchestrator(\/|$)/.test(target)) {
      throw new InvalidInput(key, '/orchestrator is where parameters and outputs are: take another path')
    }
    if (/^\/proc(\/|$)/.test(target)) {
      throw new InvalidInput(
        key,
        '/proc is the kernel of the host, and no engine mounts anything there: take another path',
      )
    }
  }
}

/** `[SOURCE:]TARGET[:OPTIONS]` */
function shortMount(text: string, key: string): Mount {
  const parts = text.split(':')
  if (parts.length > 3 || parts.includes('')) {
    throw new InvalidInput(key, 'expected TARGET, SOURCE:TARGET or SOURCE:TARGET:OPTIONS')
  }
  const [source = '', target, options] = parts
  if (target === undefined) return { kind: 'volume', volume: null, target: pathOf(source, key), readOnly: false }
  let readOnly = false
  for (const option of options?.split(',') ?? []) {
    if (option === 'ro') readOnly = true
    else if (option !== 'rw') throw new InvalidInput(key, `the option ${option} is not supported: expected ro or rw`)
  }
  return mountFrom(source, pathOf(target, key), readOnly, key)
}

function mountFrom(source: string, target: string, readOnly: boolean, key: string): Mount {
  if (source.startsWith('/')) {
    return { kind: 'host', source: source === '/' ? '/' : pathOf(source, key), target, readOnly }
  }
  if (/^[.~]/.test(source)) {
    const remedy = 'a file beside the Compose file reaches a container by `configs`, data lives in a named volume'
    throw new InvalidInput(key, `${source} would be a path of your machine: ${remedy}`)
  }
  return { kind: 'volume', volume: source, target, readOnly }
}

function checkVolume(mount: Mount, key: string, volumes: readonly string[]): void {
  if (mount.kind !== 'volume' || mount.volume === null || volumes.includes(mount.volume)) return
  throw new InvalidInput(key, `there is no volume ${mount.volume}: declare it in the top-level volumes`)
}

function longMount(item: Json, key: string): Mount {
  const fields = fieldsOf(item, key, ['type', 'source', 'target', 'read_only', 'tmpfs'])
  const type = textOf(given(fields, 'type') ?? null, `${key}.type`)
  const target = pathOf(textOf(given(fields, 'target') ?? null, `${key}.target`), `${key}.target`)
  const [source, wanted, tmpfs] = [given(fields, 'source'), given(fields, 'read_only'), given(fields, 'tmpfs')]
  const readOnly = wanted !== undefined && booleanOf(wanted, `${key}.read_only`)
  const from = source === undefined ? undefined : textOf(source, `${key}.source`)
  if (tmpfs !== undefined && type !== 'tmpfs')
    throw new InvalidInput(`${key}.tmpfs`, 'expected only where the type is tmpfs')
  if (type === 'tmpfs') {
    if (from !== undefined) throw new InvalidInput(`${key}.source`, 'a tmpfs has no source')
    if (readOnly) throw new InvalidInput(`${key}.read_only`, 'a tmpfs that nothing can be written to is of no use')
    return longTmpfs(target, tmpfs ?? null, `${key}.tmpfs`)
  }
  if (type === 'volume') {
    if (from !== undefined && !VOLUME.test(from))
      throw new InvalidInput(`${key}.source`, 'expected the name of a volume')
    return { kind: 'volume', volume: from ?? null, target, readOnly }
  }
  if (type !== 'bind') throw new InvalidInput(`${key}.type`, `${type} is not supported: expected volume, tmpfs or bind`)
  if (from === undefined || !/^[/.~]/.test(from))
    throw new InvalidInput(`${key}.source`, 'expected an absolute path of the host')
  return mountFrom(from, target, readOnly, `${key}.source`)
}

function longTmpfs(target: string, options: Json, key: string): Mount {
  const fields = fieldsOf(options, key, ['size', 'mode'])
  const [size, mode] = [given(fields, 'size'), given(fields, 'mode')]
  return {
    kind: 'tmpfs',
    target,
    ...(size === undefined ? {} : { sizeBytes: sizeOf(size, `${key}.size`) }),
    ...(mode === undefined ? {} : { mode: modeOf(mode, `${key}.mode`) }),
  }
}

/** `TARGET[:OPTION,…]` as of `docker run --tmpfs`. It is never executable and has neither devices nor set-user-id, so that saying so changes nothing. */
function shortTmpfs(text: string, key: string): Mount {
  const [target = '', options, ...more] = text.split(':')
  if (more.length > 0) throw new InvalidInput(key, 'expected TARGET or TARGET:OPTIONS')
  const mount: { kind: 'tmpfs'; target: string; sizeBytes?: number; mode?: number } = {
    kind: 'tmpfs',
    target: pathOf(target, key),
  }
  for (const option of options?.split(',') ?? []) {
    const [name, value = ''] = option.split('=', 2)
    if (name === 'size') mount.sizeBytes = sizeOf(value, key)
    else if (name === 'mode') mount.mode = modeOf(value, key)
    else if (!/^(rw|noexec|nosuid|nodev)$/.test(option)) {
      throw new InvalidInput(key, `the option ${option} is not supported: expected size=… or mode=…`)
    }
  }
  return mount
}

function fieldsOfAny(section: Json, key: string): JsonMap {
  return isMap(section) ? fieldsOf(section, key, Object.keys(section)) : fieldsOf(section, key, [])
}
