import { z } from 'zod'
import { InvalidInput } from './errors.ts'
import { parsePrefix } from './ipv6.ts'

/**
 * What an instance may send and who else may reach it, in one shape: a template holds it, an order carries it, and the
 * firewall of `unionize` carries it out. Only what an operator wrote in a template gets here.
 */

const port = z.number().int().min(1).max(65535)

/** An IPv6 prefix; bits below its length are refused, so that one prefix has one spelling of its reach. */
const prefix = z.string().refine(isIpv6Prefix, 'expected an IPv6 prefix such as 2001:db8::/32')

/** A port of the instance that everybody may reach, not its owner alone. */
const publicPort = z.strictObject({
  protocol: z.enum(['tcp', 'udp']).default('tcp'),
  port,
  /** The last of a range of ports that begins with `port`; absent: that one alone. */
  last: port.optional(),
})

/** Whole numbers per second. */
const limits = z.strictObject({
  /** Packets per second that the instance may send; absent: as many as the firewall allows to everyone. */
  packets: z.number().int().min(1).max(10_000_000).optional(),
  /** New connections per second that the instance may begin, and as many that others may with its public ports; absent: likewise. */
  connections: z.number().int().min(1).max(1_000_000).optional(),
  /** Bits per second from the instance outwards; absent: unlimited. */
  upload: z.number().int().min(8_000).max(1_000_000_000_000).optional(),
  /** Bits per second into the instance; absent: unlimited. */
  download: z.number().int().min(8_000).max(1_000_000_000_000).optional(),
})

/** At most this many public ports, and prefixes: each is an element in a set of the firewall. */
const MOST = 64

export const policyShape = z.strictObject({
  /** Reachable by everybody. Empty: the owner alone reaches the instance. */
  public: z
    .array(publicPort.refine((p) => p.last === undefined || p.last >= p.port, 'expected last not below port'))
    .max(MOST)
    .default([]),
  /**
   * Connections that the instance itself may begin: `none`; `internet`: to everything that is neither this host, nor an
   * instance, nor a private, local or multicast address; or to these prefixes.
   */
  egress: z.union([z.enum(['none', 'internet']), z.array(prefix).min(1).max(MOST)]).default('none'),
  limits: limits.default({}),
})

export type Policy = z.infer<typeof policyShape>

/** What holds where a template says nothing: the owner's path only. */
export const CLOSED: Policy = { public: [], egress: 'none', limits: {} }

function isIpv6Prefix(text: string): boolean {
  try {
    parsePrefix(text)
    return true
  } catch (error) {
    if (error instanceof InvalidInput) return false
    throw error
  }
}
