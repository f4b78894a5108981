import { InvalidInput } from '../../common/errors.ts'
import { type InterfaceSpec, interfaceShape } from '../../common/wiring-spec.ts'
import { InvalidWish } from './exit.ts'
import { type Fault, faultsOf } from './faults.ts'
import type { InterfaceFlags } from './flags.ts'
import {
  assignmentOf,
  millisecondsOf,
  number,
  parentOf,
  portVlansOf,
  routeOf,
  ruleOf,
  shareOf,
  subinterfaceOf,
} from './words.ts'

/** The flags of which exactly one says where the interface leads. */
const KINDS = {
  bridge: '--bridge',
  ovs: '--ovs',
  macvlan: '--macvlan',
  ipvlan: '--ipvlan',
  vxlan: '--vxlan',
  physical: '--physical',
  veth: '--veth',
  vethTo: '--veth-to',
  dummy: '--dummy',
  vlan: '--vlan',
} as const
type Kind = keyof typeof KINDS

/** Flags that make sense beside certain others only. */
const BESIDE: readonly (readonly [flag: keyof InterfaceFlags, others: readonly (keyof InterfaceFlags)[]])[] = [
  ['vlan', ['bridge', 'ovs', 'macvlan', 'ipvlan', 'vlan']],
  ['isolated', ['bridge']],
  ['externalId', ['ovs']],
  ['remote', ['vxlan']],
  ['local', ['vxlan']],
  ['parent', ['vxlan']],
  ['udpPort', ['vxlan']],
  ['peerName', ['veth', 'vethTo']],
  ['peerAddress', ['veth', 'vethTo']],
  ['peerMac', ['veth', 'vethTo']],
  ['burstOut', ['rateOut']],
  ['latencyOut', ['rateOut']],
  ['burstIn', ['rateIn']],
  ['jitter', ['delay']],
]

/** A wish in the making, where each of its parts came from, and what is wrong so far. */
interface Draft {
  readonly value: Record<string, unknown>
  readonly origins: { readonly path: readonly PropertyKey[]; readonly flag: string }[]
  readonly faults: string[]
}

/** An interface out of flags. */
export interface FlaggedInterface {
  readonly spec: InterfaceSpec
  /** A fault of this interface, told of the flag that brought it about. */
  word(fault: Fault): string
}

/**
 * The interface that flags describe. Flags say all of it: what none of them mentions has its default.
 * @throws InvalidWish with every fault, each beginning with the flag
 */
export function interfaceOf(flags: InterfaceFlags): FlaggedInterface {
  const draft: Draft = { value: {}, origins: [], faults: [] }
  const kind = kindOf(flags, draft)
  if (kind !== null) putLink(draft, kind, flags)
  for (const [flag, others] of BESIDE) {
    if (flags[flag] === undefined || others.some((other) => flags[other] !== undefined)) continue
    draft.faults.push(`${flagName(flag)}: goes with ${others.map(flagName).join(' or ')} only`)
  }
  putDevice(draft, flags)
  putAddresses(draft, flags)
  putShaping(draft, flags)
  const parsed = interfaceShape.safeParse(draft.value)
  if (draft.faults.length === 0 && parsed.success) return { spec: parsed.data, word: (fault) => worded(draft, fault) }
  const faults = parsed.success ? [] : faultsOf(parsed.error, draft.value)
  // A flag that could not be read leaves its field missing; that was told already.
  const told = faults.filter((fault) => originOf(draft, fault) !== null || fault.path[0] !== 'link')
  throw new InvalidWish([...new Set([...draft.faults, ...told.map((fault) => worded(draft, fault))])])
}

function kindOf(flags: InterfaceFlags, draft: Draft): Kind | null {
  const all = Object.keys(KINDS) as Kind[]
  const given = all.filter((kind) => kind !== 'vlan' && flags[kind] !== undefined)
  if (given.length === 0 && flags.vlan !== undefined) return 'vlan'
  const [first] = given
  if (first === undefined) {
    draft.faults.push(`where does the interface lead? Give one of ${Object.values(KINDS).join(', ')}`)
    return null
  }
  if (given.length === 1) return first
  draft.faults.push(`${given.map((kind) => KINDS[kind]).join(' and ')}: an interface leads to one place only`)
  return null
}

function putLink(draft: Draft, kind: Kind, flags: InterfaceFlags): void {
  const link = (field: string, flag: string, value: unknown) => put(draft, ['link', field], flag, value)
  draft.value['link'] = { kind: kind === 'vethTo' ? 'veth' : kind }
  switch (kind) {
    case 'bridge':
    case 'ovs':
      link('bridge', KINDS[kind], flags[kind])
      if (flags.create === false) link('create', '--no-create', false)
      putPort(draft, kind, flags)
      break
    case 'macvlan':
    case 'ipvlan':
      putParent(draft, kind, flags)
      break
    case 'vlan':
      attempt(draft, () => {
        for (const [field, value] of Object.entries(subinterfaceOf(flags.vlan ?? ''))) link(field, '--vlan', value)
      })
      break
    case 'vxlan':
      putTunnel(draft, flags)
      break
    case 'physical':
      link('device', '--physical', flags.physical)
      break
    case 'veth':
    case 'vethTo':
      if (kind === 'vethTo') link('to', '--veth-to', flags.vethTo)
      draft.value['link'] = { ...(draft.value['link'] as object), peer: {} }
      putIf(draft, ['link', 'peer', 'name'], '--peer-name', flags.peerName)
      putIf(draft, ['link', 'peer', 'addresses'], '--peer-address', flags.peerAddress)
      putIf(draft, ['link', 'peer', 'mac'], '--peer-mac', flags.peerMac)
      break
    case 'dummy':
      break
    default:
      kind satisfies never
  }
}

function putPort(draft: Draft, kind: 'bridge' | 'ovs', flags: InterfaceFlags): void {
  const { vlan } = flags
  if (kind === 'bridge' && flags.isolated) put(draft, ['link', 'isolated'], '--isolated', true)
  if (vlan !== undefined) {
    attempt(draft, () => {
      const vlans = portVlansOf(vlan)
      if (kind === 'bridge') put(draft, ['link', 'vlan'], '--vlan', vlans)
      else if ('access' in vlans) put(draft, ['link', 'tag'], '--vlan', vlans.access)
      else {
        put(draft, ['link', 'trunks'], '--vlan', vlans.trunk.flatMap(singleIds))
        putIf(draft, ['link', 'tag'], '--vlan', vlans.native)
      }
    })
  }
  if (flags.externalId !== undefined) put(draft, ['link', 'externalIds'], '--external-id', {})
  for (const given of flags.externalId ?? []) {
    attempt(draft, () => {
      const [key, value] = assignmentOf('--external-id', 'iface-id=web', given)
      put(draft, ['link', 'externalIds', key], '--external-id', value)
    })
  }
}

/** Open vSwitch knows no ranges. */
function singleIds(item: unknown): unknown[] {
  const [, from = '', to = ''] = /^(\d{1,4})-(\d{1,4})$/.exec(String(item)) ?? []
  if (from === '') return [item]
  return Array.from({ length: Math.max(0, Number(to) - Number(from) + 1) }, (_, i) => Number(from) + i)
}

function putParent(draft: Draft, kind: 'macvlan' | 'ipvlan', flags: InterfaceFlags): void {
  const modes =
    kind === 'macvlan'
      ? [['bridge', 'vepa', 'private', 'passthru']]
      : [
          ['l2', 'l3', 'l3s'],
          ['bridge', 'private', 'vepa'],
        ]
  attempt(draft, () => {
    const [parent, mode, isolation] = parentOf(KINDS[kind], flags[kind] ?? '', modes)
    put(draft, ['link', 'parent'], KINDS[kind], parent)
    putIf(draft, ['link', 'mode'], KINDS[kind], mode)
    putIf(draft, ['link', 'isolation'], KINDS[kind], isolation)
  })
  putIf(draft, ['link', 'vlan'], '--vlan', flags.vlan && number(flags.vlan))
}

function putTunnel(draft: Draft, flags: InterfaceFlags): void {
  put(draft, ['link', 'id'], '--vxlan', number(flags.vxlan ?? ''))
  if (flags.remote === undefined) draft.faults.push('--vxlan: needs --remote, the other end of the tunnel')
  put(draft, ['link', 'remote'], '--remote', flags.remote ?? '::1')
  putIf(draft, ['link', 'local'], '--local', flags.local)
  putIf(draft, ['link', 'parent'], '--parent', flags.parent)
  putIf(draft, ['link', 'port'], '--udp-port', flags.udpPort && number(flags.udpPort))
  if (flags.learning === false) put(draft, ['link', 'learning'], '--no-learning', false)
}

function putDevice(draft: Draft, flags: InterfaceFlags): void {
  putIf(draft, ['name'], '--interface', flags.interface)
  putIf(draft, ['hostName'], '--host-name', flags.hostName)
  putIf(draft, ['mac'], '--mac', flags.mac)
  putIf(draft, ['mtu'], '--mtu', flags.mtu && number(flags.mtu))
  if (flags.down) put(draft, ['up'], '--down', false)
  if (flags.announce === false) put(draft, ['announce'], '--no-announce', false)
  if (flags.sysctl !== undefined) put(draft, ['sysctls'], '--sysctl', {})
  for (const given of flags.sysctl ?? []) {
    attempt(draft, () => {
      const [key, value] = assignmentOf('--sysctl', 'ipv6.conf.accept_ra=0', given)
      put(draft, ['sysctls', key], '--sysctl', value)
    })
  }
}

function putAddresses(draft: Draft, flags: InterfaceFlags): void {
  putIf(draft, ['addresses'], '--address', flags.address)
  putIf(draft, ['addressing'], '--addressing', flags.addressing)
  putIf(draft, ['gateways'], '--gateway', flags.gateway)
  putEach(draft, 'routes', '--route', flags.route, routeOf)
  putEach(draft, 'rules', '--rule', flags.rule, ruleOf)
}

function putShaping(draft: Draft, flags: InterfaceFlags): void {
  const shaping = (path: readonly string[], flag: string, value: unknown) =>
    putIf(draft, ['shaping', ...path], flag, value)
  if (flags.rateOut !== undefined) {
    shaping(['egress', 'rate'], '--rate-out', number(flags.rateOut))
    shaping(['egress', 'burst'], '--burst-out', flags.burstOut && number(flags.burstOut))
    shaping(['egress', 'latencyMs'], '--latency-out', flags.latencyOut && millisecondsOf(flags.latencyOut))
  }
  if (flags.rateIn !== undefined) {
    shaping(['ingress', 'rate'], '--rate-in', number(flags.rateIn))
    shaping(['ingress', 'burst'], '--burst-in', flags.burstIn && number(flags.burstIn))
  }
  shaping(['delayMs'], '--delay', flags.delay && millisecondsOf(flags.delay))
  shaping(['jitterMs'], '--jitter', flags.jitter && millisecondsOf(flags.jitter))
  shaping(['loss'], '--loss', flags.loss && shareOf(flags.loss))
}

function putEach(
  draft: Draft,
  field: string,
  flag: string,
  given: readonly string[] | undefined,
  read: (text: string) => unknown,
): void {
  const list: unknown[] = []
  for (const text of given ?? []) {
    attempt(draft, () => {
      draft.origins.push({ path: [field, list.length], flag })
      list.push(read(text))
    })
  }
  if (list.length > 0) draft.value[field] = list
}

function putIf(draft: Draft, path: readonly PropertyKey[], flag: string, value: unknown): void {
  if (value !== undefined) put(draft, path, flag, value)
}

function put(draft: Draft, path: readonly PropertyKey[], flag: string, value: unknown): void {
  draft.origins.push({ path, flag })
  let node = draft.value as Record<PropertyKey, unknown>
  for (const key of path.slice(0, -1)) {
    node[key] ??= {}
    node = node[key] as Record<PropertyKey, unknown>
  }
  node[path.at(-1) ?? ''] = value
}

function attempt(draft: Draft, work: () => void): void {
  try {
    work()
  } catch (thrown) {
    if (!(thrown instanceof InvalidInput)) throw thrown
    draft.faults.push(thrown.message)
  }
}

/** A fault with the flag that it came from. */
function worded(draft: Draft, fault: Fault): string {
  const origin = originOf(draft, fault)
  if (origin === null) return `${fault.path.join('.')}: ${fault.text}`
  const rest = fault.path.slice(origin.path.length).filter((key) => !/^\d+$/.test(String(key)))
  return [origin.flag, ...rest.map(String), fault.text].join(': ').replace(/: is (missing|not known)/, ' is $1')
}

/** The flag whose path the fault's has the most of. */
function originOf(draft: Draft, fault: Fault): Draft['origins'][number] | null {
  const fitting = draft.origins.filter(({ path }) => path.every((key, i) => String(fault.path[i]) === String(key)))
  return fitting.sort((a, b) => b.path.length - a.path.length)[0] ?? null
}

function flagName(flag: keyof InterfaceFlags): string {
  return `--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}
