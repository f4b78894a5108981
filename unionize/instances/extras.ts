import type { WireOrder } from '../contract.ts'
import type { Networks } from '../networks/networks.ts'
import { hasNetworks } from '../networks/plan.ts'
import type { Interfaces } from '../wiring/interfaces/interfaces.ts'
import { inside, type Sandboxes } from './homes.ts'

/**
 * What an order wires beyond an instance's place on the bridge: extra interfaces and private networks. An order that
 * wants none costs nothing here. Every verb may be repeated.
 */
export interface Extras {
  wanted(order: WireOrder): boolean
  /** Wires fresh sandboxes. */
  wire(order: WireOrder, sandboxes: Sandboxes, signal?: AbortSignal): Promise<void>
  /** Makes sandboxes have what `order` wants, and nothing more of what any of `former` wanted. */
  change(order: WireOrder, former: readonly WireOrder[], sandboxes: Sandboxes, signal?: AbortSignal): Promise<void>
  /** Takes an instance off its networks, and undoes the extra interfaces of its sandbox; `former`: its orders. */
  undo(former: readonly WireOrder[], sandbox: string | null, signal?: AbortSignal): Promise<void>
}

export function createExtras(parts: {
  readonly interfaces: Pick<Interfaces, 'wire' | 'unwire'>
  readonly networks: Networks
}): Extras {
  const { interfaces, networks } = parts
  const interfacesOf = (order: WireOrder) => order.wiring?.interfaces ?? []

  const wire: Extras['wire'] = async (order, sandboxes, signal) => {
    const { id, pid } = inside(sandboxes, '')
    const target = { key: keyOf(id), label: order.name, namespace: { pid } }
    if (interfacesOf(order).length > 0) await interfaces.wire(target, { interfaces: interfacesOf(order) })
    if (!hasNetworks(order)) return
    await networks.join(order, new Map([...sandboxes].map(([name, sandbox]) => [name, sandbox.pid])), signal)
  }
  const leave = async (former: readonly WireOrder[], signal?: AbortSignal) => {
    const order = former.find(hasNetworks)
    if (order) await networks.leave(order, signal)
  }
  const unwire = async (former: readonly WireOrder[], sandbox: string) => {
    if (former.some((order) => interfacesOf(order).length > 0)) await interfaces.unwire(keyOf(sandbox))
  }

  return {
    wanted: (order) => hasNetworks(order) || interfacesOf(order).length > 0,
    wire,
    async change(order, former, sandboxes, signal) {
      if (interfacesOf(order).length === 0) await unwire(former, inside(sandboxes, '').id)
      if (!hasNetworks(order)) await leave(former, signal)
      await wire(order, sandboxes, signal)
    },
    async undo(former, sandbox, signal) {
      await leave(former, signal)
      if (sandbox !== null) await unwire(former, sandbox)
    },
  }
}

/** Under which the extra interfaces of a sandbox are kept. */
export function keyOf(sandbox: string): string {
  return `container:${sandbox}`
}
