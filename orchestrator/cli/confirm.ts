import { createInterface } from 'node:readline/promises'
import { Usage } from './exit.ts'

/** Asks a person, who must say yes. @param otherwise what to do where nobody can be asked. @throws Usage then */
export async function confirmed(question: string, otherwise: string): Promise<boolean> {
  if (!process.stdin.isTTY) throw new Usage(`there is nobody to ask; ${otherwise}`)
  const dialogue = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await dialogue.question(`${question} [y/N] `)).trim())
  } finally {
    dialogue.close()
  }
}
