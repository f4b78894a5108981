import { InvalidInput } from '../../../common/errors.ts'
import { parseAddress, parseMac, parsePid } from '../input.ts'

/** One sandbox on a private network. */
export interface PrivateMember {
  /** A process in the sandbox's network namespace. */
  readonly pid: number
  /** Name of the link's end in the hub: begins with the scope of its share. */
  readonly port: string
  /** Name of the link's end in the sandbox: `net-` and up to 11 more characters. */
  readonly interface: string
  /** MAC of that end. */
  readonly mac: string
  /** The one IPv6 address that it has there and may send from. */
  readonly address: string
}

/** One private network, as much of it as one instance has. */
export interface PrivateNetwork {
  /** Name of its bridge in the hub: `br-` and up to 12 more characters. */
  readonly bridge: string
  /** Bits of its prefix. */
  readonly prefixLength: number
  readonly members: readonly PrivateMember[]
}

/**
 * What one instance has in the hub of its client. A hub is a network namespace that holds the bridges of one client and
 * nothing else: no address, no way out.
 */
export interface HubShare {
  /** A process in the hub's network namespace. */
  readonly pid: number
  /** With which the names of this instance's ports begin, and of no other instance's: `m` and seven hexadecimal digits. */
  readonly scope: string
  readonly networks: readonly PrivateNetwork[]
}

/** What is left in a hub beside one instance's share. */
export interface HubRest {
  /** Ports of other instances. */
  readonly others: number
}

const SCOPE = /^m[0-9a-f]{7}$/
const PORT = /^m[0-9a-f]{14}$/
const BRIDGE = /^br-[a-z0-9_-]{1,12}$/
const INTERFACE = /^net-[a-z0-9_-]{1,11}$/
/** At most this many networks, and members of each, so that one call stays short. */
const MOST = 64

/** @throws InvalidInput naming the field */
export function parseShare(share: HubShare): HubShare {
  const scope = parseName(share?.scope, SCOPE, 'scope')
  const networks = parseList(share.networks, 'networks').map((network, at) => parseNetwork(network, scope, at))
  const ports = networks.flatMap((network) => network.members.map((member) => member.port))
  if (new Set(ports).size !== ports.length) throw new InvalidInput('networks', 'expected each port once')
  if (new Set(networks.map((network) => network.bridge)).size !== networks.length) {
    throw new InvalidInput('networks', 'expected each bridge once')
  }
  return { pid: parsePid(share.pid), scope, networks }
}

function parseNetwork(network: PrivateNetwork, scope: string, at: number): PrivateNetwork {
  const field = `networks.${at}`
  const { prefixLength } = network ?? {}
  if (!Number.isInteger(prefixLength) || prefixLength < 1 || prefixLength > 127) {
    throw new InvalidInput(`${field}.prefixLength`, 'expected a number from 1 to 127')
  }
  return {
    bridge: parseName(network.bridge, BRIDGE, `${field}.bridge`),
    prefixLength,
    members: parseList(network.members, `${field}.members`).map((member) => {
      const port = parseName(member?.port, PORT, `${field}.members.port`)
      if (!port.startsWith(scope)) throw new InvalidInput(`${field}.members.port`, `expected it to begin with ${scope}`)
      return {
        pid: parsePid(member.pid),
        port,
        interface: parseName(member.interface, INTERFACE, `${field}.members.interface`),
        mac: parseMac(member.mac),
        address: parseAddress(member.address, `${field}.members.address`),
      }
    }),
  }
}

/** What comes from another process may be anything at all, whatever its type says here. */
function parseList<T>(list: readonly T[], field: string): readonly T[] {
  if (Array.isArray(list) && list.length <= MOST) return list
  throw new InvalidInput(field, `expected a list of at most ${MOST}`)
}

function parseName(text: unknown, pattern: RegExp, field: string): string {
  if (typeof text === 'string' && pattern.test(text)) return text
  throw new InvalidInput(field, `expected ${pattern.source}, got ${(JSON.stringify(text) ?? 'nothing').slice(0, 100)}`)
}
