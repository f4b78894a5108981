import { readFileSync } from 'node:fs'
import { Addressing } from '../addressing.ts'
import { WiringError } from '../errors.ts'
import { Firewall } from '../firewall/firewall.ts'
import { surroundingsOf } from '../firewall/surroundings.ts'
import { Namespaces } from '../kernel/namespaces.ts'
import { RouteSocket } from '../kernel/route-socket.ts'
import { NextHops } from '../next-hops.ts'
import { Hubs } from '../private/hubs.ts'
import { findStrays, isStray } from '../strays.ts'
import { find, Wires } from '../wires.ts'
import type { HostNetwork, Placement } from '../wiring.ts'
import type { Calls, Verb } from './protocol.ts'

const FORWARDING = '/proc/sys/net/ipv6/conf/all/forwarding'

/**
 * What is done in the kernel, verb by verb, on the calling thread. Everything is synchronous: a call that has begun ends
 * before the next one begins, and nothing else ever runs on this thread while it is in another network namespace.
 * @param warn given what an operator should know
 */
export function createVerbs(warn: (warning: string) => void): { readonly [V in Verb]: (args: Calls[V]) => unknown } {
  const host = new RouteSocket().configure()
  const namespaces = new Namespaces()
  const wires = new Wires(host, namespaces)
  const hubs = new Hubs(namespaces)
  const addressing = new Addressing(host, namespaces, wires)
  const nextHops = new NextHops(host, warn)
  let loaded: { network: HostNetwork; firewall: Firewall } | null = null
  let madeFirewall: Firewall | null = null

  const firewall = (): Firewall => {
    madeFirewall ??= new Firewall(warn, ({ bridge }) => surroundingsOf(host, bridge))
    return madeFirewall
  }
  const ready = () => {
    if (loaded === null) throw new WiringError('not-prepared', 'the host network is not prepared')
    return loaded
  }
  /** Also when the firewall knows nothing of it: a crash may have come between its entry and the neighbour's. */
  const forget = (link: string, address: string): void => {
    const { network, firewall } = ready()
    const elsewhere = firewall.isElsewhere(address, link)
    firewall.unplace(link, address)
    if (!elsewhere) addressing.forget([address], network)
  }

  /** Makes the host's routes what the paths need that have just changed. @param own one that must not be refused */
  const reroute = (own?: string): void => {
    for (const [to, via] of ready().firewall.changedHops()) {
      try {
        nextHops.put(to, via)
      } catch (thrown) {
        // That of another path is told by the next guard, and no reason to refuse this one.
        if (to === own || !(thrown instanceof WiringError && thrown.code === 'next-hop-unreachable')) throw thrown
      }
    }
  }
  const routeBack = ({ owner, ownerVia }: { owner: string | null; ownerVia?: string | undefined }): void => {
    if (owner !== null && ownerVia !== undefined) nextHops.put(owner, ownerVia)
  }

  return {
    prepare: (network) => {
      for (const warning of wires.checkHost(network)) warn(warning)
      if (readFileSync(FORWARDING, 'utf8').trim() !== '1') {
        throw new WiringError(
          'forwarding-off',
          'this host does not forward IPv6: run "sysctl -w net.ipv6.conf.all.forwarding=1"',
        )
      }
      firewall().load(network)
      // The kernel forgets all neighbours on a bridge whose MAC is set, even to what it was (NETDEV_CHANGEADDR).
      addressing.remember(firewall().holders(), network)
      nextHops.keepOnly(firewall().hops())
      loaded = { network, firewall: firewall() }
    },
    attach: (sandbox) => wires.attach(sandbox, ready().network),
    /** The path opens last: by then everything behind it answers. */
    place: (placement: Placement) => {
      const { network, firewall } = ready()
      const { link, address } = placement
      const former = firewall.addressesOf(link).filter((other) => other !== address)
      const mine = former.filter((other) => !firewall.isElsewhere(other, link))
      addressing.place(placement, network)
      addressing.forget(mine, network)
      routeBack(placement)
      firewall.place(placement)
      reroute()
    },
    open: (passage) => {
      routeBack(passage)
      ready().firewall.open(passage)
      reroute()
    },
    close: (passage) => {
      ready().firewall.close(passage)
      reroute()
    },
    lead: (way) => {
      const { firewall } = ready()
      firewall.open(way)
      try {
        reroute(way.address)
      } catch (thrown) {
        // Else my.instance would lead to where nothing is.
        firewall.close(way)
        reroute()
        throw thrown
      }
    },
    unlead: (way) => {
      ready().firewall.close(way)
      reroute()
    },
    /** The path closes first: what is behind it may then go in any order. */
    unplace: (placement: Placement) => {
      const { network } = ready()
      forget(placement.link, placement.address)
      reroute()
      addressing.unplace(placement, network)
    },
    forget: ({ links }) => {
      const { network, firewall } = ready()
      const gone = links.flatMap((link) => firewall.addressesOf(link).map((address) => ({ link, address })))
      firewall.unplaceAll(gone)
      reroute()
      // Whoever has such an address now, and did not go with these, keeps it.
      const free = gone.filter(({ link, address }) => !firewall.isElsewhere(address, link))
      addressing.forget([...new Set(free.map(({ address }) => address))], network)
    },
    links: () => wires.list(),
    guard: () => {
      const { firewall } = ready()
      firewall.guard()
      nextHops.keepOnly(firewall.hops())
    },
    counters: () => ready().firewall.counters(),
    replace: ({ paths, sources }) => {
      const { network, firewall } = ready()
      firewall.replace(network, paths, sources)
      nextHops.keepOnly(firewall.hops())
    },
    removeRules: () => {
      nextHops.keepOnly(new Map())
      firewall().remove()
      loaded = null
    },
    detach: ({ links }) => wires.detach(links),
    connect: (share) => hubs.connect(share),
    strays: () => findStrays(host, namespaces),
    /** It becomes a port last, so that one that was begun and not ended is still a stray. */
    rejoin: ({ pid, link, mac: found }) => {
      if (!isStray(find(host, link))) return
      const { network, firewall } = ready()
      const sources = firewall.sourcesOf(link)
      const sandbox = { pid, link, mac: sources[0]?.mac ?? found }
      // Whoever changed its MAC inside gets a new link, which has to be there before its address.
      if (sandbox.mac !== found) wires.attach(sandbox, network)
      for (const { address, mac } of sources) addressing.place({ pid, link, mac, address, owner: null }, network)
      wires.attach(sandbox, network)
    },
  }
}
