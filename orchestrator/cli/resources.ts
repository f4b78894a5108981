import { suggestion } from '../../common/config.ts'
import { plain } from '../../common/plain.ts'
import type { ApiClient } from '../api/client.ts'
import type {
  BuildShape,
  EventShape,
  HostShape,
  InstanceShape,
  LeaseShape,
  RuleShape,
  TemplateShape,
} from '../api/wire.ts'
import { age, span, until } from './ages.ts'
import { NotFound, Usage } from './exit.ts'
import { priceText, spentOf } from './prices.ts'
import { type Column, coloured } from './table.ts'

/** A kind of thing that `get` shows. */
export interface Resource<T> {
  readonly plural: string
  readonly singular: string
  readonly columns: readonly Column<T>[]
  /** What `-o name` prints, and what `get` and other verbs take. */
  name(item: T): string
  list(client: ApiClient, options: { all: boolean }, signal: AbortSignal): Promise<readonly T[]>
  /** @throws NotFound */
  find(client: ApiClient, name: string, signal: AbortSignal): Promise<T>
}

const leases: Resource<LeaseShape> = {
  plural: 'leases',
  singular: 'lease',
  name: (lease) => lease.address,
  columns: [
    { head: 'ADDRESS', cell: (lease) => lease.address },
    { head: 'HOSTNAME', cell: (lease) => plain(lease.hostname) },
    { head: 'STATE', cell: (lease) => coloured(lease.state) },
    { head: 'INSTANCE', cell: (lease) => (lease.refusal === null ? plain(lease.instance) : coloured('error')) },
    { head: 'EXPIRES', cell: (lease, now) => (lease.state === 'active' ? until(lease.expiresAt, now) : '-') },
    { head: 'AGE', cell: (lease, now) => age(lease.grantedAt, now) },
    { head: 'DUID', cell: (lease) => lease.owner.duid, wide: true },
    { head: 'IAID', cell: (lease) => String(lease.owner.iaid), wide: true },
    { head: 'MAC', cell: (lease) => plain(lease.mac), wide: true },
    { head: 'SOURCE', cell: (lease) => plain(lease.source), wide: true },
    { head: 'TAGS', cell: (lease) => plain(lease.tags.join(',')), wide: true },
    { head: 'REFUSAL', cell: (lease) => plain(lease.refusal), wide: true },
  ],
  list: (client, options, signal) => client.leases(options, signal),
  async find(client, name, signal) {
    const all = await client.leases({ all: true }, signal)
    const wanted = name.toLowerCase()
    const found = all.filter(({ address, hostname, instance, owner }) =>
      [address, hostname?.toLowerCase(), instance, owner.duid, `${owner.duid}/${owner.iaid}`].includes(wanted),
    )
    return only(found.filter((lease) => lease.state === 'active').concat(found)[0], 'lease', name)
  },
}

const instances: Resource<InstanceShape> = {
  plural: 'instances',
  singular: 'instance',
  name: (instance) => instance.name,
  columns: [
    { head: 'NAME', cell: (instance) => plain(instance.name) },
    { head: 'STATUS', cell: (instance) => coloured(instance.status) },
    { head: 'ADDRESS', cell: (instance) => instance.address },
    { head: 'OWNER', cell: (instance) => instance.ownerAddress },
    { head: 'HOST', cell: (instance) => plain(instance.host) },
    { head: 'TEMPLATE', cell: ({ template }) => plain(versioned(template.name, template.number)) },
    { head: 'AGE', cell: (instance, now) => age(instance.createdAt, now) },
    { head: 'REACHABLE', cell: ({ timelineMs }) => milliseconds(timelineMs.reachable), wide: true },
    { head: 'RULE', cell: (instance) => plain(instance.rule), wide: true },
    { head: 'ENDS', cell: ({ endsAt }, now) => (endsAt === null ? '-' : until(endsAt, now)), wide: true },
    { head: 'ID', cell: (instance) => instance.id, wide: true },
    { head: 'DUID/IAID', cell: ({ owner }) => `${owner.duid}/${owner.iaid}`, wide: true },
    { head: 'GENERATION', cell: ({ settled, generation }) => `${settled}/${generation}`, wide: true },
    { head: 'FAILURES', cell: (instance) => String(instance.failures), wide: true },
    { head: 'LAST ERROR', cell: (instance) => plain(instance.lastError), wide: true },
  ],
  list: (client, options, signal) => client.instances(options, signal),
  find: (client, name, signal) => client.instance(name, signal),
}

const hosts: Resource<HostShape> = {
  plural: 'hosts',
  singular: 'host',
  name: (host) => host.name,
  columns: [
    { head: 'NAME', cell: (host) => plain(host.name) },
    { head: 'STATUS', cell: (host) => coloured(host.connected ? 'connected' : 'away') },
    { head: 'INSTANCES', cell: (host) => String(host.instances) },
    { head: 'SINCE', cell: (host, now) => age(host.seenAt, now) },
    { head: 'ENGINE', cell: (host) => plain(host.engine) },
    { head: 'VERSION', cell: (host) => plain(host.version) },
    { head: 'ADDRESS', cell: (host) => host.address ?? '', wide: true },
    { head: 'KERNEL', cell: (host) => plain(host.kernel), wide: true },
    { head: 'JOINED', cell: (host, now) => age(host.joinedAt, now), wide: true },
    { head: 'EPOCH', cell: (host) => String(host.epoch), wide: true },
  ],
  list: (client, _options, signal) => client.hosts(signal),
  async find(client, name, signal) {
    return only(
      (await client.hosts(signal)).find((host) => host.name === name),
      'host',
      name,
    )
  },
}

const templates: Resource<TemplateShape> = {
  plural: 'templates',
  singular: 'template',
  name: ({ name, number, current }) => (current ? name : `${name}@${number}`),
  columns: [
    { head: 'NAME', cell: (template) => plain(template.name) },
    { head: 'VERSION', cell: ({ number, current }) => `${number}${current ? '' : ' (not rolled out)'}` },
    { head: 'INSTANCES', cell: (template) => String(template.instances) },
    { head: 'KIND', cell: (template) => template.kind },
    { head: 'SUMMARY', cell: (template) => plain(template.summary) },
    { head: 'HASH', cell: (template) => plain(template.version), wide: true },
    { head: 'KEPT IN', cell: (template) => template.origin, wide: true },
    { head: 'BASE', cell: (template) => plain(template.base), wide: true },
    { head: 'IMAGES', cell: (template) => plain(template.images.join(',')), wide: true },
    { head: 'BACKEND', cell: (template) => plain(template.backend), wide: true },
    { head: 'PORT', cell: (template) => plain(template.entryPort), wide: true },
    { head: 'GRACE', cell: ({ graceSeconds }) => seconds(graceSeconds), wide: true },
    { head: 'MOST', cell: ({ lifetimeSeconds }) => seconds(lifetimeSeconds), wide: true },
  ],
  list: (client, options, signal) => client.templates(options, signal),
  find: (client, name, signal) => client.template(name, signal),
}

const rules: Resource<RuleShape> = {
  plural: 'rules',
  singular: 'rule',
  name: (rule) => rule.name,
  columns: [
    { head: '#', cell: (rule) => String(rule.position) },
    { head: 'NAME', cell: (rule) => plain(rule.name) },
    { head: 'GIVES', cell: ({ give }) => plain(give === null ? 'nothing' : versioned(give.template, give.version)) },
    { head: 'INSTANCES', cell: ({ instances, give }) => `${instances}${give?.most == null ? '' : `/${give.most}`}` },
    { head: 'MATCH', cell: ({ match }) => plain(matchText(match)) },
    { head: 'BACKEND', cell: ({ give }) => plain(backendsOf(give)), wide: true },
    { head: 'SPENDS', cell: (rule) => spendingOf(rule), wide: true },
    { head: 'MOST', cell: ({ give }) => seconds(give?.lifetimeSeconds ?? null), wide: true },
    {
      head: 'PARAMETERS',
      cell: ({ give }) => plain(Object.keys(give?.parameters ?? {}).join(',') || null),
      wide: true,
    },
  ],
  list: async (client, _options, signal) => (await client.rules(signal)).items,
  async find(client, name, signal) {
    const { items } = await client.rules(signal)
    return only(
      items.find((rule) => rule.name === name),
      'rule',
      name,
    )
  },
}

const builds: Resource<BuildShape> = {
  plural: 'builds',
  singular: 'build',
  name: (build) => build.id,
  columns: [
    { head: 'ID', cell: (build) => build.id },
    { head: 'STATUS', cell: (build) => coloured(build.state) },
    { head: 'TEMPLATE', cell: (build) => plain(build.template) },
    { head: 'SOURCE', cell: (build) => plain(build.source) },
    { head: 'IMAGE', cell: (build) => plain(build.image) },
    { head: 'AGE', cell: (build, now) => age(build.createdAt, now) },
    { head: 'HOST', cell: (build) => plain(build.host), wide: true },
    { head: 'ERROR', cell: (build) => plain(build.error), wide: true },
  ],
  list: (client, _options, signal) => client.builds(signal),
  find: (client, name, signal) => client.build(name, signal),
}

export const eventColumns: readonly Column<EventShape>[] = [
  { head: 'AGE', cell: (event, now) => age(event.at, now) },
  { head: 'LEVEL', cell: (event) => coloured(event.level) },
  { head: 'KIND', cell: (event) => plain(event.kind) },
  { head: 'MESSAGE', cell: (event) => plain(event.message) },
  { head: 'ID', cell: (event) => String(event.id), wide: true },
  { head: 'INSTANCE', cell: (event) => plain(event.instance), wide: true },
  { head: 'HOST', cell: (event) => plain(event.host), wide: true },
]

export const RESOURCES = { leases, instances, hosts, templates, rules, builds } as const
export const instancesResource = instances

/** The resource that a person means by a word, singular or plural. @throws Usage */
// biome-ignore lint/suspicious/noExplicitAny: the verbs treat all resources alike and look inside none
export function resourceOf(word: string): Resource<any> {
  const found = Object.values(RESOURCES).find(({ plural, singular }) => word === plural || word === singular)
  if (found !== undefined) return found
  const known = Object.keys(RESOURCES)
  throw new Usage(`there is no resource ${JSON.stringify(word)}${suggestion(word, known)}. Known: ${known.join(', ')}`)
}

function versioned(name: string, version: string | number | null): string {
  return version === null ? name : `${name}@${version}`
}

function backendsOf(give: RuleShape['give']): string | null {
  return give?.backend == null ? null : [give.backend, ...give.otherwise].join(',')
}

/** `0.48 of 0.5 EUR/hour`; without a limit only what its instances cost. */
function spendingOf({ give, spent }: RuleShape): string {
  const most = give?.spend ?? null
  if (most !== null) return spentOf(most, spent)
  return spent.length === 0 ? '-' : spent.map(priceText).join(', ')
}

/** A rule's match on one line; a rule without one matches everything. */
function matchText(match: RuleShape['match']): string {
  const fields = Object.entries(match).map(([field, wanted]) => `${field}=${wantedText(wanted)}`)
  return fields.length === 0 ? 'everything' : fields.join(' ')
}

/** `a|b`; of a map `days:mon|tue,from:08:00` */
function wantedText(wanted: unknown): string {
  if (Array.isArray(wanted)) return wanted.join('|')
  if (typeof wanted !== 'object' || wanted === null) return String(wanted)
  return Object.entries(wanted)
    .map(([field, value]) => `${field}:${wantedText(value)}`)
    .join(',')
}

function seconds(given: number | null): string {
  return given === null ? '-' : span(given * 1000)
}

function milliseconds(ms: number | undefined): string {
  return ms === undefined ? '-' : `${Math.round(ms)}ms`
}

function only<T>(item: T | undefined, kind: string, name: string): T {
  if (item === undefined) throw new NotFound(`there is no ${kind} ${JSON.stringify(name)}`)
  return item
}
