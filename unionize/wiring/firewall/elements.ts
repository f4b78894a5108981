import { addressBytes } from '../input.ts'
import type { Source } from '../wiring.ts'
import { bandwidthLimit, limitsOf, rateLimit } from './limits.ts'
import { egressReach, publicReach, type Reach } from './reaches.ts'

/** One element of one of our sets, maps included. */
export interface Element {
  /** `inet unionize passages` */
  readonly set: string
  readonly key: string
  /** What the key leads to or is limited by, as it follows the key. */
  readonly value?: string
}

export type Verb = 'add' | 'delete'

/** Sets and maps in which instances have elements. */
export const INSTANCE_SETS = [
  'set inet unionize passages',
  'map inet unionize mine',
  'map inet unionize returns',
  'set inet unionize ways',
  'map inet unionize routed',
  'map inet unionize translated',
  'set inet unionize elsewhere',
  'set inet unionize outside',
  'set inet unionize masked',
  'map inet unionize disguised',
  'map inet unionize public',
  'map inet unionize egress',
  'set inet unionize excess_begun',
  'set inet unionize excess_opened',
  'set inet unionize excess_download',
  'set bridge unionize sources',
  'set bridge unionize targets',
  'set bridge unionize macs',
  'set bridge unionize excess_packets',
  'set bridge unionize excess_upload',
] as const

/** Commands for many elements, one for each set. */
export function commands(verb: Verb, elements: readonly Element[]): string[] {
  const bySet = Map.groupBy(elements, (element) => element.set)
  return [...bySet].map(([set, list]) => `${verb} element ${set} { ${list.map(textOf).join(', ')} }`)
}

/** Lets a port send from these sources, which are all it has; the last one's limits hold. */
export function portElements(link: string, sources: readonly Source[]): Element[] {
  const last = sources.at(-1)
  if (last === undefined) return []
  const port = `"${link}"`
  const { packets, upload } = limitsOf(last.policy)
  const macs = [...new Set(sources.map((source) => source.mac))]
  return [
    { set: 'bridge unionize excess_packets', key: port, value: ` ${rateLimit(packets)}` },
    ...(upload === null
      ? []
      : [{ set: 'bridge unionize excess_upload', key: port, value: ` ${bandwidthLimit(upload)}` }]),
    ...macs.map((mac) => ({ set: 'bridge unionize macs', key: `${port} . 0x${mac.replaceAll(':', '')}` })),
    ...sources.flatMap(({ mac, address }) => [
      { set: 'bridge unionize sources', key: `${port} . ${mac} . ${address}` },
      { set: 'bridge unionize targets', key: `${port} . ${mac} . 0x${addressBytes(address).toString('hex')}` },
    ]),
  ]
}

/** What an address may reach and who may reach it besides its owner; `source`: the one that has it. */
export function addressElements({ address, policy }: Source): Element[] {
  const { connections, download } = limitsOf(policy)
  const { opens, begins } = reachesOf({ policy })
  const limit = ` ${rateLimit(connections)}`
  return [
    { set: 'inet unionize excess_begun', key: address, value: limit },
    ...(opens === null ? [] : [{ set: 'inet unionize excess_opened', key: address, value: limit }]),
    ...(download === null
      ? []
      : [{ set: 'inet unionize excess_download', key: address, value: ` ${bandwidthLimit(download)}` }]),
    ...(opens === null ? [] : [{ set: 'inet unionize public', key: address, value: ` : jump ${opens.name}` }]),
    ...(begins === null ? [] : [{ set: 'inet unionize egress', key: address, value: ` : jump ${begins.name}` }]),
  ]
}

/** The chains that a source's policy leads to. */
export function reachesOf({ policy }: Pick<Source, 'policy'>): { opens: Reach | null; begins: Reach | null } {
  return { opens: publicReach(policy?.public ?? []), begins: egressReach(policy?.egress ?? 'none') }
}

function textOf({ key, value }: Element): string {
  return `${key}${value ?? ''}`
}
