import type { Json, TemplateContent } from '../domain/template.ts'

/** A service of the template format before 0.2, as the store kept it. */
interface FormerService {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly memoryBytes: number
  readonly pids: number
  readonly capabilities: readonly string[]
  readonly stopGraceMs: number
  readonly sandbox?: 'instance' | 'own'
  readonly networks?: Readonly<Record<string, { readonly address?: string; readonly aliases: readonly string[] }>>
}

/** A template of that format. */
export interface FormerTemplate {
  readonly summary: string
  readonly backend: string
  readonly services: readonly FormerService[]
  readonly wiring?: NonNullable<TemplateContent['wiring']>
  readonly entryPort: number | null
  readonly graceMs: number
}

/** What every service had in its environment, and the variables that hold the same today. */
const FACTS = {
  ORCHESTRATOR_INSTANCE: variable('INSTANCE_ID'),
  ORCHESTRATOR_NAME: variable('INSTANCE_NAME'),
  ORCHESTRATOR_ADDRESS: variable('INSTANCE_ADDRESS'),
  ORCHESTRATOR_OWNER_DUID: variable('LEASE_DUID'),
  ORCHESTRATOR_OWNER_IAID: variable('LEASE_IAID'),
  ORCHESTRATOR_OWNER_ADDRESS: variable('LEASE_ADDRESS'),
  ORCHESTRATOR_HOSTNAME: variable('LEASE_HOSTNAME'),
}

/** The same template as a Compose stack: its instances are made again as they were. */
export function fromFormerTemplate(former: FormerTemplate): TemplateContent {
  const { services, wiring } = former
  const { networks = {}, ...rest } = wiring ?? { interfaces: [] }
  const sections = Object.entries(networks).map(([name, { prefix }]): [string, Json] => [
    name,
    prefix === undefined ? {} : { ipam: { config: [{ subnet: prefix }] } },
  ])
  return {
    summary: former.summary,
    backend: former.backend,
    kind: 'standard',
    base: null,
    parameters: [],
    fixed: {},
    outputs: [],
    entry: { service: services[0]?.name ?? '', port: former.entryPort },
    ...(wiring === undefined ? {} : { wiring: { ...rest, networks: {} } }),
    lifetime: { graceMs: former.graceMs, mostMs: null },
    stack: {
      services: Object.fromEntries(services.map((one) => [one.name, serviceOf(one, services)])),
      ...(sections.length === 0 ? {} : { networks: Object.fromEntries(sections) }),
    },
    files: {},
    images: [...new Set(services.map(({ image }) => image))],
    weakens: [],
  }
}

function serviceOf(service: FormerService, all: readonly FormerService[]): Json {
  const { image, command, environment, memoryBytes, pids, capabilities, stopGraceMs } = service
  const own = Object.entries(environment).map(([key, value]): [string, string] => [key, literal(value)])
  return {
    image: literal(image),
    ...(command === undefined ? {} : { command: command.map(literal) }),
    environment: { ...Object.fromEntries(own), ...FACTS },
    mem_limit: `${memoryBytes}b`,
    pids_limit: pids,
    cap_drop: ['ALL'],
    cap_add: [...capabilities],
    stop_grace_period: `${stopGraceMs}ms`,
    ...networking(service, all),
  }
}

/** Who shared the sandbox of the instance shared its addresses: its names on a network are now the entry's. */
function networking(service: FormerService, all: readonly FormerService[]): { [key: string]: Json } {
  const [entry] = all
  if (service.sandbox !== 'own' && service !== entry) return { network_mode: `service:${entry?.name}` }
  const here = service === entry ? all.filter(({ sandbox }) => sandbox !== 'own') : [service]
  const networks = new Map<string, { aliases: string[]; ipv6_address?: string }>()
  for (const one of here) {
    for (const [network, { aliases, address }] of Object.entries(one.networks ?? {})) {
      const known = networks.get(network) ?? { aliases: [] }
      const names = one === service ? aliases : [one.name, ...aliases]
      networks.set(network, {
        ...known,
        aliases: [...known.aliases, ...names],
        ...(address === undefined ? {} : { ipv6_address: address }),
      })
    }
  }
  if (networks.size > 0) return { networks: Object.fromEntries(networks) }
  return service === entry ? {} : { network_mode: 'none' }
}

/** A text in which nothing is replaced (Compose Specification, interpolation: `$$` is a dollar sign). */
function literal(text: string): string {
  return text.replaceAll('$', '$$$$')
}

/** Its value, or nothing where there is none. */
function variable(name: string): string {
  return `\${${name}:-}`
}
