/** Looks at namespaces for the property test of the wirings: fast, in one process, and knowing nothing of specs. */
import { addressOf, getAllAddresses } from '../../unionize/wiring/kernel/addresses.ts'
import { linkOf } from '../../unionize/wiring/kernel/link.ts'
import { getLinks } from '../../unionize/wiring/kernel/links.ts'
import { Namespaces } from '../../unionize/wiring/kernel/namespaces.ts'
import { RouteSocket } from '../../unionize/wiring/kernel/route-socket.ts'
import { getRoutes, routeOf } from '../../unionize/wiring/kernel/routes.ts'
import { getRules, ruleOf } from '../../unionize/wiring/kernel/rules.ts'
import { answer } from './wiring-remote.ts'

const KERNEL = 2
const FAMILIES = ['ipv4', 'ipv6'] as const
const host = new RouteSocket().configure()
const namespaces = new Namespaces()

answer({
  ready: () => true,
  look: (path: string | null) => (path === null ? look(host) : namespaces.visit({ path }, ({ route }) => look(route))),
})

function look(route: RouteSocket): string[] {
  const purpose = 'look'
  const links = route.dump({ purpose, bytes: getLinks() }).map(linkOf)
  const nameOf = (index: number) => links.find((link) => link.index === index)?.name ?? '?'
  return [
    ...links.map((link) => {
      const port = link.master === 0 ? '' : ` on ${nameOf(link.master)}${link.port?.isolated ? ' isolated' : ''}`
      return `link ${link.name} ${link.kind} mtu ${link.mtu} ${link.up ? 'up' : 'down'}${port}`
    }),
    ...route
      .dump({ purpose, bytes: getAllAddresses() })
      .map(addressOf)
      .filter((address) => !address.address.startsWith('fe80:'))
      .map((address) => `address ${nameOf(address.interfaceIndex)} ${address.address}/${address.prefixLength}`),
    ...FAMILIES.flatMap((family) => route.dump({ purpose, bytes: getRoutes(family) }).map(routeOf))
      .filter((one) => one.protocol !== KERNEL && !one.to.startsWith('ff00:'))
      .map((one) => `route ${nameOf(one.index)} ${one.to} via ${one.via} metric ${one.metric} table ${one.table}`),
    ...FAMILIES.flatMap((family) => route.dump({ purpose, bytes: getRules(family) }).map(ruleOf))
      .filter((rule) => rule.protocol !== KERNEL)
      .map((rule) => `rule ${rule.priority} ${rule.from} ${rule.table}`),
  ].sort()
}
