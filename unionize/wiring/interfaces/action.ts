import { WiringError } from '../errors.ts'
import type { Link } from '../kernel/link.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import type { FarEnd, Ground } from './ground.ts'
import { findLink } from './host-view.ts'
import type { Wanted } from './wanted.ts'

/** Does one thing in the kernel. @throws WiringError */
export type Action = (ground: Ground) => void

/** One that needs nothing of the namespace. */
export type HostAction = (places: Pick<Ground, 'host' | 'ovs'>) => void

/** Which end of an interface: the inner one of this name, or the outer one, which may be in another namespace. */
export type End = { readonly inner: string } | { readonly outer: string; readonly to: string | undefined }

/** Which outer end. */
export type OuterEnd = Extract<End, { outer: string }>

/** The outer end of a wish as it is to be called. */
export function outerEnd({ link, hostName }: Pick<Wanted, 'link' | 'hostName'>): OuterEnd | null {
  return hostName === null ? null : { outer: hostName, to: link.kind === 'veth' ? link.to : undefined }
}

/** Something that needs the socket and the number of an interface. */
export function atEnd(end: End, work: (route: RouteSocket, link: Link, ground: Ground) => void): Action {
  return (ground) => {
    if ('inner' in end) work(ground.sandbox.route, mustFind(ground.sandbox.route, end.inner), ground)
    else ground.far(end.to, ({ route }: FarEnd) => work(route, mustFind(route, end.outer), ground))
  }
}

/** @throws WiringError `link-gone` */
export function mustFind(route: RouteSocket, name: string): Link {
  const link = findLink(route, name)
  if (link !== null) return link
  throw new WiringError('link-gone', `${name} went away while it was being wired: wire it again`, { retryable: true })
}
