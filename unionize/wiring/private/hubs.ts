import { awaitAddress } from '../addressing.ts'
import { WiringError } from '../errors.ts'
import { addressBytes } from '../input.ts'
import { addAddress, addressOf, deleteAddress, getAddresses } from '../kernel/addresses.ts'
import { createDevice } from '../kernel/devices.ts'
import { Nftables } from '../kernel/libnftables.ts'
import {
  createPair,
  deleteLink,
  getLinks,
  type Link,
  linkOf,
  setMaster,
  setNoLinkLocal,
  setPortOptions,
  setUp,
} from '../kernel/links.ts'
import type { Namespaces, Sandbox } from '../kernel/namespaces.ts'
import { staticPortEntry } from '../kernel/neighbours.ts'
import { KernelRefusal } from '../kernel/route-socket.ts'
import { find } from '../wires.ts'
import { guardRemoval, guardRules } from './guard.ts'
import type { HubRest, HubShare, PrivateMember, PrivateNetwork } from './share.ts'

/** With which the names of all ports begin. */
const PORT_PREFIX = 'm'
/** Of a bridge's ports (IFLA_MTU of a new bridge, ETH_DATA_LEN of linux/if_ether.h): the hub has no other way out. */
const MTU = 1500

/** The private networks of clients: bridges in hubs, and the links between them and sandboxes. */
export class Hubs {
  readonly #namespaces: Namespaces

  constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces
  }

  /** See `Wiring.connect`. */
  connect(share: HubShare): HubRest {
    return this.#namespaces.visit(share.pid, (hub) => {
      const links = this.#links(hub)
      const ports = links.filter((link) => link.kind === 'veth' && link.name.startsWith(PORT_PREFIX))
      const mine = ports.filter((port) => port.name.startsWith(share.scope))
      const rest = { others: ports.length - mine.length }
      if (share.networks.length === 0 && rest.others === 0) return rest
      // Before any port: one that nothing is known of may not send.
      if (share.networks.length > 0) guard(hub, guardRules(share))
      const wanted = new Set(share.networks.flatMap((network) => network.members.map((member) => member.port)))
      for (const port of mine) if (!wanted.has(port.name)) remove(hub, port.name)
      for (const network of share.networks) this.#connectNetwork(hub, network)
      this.#removeEmptyBridges(hub, share)
      if (share.networks.length === 0) guard(hub, guardRemoval(share.scope))
      return rest
    })
  }

  #connectNetwork(hub: Sandbox, network: PrivateNetwork): void {
    const bridge = this.#ensureBridge(hub, network.bridge)
    for (const member of network.members) {
      this.#namespaces.visit(member.pid, (inside) => {
        const inner = this.#ensurePair(hub, bridge, member, inside)
        openPort(hub, member)
        inside.route.ask(
          { purpose: `keep ${member.interface} without a link-local address`, bytes: setNoLinkLocal(member.interface) },
          { purpose: `set ${member.interface} of process ${member.pid} up`, bytes: setUp(member.interface) },
        )
        giveAddress(inside, inner.index, member, network.prefixLength)
      })
    }
  }

  #ensureBridge(hub: Sandbox, name: string): Link {
    if (find(hub.route, name) === null) {
      const bytes = createDevice({ name, device: { kind: 'bridge' }, mtu: MTU })
      hub.route.ask({ purpose: `make the private bridge ${name}`, bytes, fine: ['EEXIST'] })
    }
    hub.route.ask(
      { purpose: `keep ${name} without a link-local address`, bytes: setNoLinkLocal(name) },
      { purpose: `set ${name} up`, bytes: setUp(name) },
    )
    const bridge = find(hub.route, name)
    if (bridge?.kind === 'bridge') return bridge
    throw new WiringError('wiring-fault', `${name} in a hub is not a bridge`)
  }

  /** The inner end of the member's link, made if it is not there or leads elsewhere. */
  #ensurePair(hub: Sandbox, bridge: Link, member: PrivateMember, inside: Sandbox): Link {
    if (!create(hub, bridge, member, inside)) {
      const ends = endsOf(hub, member, inside)
      if (ends?.inner.mac === member.mac) {
        const bytes = setMaster(member.port, bridge.index)
        if (ends.outer.master !== bridge.index) hub.route.ask({ purpose: `move ${member.port} to its bridge`, bytes })
        return ends.inner
      }
      remove(hub, member.port)
      // One that leads to a former hub, which the kernel is still burying.
      const former = find(inside.route, member.interface)
      if (former?.kind === 'veth' && former.mac === member.mac) remove(inside, member.interface)
      if (!create(hub, bridge, member, inside)) {
        const message = `process ${member.pid} already has a ${member.interface} that is not ours`
        throw new WiringError('interface-in-use', message)
      }
    }
    const inner = find(inside.route, member.interface)
    if (inner !== null) return inner
    throw new WiringError('link-not-up', `${member.interface} is gone as soon as it was made`, { retryable: true })
  }

  #removeEmptyBridges(hub: Sandbox, share: HubShare): void {
    const links = this.#links(hub)
    const wanted = new Set(share.networks.map((network) => network.bridge))
    const used = new Set(links.map((link) => link.master))
    for (const link of links) {
      if (link.kind === 'bridge' && !used.has(link.index) && !wanted.has(link.name)) remove(hub, link.name)
    }
  }

  #links(hub: Sandbox): Link[] {
    return hub.route.dump({ purpose: 'list the links of a hub', bytes: getLinks() }).map(linkOf)
  }
}

/** A context of libnftables holds its namespace, so it ends with the call. */
function guard(hub: Sandbox, rules: string): void {
  hub.inside(() => {
    const nft = new Nftables()
    try {
      nft.run(rules)
    } finally {
      nft.close()
    }
  })
}

/** Whether the pair was made: not if there is one of either name. */
function create(hub: Sandbox, bridge: Link, member: PrivateMember, inside: Sandbox): boolean {
  const pair = {
    name: member.port,
    bridge: bridge.index,
    mtu: MTU,
    peerName: member.interface,
    peerMac: member.mac,
    namespace: inside.namespace,
  }
  const purpose = `make ${member.port} and ${member.interface} of process ${member.pid}`
  try {
    hub.route.ask({ purpose, bytes: createPair(pair) })
    return true
  } catch (thrown) {
    if (thrown instanceof KernelRefusal && thrown.errno === 'EEXIST') return false
    throw thrown
  }
}

function endsOf(hub: Sandbox, member: PrivateMember, inside: Sandbox): { outer: Link; inner: Link } | null {
  const outer = find(hub.route, member.port)
  const inner = outer === null ? null : find(inside.route, member.interface)
  if (outer === null || inner === null) return null
  return outer.peer === inner.index && inner.peer === outer.index ? { outer, inner } : null
}

/** One MAC is behind it, told to the bridge, so it learns nothing and gets nothing that is not for it. */
function openPort(hub: Sandbox, member: PrivateMember): void {
  const options = { isolated: false, learning: false, unicastFlood: false }
  hub.route.ask(
    { purpose: `keep ${member.port} without a link-local address`, bytes: setNoLinkLocal(member.port) },
    { purpose: `make ${member.port} a port of ours`, bytes: setPortOptions(member.port, options) },
    { purpose: `set ${member.port} up`, bytes: setUp(member.port) },
  )
  const outer = find(hub.route, member.port)
  if (outer === null) throw new WiringError('link-not-up', `${member.port} is gone`, { retryable: true })
  const bytes = staticPortEntry(outer.index, member.mac)
  hub.route.ask({ purpose: `tell the bridge what is behind ${member.port}`, bytes })
}

/** Makes the address the interface's only one. */
function giveAddress(inside: Sandbox, index: number, member: PrivateMember, prefixLength: number): void {
  const address = addressBytes(member.address)
  const former = inside.route
    .dump({ purpose: `read the addresses of ${member.interface}`, bytes: getAddresses(index) })
    .map(addressOf)
    .filter((found) => found.interfaceIndex === index && !found.linkLocal)
    .filter((found) => found.hex !== address.toString('hex') || found.prefixLength !== prefixLength || found.tentative)
  inside.route.ask(
    ...former.map((found) => ({
      purpose: `take the former address from ${member.interface}`,
      bytes: deleteAddress(index, Buffer.from(found.hex, 'hex'), found.prefixLength),
      fine: ['EADDRNOTAVAIL'],
    })),
    { purpose: `give ${member.interface} ${member.address}`, bytes: addAddress(index, address, prefixLength) },
  )
  awaitAddress(inside, { link: member.interface, address: member.address })
}

function remove(where: Sandbox, name: string): void {
  where.route.ask({ purpose: `remove ${name}`, bytes: deleteLink(name), fine: ['ENODEV'] })
}
