/** A word that a POSIX shell reads as exactly this text. */
export function word(text: string): string {
  return /^[A-Za-z0-9_./:=,@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** A command line of such words, one argument a line. */
export function commandLine(words: readonly string[]): string {
  return words.map(word).join(' \\\n  ')
}
