import { InvalidInput } from '../../common/errors.ts'
import type { Json } from '../domain/template.ts'
import { EXTENSION, type Extension } from './extension.ts'
import type { FaultList } from './fault-list.ts'
import { InterpolationFault, interpolateTree } from './interpolate.ts'
import type { Scope } from './scope.ts'
import { defaultPort, hasPorts, portsOfService } from './stack/ports.ts'
import { isMap, type JsonMap } from './stack/reading.ts'

/** The service that clients reach: the one that the author names, else the only one, else the only one with `ports`. */
export function entryOf(services: JsonMap, said: Extension['entry'], faults: Pick<FaultList, 'add'>): string | null {
  const names = Object.keys(services)
  const key = `${EXTENSION}.entry`
  if (said !== undefined) {
    const name = typeof said === 'string' ? said : said.service
    if (names.includes(name)) return name
    const at = typeof said === 'string' ? key : `${key}.service`
    faults.add(at, `there is no service ${name}: expected one of ${names.join(', ')}`)
    return null
  }
  const [only, ...others] = names
  if (only !== undefined && others.length === 0) return only
  const open = names.filter((name) => {
    const service = services[name]
    return isMap(service) && hasPorts(service)
  })
  const [entry, ...more] = open
  if (entry !== undefined && more.length === 0) return entry
  const why = open.length === 0 ? 'none of the services has `ports`' : `${open.join(', ')} have \`ports\``
  faults.add(key, `is needed, as ${why}: name the service that clients reach`)
  return null
}

/** The TCP port at which the entry answers: the one that the author says, else the first of its `ports` and `expose`; null: none. */
export function portOf(
  stack: { readonly [section: string]: Json },
  entry: string,
  said: Extension['entry'],
  scope: Scope,
  notes: { readonly note: (key: string, message: string) => void },
): number | null {
  if (typeof said === 'object' && said.port !== undefined) return said.port
  const service = isMap(stack['services']) ? stack['services'][entry] : undefined
  const key = `services.${entry}`
  const ports = isMap(service) ? { ports: service['ports'] ?? null, expose: service['expose'] ?? null } : {}
  let guessed = false
  try {
    const value = (name: string) => {
      const sample = scope.sample(name)
      if (sample?.certain !== true) guessed = true
      return sample?.text
    }
    const filled = interpolateTree(ports, key, { value })
    const port = isMap(filled) ? defaultPort(portsOfService(filled, key, true)) : null
    if (!guessed) return port
  } catch (error) {
    // What is wrong with the ports has been told where the stack was tried.
    if (!(error instanceof InvalidInput || error instanceof InterpolationFault)) throw error
    if (!guessed) return null
  }
  notes.note(
    `${key}.ports`,
    `depends on variables: without ${EXTENSION}.entry.port, no port is asked whether it answers`,
  )
  return null
}
