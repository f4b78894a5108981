/** What a scalar of YAML means, or why it means nothing. */
export type ReadScalar = { readonly value: string | number | boolean | null } | { readonly fault: string }

const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ...['', '~', 'null', 'Null', 'NULL'].map((word) => [word, null] as const),
  ...['true', 'True', 'TRUE'].map((word) => [word, true] as const),
  ...['false', 'False', 'FALSE'].map((word) => [word, false] as const),
])
const INTEGER = /^([-+]?)(0x[0-9a-f]+|0o[0-7]+|0b[01]+|0[0-7]+|0|[1-9]\d*)$/i
const FLOAT = /^[-+]?(\.\d+|\d+(\.\d*)?)(e[-+]?\d+)?$/i

/**
 * A scalar without quotes, as Go's yaml.v3 (resolve.go), with which Compose reads its files, understands it: YAML 1.2's core
 * schema, and of 1.1 the octal numbers (`0444`) and the underscores in numbers. `yes`, `on` and `22:22` are texts.
 */
export function plainScalar(text: string): ReadScalar {
  const word = WORDS.get(text)
  if (word !== undefined) return { value: word }
  if (/^([-+]?\.inf|\.nan)$/i.test(text)) return { fault: 'expected a finite number' }
  if (!/^[-+.\d]/.test(text)) return { value: text }
  const digits = text.replaceAll('_', '')
  const [, sign = '', magnitude] = INTEGER.exec(digits) ?? []
  if (magnitude !== undefined) return exact((sign === '-' ? -1 : 1) * integer(magnitude))
  if (FLOAT.test(digits)) return exact(Number(digits))
  return { value: text }
}

/** A scalar with one of YAML's own tags, such as `!!str 8080`. */
export function taggedScalar(tag: string, text: string): ReadScalar {
  const type = tag.slice('tag:yaml.org,2002:'.length)
  if (type === 'str') return { value: text }
  const read = plainScalar(text)
  const fits: Record<string, (value: unknown) => boolean> = {
    int: Number.isInteger,
    float: (value) => typeof value === 'number',
    bool: (value) => typeof value === 'boolean',
    null: (value) => value === null,
  }
  if ('value' in read && fits[type]?.(read.value)) return read
  return { fault: `expected a value of the type !!${type}` }
}

function integer(magnitude: string): number {
  const octal = /^0o?([0-7]+)$/i.exec(magnitude)
  return octal ? Number.parseInt(octal[1] ?? '', 8) : Number(magnitude)
}

/** What JSON's numbers cannot hold exactly would be another number. */
function exact(value: number): ReadScalar {
  if (Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))) return { value: value + 0 }
  return { fault: 'is too large for a number: put it in quotes' }
}
