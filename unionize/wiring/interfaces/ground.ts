import { readFileSync } from 'node:fs'
import { WiringError } from '../errors.ts'
import { close, errnoName, getsockopt, lastErrno, socket } from '../kernel/libc.ts'
import type { Namespaces, Sandbox } from '../kernel/namespaces.ts'
import type { RouteSocket } from '../kernel/route-socket.ts'
import type { OpenVswitch } from '../ovs/open-vswitch.ts'
import type { Namespace } from './interfaces.ts'
import type { Kept } from './state.ts'

const AF_NETLINK = 16
const SOCK_RAW_CLOEXEC = 3 | 0o2000000
const SOL_SOCKET = 1
const SO_NETNS_COOKIE = 71
/** Codes of a namespace that is no more, whichever way it was named. */
const GONE: readonly string[] = ['sandbox-gone', 'namespace-gone']

/** One end of a veth pair that is not in the wired namespace: another namespace, or this host's own. */
export interface FarEnd {
  readonly route: RouteSocket
  /** Null: this host's own namespace. */
  readonly sandbox: Sandbox | null
}

/** The namespace that is being wired, and all that can be reached from it, while it is open. */
export interface Ground {
  readonly host: RouteSocket
  readonly sandbox: Sandbox
  readonly ovs: OpenVswitch
  /** Where a veth pair leads; `to` as in the spec, undefined: this host. @throws WiringError `namespace-gone` */
  far<T>(to: string | undefined, work: (end: FarEnd) => T): T
}

/** What a wiring is done with. */
export interface Places {
  readonly host: RouteSocket
  readonly namespaces: Namespaces
  readonly ovs: OpenVswitch
}

/** @throws WiringError `namespace-gone`, `not-isolated`, `not-permitted` */
export function onGround<T>(
  places: Places,
  target: {
    readonly label: string
    readonly namespace: Namespace
    readonly peers: Readonly<Record<string, Namespace>>
  },
  work: (ground: Ground) => T,
): T {
  const { host, namespaces, ovs } = places
  const enter = <R>(namespace: Namespace, label: string, inside: (sandbox: Sandbox) => R): R => {
    // What `inside` throws passes as it is: only finding the namespace is told in other words.
    const outcome: { value?: { of: R }; thrown?: { what: unknown } } = {}
    try {
      namespaces.visit(namespace, (sandbox) => {
        try {
          outcome.value = { of: inside(sandbox) }
        } catch (thrown) {
          outcome.thrown = { what: thrown }
        }
      })
    } catch (thrown) {
      if (isGone(thrown)) throw gone(label, thrown)
      throw thrown
    }
    if (outcome.thrown !== undefined) throw outcome.thrown.what
    if (outcome.value === undefined) throw new WiringError('wiring-fault', `${label} was not visited`)
    return outcome.value.of
  }
  return enter(target.namespace, target.label, (sandbox) =>
    work({
      host,
      sandbox,
      ovs,
      far: (to, atEnd) => {
        if (to === undefined) return atEnd({ route: host, sandbox: null })
        const namespace = peerOf(to, target.peers)
        return enter(namespace, to, (other) => atEnd({ route: other.route, sandbox: other }))
      },
    }),
  )
}

/** The same for a wiring that is remembered; null when its namespace is no more, also if another has taken its place. */
export function ifAlive<T>(places: Places, kept: Kept, work: (ground: Ground) => T): T | null {
  try {
    return onGround(places, kept, (ground) => (identityOf(ground.sandbox) === kept.identity ? work(ground) : null))
  } catch (thrown) {
    if (isGone(thrown)) return null
    throw thrown
  }
}

/** Whether an error says that a namespace is no more. */
function isGone(thrown: unknown): boolean {
  return thrown instanceof WiringError && GONE.includes(thrown.code)
}

/** What tells this namespace from every other, also from later ones: the boot and the kernel's own number, which it never gives again. */
export function identityOf(sandbox: Sandbox): string {
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${sandbox.inside(cookie)}`
}

/** Of a veth pair's words `to`, those that say themselves which namespace is meant. @throws WiringError `namespace-gone` */
function peerOf(to: string, peers: Readonly<Record<string, Namespace>>): Namespace {
  const told = Object.hasOwn(peers, to) ? peers[to] : undefined
  if (told !== undefined) return told
  const pid = /^pid:(\d{1,10})$/.exec(to)?.[1]
  if (pid !== undefined) return { pid: Number(pid) }
  const name = /^netns:(.+)$/.exec(to)?.[1]
  if (name !== undefined) return { path: name.startsWith('/') ? name : `/run/netns/${name}` }
  throw new WiringError('namespace-gone', `there is no namespace of ${to}: start it first`)
}

function gone(label: string, cause: unknown): WiringError {
  return new WiringError('namespace-gone', `${label} has no network namespace any more: it ended or was removed`, {
    cause,
  })
}

/** SO_NETNS_COOKIE, since Linux 5.14. */
function cookie(): bigint {
  const fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0)
  if (fd < 0) throw unknown()
  try {
    const value = Buffer.alloc(8)
    const length = Buffer.from([8, 0, 0, 0])
    if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, value, length) < 0) throw unknown()
    return value.readBigUInt64LE()
  } finally {
    close(fd)
  }
}

function unknown(): WiringError {
  const errno = errnoName(lastErrno())
  return new WiringError('kernel-refused', `cannot tell which namespace this is (${errno}): Linux 5.14 is needed`)
}
