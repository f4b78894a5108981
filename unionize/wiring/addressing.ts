import { InvalidInput } from '../../common/errors.ts'
import { WiringError } from './errors.ts'
import { addressBytes } from './input.ts'
import { type Address, addAddress, addressOf, deleteAddress, getAddresses } from './kernel/addresses.ts'
import type { Namespaces, Sandbox } from './kernel/namespaces.ts'
import { deleteNeighbour, setNeighbour } from './kernel/neighbours.ts'
import type { RouteSocket } from './kernel/route-socket.ts'
import { deleteDefaultRoute, endsHere, getRoute, setDefaultRoute } from './kernel/routes.ts'
import { waitUntil } from './waiting.ts'
import { INSIDE, look, type Wires } from './wires.ts'
import type { HostNetwork, Placement, Source } from './wiring.ts'

/** Requests in one datagram: the answers to more would not fit into the socket's buffer. */
const AT_ONCE = 100

/** The addresses, routes and neighbours of sandboxes, and what the host must know of them. */
export class Addressing {
  readonly #host: RouteSocket
  readonly #namespaces: Namespaces
  readonly #wires: Wires

  constructor(host: RouteSocket, namespaces: Namespaces, wires: Wires) {
    this.#host = host
    this.#namespaces = namespaces
    this.#wires = wires
  }

  /** Makes the address the sandbox's only global one. @throws WiringError */
  place(placement: Placement, network: HostNetwork): void {
    const address = addressBytes(placement.address)
    const gateway = addressBytes(network.gateway)
    if ([gateway, addressBytes(network.myAddress)].some((own) => own.equals(address))) {
      throw new InvalidInput(
        'address',
        `${placement.address} is this host's own (network.gateway or network.my-address): give it one that no instance gets, ` +
          'or raise instances.reserved',
      )
    }
    this.#namespaces.visit(placement.pid, (inside) => {
      const { bridge, ends } = this.#wires.bridgeAndEnds(network.bridge, placement, inside)
      if (ends === null || ends.inner.mac !== placement.mac) {
        throw new WiringError(
          'link-gone',
          `process ${placement.pid} has no ${placement.inside ?? INSIDE} with MAC ${placement.mac} behind ${placement.link}: attach it first`,
        )
      }
      const index = ends.inner.index
      const former = this.#globalAddresses(index, inside).filter(
        (found) => found.tentative || found.hex !== address.toString('hex'),
      )
      this.#host.ask({
        purpose: `make ${placement.address} a neighbour`,
        bytes: setNeighbour(bridge.index, address, placement.mac),
      })
      const { link } = placement
      inside.route.ask(
        ...former.map((found) => ({
          purpose: `take the former address from ${link}`,
          bytes: deleteAddress(index, Buffer.from(found.hex, 'hex'), found.prefixLength),
          fine: ['EADDRNOTAVAIL'],
        })),
        { purpose: `give ${link} ${placement.address}`, bytes: addAddress(index, address, network.prefixLength) },
        { purpose: `make ${network.gateway} a neighbour of ${link}`, bytes: setNeighbour(index, gateway, bridge.mac) },
        { purpose: `route ${link} through ${network.gateway}`, bytes: setDefaultRoute(index, gateway) },
      )
      awaitAddress(inside, placement)
    })
  }

  /** Takes the address away. A sandbox, link or bridge that is gone has none. @throws WiringError */
  unplace(placement: Placement, network: HostNetwork): void {
    try {
      this.#namespaces.visit(placement.pid, (inside) => {
        const ends = this.#wires.ends(placement, inside)
        if (ends === null) return
        this.#clear(ends.inner.index, inside, placement, network)
      })
    } catch (thrown) {
      const gone = thrown instanceof WiringError && ['sandbox-gone', 'not-isolated'].includes(thrown.code)
      if (!gone) throw thrown
    }
  }

  /** Makes the host know where these addresses are. @throws WiringError `bridge-missing` */
  remember(holders: readonly Source[], network: HostNetwork): void {
    const { index } = this.#wires.bridge(network.bridge)
    for (let at = 0; at < holders.length; at += 100) {
      const requests = holders.slice(at, at + 100).map(({ address, mac }) => ({
        purpose: `make ${address} a neighbour`,
        bytes: setNeighbour(index, addressBytes(address), mac),
      }))
      this.#host.ask(...requests)
    }
  }

  /** Makes the host forget where these addresses are. @throws KernelRefusal */
  forget(addresses: readonly string[], network: HostNetwork): void {
    const bridge = look(this.#host, network.bridge)
    if (bridge === null || addresses.length === 0) return
    const requests = addresses.map((address) => ({
      purpose: `forget the neighbour ${address}`,
      bytes: deleteNeighbour(bridge.index, addressBytes(address)),
      fine: ['ENOENT', 'ENODEV'],
    }))
    for (let i = 0; i < requests.length; i += AT_ONCE) this.#host.ask(...requests.slice(i, i + AT_ONCE))
  }

  /** The route and the gateway stay while the sandbox has another address. */
  #clear(index: number, inside: Sandbox, placement: Placement, network: HostNetwork): void {
    const { link } = placement
    const address = addressBytes(placement.address)
    const gateway = addressBytes(network.gateway)
    const others = this.#globalAddresses(index, inside).some((found) => found.hex !== address.toString('hex'))
    const rest = [
      { purpose: `take the route of ${link}`, bytes: deleteDefaultRoute(index, gateway), fine: ['ESRCH'] },
      { purpose: `forget ${network.gateway} in ${link}`, bytes: deleteNeighbour(index, gateway), fine: ['ENOENT'] },
    ]
    inside.route.ask(...(others ? [] : rest), {
      purpose: `take ${placement.address} from ${link}`,
      bytes: deleteAddress(index, address, network.prefixLength),
      fine: ['EADDRNOTAVAIL'],
    })
  }

  #globalAddresses(index: number, inside: Sandbox): Address[] {
    return inside.route
      .dump({ purpose: `read the addresses of ${INSIDE}`, bytes: getAddresses(index) })
      .map(addressOf)
      .filter((found) => found.interfaceIndex === index && !found.linkLocal)
  }
}

/**
 * The kernel acknowledges an address before packets to it are taken: the route that does so is made by a work queue
 * (addrconf_dad_work in net/ipv6/addrconf.c), and a first packet that comes sooner is lost without a word.
 * @throws WiringError `link-not-up`
 */
export function awaitAddress(inside: Sandbox, where: { readonly link: string; readonly address: string }): void {
  const { address, link } = where
  const taken = waitUntil(() => {
    const request = { purpose: `look whether ${link} takes packets`, bytes: getRoute(addressBytes(address)) }
    const [answer] = inside.route.ask({ ...request, fine: ['ENETUNREACH', 'EHOSTUNREACH'] })
    return answer?.messages.some(endsHere) ?? false
  })
  if (!taken) {
    throw new WiringError('link-not-up', `${link} does not take packets to ${address}`, { retryable: true })
  }
}
