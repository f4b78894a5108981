import { WiringError } from './errors.ts'
import { addressBytes } from './input.ts'
import { ipText } from './kernel/ip.ts'
import { KernelRefusal, type Request, type RouteSocket } from './kernel/route-socket.ts'
import { deleteRoute, getRoutes, hopIn, type RouteWish, setRoute, WAY_PROTOCOL } from './kernel/routes.ts'

/**
 * Better than the 1,024 of a route that ip-route(8) or a router advertisement makes, so that one of the operator's to the
 * same address stays as it is.
 */
const METRIC = 512
/** Requests in one datagram: the answers to more would not fit into the socket's buffer. */
const AT_ONCE = 100
/** How the kernel refuses a next hop (ip6_route_info_create in net/ipv6/route.c): no link leads to it, or it is the host itself. */
const UNREACHABLE = ['EHOSTUNREACH', 'ENETUNREACH', 'EINVAL', 'ENODEV', 'ENETDOWN']

/**
 * The host's routes to single addresses through next hops, which win over that to the network of the instances' bridge.
 * They are known as ours by their protocol, so that nothing need be remembered.
 */
export class NextHops {
  readonly #host: RouteSocket
  readonly #warn: (warning: string) => void
  /** What was told last of routes that are refused. */
  #told = ''
  /** Whether there may be routes of ours. */
  #any = true

  /** @param warn given what an operator should know */
  constructor(host: RouteSocket, warn: (warning: string) => void) {
    this.#host = host
    this.#warn = warn
  }

  /** Makes packets to an address go through this next hop; null: as the host's other routes say. @throws WiringError `next-hop-unreachable` */
  put(to: string, via: string | null): void {
    if (via === null) {
      this.#host.ask(removal(to))
      return
    }
    this.#any = true
    try {
      this.#host.ask(making(to, via))
    } catch (thrown) {
      if (thrown instanceof KernelRefusal && UNREACHABLE.includes(thrown.errno)) throw unreachable(to, via, thrown)
      throw thrown
    }
  }

  /** Makes exactly these the routes: by address, the next hop. What is refused is told once, and left for the next time. */
  keepOnly(wanted: ReadonlyMap<string, string>): void {
    if (wanted.size === 0 && !this.#any) return
    const replies = this.#host.dump({ purpose: 'read the routes of ways', bytes: getRoutes('ipv6', WAY_PROTOCOL) })
    const found = new Map(
      replies.map((reply) => hopIn(reply, WAY_PROTOCOL)).flatMap((hop) => (hop === null ? [] : [[hop.to, hop.via]])),
    )
    const missing: [string, string][] = []
    for (const [to, via] of wanted) {
      const key = hex(to)
      if (found.get(key) !== hex(via)) missing.push([to, via])
      found.delete(key)
    }
    this.#all([...found.keys()].map((to) => removal(ipText(Buffer.from(to, 'hex')))))
    const refused = this.#all(missing.map(([to, via]) => ({ ...making(to, via), fine: UNREACHABLE })))
    this.#any = wanted.size > 0
    const hops = [...new Set(refused.map((index) => missing[index]?.[1]))].sort()
    const words = hops.length === 0 ? '' : `${hops.length} next hops are on no link of this host: ${hops.slice(0, 10)}`
    if (words !== this.#told && words !== '') this.#warn(`${words}; ways through them lead nowhere`)
    this.#told = words
  }

  /** @returns the indices of those that were refused for a reason that is fine */
  #all(requests: readonly Request[]): number[] {
    const refused: number[] = []
    for (let i = 0; i < requests.length; i += AT_ONCE) {
      const answers = this.#host.ask(...requests.slice(i, i + AT_ONCE))
      refused.push(...answers.flatMap((answer, at) => (answer.refused === null ? [] : [i + at])))
    }
    return refused
  }
}

function hex(address: string): string {
  return addressBytes(address).toString('hex')
}

function wish(to: string): RouteWish {
  return {
    family: 'ipv6',
    to: { address: addressBytes(to), prefixLength: 128 },
    metric: METRIC,
    protocol: WAY_PROTOCOL,
  }
}

function making(to: string, via: string): Request {
  return { purpose: `route ${to} through ${via}`, bytes: setRoute({ ...wish(to), via: addressBytes(via) }) }
}

function removal(to: string): Request {
  return { purpose: `remove the route to ${to}`, bytes: deleteRoute(wish(to)), fine: ['ESRCH'] }
}

function unreachable(to: string, via: string, refusal: KernelRefusal): WiringError {
  return new WiringError(
    'next-hop-unreachable',
    `packets to ${to} cannot go through ${via}, which is on no link of this host: give this host an address in the ` +
      `network of ${via}, or name as next hop a router that is on one (${refusal.message})`,
    { retryable: true, cause: refusal },
  )
}
