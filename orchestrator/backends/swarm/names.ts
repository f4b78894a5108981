import { createHash } from 'node:crypto'
import { TASK_LABEL } from '../../../common/task-place.ts'
import type { Order } from '../../domain/instance.ts'

/** Labels of what is ours in a swarm: of services, networks and secrets. */
export const LABEL = {
  ...TASK_LABEL,
  installation: 'org.orchestrator.installation',
  instance: 'org.orchestrator.instance',
  generation: 'org.orchestrator.generation',
  /** The client, as `DUID/IAID`. */
  owner: 'org.orchestrator.owner',
  address: 'org.orchestrator.address',
  /** Name of the host of its lease. */
  home: 'org.orchestrator.home',
  /** Hash of what its tasks are made of: the same needs no update. */
  spec: 'org.orchestrator.spec',
} as const

/** Of a node, set by the operator: the name and the address of the host of ours that it is, where they differ from its own. */
export const NODE_LABEL = { host: 'orchestrator.host', address: 'orchestrator.address' } as const

/** Labels by which all of an instance is found. */
export function labelsOf(installation: string, instance: string): Record<string, string> {
  return { [LABEL.installation]: installation, [LABEL.instance]: instance }
}

/** Labels of its service beside those: they change without a new task. */
export function wordsOf(order: Order, spec: string): Record<string, string> {
  return {
    [LABEL.generation]: String(order.generation),
    [LABEL.owner]: `${order.owner.duid}/${order.owner.iaid}`,
    [LABEL.address]: order.address,
    [LABEL.home]: order.home.name,
    [LABEL.spec]: spec,
  }
}

/** Name of its service and of its network: at most 63 characters, which is what a swarm allows. */
export function nameOf(installation: string, instance: string): string {
  return `orc-${installation.slice(0, 6)}-${instance}`.slice(0, 63)
}

/** Name of a secret: another content, or another instance, is another secret. */
export function secretName(installation: string, instance: string, content: string): string {
  return `${nameOf(installation, instance).slice(0, 47)}-${hashed(`${installation}\0${instance}\0${content}`).slice(0, 16)}`
}

/** SHA-256, hex. */
export function hashed(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
