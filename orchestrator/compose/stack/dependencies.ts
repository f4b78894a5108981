import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { booleanOf, fieldsOf, given, isList, type JsonMap, mapOf, textOf } from './reading.ts'

export type Dependency = NonNullable<ServiceInput['dependsOn']>[number]

const CONDITIONS: Readonly<Record<string, Dependency['condition']>> = {
  service_started: 'started',
  service_healthy: 'healthy',
  service_completed_successfully: 'completed',
}

/** `depends_on` of a service. @param known names of all services; of those that are not required, the others are left out */
export function dependenciesOfService(service: JsonMap, key: string, known: readonly string[]): Dependency[] {
  const value = given(service, 'depends_on')
  if (value === undefined) return []
  const at = `${key}.depends_on`
  const own = key.slice('services.'.length)
  const found = isList(value)
    ? [
        ...new Set(value.map((item, index) => named(textOf(item, `${at}[${index}]`), `${at}[${index}]`, own, known))),
      ].map((name): Dependency => ({ service: name, condition: 'started', restart: false }))
    : Object.entries(mapOf(value, at)).flatMap(([name, entry]) =>
        longDependency(name, entry, `${at}.${name}`, own, known),
      )
  return found
}

function named(name: string, key: string, own: string, known: readonly string[]): string {
  if (name === own) throw new InvalidInput(key, 'a service cannot wait for itself')
  if (!known.includes(name)) throw new InvalidInput(key, `there is no service ${name}`)
  return name
}

function longDependency(name: string, entry: Json, key: string, own: string, known: readonly string[]): Dependency[] {
  const fields = fieldsOf(entry, key, ['condition', 'restart', 'required'])
  const condition = textOf(given(fields, 'condition') ?? 'service_started', `${key}.condition`)
  const [restart, required] = [given(fields, 'restart'), given(fields, 'required')]
  const meaning = Object.hasOwn(CONDITIONS, condition) ? CONDITIONS[condition] : undefined
  if (meaning === undefined) {
    throw new InvalidInput(`${key}.condition`, `expected one of ${Object.keys(CONDITIONS).join(', ')}`)
  }
  const needed = required === undefined || booleanOf(required, `${key}.required`)
  const again = restart !== undefined && booleanOf(restart, `${key}.restart`)
  if (!needed && !known.includes(name)) return []
  return [{ service: named(name, key, own, known), condition: meaning, restart: again }]
}

/** What the rules below look at of a service. */
export interface Dependent {
  readonly name: string
  readonly dependsOn: readonly Dependency[]
  readonly restart: ServiceInput['restart']
  readonly healthcheck: ServiceInput['healthcheck']
}

/** @throws InvalidInput where services wait for each other, or for what never comes */
export function checkDependencies(services: readonly Dependent[], fault: (fault: InvalidInput) => void): void {
  const byName = new Map(services.map((service) => [service.name, service]))
  for (const { name, dependsOn } of services) {
    for (const { service, condition } of dependsOn) {
      const other = byName.get(service)
      const key = `services.${name}.depends_on.${service}.condition`
      if (condition === 'healthy' && other?.healthcheck === 'disabled') {
        fault(new InvalidInput(key, `the health of ${service} is not checked: it never becomes healthy`))
      }
      if (condition === 'completed' && other?.restart === 'always') {
        const remedy = 'give it restart: on-failure, or "no"'
        fault(
          new InvalidInput(key, `${service} is started again whenever it ends, so that it never completes: ${remedy}`),
        )
      }
    }
  }
  const cycle = cycleIn(byName)
  if (cycle) {
    fault(new InvalidInput(`services.${cycle[0]}.depends_on`, `services wait for each other: ${cycle.join(' -> ')}`))
  }
}

/** The first ring of services that wait for each other, its first one again at the end; null: there is none. */
function cycleIn(services: ReadonlyMap<string, Dependent>): readonly string[] | null {
  const done = new Set<string>()
  const visit = (name: string, path: readonly string[]): readonly string[] | null => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name]
    if (done.has(name)) return null
    for (const { service } of services.get(name)?.dependsOn ?? []) {
      const cycle = visit(service, [...path, name])
      if (cycle) return cycle
    }
    done.add(name)
    return null
  }
  for (const name of services.keys()) {
    const cycle = visit(name, [])
    if (cycle) return cycle
  }
  return null
}
