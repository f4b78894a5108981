import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import {
  fieldsOf,
  given,
  isMap,
  type JsonMap,
  listOf,
  mapOf,
  modeOf,
  pathOf,
  type Remarks,
  type TemplateFiles,
  textOf,
  type Variables,
} from './reading.ts'

export type MemoryFile = NonNullable<ServiceInput['files']>[number]
/** A file, and where it stands in the Compose file. */
export interface PlacedFile {
  readonly file: MemoryFile
  readonly key: string
}

/** Which section a file comes from: they differ in where files stand when nobody says. */
const SECTIONS = { configs: '/', secrets: '/run/secrets/' } as const
export type FileSection = keyof typeof SECTIONS

/** The contents of a top-level `configs` or `secrets`, base64, by name. */
export function contentsOf(
  value: Json,
  section: FileSection,
  files: TemplateFiles,
  variables: Variables,
): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(mapOf(value, section)).map(([name, definition]) => {
      const key = `${section}.${name}`
      return [name, Buffer.from(contentOf(definition, key, section, files, variables)).toString('base64')]
    }),
  )
}

function contentOf(
  definition: Json,
  key: string,
  section: FileSection,
  files: TemplateFiles,
  variables: Variables,
): Uint8Array {
  const sources = section === 'configs' ? ['file', 'environment', 'content'] : ['file', 'environment']
  const fields = fieldsOf(definition, key, sources)
  const [source, other] = sources.filter((name) => given(fields, name) !== undefined)
  if (source === undefined || other !== undefined) throw new InvalidInput(key, `expected one of ${sources.join(', ')}`)
  const at = `${key}.${source}`
  const text = given(fields, source) ?? null
  if (source === 'content') {
    if (typeof text !== 'string') throw new InvalidInput(at, 'expected a text')
    return Buffer.from(text)
  }
  if (source === 'file') {
    const path = textOf(text, at)
    const bytes = files.read(path)
    if (bytes === null) throw new InvalidInput(at, `there is no file ${path} beside the Compose file`)
    return bytes
  }
  const name = textOf(text, at)
  const bytes = variables.content(name, at)
  if (bytes === undefined) {
    throw new InvalidInput(at, `there is no variable ${name}: declare it in x-orchestrator.parameters`)
  }
  return bytes
}

/** `configs` and `secrets` of a service. @param contents those of the top-level section, by name */
export function filesOfService(
  service: JsonMap,
  key: string,
  section: FileSection,
  contents: ReadonlyMap<string, string>,
  remarks: Remarks,
): readonly PlacedFile[] {
  const value = given(service, section)
  return (value === undefined ? [] : listOf(value, `${key}.${section}`)).map((item, index) => {
    const at = `${key}.${section}[${index}]`
    const fields: JsonMap = isMap(item)
      ? fieldsOf(item, at, ['source', 'target', 'mode'])
      : { source: textOf(item, at) }
    const sourceKey = isMap(item) ? `${at}.source` : at
    const source = textOf(given(fields, 'source') ?? null, sourceKey)
    const content = contents.get(source)
    if (content === undefined) {
      throw new InvalidInput(sourceKey, `there is no ${source} in the top-level ${section}`)
    }
    const [target, mode] = [given(fields, 'target'), given(fields, 'mode')]
    const wanted = target === undefined ? source : textOf(target, `${at}.target`)
    const path = pathOf(wanted.startsWith('/') ? wanted : SECTIONS[section] + wanted, isMap(item) ? `${at}.target` : at)
    const bits = mode === undefined ? 0o444 : readable(mode, `${at}.mode`, remarks)
    return { file: { target: path, content, mode: bits }, key: at }
  })
}

/** Bits for writing do not count, as in Compose; a service alone sees its copy, so that "group" and "others" are the same. */
function readable(value: Json, key: string, remarks: Remarks): 0o444 | 0o555 {
  const wanted = modeOf(value, key)
  const bits = (wanted & 0o111) === 0 ? 0o444 : 0o555
  if ((wanted & 0o555) !== bits) {
    remarks.note(key, `is 0${bits.toString(8)}: nobody but this service sees the file, and everybody in it may read it`)
  }
  return bits
}
