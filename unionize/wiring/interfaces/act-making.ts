import { randomUUID } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { createDevice, type NewDevice } from '../kernel/devices.ts'
import { deleteLink, moveLink, setAlias, setNoLinkLocal, setUp } from '../kernel/links.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import { type Action, type HostAction, mustFind } from './action.ts'
import { findLink, OUR_GROUP } from './host-view.ts'
import { stationMac } from './names.ts'

/** How the alias of an outer end begins, for people and for us. */
export const OUTER_ALIAS = 'unionize: '
/** For people who look at the host. */
const SUPPORT_ALIAS = 'made by unionize for its wirings'
/** IFALIASZ of linux/if.h, less the NUL. */
const ALIAS_LENGTH = 255
const OWN_NAMESPACE = '/proc/thread-self/ns/net'

/** Makes a bridge, up, that goes again with the last port. With a MAC of its own, which it keeps whatever ports come and go. */
export function makeBridge(name: string): Action {
  return ({ host }) =>
    makeSupport(host, {
      name,
      mac: stationMac(randomUUID()),
      device: { kind: 'bridge' },
    })
}

/** Makes a VLAN sub-interface of the host, up, that goes again with the last of those who use it. */
export function makeSubInterface(name: string, parent: string, vlan: number): Action {
  return ({ host }) =>
    makeSupport(host, {
      name,
      parent: mustFind(host, parent).index,
      device: { kind: 'vlan', id: vlan, protocol: '802.1Q' },
    })
}

function makeSupport(host: RouteSocket, device: NewDevice): void {
  const { name } = device
  host.ask({
    interface: name,
    purpose: `make the ${device.device.kind}`,
    bytes: createDevice({ ...device, group: OUR_GROUP }),
  })
  host.ask(
    { interface: name, purpose: 'say what it is', bytes: setAlias(name, SUPPORT_ALIAS) },
    { interface: name, purpose: 'set it up', bytes: setUp(name) },
  )
}

/** Sets up what was made for wirings. */
export function bringSupportUp(name: string): Action {
  return ({ host }) => void host.ask({ interface: name, purpose: 'set it up', bytes: setUp(name) })
}

/** Removes what only wirings stood on. */
export function removeSupport(name: string): HostAction {
  return ({ host }) => {
    host.ask({ interface: name, purpose: 'remove it', bytes: deleteLink(name), fine: ['ENODEV'] })
  }
}

/** A veth pair whose outer end is up, and without an address of its own making. */
export function makePair(pair: {
  name: string
  mac: string | null
  mtu: number | null
  outer: { name: string; mac?: string; mtu: number | null; to: string | undefined; linkLocal: boolean }
  label: string
}): Action {
  const { name, mac, mtu, outer } = pair
  return (ground) =>
    ground.far(outer.to, ({ route }) => {
      const peer = {
        name,
        ...(mac === null ? {} : { mac }),
        ...(mtu === null ? {} : { mtu }),
        namespace: ground.sandbox.namespace,
      }
      const ends = { name: outer.name, ...(outer.mac === undefined ? {} : { mac: outer.mac }) }
      const size = outer.mtu === null ? {} : { mtu: outer.mtu }
      const bytes = createDevice({ ...ends, ...size, device: { kind: 'veth', peer } })
      route.ask({ interface: name, purpose: `make it and its outer end ${outer.name}`, bytes })
      const alias = `${OUTER_ALIAS}${name} of ${pair.label}`.slice(0, ALIAS_LENGTH)
      route.ask(
        { interface: outer.name, purpose: 'say whose outer end it is', bytes: setAlias(outer.name, alias) },
        ...(outer.linkLocal
          ? []
          : [
              {
                interface: outer.name,
                purpose: 'keep it without a link-local address',
                bytes: setNoLinkLocal(outer.name),
              },
            ]),
      )
    })
}

/** Any other kind, made in the namespace on top of what the host has. `parent`: its name on the host. */
export function makeDevice(device: NewDevice, parent: string | null): Action {
  return ({ host, sandbox }) => {
    const below = parent === null ? {} : { parent: mustFind(host, parent).index }
    const bytes = createDevice({ ...device, ...below, namespace: sandbox.namespace })
    host.ask({ interface: device.name, purpose: `make the ${device.device.kind}`, bytes })
  }
}

/** Moves a device of the host in. */
export function bringIn(device: string, name: string): Action {
  return ({ host, sandbox }) => {
    const bytes = moveLink(mustFind(host, device).index, { namespace: sandbox.namespace, name })
    host.ask({ interface: name, purpose: `move ${device} of the host in`, bytes })
  }
}

/** Moves a device to the host, where its name must be free. */
export function takeOut(name: string, formerName: string): Action {
  return (ground) => {
    const link = findLink(ground.sandbox.route, name)
    if (link === null) return
    if (findLink(ground.host, formerName) !== null) {
      throw new WiringError(
        'interface-in-use',
        `${name} cannot return to the host: something else is called ${formerName} there; rename that first`,
      )
    }
    const home = openSync(OWN_NAMESPACE, 'r')
    try {
      const bytes = moveLink(link.index, { namespace: home, name: formerName })
      ground.sandbox.route.ask({ interface: name, purpose: `return it to the host as ${formerName}`, bytes })
    } finally {
      closeSync(home)
    }
  }
}

export function removeInner(name: string): Action {
  return ({ sandbox }) => {
    sandbox.route.ask({ interface: name, purpose: 'remove it', bytes: deleteLink(name), fine: ['ENODEV'] })
  }
}
