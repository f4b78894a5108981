import { WiringError } from './errors.ts'
import { addressBytes, LINK_PREFIX } from './input.ts'
import { addressOf, getAddresses } from './kernel/addresses.ts'
import {
  createPair,
  deleteGroup,
  deleteLink,
  getLink,
  getLinks,
  type Link,
  type LinkState,
  linkOf,
  setGroup,
  setMac,
  setMaster,
  setNoLinkLocal,
  setPort,
  setUp,
  stateOf,
} from './kernel/links.ts'
import type { Namespaces, Sandbox } from './kernel/namespaces.ts'
import { staticPortEntry } from './kernel/neighbours.ts'
import { KernelRefusal, type Request, type RouteSocket } from './kernel/route-socket.ts'
import { waitUntil } from './waiting.ts'
import type { HostNetwork, SandboxLink } from './wiring.ts'

/** The name of a sandbox's one interface, unless it is told. */
export const INSIDE = 'eth0'

/** Always the same messages; a socket copies what it sends. */
const INSIDE_WITHOUT_LINK_LOCAL = setNoLinkLocal(INSIDE)
const INSIDE_UP = setUp(INSIDE)

/** Links on their way out are put into this group of the host ("unio"), which is then removed as one. */
const DOOMED_GROUP = 0x756e696f

/** The two ends of one link. */
export interface Ends {
  readonly outer: LinkState
  readonly inner: LinkState
}

/** The links between the host's bridge and its sandboxes. */
export class Wires {
  readonly #host: RouteSocket
  readonly #namespaces: Namespaces

  constructor(host: RouteSocket, namespaces: Namespaces) {
    this.#host = host
    this.#namespaces = namespaces
  }

  /** Looks whether the host is ready. Returns what an operator should know though it is. @throws WiringError */
  checkHost(network: HostNetwork): string[] {
    const bridge = this.bridge(network.bridge)
    this.#host.ask({ purpose: `pin the MAC of ${network.bridge}`, bytes: setMac(network.bridge, bridge.mac) })
    const addresses = this.#host
      .dump({ purpose: `read the addresses of ${network.bridge}`, bytes: getAddresses(bridge.index) })
      .map(addressOf)
    const hex = addressBytes(network.gateway).toString('hex')
    const gateway = addresses.find((address) => address.interfaceIndex === bridge.index && address.hex === hex)
    if (gateway === undefined) {
      throw new WiringError(
        'gateway-missing',
        `bridge ${network.bridge} does not have the address ${network.gateway}: add it with ` +
          `"ip address add ${network.gateway}/${network.prefixLength} dev ${network.bridge} nodad"`,
      )
    }
    if (!gateway.tentative) return []
    return [
      `${network.gateway} on ${network.bridge} waits for duplicate address detection, which delays the first ` +
        'instance by seconds: add it with "nodad"',
    ]
  }

  /** The bridge, which must be there and up. @throws WiringError `bridge-missing` */
  bridge(name: string): LinkState {
    return this.#ready(name, look(this.#host, name))
  }

  /** The bridge as {@link bridge} has it, and the two ends of a link as {@link ends} has them. @throws WiringError `bridge-missing` */
  bridgeAndEnds(name: string, sandbox: SandboxLink, inside: Sandbox): { bridge: LinkState; ends: Ends | null } {
    const [bridge = null, outer = null] = lookAt(this.#host, [name, sandbox.link])
    return { bridge: this.#ready(name, bridge), ends: endsOf(outer, inside, sandbox.inside) }
  }

  #ready(name: string, link: LinkState | null): LinkState {
    if (link?.kind === 'bridge' && link.up) return link
    const state = link === null ? 'does not exist' : link.kind === 'bridge' ? 'is down' : 'is not a bridge'
    const remedy =
      link === null ? `ip link add ${name} type bridge && ip link set ${name} up` : `ip link set ${name} up`
    const advice = link !== null && link.kind !== 'bridge' ? 'name another one in the settings' : `run "${remedy}"`
    throw new WiringError('bridge-missing', `bridge ${name} ${state}: ${advice}`)
  }

  /** See `Wiring.attach`. */
  attach(sandbox: SandboxLink, network: HostNetwork): void {
    const bridge = this.bridge(network.bridge)
    this.#namespaces.visit(sandbox.pid, (inside) => {
      const port = this.#ensurePair(sandbox, bridge, inside)
      this.#host.ask(
        { purpose: `keep ${sandbox.link} without a link-local address`, bytes: setNoLinkLocal(port) },
        { purpose: `make ${sandbox.link} a port of ours`, bytes: setPort(port) },
        { purpose: `set ${sandbox.link} up`, bytes: setUp(port) },
        {
          purpose: `tell ${network.bridge} what is behind ${sandbox.link}`,
          bytes: staticPortEntry(port, sandbox.mac),
        },
      )
      const { inside: name = INSIDE } = sandbox
      inside.route.ask(
        {
          purpose: `keep ${name} without a link-local address`,
          bytes: name === INSIDE ? INSIDE_WITHOUT_LINK_LOCAL : setNoLinkLocal(name),
        },
        { purpose: `set ${name} of process ${sandbox.pid} up`, bytes: name === INSIDE ? INSIDE_UP : setUp(name) },
      )
      this.#settle(sandbox, network, inside)
    })
  }

  /** Removes these links, all at once. Those that are gone already do not matter. @throws KernelRefusal */
  detach(links: readonly string[]): void {
    const [only] = links
    if (only === undefined) return
    if (links.length === 1) {
      this.#host.ask({ purpose: `remove ${only}`, bytes: deleteLink(only), fine: ['ENODEV'] })
      return
    }
    for (let i = 0; i < links.length; i += 100) {
      const grouping = links.slice(i, i + 100).map((link) => ({
        purpose: `mark ${link} for removal`,
        bytes: setGroup(link, DOOMED_GROUP),
        fine: ['ENODEV'],
      }))
      this.#host.ask(...grouping)
    }
    this.#host.ask({ purpose: 'remove links', bytes: deleteGroup(DOOMED_GROUP), fine: ['ENODEV'] })
  }

  /** Names of our links on the host. */
  list(): string[] {
    return this.#host
      .dump({ purpose: 'list links', bytes: getLinks() })
      .map(linkOf)
      .filter((link) => link.kind === 'veth' && link.name.startsWith(LINK_PREFIX))
      .map((link) => link.name)
  }

  /** The two ends of a link, if they are there and belong together. */
  ends(sandbox: SandboxLink, inside: Sandbox): Ends | null {
    return endsOf(look(this.#host, sandbox.link), inside, sandbox.inside)
  }

  /** @returns the index of the host's end */
  #ensurePair(sandbox: SandboxLink, bridge: LinkState, inside: Sandbox): number {
    const made = this.#create(sandbox, bridge, inside)
    if (made !== null) return made
    const outer = look(this.#host, sandbox.link)
    if (outer !== null && outer.kind !== 'veth') {
      throw new WiringError('interface-in-use', `${sandbox.link} exists on the host and is not a link to a sandbox`)
    }
    const ends = this.ends(sandbox, inside)
    if (ends !== null && ends.inner.mac === sandbox.mac) {
      const purpose = `make ${sandbox.link} a port of the bridge`
      if (ends.outer.master !== bridge.index) this.#host.ask({ purpose, bytes: setMaster(sandbox.link, bridge.index) })
      return ends.outer.index
    }
    this.detach([sandbox.link])
    const remade = this.#create(sandbox, bridge, inside)
    if (remade !== null) return remade
    throw new WiringError(
      'interface-in-use',
      `process ${sandbox.pid} already has an ${sandbox.inside ?? INSIDE} that is not ours`,
    )
  }

  /** @returns the index of the host's end; null: nothing was made, since there is a link of either name */
  #create(sandbox: SandboxLink, bridge: LinkState, inside: Sandbox): number | null {
    try {
      const [, found] = this.#host.ask(
        {
          purpose: `make ${sandbox.link} and ${sandbox.inside ?? INSIDE} of process ${sandbox.pid}`,
          bytes: createPair({
            name: sandbox.link,
            bridge: bridge.index,
            mtu: bridge.mtu,
            peerName: sandbox.inside ?? INSIDE,
            peerMac: sandbox.mac,
            namespace: inside.namespace,
          }),
        },
        { purpose: `read ${sandbox.link}`, bytes: getLink(sandbox.link) },
      )
      const reply = found?.messages[0]
      if (reply === undefined) throw new WiringError('wiring-fault', `the kernel did not describe ${sandbox.link}`)
      return stateOf(reply).index
    } catch (thrown) {
      if (thrown instanceof KernelRefusal && thrown.errno === 'EEXIST') return null
      throw thrown
    }
  }

  /** Waits until packets pass, so that the first one is not lost. @throws WiringError `link-not-up` */
  #settle(sandbox: SandboxLink, network: HostNetwork, inside: Sandbox): void {
    let slow = ''
    const passing = waitUntil(() => {
      const [port, bridge] = lookAt(this.#host, [sandbox.link, network.bridge])
      if (!port?.passing) slow = sandbox.link
      else if (!bridge?.running) slow = network.bridge
      else if (!look(inside.route, sandbox.inside ?? INSIDE)?.passing) slow = sandbox.inside ?? INSIDE
      else return true
      return false
    })
    if (!passing) throw new WiringError('link-not-up', `${slow} did not come up in time`, { retryable: true })
  }
}

/** The interface of this name, or null. */
export function find(route: RouteSocket, name: string): Link | null {
  const [answer] = route.ask(reading(name))
  const reply = answer?.messages[0]
  return reply === undefined ? null : linkOf(reply)
}

/** As {@link find}, what linking has to know. */
export function look(route: RouteSocket, name: string): LinkState | null {
  return lookAt(route, [name])[0] ?? null
}

/** The same of several, as of one moment. */
function lookAt(route: RouteSocket, names: readonly string[]): (LinkState | null)[] {
  const answers = route.ask(...names.map(reading))
  return answers.map(({ messages: [reply] }) => (reply === undefined ? null : stateOf(reply)))
}

function reading(name: string): Request {
  return { purpose: `read ${name}`, bytes: getLink(name), fine: ['ENODEV'] }
}

function endsOf(outer: LinkState | null, inside: Sandbox, name = INSIDE): Ends | null {
  const inner = outer === null ? null : look(inside.route, name)
  if (outer === null || inner === null) return null
  return outer.peer === inner.index && inner.peer === outer.index ? { outer, inner } : null
}
