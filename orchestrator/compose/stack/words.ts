import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'
import { isList, textOf } from './reading.ts'

/**
 * `command` and `entrypoint`: a list is taken as it is; a text is split into words; [] or '' is an empty list, which
 * means: without that of the image.
 */
export function commandOf(value: Json, key: string): string[] {
  if (isList(value)) return value.map((item, index) => textOf(item, `${key}[${index}]`))
  return wordsOf(textOf(value, key), key)
}

/**
 * Splits a text into words as Compose does (its library is go-shellwords): single quotes keep everything, double quotes keep
 * white space, a backslash outside single quotes takes the next character as it is (`\t` and `\n` are tab and newline).
 * Nothing is expanded and no shell runs it, so that the signs of a shell are refused where Compose would drop what follows them.
 */
export function wordsOf(text: string, key: string): string[] {
  const words: string[] = []
  let word: string | null = null
  let quote: '"' | "'" | null = null
  for (let at = 0; at < text.length; at++) {
    const sign = text[at] ?? ''
    if (sign === '\\' && quote !== "'") {
      const next = text[++at]
      if (next === undefined) throw new InvalidInput(key, 'ends with a backslash that escapes nothing')
      word = (word ?? '') + ({ t: '\t', n: '\n' }[next] ?? next)
    } else if (quote !== null) {
      if (sign === quote) quote = null
      else word = (word ?? '') + sign
    } else if (sign === '"' || sign === "'") {
      quote = sign
      word ??= ''
    } else if (/[ \t\r\n]/.test(sign)) {
      if (word !== null) words.push(word)
      word = null
    } else if (/[;&|<>()`]/.test(sign)) {
      const remedy = `put the word in quotes, or write ["sh", "-c", "…"]`
      throw new InvalidInput(key, `has a ${sign} outside quotes, but no shell runs it: ${remedy}`)
    } else word = (word ?? '') + sign
  }
  if (quote !== null) throw new InvalidInput(key, `has a ${quote} that is not closed`)
  if (word !== null) words.push(word)
  return words
}
