import { z } from 'zod'
import { type Networked, networkFaults, networksShape } from './private-networks.ts'
import { policyShape } from './wiring-policy.ts'
import { wiringShape } from './wiring-spec.ts'

/** The interface of an instance on the instances' bridge, and names that are the kernel's or those of private networks. */
const TAKEN = /^(eth0|lo|all|default|net-.*)$/

/**
 * What an instance has beyond its place on the instances' bridge. A template says it and an order carries it unchanged:
 * nothing that a lease or its owner says ever gets in here, so only the operator can ask for a device of the host.
 */
export const instanceWiringShape = z.strictObject({
  /** Extra interfaces in the sandbox of the instance. */
  interfaces: wiringShape.shape.interfaces
    .refine((list) => list.every((i) => !TAKEN.test(i.name)), 'expected names other than eth0, lo, all, default, net-…')
    .default([]),
  /** Who else reaches the instance, and what it may reach; absent: its owner alone, and nothing. */
  policy: policyShape.optional(),
  /** Private networks of the client; services are put on them by name. */
  networks: networksShape.default({}),
})

export type InstanceWiring = z.infer<typeof instanceWiringShape>

/** Adds to `context` every fault in how services and wiring go together. */
export function checkWiring(
  services: readonly Networked[],
  wiring: InstanceWiring | undefined,
  servicePath: (service: Networked) => readonly (string | number)[],
  context: z.RefinementCtx,
): void {
  for (const { path, message } of networkFaults(services, wiring?.networks ?? {}, servicePath)) {
    context.addIssue({ code: 'custom', path: [...path], message })
  }
}
