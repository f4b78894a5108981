import { readFileSync } from 'node:fs'
import { wording } from '../../common/errors.ts'
import { ApiClient } from '../api/client.ts'
import { DEFAULT_PORT } from '../api/wire.ts'
import { NoToken, Usage } from './exit.ts'

const STATE = '/var/lib/orchestrator'
const DEFAULT_SERVER = `https://localhost:${DEFAULT_PORT}`

/** The flags that say where the server is and who asks. */
export interface ConnectionFlags {
  readonly server?: string | undefined
  readonly tokenFile?: string | undefined
  readonly ca?: string | undefined
}

export const CONNECTION_HELP = `Which server, and who asks (flags win over variables):
  --server URL       ORCTL_SERVER       default ${DEFAULT_SERVER}
  --token-file FILE  ORCTL_TOKEN (the token itself) or ORCTL_TOKEN_FILE
                                        default ${STATE}/api-token
  --ca FILE          ORCTL_CA           default ${STATE}/ca.crt, if readable,
                                        else the authorities that the system trusts`

/** A client for the server that flags, environment and defaults name. @throws Usage, NoToken */
export function connect(flags: ConnectionFlags, environment: Readonly<Record<string, string | undefined>>): ApiClient {
  const server = flags.server ?? environment['ORCTL_SERVER'] ?? DEFAULT_SERVER
  if (!URL.canParse(server) || new URL(server).protocol !== 'https:') {
    throw new Usage(`--server: expected https://name:port, got ${JSON.stringify(server)}`)
  }
  return new ApiClient({ server, token: tokenOf(flags, environment), authority: authorityOf(flags, environment) })
}

function tokenOf(flags: ConnectionFlags, environment: Readonly<Record<string, string | undefined>>): string {
  const direct = flags.tokenFile === undefined ? environment['ORCTL_TOKEN'] : undefined
  const given = flags.tokenFile ?? environment['ORCTL_TOKEN_FILE']
  const file = given ?? `${STATE}/api-token`
  let text = direct
  try {
    text ??= readFileSync(file, 'utf8')
  } catch (error) {
    const remedy = given === undefined ? '. Give one by --token-file FILE, ORCTL_TOKEN or ORCTL_TOKEN_FILE' : ''
    throw new NoToken(`there is no token: ${wording(error)}${remedy}`)
  }
  const token = text.trim()
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new NoToken(`${direct === undefined ? file : 'ORCTL_TOKEN'} holds no token`)
}

function authorityOf(flags: ConnectionFlags, environment: Readonly<Record<string, string | undefined>>): string | null {
  const given = flags.ca ?? environment['ORCTL_CA']
  try {
    return readFileSync(given ?? `${STATE}/ca.crt`, 'utf8')
  } catch (error) {
    if (given === undefined) return null
    throw new Usage(`the authority's certificate cannot be read: ${wording(error)}`)
  }
}
