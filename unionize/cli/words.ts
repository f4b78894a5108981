import { isIP } from 'node:net'
import { InvalidInput } from '../../common/errors.ts'

/*
 * The small languages inside of flags. They only take words apart; whether the parts are good, the shape in
 * common/wiring-spec.ts decides. Every function throws InvalidInput with the flag's name as its field.
 */

/** What becomes of a word: which field it fills, and how its value is read. */
type Words = Readonly<Record<string, { readonly field: string; readonly read: (text: string) => unknown }>>

/** Names of routing tables that every kernel has (rt_tables in iproute2, RT_TABLE_* of linux/rtnetlink.h). */
const TABLES: Readonly<Record<string, number>> = { default: 253, main: 254, local: 255 }

const text = (value: string) => value
const table = (value: string) => TABLES[value] ?? number(value)
/** `all` stands for every address, which is what an absent field says. */
const prefix = (value: string) => (value === 'all' ? undefined : withLength(value))

const ROUTE: Words = {
  via: { field: 'via', read: text },
  src: { field: 'source', read: text },
  metric: { field: 'metric', read: number },
  table: { field: 'table', read: table },
  mtu: { field: 'mtu', read: number },
}
const RULE: Words = {
  from: { field: 'from', read: prefix },
  to: { field: 'to', read: prefix },
  iif: { field: 'incoming', read: text },
  oif: { field: 'outgoing', read: text },
  fwmark: { field: 'mark', read: number },
  family: { field: 'family', read: text },
  table: { field: 'table', read: table },
  lookup: { field: 'table', read: table },
  priority: { field: 'priority', read: number },
  pref: { field: 'priority', read: number },
}

/** A number where the text is one, in decimal or as 0x…; else the text, for the shape to refuse. */
export function number(value: string): number | string {
  return /^(0x[0-9a-f]+|\d+(\.\d+)?)$/i.test(value) ? Number(value) : value
}

/** `TO [via ADDRESS] [src ADDRESS] [metric N] [table N] [mtu N] [onlink]`, as ip-route(8) writes it. */
export function routeOf(given: string): Record<string, unknown> {
  const words = split(given)
  if (words[0] === 'to') words.shift()
  const to = words.shift()
  if (to === undefined) throw new InvalidInput('--route', `expected such as "10.0.0.0/8 via 10.1.1.1", got ""`)
  const onlink = words.indexOf('onlink')
  if (onlink !== -1) words.splice(onlink, 1)
  return {
    to: to === 'default' ? to : withLength(to),
    ...pairs('--route', words, ROUTE, ['onlink']),
    ...(onlink === -1 ? {} : { onlink: true }),
  }
}

/** `[from PREFIX] [to PREFIX] [iif NAME] [oif NAME] [fwmark N] [family F] table N priority N`, as ip-rule(8) writes it. */
export function ruleOf(given: string): Record<string, unknown> {
  return pairs('--rule', split(given), RULE, [])
}

/** `10`, `access=10` or `trunk=10,20-30,native=5`. */
export function portVlansOf(given: string): { access: unknown } | { trunk: unknown[]; native?: unknown } {
  const trunk = /^trunk=(.+)$/.exec(given)?.[1]
  if (trunk === undefined) {
    const access = /^(?:access=)?(\d+)$/.exec(given)?.[1]
    if (access !== undefined) return { access: Number(access) }
    throw new InvalidInput('--vlan', `expected 10, access=10 or trunk=10,20-30,native=5, got ${JSON.stringify(given)}`)
  }
  const items = trunk.split(',')
  const native = items.find((item) => item.startsWith('native='))
  return {
    trunk: items.filter((item) => item !== native).map(number),
    ...(native === undefined ? {} : { native: number(native.slice('native='.length)) }),
  }
}

/** `PARENT.ID`, or `PARENT.ID:802.1ad`. */
export function subinterfaceOf(given: string): { parent: string; id: number; protocol?: string } {
  const [, parent, id, protocol] = /^(.+)\.(\d+)(?::(802\.1Q|802\.1ad))?$/i.exec(given) ?? []
  if (parent === undefined || id === undefined) {
    const meant = /^(access=|trunk=)?\d/.test(given) ? ' (VLANs of a bridge port need --bridge or --ovs)' : ''
    throw new InvalidInput(
      '--vlan',
      `expected such as eth0.12 or eth0.12:802.1ad, got ${JSON.stringify(given)}${meant}`,
    )
  }
  if (protocol === undefined) return { parent, id: Number(id) }
  return { parent, id: Number(id), protocol: protocol.toLowerCase() === '802.1ad' ? '802.1ad' : '802.1Q' }
}

/** `PARENT` or `PARENT:WORD:WORD`: the parent, which may have colons itself, and the words that belong to `known`. */
export function parentOf(flag: string, given: string, known: readonly (readonly string[])[]): readonly string[] {
  const parts = given.split(':')
  const host = parts[0] === 'mac' ? parts.splice(0, 7) : parts[0] === 'pci' ? parts.splice(0, 4) : parts.splice(0, 1)
  for (const [i, word] of parts.entries()) {
    const allowed = known[i]
    if (allowed === undefined) {
      throw new InvalidInput(flag, `too much after ${JSON.stringify(host.join(':'))}, got ${JSON.stringify(given)}`)
    }
    if (!allowed.includes(word)) {
      throw new InvalidInput(flag, `expected one of ${allowed.join(', ')} after the colon, got ${JSON.stringify(word)}`)
    }
  }
  return [host.join(':'), ...parts]
}

/** `KEY=VALUE`. */
export function assignmentOf(flag: string, example: string, given: string): readonly [string, string] {
  const at = given.indexOf('=')
  if (at < 1) throw new InvalidInput(flag, `expected such as ${example}, got ${JSON.stringify(given)}`)
  return [given.slice(0, at), given.slice(at + 1)]
}

/** A share from 0 to 1 out of `5%` or `0.05`. */
export function shareOf(given: string): number | string {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(given)?.[1]
  return percent === undefined ? number(given) : Number(percent) / 100
}

/** Milliseconds out of `20`, `20ms` or `1.5s`. */
export function millisecondsOf(given: string): number | string {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s)?$/.exec(given) ?? []
  return amount === undefined ? given : Number(amount) * (unit === 's' ? 1000 : 1)
}

/** A single address is a prefix that has all of its bits. */
function withLength(value: string): string {
  const family = isIP(value)
  return family === 0 ? value : `${value}/${family === 4 ? 32 : 128}`
}

function split(given: string): string[] {
  return given.split(/\s+/).filter((word) => word !== '')
}

function pairs(flag: string, words: readonly string[], known: Words, alone: readonly string[]) {
  const found: Record<string, unknown> = {}
  for (let i = 0; i < words.length; i += 2) {
    const word = words[i] ?? ''
    const meaning = Object.hasOwn(known, word) ? known[word] : undefined
    if (word === 'dev') throw new InvalidInput(flag, 'leave "dev" out: it is about the interface that is being wired')
    if (meaning === undefined) {
      const all = [...Object.keys(known), ...alone].join(', ')
      throw new InvalidInput(flag, `${JSON.stringify(word)} is none of the words ${all}`)
    }
    const value = words[i + 1]
    if (value === undefined) throw new InvalidInput(flag, `nothing follows after ${JSON.stringify(word)}`)
    if (Object.hasOwn(found, meaning.field)) throw new InvalidInput(flag, `${JSON.stringify(word)} stands there twice`)
    const read = meaning.read(value)
    if (read !== undefined) found[meaning.field] = read
  }
  return found
}
