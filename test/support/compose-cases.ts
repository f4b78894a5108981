/** A generator over the JSON Schema of the Compose Specification: a case for each property and each form of its value. */

type Path = readonly (string | number)[]
interface SchemaNode {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly oneOf?: readonly SchemaNode[]
  readonly anyOf?: readonly SchemaNode[]
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>
  readonly items?: SchemaNode
  readonly required?: readonly string[]
  readonly enum?: readonly unknown[]
  readonly definitions?: Readonly<Record<string, SchemaNode>>
}

/** A value for one key, and where the key stands in it. */
export interface ComposeCase {
  /** Names between dots, `*` for any name or element: as in the support table. */
  readonly key: string
  readonly path: Path
  /** The type of the value at `path`. */
  readonly type: string
  readonly value: unknown
}

export interface Samples {
  /** A name where names are free, such as that of a service. */
  readonly name: (key: string) => string
  /** A value of that type which is valid for the key. @param inList whether it is an element of a list, not of a mapping */
  readonly value: (key: string, type: string, inList: boolean) => unknown
}

const NONE = { name: () => 'x', value: () => 'x' }

/** Every key of a schema that may stand in a file. */
export function schemaKeys(root: SchemaNode): ReadonlySet<string> {
  return new Set(composeCases(root, NONE).flatMap(({ key }) => prefixesOf(key)))
}

function prefixesOf(key: string): string[] {
  const parts = key.split('.')
  return parts.map((_, index) => parts.slice(0, index + 1).join('.')).filter((prefix) => prefix !== '')
}

export function composeCases(root: SchemaNode, samples: Samples): readonly ComposeCase[] {
  const resolve = (node: SchemaNode): SchemaNode => {
    if (node.$ref === undefined) return node
    const target = root.definitions?.[node.$ref.replace('#/definitions/', '')]
    if (!target) throw new Error(`there is no ${node.$ref}`)
    return resolve(target)
  }

  const generate = (given: SchemaNode, key: string, inList = false): ComposeCase[] => {
    const node = resolve(given)
    const forms = node.oneOf ?? node.anyOf
    if (forms) return forms.flatMap((form) => generate(form, key, inList))
    if (node.enum) return node.enum.map((value) => ({ key, path: [], type: 'string', value }))
    const types = node.type === undefined ? ['object'] : [node.type].flat()
    return types.flatMap((type) => {
      if (type === 'object') return objects(node, key)
      if (type === 'array') return lists(node, key)
      return [{ key, path: [], type, value: samples.value(key, type, inList) }]
    })
  }

  const below = (key: string, name: string) => (key === '' ? name : `${key}.${name}`)
  const objects = (node: SchemaNode, key: string): ComposeCase[] => {
    const needed = (except: string) =>
      Object.fromEntries(
        (node.required ?? []).filter((name) => name !== except).map((name) => [name, one(node, key, name)]),
      )
    const named = Object.entries(node.properties ?? {}).flatMap(([name, property]) =>
      generate(property, below(key, name)).map((inner) => ({
        ...inner,
        path: [name, ...inner.path],
        value: { ...needed(name), [name]: inner.value },
      })),
    )
    const free = Object.entries(node.patternProperties ?? {}).filter(([pattern]) => pattern !== '^x-')
    const any = free.flatMap(([, property]) => {
      const name = samples.name(key)
      return generate(property, below(key, '*')).map((inner) => ({
        ...inner,
        path: [name, ...inner.path],
        value: { [name]: inner.value },
      }))
    })
    const empty = { key, path: [], type: 'object', value: needed('') }
    return [...(key === '' ? [] : [empty]), ...named, ...any]
  }
  const one = (node: SchemaNode, key: string, name: string): unknown => {
    const property = node.properties?.[name]
    return property && generate(property, below(key, name)).find(({ value }) => value !== null)?.value
  }
  const lists = (node: SchemaNode, key: string): ComposeCase[] => {
    const items = node.items ? generate(node.items, below(key, '*'), true) : []
    const empty = { key, path: [], type: 'array', value: [] }
    return [empty, ...items.map((inner) => ({ ...inner, path: [0, ...inner.path], value: [inner.value] }))]
  }
  return generate(root, '')
}
