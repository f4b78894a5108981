import type { WireOrder } from '../contract.ts'
import type { Placement, Wiring } from '../wiring/wiring.ts'
import { portOf, type Sandbox } from './sandbox.ts'

/** The ways to instances and from them: between an owner's address and a place on the bridge. */
export interface Ways {
  /**
   * Opens the way, or makes sure of it. `my.instance` comes to lead there for an order newer than `former`, which was
   * carried out last; a way that is open for the same order leaves it where it leads.
   */
  open(order: WireOrder, former: WireOrder | null, sandbox: Sandbox): Promise<void>
  /** Closes the way that a former order opened, where this order differs. `sandbox` null: it is gone. */
  closeFormer(order: WireOrder, former: WireOrder | null, sandbox: Sandbox | null): Promise<void>
  /** Takes a sandbox that goes on to live off its place. */
  leave(order: WireOrder, sandbox: Sandbox): Promise<void>
  /** Closes the way to an instance and from it, without asking the engine. `sandbox`: its id, if known. */
  cutOff(order: WireOrder, sandbox: string | null): Promise<void>
}

/** A pid that no process has (PID_MAX_LIMIT in linux/threads.h is 2^22): the sandbox dies next, so nobody undoes what is inside. */
const NO_PROCESS = 0x7fff_ffff

export function createWays(wiring: Wiring): Ways {
  /** By instance, the generation of the order for which `my.instance` came to lead there. */
  const led = new Map<string, number>()

  return {
    async open(order, former, sandbox) {
      await wiring.place(placementOf(order, sandbox))
      const { instance, generation, ownerAddress, address } = order
      const newer = former !== null && generation > Math.max(former.generation, led.get(instance) ?? 0)
      if (newer) await wiring.open({ owner: ownerAddress, instance: address })
      led.set(instance, generation)
    },
    async closeFormer(order, former, sandbox) {
      if (!former || (former.address === order.address && former.ownerAddress === order.ownerAddress)) return
      if (sandbox && former.address !== order.address) await wiring.unplace(placementOf(former, sandbox))
      else await wiring.close({ owner: former.ownerAddress, instance: former.address })
    },
    leave: (order, sandbox) => wiring.unplace(placementOf(order, sandbox)),
    async cutOff(order, sandbox) {
      led.delete(order.instance)
      await wiring.close({ owner: order.ownerAddress, instance: order.address })
      if (sandbox) await wiring.unplace(placementOf(order, { id: sandbox, pid: NO_PROCESS, ...portOf(sandbox) }))
    },
  }
}

function placementOf(order: WireOrder, sandbox: Sandbox): Placement {
  const { pid, link, mac } = sandbox
  const policy = order.wiring?.policy
  return { pid, link, mac, address: order.address, owner: order.ownerAddress, ...(policy ? { policy } : {}) }
}
