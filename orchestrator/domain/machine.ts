import type { Ipv6 } from '../../common/ipv6.ts'
import type { HostName } from './host.ts'

/** How to reach a machine, and how to know that it is the one. */
export interface MachineWay {
  /** One DNS label, unique in its backend: what instances have as their host. */
  readonly name: HostName
  readonly address: Ipv6
  /** TCP port of its SSH server. */
  readonly port: number
  /** Who logs in there; what needs root is done by sudo. */
  readonly user: string
  /** Its public key, as `ssh-ed25519 AAAA…`: any other is refused. */
  readonly hostKey: string
}

/** A machine as the inventory keeps it. Times are epoch ms. */
export interface Machine extends MachineWay {
  readonly labels: Readonly<Record<string, string>>
  /** Gets no new instances; those that it has stay. */
  readonly cordoned: boolean
  /** What is being done to it over more than one step; null: nothing. */
  readonly task: MachineTask | null
  /** Why the last task failed, until the next one begins; null: it did not. */
  readonly fault: { readonly task: MachineTask['kind']; readonly message: string; readonly at: number } | null
  /** Its membership in an etcd cluster; null: it has none. */
  readonly etcd: MachineEtcd | null
  /** What it told when it was last asked; null: it has never answered. */
  readonly seen: MachineFacts | null
  /** Why it did not answer when it was last asked; null: it did. */
  readonly away: string | null
  /** Secrets that were pushed. What they hold is kept nowhere but there. */
  readonly secrets: readonly PushedSecret[]
  /** The last rolling upgrade that it came through. */
  readonly rolled: string | null
  readonly addedAt: number
}

/** @property boot id of the boot (`/proc/sys/kernel/random/boot_id`) */
export interface MachineFacts {
  readonly at: number
  readonly boot: string
  /** `Fedora CoreOS 40.20240416.3.1` */
  readonly system: string
  /** OSTREE_VERSION, else VERSION_ID of os-release(5). */
  readonly version: string
  /** As `systemctl is-system-running` says it: running, degraded, starting … */
  readonly health: string
  /** Units that failed, at most 20. */
  readonly failed: readonly string[]
}

export interface MachineEtcd {
  /** As the member is named, and the URL by which the other members reach it. */
  readonly member: string
  readonly peer: string
  /** `--initial-cluster` for its first start; null: the cluster does not know it yet. */
  readonly cluster: string | null
  readonly state: 'wanted' | 'learner' | 'member'
  /** Why it does not get on; null: it does. */
  readonly problem: string | null
}

/** A secret is there as long as the machine has not restarted since `boot`. */
export interface PushedSecret {
  readonly name: string
  readonly bytes: number
  readonly at: number
  readonly boot: string
}

export type MachineTask = UpgradeTask | RemovalTask

/**
 * `checking` whether it is needed; `installing`; `restarting`: asked to; `proving`: is it well after the restart?
 * A step may be repeated; `boot` tells whether the restart is over.
 */
export interface UpgradeTask {
  readonly kind: 'upgrade'
  /** Version that it is to have; null: the newest that it finds. */
  readonly to: string | null
  readonly step: 'checking' | 'installing' | 'restarting' | 'proving'
  /** When the step began. */
  readonly since: number
  /** Boot before the restart. */
  readonly boot: string | null
  /** Whether it was cordoned before: then it stays so. */
  readonly wasCordoned: boolean
  /** The rolling upgrade that it is part of; null: none. */
  readonly roll: string | null
}

/** `draining`: its instances are placed elsewhere; `leaving`: etcd, then what we installed there, then the inventory. */
export interface RemovalTask {
  readonly kind: 'removal'
  /** It will not answer again: nothing is asked of it. */
  readonly dead: boolean
  readonly step: 'draining' | 'leaving'
  readonly since: number
  /** Why it does not get on; null: it does. */
  readonly problem: string | null
}

/** An upgrade of several machines, one at a time. */
export interface Roll {
  readonly id: string
  readonly to: string | null
  /** In this order; the first is at work while the state is `running`. */
  readonly left: readonly HostName[]
  readonly done: readonly HostName[]
  readonly state: 'running' | 'stopped' | 'done'
  /** Why it stopped; null: it did not. */
  readonly fault: string | null
  readonly beganAt: number
}

/** One word on how a machine stands. */
export function machineStatus({ task, fault, seen, away, cordoned }: Machine): string {
  if (task !== null) return task.kind === 'upgrade' ? 'upgrading' : 'removing'
  if (fault !== null) return 'failed'
  if (seen === null && away === null) return 'new'
  if (away !== null) return 'away'
  return cordoned ? 'cordoned' : 'ready'
}
