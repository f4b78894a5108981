import { WiringError } from './errors.ts'
import { addressBytes, LINK_PREFIX } from './input.ts'
import { addressOf, getAddresses, staticPortEntry } from './kernel/addresses.ts'
import {
  createPair,
  deleteGroup,
  deleteLink,
  getLink,
  getLinks,
  type Link,
  linkOf,
  setGroup,
  setMac,
  setMaster,
  setNoLinkLocal,
  setPort,
  setUp,
} from './kernel/links.ts'
import type { Namespaces, Sandbox } from './kernel/namespaces.ts'
import { KernelRefusal, type RouteSocket } from './kernel/route-socket.ts'
import { waitUntil } from './waiting.ts'
import type { HostNetwork, SandboxLink } from './wiring.ts'

/** The name of a sandbox's one interface. */
export const INSIDE = 'eth0'

/** Links on their way out are put into this group of the host ("unio"), which is then removed as one. */
const DOOMED_GROUP = 0x756e696f
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
  bridge(name: string): Link {
    const link = find(this.#host, name)
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
      this.#ensurePair(sandbox, bridge, inside)
      const [, , found] = this.#host.ask(
        { purpose: `make ${sandbox.link} a port of ours`, bytes: setPort(sandbox.link) },
        { purpose: `set ${sandbox.link} up`, bytes: setUp(sandbox.link) },
        { purpose: `read ${sandbox.link}`, bytes: getLink(sandbox.link) },
      )
      const port = found?.messages[0]
      if (port === undefined) throw new WiringError('wiring-fault', `the kernel did not describe ${sandbox.link}`)
      this.#host.ask({
        purpose: `tell ${network.bridge} what is behind ${sandbox.link}`,
        bytes: staticPortEntry(linkOf(port).index, sandbox.mac),
      })
      inside.route.ask(
        { purpose: `keep ${INSIDE} without a link-local address`, bytes: setNoLinkLocal(INSIDE) },
        { purpose: `set ${INSIDE} of process ${sandbox.pid} up`, bytes: setUp(INSIDE) },
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
  ends(link: string, inside: Sandbox): { outer: Link; inner: Link } | null {
    const outer = find(this.#host, link)
    const inner = outer === null ? null : find(inside.route, INSIDE)
    if (outer === null || inner === null) return null
    return outer.peer === inner.index && inner.peer === outer.index ? { outer, inner } : null
  }

  #ensurePair(sandbox: SandboxLink, bridge: Link, inside: Sandbox): void {
    if (this.#create(sandbox, bridge, inside)) return
    const outer = find(this.#host, sandbox.link)
    if (outer !== null && outer.kind !== 'veth') {
      throw new WiringError('interface-in-use', `${sandbox.link} exists on the host and is not a link to a sandbox`)
    }
    const ends = this.ends(sandbox.link, inside)
    if (ends !== null && ends.inner.mac === sandbox.mac) {
      const purpose = `make ${sandbox.link} a port of the bridge`
      if (ends.outer.master !== bridge.index) this.#host.ask({ purpose, bytes: setMaster(sandbox.link, bridge.index) })
      return
    }
    this.detach([sandbox.link])
    if (this.#create(sandbox, bridge, inside)) return
    throw new WiringError('interface-in-use', `process ${sandbox.pid} already has an ${INSIDE} that is not ours`)
  }

  /** Whether the pair was made: not if there is one of either name. */
  #create(sandbox: SandboxLink, bridge: Link, inside: Sandbox): boolean {
    try {
      this.#host.ask(
        {
          purpose: `make ${sandbox.link} and ${INSIDE} of process ${sandbox.pid}`,
          bytes: createPair({
            name: sandbox.link,
            bridge: bridge.index,
            mtu: bridge.mtu,
            peerName: INSIDE,
            peerMac: sandbox.mac,
            namespace: inside.namespace,
          }),
        },
        {
          purpose: `keep ${sandbox.link} without a link-local address`,
          bytes: setNoLinkLocal(sandbox.link),
          fine: ['ENODEV'],
        },
      )
      return true
    } catch (thrown) {
      if (thrown instanceof KernelRefusal && thrown.errno === 'EEXIST') return false
      throw thrown
    }
  }

  /** Waits until packets pass, so that the first one is not lost. @throws WiringError `link-not-up` */
  #settle(sandbox: SandboxLink, network: HostNetwork, inside: Sandbox): void {
    let slow = ''
    const passing = waitUntil(() => {
      if (!find(this.#host, sandbox.link)?.passing) slow = sandbox.link
      else if (!find(inside.route, INSIDE)?.passing) slow = INSIDE
      else if (!find(this.#host, network.bridge)?.running) slow = network.bridge
      else return true
      return false
    })
    if (!passing) throw new WiringError('link-not-up', `${slow} did not come up in time`, { retryable: true })
  }
}

/** The interface of this name, or null. */
export function find(route: RouteSocket, name: string): Link | null {
  const [answer] = route.ask({ purpose: `read ${name}`, bytes: getLink(name), fine: ['ENODEV'] })
  const reply = answer?.messages[0]
  return reply === undefined ? null : linkOf(reply)
}
