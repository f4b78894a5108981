import { writeFileSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { deleteAddress, putAddress } from '../kernel/addresses.ts'
import { announce } from '../kernel/announce.ts'
import type { Link } from '../kernel/link.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import { addRoute, deleteRoute, endsHere, getRoute, OUR_PROTOCOL } from '../kernel/routes.ts'
import { addRule, deleteRule, type RuleWish } from '../kernel/rules.ts'
import { waitUntil } from '../waiting.ts'
import { type Action, atEnd, type End, mustFind } from './action.ts'
import { settingFile } from './settings.ts'
import type { AddressWish, PathWish } from './wanted.ts'

/** IFF_LOWER_UP of linux/if.h: there is a carrier. */
const IFF_LOWER_UP = 0x10000
/** Kinds that never tell of a carrier: their operational state remains unknown. */
const CARRIERLESS: readonly string[] = ['vxlan', 'dummy']
/** BR_STATE_LISTENING and BR_STATE_LEARNING of linux/if_bridge.h: the spanning tree decides when to go on. */
const SPANNING: readonly number[] = [1, 2]

/** Writes a setting below /proc/sys/net. `optional`: a kernel without it is fine. */
export function writeSetting(name: string, path: string, value: string, optional: boolean): Action {
  return ({ sandbox }) =>
    sandbox.inside(() => {
      try {
        writeFileSync(settingFile(name, path), value)
      } catch (thrown) {
        const errno = (thrown as NodeJS.ErrnoException).code ?? 'EIO'
        if (errno === 'ENOENT' && optional) return
        const missing = errno === 'ENOENT' ? ': this kernel has no such setting' : ''
        const code = errno === 'EACCES' || errno === 'EROFS' ? 'not-permitted' : 'kernel-refused'
        throw new WiringError(code, `${name}: cannot set ${path} to ${JSON.stringify(value)} (${errno})${missing}`)
      }
    })
}

export function giveAddress(end: End, wish: AddressWish): Action {
  return atEnd(end, (route, link) => {
    const { address, prefixLength, text } = wish
    const bytes = putAddress({ index: link.index, address, prefixLength, protocol: OUR_PROTOCOL })
    route.ask({ interface: link.name, purpose: `give it ${text}`, bytes })
  })
}

/** IPv4: the others of the network stay, which is not the kernel's own way. */
export function takeAddress(end: End, address: Buffer, prefixLength: number, text: string): Action {
  return (ground) => {
    if (address.length === 4 && 'inner' in end)
      writeSetting(end.inner, 'ipv4.conf.promote_secondaries', '1', true)(ground)
    atEnd(end, (route, link) => {
      const bytes = deleteAddress(link.index, address, prefixLength)
      route.ask({ interface: link.name, purpose: `take ${text} from it`, bytes, fine: ['EADDRNOTAVAIL'] })
    })(ground)
  }
}

export function addPath(name: string, wish: PathWish): Action {
  return atEnd({ inner: name }, (route, link) => {
    const { text, ...path } = wish
    const bytes = addRoute({ ...path, index: link.index })
    route.ask({ interface: name, purpose: `route ${text}`, bytes })
  })
}

export function dropPath(name: string, wish: PathWish, protocol: number): Action {
  return atEnd({ inner: name }, (route, link) => {
    const { text, ...path } = wish
    const bytes = deleteRoute({ ...path, protocol, index: link.index })
    route.ask({ interface: name, purpose: `remove the route ${text}`, bytes, fine: ['ESRCH'] })
  })
}

export function putRule(wish: RuleWish, text: string): Action {
  return ({ sandbox }) =>
    void sandbox.route.ask({ purpose: `add the rule ${text}`, bytes: addRule(wish), fine: ['EEXIST'] })
}

export function dropRule(wish: RuleWish, text: string): Action {
  return ({ sandbox }) =>
    void sandbox.route.ask({ purpose: `remove the rule ${text}`, bytes: deleteRule(wish), fine: ['ENOENT'] })
}

/**
 * Waits until packets pass, so that the first one is not lost: until both ends have come up, and the kernel takes packets
 * to new IPv6 addresses, which it does a moment after it acknowledges them (addrconf_dad_work in net/ipv6/addrconf.c).
 * Without a carrier there is nothing to wait for. @throws WiringError `link-not-up`
 */
export function settle(
  name: string,
  outer: Extract<End, { outer: string }> | null,
  addresses: readonly AddressWish[],
): Action {
  return (ground) => {
    let slow = name
    const passing = waitUntil(() => {
      const inner = mustFind(ground.sandbox.route, name)
      slow = name
      if (!isSettled(inner)) return false
      if (outer !== null) {
        slow = outer.outer
        if (!ground.far(outer.to, ({ route }) => isSettled(mustFind(route, outer.outer)))) return false
      }
      const waiting = addresses.find((wish) => wish.family === 'ipv6' && !isTaken(ground.sandbox.route, wish))
      slow = `${name} (${waiting?.text})`
      return waiting === undefined
    })
    if (!passing) throw new WiringError('link-not-up', `${slow} did not come up in time`, { retryable: true })
  }
}

/** Tells the neighbours where the addresses are now. Without a carrier nobody hears it. */
export function tell(name: string, addresses: readonly AddressWish[]): Action {
  return atEnd({ inner: name }, (_, link, ground) => {
    if ((link.flags & IFF_LOWER_UP) === 0) return
    announce(
      ground.sandbox,
      link.index,
      link.mac,
      addresses.map((wish) => wish.address),
    )
  })
}

function isSettled(link: Link): boolean {
  if (!link.up || (link.flags & IFF_LOWER_UP) === 0 || link.passing) return true
  if (link.running && CARRIERLESS.includes(link.kind)) return true
  return link.port !== null && SPANNING.includes(link.port.state)
}

function isTaken(route: RouteSocket, wish: AddressWish): boolean {
  const request = { purpose: `look whether packets to ${wish.text} are taken`, bytes: getRoute(wish.address) }
  const [answer] = route.ask({ ...request, fine: ['ENETUNREACH', 'EHOSTUNREACH'] })
  return answer?.messages.some(endsHere) ?? false
}
