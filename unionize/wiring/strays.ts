import { readdirSync, statSync } from 'node:fs'
import { WiringError } from './errors.ts'
import { LINK_PREFIX } from './input.ts'
import { getLinks, getNetnsId, type Link, linkOf, netnsIdOf } from './kernel/links.ts'
import type { Namespaces } from './kernel/namespaces.ts'
import type { RouteSocket } from './kernel/route-socket.ts'
import { find, INSIDE } from './wires.ts'
import type { SandboxLink } from './wiring.ts'

/** Whether it is a link of ours that is no port of any bridge: the one it was a port of has been deleted. */
export function isStray(link: Link | null): boolean {
  return link?.kind === 'veth' && link.name.startsWith(LINK_PREFIX) && link.master === 0
}

/** What is behind stray links. */
export interface Strays {
  readonly found: readonly SandboxLink[]
  /** Names of those behind which no process was found that we may look at. */
  readonly unknown: readonly string[]
}

/**
 * The sandboxes behind stray links, by what the kernel knows alone: whoever attached them may have forgotten. Without such
 * links it is one question to the kernel; else each network namespace of this machine is visited once.
 */
export function findStrays(host: RouteSocket, namespaces: Namespaces): Strays {
  const dump = host.dump({ purpose: 'list links', bytes: getLinks() }).map(linkOf)
  const strays = Map.groupBy(dump.filter(isStray), (link) => link.linkNetnsId)
  if (strays.size === 0) return { found: [], unknown: [] }
  const found = processes().flatMap((pid) => {
    try {
      return namespaces.visit(pid, (inside): SandboxLink[] => {
        const ask = { purpose: `find the namespace of process ${pid}`, bytes: getNetnsId(inside.namespace) }
        const [reply] = host.ask(ask)[0]?.messages ?? []
        const behind = strays.get(reply === undefined ? null : netnsIdOf(reply)) ?? []
        const inner = behind.length === 0 ? null : find(inside.route, INSIDE)
        if (inner === null) return []
        const outer = behind.find((link) => link.peer === inner.index && inner.peer === link.index)
        return outer === undefined ? [] : [{ pid, link: outer.name, mac: inner.mac }]
      })
    } catch (thrown) {
      if (thrown instanceof WiringError && PASSED_OVER.has(thrown.code)) return []
      throw thrown
    }
  })
  const unknown = [...strays.values()]
    .flat()
    .flatMap(({ name }) => (found.some(({ link }) => link === name) ? [] : [name]))
  return { found, unknown }
}

/** The host's own namespace, processes that have ended by now, and those of others. */
const PASSED_OVER = new Set(['not-isolated', 'sandbox-gone', 'not-permitted'])
/** As above, of a process that is only asked for its namespace. */
const NOT_OURS = new Set(['ENOENT', 'ESRCH', 'EACCES', 'EPERM'])

/** One process of each network namespace. */
function processes(): number[] {
  const found = new Map<string, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const { dev, ino } = statSync(`/proc/${name}/ns/net`)
      found.set(`${dev}:${ino}`, Number(name))
    } catch (error) {
      if (!NOT_OURS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }
  return [...found.values()]
}
