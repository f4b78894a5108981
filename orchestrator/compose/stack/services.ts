import { InvalidInput } from '../../../common/errors.ts'
import { type NetworkSpecs, networkFaults } from '../../../common/private-networks.ts'
import {
  MAX_FILES_BYTES,
  MAX_LABEL_BYTES,
  MAX_ORDER_BYTES,
  type ServiceInput,
  serviceName,
  serviceShape,
} from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { checkDependencies, type Dependent } from './dependencies.ts'
import { contentsOf } from './files.ts'
import { volumesOf } from './mounts.ts'
import { DEFAULT_NETWORK, type DeclaredNetwork, networksOf } from './networks.ts'
import { type Attempt, fieldsOf, given, mapOf, type Remarks, type TemplateFiles, type Variables } from './reading.ts'
import { type ReadService, readService, type ServiceSurroundings } from './service.ts'

/** What else is known about a stack that is read. */
export interface StackSurroundings {
  /** Name of the service that clients reach. */
  readonly entry: string
  readonly files: TemplateFiles
  readonly variables: Variables
  /** Given: each fault is told here, and reading goes on as if that key were absent; absent: the first one is thrown. */
  readonly fault?: ((fault: InvalidInput) => void) | undefined
}

/** What a stack means. */
export interface ReadStack {
  /** The entry first, the others as they stand in the file. */
  readonly services: readonly ServiceInput[]
  /** The private networks that its services are on. */
  readonly networks: NetworkSpecs
  /** Things that are understood otherwise than users of Compose may expect. */
  readonly notes: readonly { readonly key: string; readonly message: string }[]
  /** Keys that weaken isolation, each once, in order. */
  readonly weakens: readonly string[]
}

const SECTIONS = ['services', 'networks', 'volumes', 'configs', 'secrets']
const MOST_SERVICES = 32

/**
 * Reads the sections of a Compose file (`services`, `networks`, `volumes`, `configs`, `secrets`), interpolated. Files of
 * `x-orchestrator.files` are configs of the stack by then, and base and derived template are one. Defaults are the safe ones.
 * @throws InvalidInput with the exact key as in the file (`services.web.volumes[2]`), unless `fault` takes it
 */
export function readStack(
  stack: { readonly [section: string]: Json },
  { entry, files, variables, fault = thrown }: StackSurroundings,
): ReadStack {
  const notes: { key: string; message: string }[] = []
  const weakens = new Set<string>()
  const remarks: Remarks = {
    note: (key, message) => notes.push({ key, message }),
    weaken: (key) => weakens.add(key),
  }
  const attempt = attempting(fault)
  const sections = attempt(() => fieldsOf(stack, '', SECTIONS), {})
  const section = (name: string): Json => given(sections, name) ?? null
  const services = attempt(() => mapOf(section('services'), 'services'), {})
  const surroundings: ServiceSurroundings = {
    entry,
    files,
    variables,
    names: Object.keys(services),
    networks: attempt(() => networksOf(section('networks'), remarks), new Map()),
    volumes: attempt(() => volumesOf(section('volumes')), []),
    contents: {
      configs: attempt(() => contentsOf(section('configs'), 'configs', files, variables), new Map()),
      secrets: attempt(() => contentsOf(section('secrets'), 'secrets', files, variables), new Map()),
    },
    remarks,
    attempt,
  }
  attempt(() => checkNames(surroundings.names, entry), undefined)
  const read = Object.entries(services).flatMap(([name, value]) =>
    attempt(() => [readService(name, value, surroundings)], []),
  )
  const first = read.filter(({ service }) => service.name === entry)
  const ordered = settled([...first, ...read.filter((one) => !first.includes(one))], fault)
  const networks = withNetworks(ordered, surroundings.networks, fault)
  for (const { service } of ordered) attempt(() => checkShape(service), undefined)
  attempt(() => checkFiles(ordered), undefined)
  const all = ordered.map(({ service }) => service)
  attempt(() => checkSize(all), undefined)
  return { services: all, networks, notes, weakens: [...weakens] }
}

function thrown(fault: InvalidInput): never {
  throw fault
}

function attempting(fault: (fault: InvalidInput) => void): Attempt {
  return (work, instead) => {
    try {
      return work()
    } catch (error) {
      if (!(error instanceof InvalidInput)) throw error
      fault(error)
      return instead
    }
  }
}

function checkNames(names: readonly string[], entry: string): void {
  for (const name of names) {
    if (serviceName.safeParse(name).success) continue
    throw new InvalidInput(`services.${name}`, 'expected a name of a-z, 0-9, - and _, at most 31 characters')
  }
  if (names.length > MOST_SERVICES) throw new InvalidInput('services', `expected at most ${MOST_SERVICES} services`)
  if (!names.includes(entry))
    throw new InvalidInput('services', `there is no service ${entry}, which is to be the entry`)
}

/** Fills in `restart` where nobody says: a service that others wait for to complete is not started again and again. */
function settled(read: readonly ReadService[], fault: (fault: InvalidInput) => void): readonly ReadService[] {
  const awaited = new Set(
    read.flatMap(({ service }) =>
      (service.dependsOn ?? []).flatMap((one) => (one.condition === 'completed' ? [one.service] : [])),
    ),
  )
  const all = read.map(({ service, ...rest }) => {
    const once = service.restart === undefined && awaited.has(service.name)
    return { ...rest, service: once ? { ...service, restart: 'on-failure' as const } : service }
  })
  checkDependencies(
    all.map(
      ({ service }): Dependent => ({
        name: service.name,
        dependsOn: service.dependsOn ?? [],
        restart: service.restart,
        healthcheck: service.healthcheck,
      }),
    ),
    fault,
  )
  return all
}

/**
 * The networks that services are on. The default one is left out where a service would be alone on it and nobody asked for
 * it: a single service needs none.
 */
function withNetworks(
  read: readonly ReadService[],
  declared: ReadonlyMap<string, DeclaredNetwork>,
  fault: (fault: InvalidInput) => void,
): NetworkSpecs {
  const onDefault = read.filter(({ service }) => Object.hasOwn(service.networks ?? {}, DEFAULT_NETWORK))
  const [lonely, ...others] = onDefault
  if (lonely?.implicit && others.length === 0 && !declared.has(DEFAULT_NETWORK)) delete lonely.service.networks
  const used = new Set(read.flatMap(({ service }) => Object.keys(service.networks ?? {})))
  const networks = Object.fromEntries([...used].sort().map((name) => [name, declared.get(name)?.spec ?? {}]))
  if (used.size > 16) fault(new InvalidInput('networks', 'expected at most 16 networks'))
  const networked = read.map(({ service }) => ({
    name: service.name,
    sandbox: service.sandbox,
    networks: Object.fromEntries(
      Object.entries(service.networks ?? {}).map(([name, { address, aliases = [] }]) => [
        name,
        { aliases, ...(address === undefined ? {} : { address }) },
      ]),
    ),
  }))
  for (const { path, message } of networkFaults(networked, networks, ({ name }) => ['services', name])) {
    const [, , name = ''] = path
    const key =
      path[0] === 'wiring'
        ? (declared.get(String(name))?.subnetKey ?? `networks.${name}`)
        : path.map((part) => (part === 'address' ? 'ipv6_address' : part)).join('.')
    fault(new InvalidInput(key, message))
  }
  return networks
}

/** Which key of Compose a field of a service comes from, where its name is another. */
const KEYS: Readonly<Record<string, string>> = {
  workingDirectory: 'working_dir',
  groups: 'group_add',
  stopSignal: 'stop_signal',
  stopGraceMs: 'stop_grace_period',
  securityOptions: 'security_opt',
  mounts: 'volumes',
  files: 'configs',
  hosts: 'extra_hosts',
  dependsOn: 'depends_on',
}

/** What hosts would refuse: lengths, counts and spellings that no reader has looked at. */
function checkShape(service: ServiceInput): void {
  const parsed = serviceShape.safeParse(service)
  // What is wrong with a name has been told.
  const issue = parsed.error?.issues.find(({ path }) => path[0] !== 'name')
  if (!issue) return
  const [field = '', ...rest] = issue.path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
  const name = field.slice(1)
  const key = `services.${service.name}.${KEYS[name] ?? name}${rest.join('')}`
  throw new InvalidInput(key, issue.message)
}

function checkFiles(read: readonly ReadService[]): void {
  const contents = read.flatMap(({ service }) => service.files ?? [])
  const bytes = contents.reduce((sum, { content }) => sum + (content.length / 4) * 3, 0)
  if (bytes <= MAX_FILES_BYTES) return
  throw new InvalidInput(
    'services',
    `expected at most ${MAX_FILES_BYTES} bytes in all configs and secrets of one instance`,
  )
}

/**
 * What hosts could not be told: one service too large for them would keep all others from them, too.
 * @throws InvalidInput `services`
 */
export function checkSize(services: readonly ServiceInput[]): void {
  const whole = Buffer.byteLength(JSON.stringify(services))
  const label = JSON.stringify(services.map(({ files: _files, environment: _environment, ...rest }) => rest))
  const [most, what] =
    whole > MAX_ORDER_BYTES
      ? [MAX_ORDER_BYTES, 'in all services of one instance']
      : [MAX_LABEL_BYTES, 'beside environments and files in all services of one instance']
  if (whole <= MAX_ORDER_BYTES && Buffer.byteLength(label) <= MAX_LABEL_BYTES) return
  throw new InvalidInput('services', `expected at most ${most} bytes ${what}`)
}
