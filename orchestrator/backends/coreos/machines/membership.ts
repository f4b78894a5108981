import { wording } from '../../../../common/errors.ts'
import type { Machine, MachineEtcd } from '../../../domain/machine.ts'
import {
  addEtcdMember,
  type EtcdMember,
  etcdHealthy,
  etcdMembers,
  promoteEtcdMember,
  removeEtcdMember,
  throughAny,
} from './etcd.ts'
import type { Inventory } from './inventory.ts'
import type { Shell } from './shell.ts'

/** What the membership of machines in an etcd cluster needs. */
export interface MembershipContext {
  readonly inventory: Inventory
  readonly shell: Shell
}

/**
 * One step towards membership: told to the cluster before it boots, then promoted once it has caught up. Members of a
 * cluster that was begun by all of them at once are only noted.
 * @returns whether it is a member with a vote now
 */
export async function joinEtcd(context: MembershipContext, machine: Machine, stop: AbortSignal): Promise<boolean> {
  const { inventory, shell } = context
  const { etcd } = machine
  if (etcd === null || etcd.state === 'member') return true
  const others = votersBut(inventory, machine)
  // The first of a cluster can be asked only itself.
  const ways = others.length > 0 || machine.away !== null || machine.seen === null ? others : [machine]
  try {
    const { next, members } = await throughAny(
      ways,
      async (via) => {
        const before = await etcdMembers(shell, via, stop)
        const own = memberOf(before, etcd)
        if (own === undefined && via.name !== machine.name) {
          await addEtcdMember(shell, via, { name: etcd.member, peer: etcd.peer }, stop)
        } else if (own?.started && own.learner) await promoteEtcdMember(shell, via, own.id, stop)
        const members = await etcdMembers(shell, via, stop)
        const now = memberOf(members, etcd)
        const next = now?.started && !now.learner ? 'member' : now === undefined ? 'wanted' : 'learner'
        return { next, members } as const
      },
      stop,
    )
    const cluster = clusterText(members, inventory)
    await note(inventory, machine, { state: next, cluster: next === 'wanted' ? null : cluster, problem: null })
    return next === 'member'
  } catch (error) {
    stop.throwIfAborted()
    await note(inventory, machine, { problem: wording(error, 300) })
    return false
  }
}

/** Takes it out of its cluster. Nothing to do where no other machine is in one. @throws OrchestratorError `etcd-unready` */
export async function leaveEtcd(context: MembershipContext, machine: Machine, stop: AbortSignal): Promise<void> {
  const { inventory, shell } = context
  const { etcd } = machine
  const others = votersBut(inventory, machine)
  if (etcd === null || others.length === 0) return
  await throughAny(
    others,
    async (via) => {
      const own = memberOf(await etcdMembers(shell, via, stop), etcd)
      if (own !== undefined) await removeEtcdMember(shell, via, own.id, stop)
    },
    stop,
  )
}

/** Whether the cluster of this machine can do without it for a while, or has it back. @throws OrchestratorError `etcd-unready` */
export async function etcdWell(context: MembershipContext, machine: Machine, stop: AbortSignal): Promise<void> {
  if (machine.etcd?.state !== 'member') return
  await throughAny([machine], (via) => etcdHealthy(context.shell, via, stop), stop)
}

/** Machines whose etcd can be asked about another one. */
function votersBut(inventory: Inventory, machine: Machine): Machine[] {
  return inventory.all().filter(({ name, etcd, task }) => {
    const dead = task?.kind === 'removal' && task.dead
    return name !== machine.name && etcd?.state === 'member' && !dead
  })
}

function memberOf(members: readonly EtcdMember[], { peer }: MachineEtcd): EtcdMember | undefined {
  return members.find(({ peers }) => peers.includes(peer))
}

/** `--initial-cluster` of a member that is to start: one that has never started has told no name, the inventory has it. */
function clusterText(members: readonly EtcdMember[], inventory: Inventory): string {
  const named = new Map(inventory.all().flatMap(({ etcd }) => (etcd === null ? [] : [[etcd.peer, etcd.member]])))
  return members
    .flatMap(({ name, peers }) => peers.map((peer) => `${name || (named.get(peer) ?? '')}=${peer}`))
    .join(',')
}

async function note(inventory: Inventory, machine: Machine, change: Partial<MachineEtcd>): Promise<void> {
  await inventory.change(machine.name, (now) => {
    if (now.etcd === null) return null
    const etcd = { ...now.etcd, ...change }
    return JSON.stringify(etcd) === JSON.stringify(now.etcd) ? null : { ...now, etcd }
  })
}
