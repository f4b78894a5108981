import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { OrchestratorError } from '../common/errors.ts'

/** Files of the state directory by which this host and the orchestrator know each other. */
export const IDENTITY_FILES = { key: 'host.key', certificate: 'host.crt', authority: 'authority.crt' } as const

/** PEM texts. */
export interface Identity {
  readonly key: string
  readonly certificate: string
  readonly authority: string
}

/** What a join left in the state directory. @throws OrchestratorError code not-joined, naming the remedy */
export async function loadIdentity(stateDirectory: string): Promise<Identity> {
  const read = (name: string) => readFile(join(stateDirectory, name), 'utf8')
  try {
    const [key, certificate, authority] = await Promise.all([
      read(IDENTITY_FILES.key),
      read(IDENTITY_FILES.certificate),
      read(IDENTITY_FILES.authority),
    ])
    return { key, certificate, authority }
  } catch (cause) {
    throw new OrchestratorError(
      'not-joined',
      `this host has not joined an orchestrator: run the line that "orctl create token" prints (unionize join …); looked in ${stateDirectory}`,
      { cause },
    )
  }
}
