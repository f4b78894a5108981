import { posix } from 'node:path'
import { MAX_FILES_BYTES } from '../../common/service-spec.ts'
import type { Json } from '../domain/template.ts'
import { keyText, type Path } from './document.ts'
import type { FaultList } from './fault-list.ts'
import { isList, isMap } from './stack/reading.ts'

/** A place of a stack that names a file beside the Compose file. */
interface FileReference {
  readonly file: string
  readonly key: string
  /** Whether it is a fault that there is no such file. */
  readonly required: boolean
}

/** The files that a stack refers to: base64 by the path that is written there. What is wrong with a path becomes a fault. */
export function referredFiles(
  stack: { readonly [section: string]: Json },
  beside: ReadonlyMap<string, Uint8Array>,
  faults: Pick<FaultList, 'add'>,
): Record<string, string> {
  const found: Record<string, string> = {}
  let bytes = 0
  for (const reference of referencesIn(stack)) {
    const content = fileAt(reference, beside, faults)
    if (content === null || Object.hasOwn(found, reference.file)) continue
    bytes += content.length
    if (bytes > MAX_FILES_BYTES) {
      faults.add(reference.key, `with this file, the template has more than ${MAX_FILES_BYTES} bytes of files`)
      return found
    }
    found[reference.file] = Buffer.from(content).toString('base64')
  }
  return found
}

/** The bytes of one file; null, and mostly a fault, when it cannot be had. */
export function fileAt(
  { file, key, required }: FileReference,
  beside: ReadonlyMap<string, Uint8Array>,
  faults: Pick<FaultList, 'add'>,
): Uint8Array | null {
  if (file.includes('$')) {
    faults.add(key, 'expected a path without variables: the file becomes part of the template')
    return null
  }
  const path = posix.normalize(file)
  if (path === '..' || path.startsWith('../') || posix.isAbsolute(path) || path.startsWith('~')) {
    faults.add(key, 'expected a path below the folder of the Compose file')
    return null
  }
  const content = beside.get(path)
  if (content !== undefined) return content
  const folder = path === '.' || [...beside.keys()].some((other) => other.startsWith(`${path.replace(/\/$/, '')}/`))
  if (folder) faults.add(key, `${file} is a folder: expected a file`)
  else if (required) faults.add(key, `there is no file ${file} beside the Compose file`)
  return null
}

function referencesIn(stack: { readonly [section: string]: Json }): readonly FileReference[] {
  const found: FileReference[] = []
  const add = (value: Json | undefined, path: Path, required = true) => {
    if (typeof value === 'string') found.push({ file: value, key: keyText(path), required })
  }
  for (const [name, service] of membersOf(stack['services'])) {
    for (const key of ['env_file', 'label_file']) {
      const value = isMap(service) ? service[key] : undefined
      const at = ['services', name, key]
      add(value, at)
      for (const [index, item] of isList(value) ? value.entries() : []) {
        add(item, [...at, index])
        if (!isMap(item)) continue
        add(item['path'], [...at, index, 'path'], item['required'] !== false && item['required'] !== 'false')
      }
    }
  }
  for (const section of ['configs', 'secrets']) {
    for (const [name, definition] of membersOf(stack[section])) {
      if (isMap(definition)) add(definition['file'], [section, name, 'file'])
    }
  }
  return found
}

function membersOf(value: Json | undefined): readonly (readonly [string, Json])[] {
  return isMap(value) ? Object.entries(value) : []
}
