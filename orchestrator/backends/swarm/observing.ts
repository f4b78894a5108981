import { NoRoom, OrchestratorError } from '../../../common/errors.ts'
import { parseIpv6 } from '../../../common/ipv6.ts'
import type { InstanceId, Observed, Reach } from '../../domain/instance.ts'
import type { Node, Service, Task } from './answers.ts'
import { LABEL, NODE_LABEL } from './names.ts'

/** Milliseconds until it makes sense to look again at a task that starts. */
export const AGAIN_MS = 1_000

/** The states of a task before it runs (swarmkit, design/task_model.md). */
const BEFORE = new Set(['new', 'allocated', 'pending', 'assigned', 'accepted', 'preparing', 'ready', 'starting'])

/** A service of ours as it stands. @param tasks those of the service; @param nodes by id */
export function observe(service: Service, tasks: readonly Task[], nodes: ReadonlyMap<string, Node>): Observed {
  const { Labels: labels } = service.Spec
  const task = current(tasks)
  const common = {
    instance: (labels[LABEL.instance] ?? '') as InstanceId,
    generation: Number(labels[LABEL.generation] ?? 0),
    address: addressIn(labels),
  }
  // What ended as it was to end stays so: the swarm runs no other in its place.
  if (task?.Status.State === 'complete' && conditionOf(service) !== 'any') return { ...common, state: 'running' }
  if (task === null || ended(task)) {
    const why = lastFault(tasks) ?? 'the swarm runs no task of it'
    return { ...common, state: 'stopped', detail: why.slice(0, 2000) }
  }
  if (BEFORE.has(task.Status.State)) {
    return { ...common, state: 'starting', againMs: AGAIN_MS, detail: sayingOf(task) }
  }
  // Until the swarm has begun with an update, or with going back from one, what runs is of another spec.
  if (specOf(task) !== labels[LABEL.spec]) {
    return { ...common, state: 'starting', againMs: AGAIN_MS, detail: 'the swarm is about to replace its task' }
  }
  const updating = service.UpdateStatus?.State === 'updating'
  if (updating) return { ...common, state: 'starting', againMs: AGAIN_MS, detail: 'the swarm watches its new task' }
  const node = nodes.get(task.NodeID ?? '')
  if (node === undefined)
    return { ...common, state: 'partial', detail: 'the swarm does not know the node that runs it' }
  try {
    const reach = reachOf(node, labels[LABEL.home] ?? '')
    return { ...common, state: 'running', ...(reach === null ? {} : { reach }) }
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error
    return { ...common, state: 'partial', detail: error.message }
  }
}

/** How the host of its lease leads to it; null: the node is that host. @throws OrchestratorError `node-address-missing` */
export function reachOf(node: Node, home: string): Reach | null {
  if (hostOf(node) === home) return null
  const via = addressOf(node)
  if (via !== null) return { kind: 'routed', via }
  const name = node.Description.Hostname
  const remedy = `docker node update --label-add ${NODE_LABEL.address}=IPV6-ADDRESS ${name}`
  const message = `node ${name} is known to the swarm by no IPv6 address: tell the one that other hosts reach: ${remedy}`
  throw new OrchestratorError('node-address-missing', message, { retryable: true })
}

/** Name of the host of ours that a node is. */
export function hostOf(node: Node): string {
  return node.Spec.Labels?.[NODE_LABEL.host] ?? node.Description.Hostname.split('.')[0] ?? ''
}

/** IPv6 address by which other machines reach a node; null: none is known. */
export function addressOf(node: Node): ReturnType<typeof parseIpv6> | null {
  const label = node.Spec.Labels?.[NODE_LABEL.address]
  const managing = node.ManagerStatus?.Addr.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  for (const text of [label, managing, node.Status.Addr]) {
    try {
      if (text !== undefined && text !== '') return parseIpv6(text)
    } catch {
      // An IPv4 address, or a name: the next one may do.
    }
  }
  return null
}

/** The task that is meant to run; else the last of all; null: there is none. */
export function current(tasks: readonly Task[]): Task | null {
  const latest = tasks.toSorted((a, b) => b.CreatedAt.localeCompare(a.CreatedAt))
  return latest.find(({ DesiredState }) => DesiredState === 'running' || DesiredState === 'ready') ?? latest[0] ?? null
}

function specOf({ Spec }: Task): string | undefined {
  return Spec.ContainerSpec?.Labels?.[LABEL.spec]
}

function conditionOf({ Spec }: Service): string {
  return (Spec.TaskTemplate['RestartPolicy'] as { Condition?: string } | undefined)?.Condition ?? 'any'
}

function ended({ Status: { State } }: Task): boolean {
  return State !== 'running' && !BEFORE.has(State)
}

/** What the last task that ended said; null: none did, or it ended as it should. */
export function lastFault(tasks: readonly Task[]): string | null {
  const failed = tasks.filter(({ Status }) => Status.State === 'failed' || Status.State === 'rejected')
  const last = failed.toSorted((a, b) => b.Status.Timestamp.localeCompare(a.Status.Timestamp))[0]
  return last === undefined ? null : `its task ended: ${last.Status.Err || last.Status.Message || last.Status.State}`
}

/** What a task that does not run yet says of itself. */
function sayingOf({ Status: { State, Message, Err } }: Task): string {
  return [`${State}: ${Message ?? ''}`, ...(Err ? [Err] : [])].join(': ').slice(0, 2000)
}

/** No node fits, by the scheduler's own words (swarmkit, manager/scheduler: "no suitable node (…)"). */
const NO_NODE = /no suitable node/i
/** The engine's words for an image that is nowhere (moby, daemon/images). */
const NO_IMAGE = /no such image|manifest unknown|pull access denied|not found: manifest/i

/** @throws NoRoom when no node fits, OrchestratorError `image-missing`, `task-failed` when what was started ends again */
export function mustStart(service: Service, tasks: readonly Task[]): void {
  const task = current(tasks)
  const pending = task?.Status.Err ?? ''
  if (task !== null && BEFORE.has(task.Status.State) && NO_NODE.test(pending))
    throw new NoRoom(`the swarm has ${pending}`)
  const since = Date.parse(service.UpdatedAt)
  const recent = tasks.filter(({ Status }) => Date.parse(Status.Timestamp) >= since)
  const fault = lastFault(recent)
  if (fault === null || task?.Status.State === 'running') return
  const image = String(service.Spec.TaskTemplate.ContainerSpec['Image'])
  if (NO_IMAGE.test(fault)) {
    const remedy = 'push it to a registry that every node reaches, load it into each of them, or correct the template'
    throw new OrchestratorError('image-missing', `image ${image} is on no node of the swarm (${fault}): ${remedy}`, {
      retryable: true,
    })
  }
  throw new OrchestratorError('task-failed', fault, { retryable: true })
}

function addressIn(labels: Readonly<Record<string, string>>): Observed['address'] {
  try {
    return parseIpv6(labels[LABEL.address] ?? '')
  } catch {
    return null // a label that somebody changed: told as an instance without an address
  }
}
