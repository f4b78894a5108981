import { WiringError } from '../errors.ts'
import { deletePortVlans, setPortVlans, type VlanRange } from '../kernel/bridge-vlans.ts'
import { changeDevice, type DeviceChange } from '../kernel/devices.ts'
import { rename, setDown, setMac, setMaster, setMtu, setNoLinkLocal, setPortOptions, setUp } from '../kernel/links.ts'
import { type Action, atEnd, type End, mustFind } from './action.ts'
import { findLink } from './host-view.ts'

export function filterVlans(bridge: string): Action {
  const bytes = changeDevice(bridge, { kind: 'bridge', vlanFiltering: true })
  return ({ host }) => void host.ask({ interface: bridge, purpose: 'let it tell VLANs apart', bytes })
}

/** Changes what is special about its kind. */
export function adapt(end: End, device: DeviceChange): Action {
  return atEnd(end, (route, link) => {
    route.ask({
      interface: link.name,
      purpose: 'change what is special about it',
      bytes: changeDevice(link.index, device),
    })
  })
}

export function giveMac(end: End, mac: string): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: `give it the MAC ${mac}`, bytes: setMac(link.index, mac) })
  })
}

export function giveMtu(end: End, mtu: number): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: `set its MTU to ${mtu}`, bytes: setMtu(link.index, mtu) })
  })
}

export function bringUp(end: End): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: 'set it up', bytes: setUp(link.index) })
  })
}

export function bringDown(end: End): Action {
  return atEnd(end, (route, link) => {
    route.ask({ interface: link.name, purpose: 'set it down', bytes: setDown(link.index) })
  })
}

/** Before Linux 6 only what is down can be renamed. */
export function renameOuter(end: Extract<End, { outer: string }>, name: string): Action {
  return atEnd(end, (route, link) => {
    route.ask(
      { interface: link.name, purpose: 'set it down', bytes: setDown(link.index) },
      { interface: link.name, purpose: `rename it to ${name}`, bytes: rename(link.index, name) },
      { interface: name, purpose: 'set it up', bytes: setUp(link.index) },
    )
  })
}

export function withoutLinkLocal(end: End): Action {
  return atEnd(end, (route, link) => {
    const bytes = setNoLinkLocal(link.index)
    route.ask({ interface: link.name, purpose: 'keep it without a link-local address', bytes })
  })
}

/** Makes an end a port of the bridge of this name. */
export function enslave(outer: string, bridge: string): Action {
  return ({ host }) => {
    const master = findLink(host, bridge)
    if (master === null) throw new WiringError('bridge-missing', `bridge ${bridge} went away`, { retryable: true })
    host.ask({ interface: outer, purpose: `make it a port of ${bridge}`, bytes: setMaster(outer, master.index) })
  }
}

export function isolate(outer: string, isolated: boolean): Action {
  const purpose = isolated ? 'isolate it from other isolated ports' : 'let it reach isolated ports'
  return ({ host }) => void host.ask({ interface: outer, purpose, bytes: setPortOptions(outer, { isolated }) })
}

export function portVlans(outer: string, drop: readonly VlanRange[], put: readonly VlanRange[]): Action {
  return ({ host }) => {
    const link = mustFind(host, outer)
    const requests = [
      ...(drop.length === 0 ? [] : [{ purpose: 'take VLANs from it', bytes: deletePortVlans(link.index, drop) }]),
      ...(put.length === 0 ? [] : [{ purpose: 'give it its VLANs', bytes: setPortVlans(link.index, put) }]),
    ]
    if (requests.length > 0) host.ask(...requests.map((request) => ({ ...request, interface: outer })))
  }
}
