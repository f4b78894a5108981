/** A word that a POSIX shell reads as exactly this text. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** A command as one line for a POSIX shell. */
export function shellLine(command: readonly string[]): string {
  return command.map(shellWord).join(' ')
}

/** An argument of `ExecStart=` and its kin that systemd reads as exactly this text (systemd.service(5), systemd.unit(5)). */
export function unitWord(text: string): string {
  const escaped = [...text].map((c) => UNIT_ESCAPES.get(c) ?? (isControl(c) ? hex(c) : c)).join('')
  return `"${escaped}"`
}

/** A command for `ExecStart=`; its first word is an absolute path. */
export function unitLine(command: readonly string[]): string {
  return command.map(unitWord).join(' ')
}

/** `%` begins a specifier, `$` a variable; both are doubled. */
const UNIT_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\\', '\\\\'],
  ['"', '\\"'],
  ['%', '%%'],
  ['$', '$$'],
  ['\n', '\\n'],
  ['\t', '\\t'],
])

function isControl(character: string): boolean {
  return character < ' ' || character === '\x7f'
}
function hex(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
}
