import { readFileSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { wording } from '../../common/errors.ts'
import { Usage } from './exit.ts'
import { say } from './output.ts'

/** Fields of a credential by name. No message shows a value. */
type Fields = Readonly<Record<string, string>>

const FIELD = /^[A-Za-z_][A-Za-z0-9._-]{0,62}$/

export interface FieldSource {
  readonly fromFile?: string | undefined
  readonly stdin?: boolean | undefined
  /** Names of the fields to ask for, where a person is asked. */
  readonly names: readonly string[]
}

/** The fields from where the command line says, else from the terminal. @throws Usage */
export async function readFields({ fromFile, stdin, names }: FieldSource): Promise<Fields> {
  if (names.some((name) => !FIELD.test(name))) {
    throw new Usage('what stands behind the name are names of fields to ask for; values are never given as arguments')
  }
  if (fromFile !== undefined && stdin === true) throw new Usage('--from-file and --stdin cannot both be given')
  if (names.length > 0 && (fromFile !== undefined || stdin === true)) {
    throw new Usage('names of fields are for being asked on the terminal; a file or standard input has its own')
  }
  if (fromFile !== undefined) return parseFields(fileText(fromFile), fromFile)
  if (stdin === true) return parseFields(await text(process.stdin), 'standard input')
  if (process.stdin.isTTY) return await askFields(names)
  throw new Usage('there is nobody to ask: give the fields by --from-file FILE or --stdin, never as arguments')
}

function fileText(file: string): string {
  try {
    const content = readFileSync(file, 'utf8')
    if ((statSync(file).mode & 0o004) !== 0)
      say(`${file} can be read by every user of this machine: chmod 600, or remove it`)
    return content
  } catch (error) {
    throw new Usage(`the file cannot be read: ${wording(error)}`)
  }
}

/**
 * A JSON object of texts, or lines `KEY=VALUE`: the value is all that stands behind the first `=`. Empty lines and those that
 * begin with # are left out. @param where for messages @throws Usage naming the line
 */
export function parseFields(content: string, where: string): Fields {
  return /^\s*\{/.test(content) ? fromJson(content, where) : fromLines(content, where)
}

function fromJson(content: string, where: string): Fields {
  let parsed: unknown
  try {
    parsed = JSON.parse(content)
  } catch {
    // Its own message would quote what stands there.
    throw new Usage(`${where} begins with { and is not JSON`)
  }
  const entries = Object.entries(parsed as object)
  const strange = entries.find(([, value]) => typeof value !== 'string')
  if (strange !== undefined) throw new Usage(`${where}: ${strange[0]} is not a text: put it in quotes`)
  return Object.fromEntries(entries) as Fields
}

function fromLines(content: string, where: string): Fields {
  const fields = new Map<string, string>()
  for (const [index, line] of content.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const at = line.indexOf('=')
    const name = line.slice(0, Math.max(0, at)).trim()
    if (!FIELD.test(name)) {
      throw new Usage(`${where}, line ${index + 1}: expected KEY=VALUE; texts of several lines are given as JSON`)
    }
    if (fields.has(name)) throw new Usage(`${where}, line ${index + 1}: ${name} is given twice`)
    fields.set(name, line.slice(at + 1))
  }
  if (fields.size === 0) throw new Usage(`${where} has no fields: expected lines KEY=VALUE, or a JSON object`)
  return Object.fromEntries(fields)
}

/** Asks a person: for names too, unless they are given. Values are not shown while they are typed. */
async function askFields(names: readonly string[]): Promise<Fields> {
  const fields = new Map<string, string>()
  const terminal = openTerminal()
  try {
    for (const name of names) fields.set(name, await terminal.ask(`${name}: `, false))
    while (names.length === 0) {
      const name = (await terminal.ask(fields.size === 0 ? 'Field: ' : 'Next field (none: done): ', true)).trim()
      if (name === '') break
      fields.set(name, await terminal.ask(`${name}: `, false))
    }
  } finally {
    terminal.close()
  }
  if (fields.size === 0) throw new Usage('no field was given, so nothing was set')
  return Object.fromEntries(fields)
}

/** One dialogue with a person: the terminal shows nothing by itself from its beginning to its end. */
function openTerminal() {
  let isShown = false
  // In terminal mode it is readline that shows what is typed, on its output.
  const output = new Writable({
    write(chunk, _encoding, done) {
      if (isShown) process.stderr.write(chunk as Buffer)
      done()
    },
  })
  const dialogue = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 })
  const left = Promise.withResolvers<never>()
  left.promise.catch(() => {})
  dialogue.once('close', () => left.reject(new Usage('the question was left, so nothing was set')))
  return {
    async ask(question: string, shown: boolean): Promise<string> {
      isShown = shown
      process.stderr.write(question)
      const answer = await Promise.race([dialogue.question(''), left.promise])
      if (!shown) process.stderr.write('\n')
      return answer
    },
    close: () => dialogue.close(),
  }
}
