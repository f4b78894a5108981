import { HostUnreachable, OrchestratorError } from '../../../../common/errors.ts'
import type { MachineWay } from '../../../domain/machine.ts'
import { ask } from './ask.ts'
import type { Shell } from './shell.ts'

/**
 * etcd by `etcdctl` on a machine that is a member, over SSH: keys and certificates for etcd stay on the machines, its port need
 * not be open to us, and etcdctl is of the same version as etcd. Its `simple` output is used, as etcdctl 3.4 writes ids in
 * JSON as numbers beyond 2^53.
 */
export interface EtcdMember {
  /** Hex. */
  readonly id: string
  /** Whether it has ever started; '' is then its name. */
  readonly started: boolean
  readonly name: string
  readonly peers: readonly string[]
  readonly learner: boolean
}

/** Where a machine's etcdctl finds its etcd: variables of etcdctl, as `orctl machine config` writes them. */
export const ETCDCTL_ENVIRONMENT = '/etc/orchestrator/etcdctl.env'
/** The unit that runs a machine's etcd, whatever distribution it is. */
export const ETCD_UNIT = 'orchestrator-etcd.service'
const CALL_MS = 30_000
const RUN = `set -a
ETCDCTL_API=3
[ ! -r ${ETCDCTL_ENVIRONMENT} ] || . ${ETCDCTL_ENVIRONMENT}
if command -v etcdctl >/dev/null; then exec etcdctl --command-timeout=10s --write-out=simple "$@"; fi
exec podman exec --env-file ${ETCDCTL_ENVIRONMENT} orchestrator-etcd etcdctl --command-timeout=10s --write-out=simple "$@"`

/**
 * Refusals of the cluster that pass by themselves: for 5 s after a start (the health interval of `strict-reconfig-check`), while
 * another learner catches up, while there is no leader.
 */
const PASSES =
  /unhealthy cluster|too many learner|in sync with leader|etcdserver: (no leader|request timed out)|not enough started/
/** The etcd of that machine does not answer its etcdctl; another member may. */
const SILENT = /deadline exceeded|connection refused|connection error|no such host|transport|EOF/

/** All members. @param via a member that runs */
export async function etcdMembers(shell: Shell, via: MachineWay, stop: AbortSignal): Promise<readonly EtcdMember[]> {
  const out = await etcdctl(shell, via, ['member', 'list'], stop)
  return membersIn(out)
}

/** The output of `etcdctl member list`, one a line: `ID, status, name, peer URLs, client URLs, whether it is a learner`. */
export function membersIn(out: string): readonly EtcdMember[] {
  const lines = out.split('\n').filter((line) => line.trim() !== '')
  return lines.map((line) => {
    const [id = '', status = '', name = '', peers = '', , learner = 'false'] = line.split(', ')
    if (!/^[0-9a-f]{1,16}$/.test(id) || !/^(un)?started$/.test(status)) {
      throw new OrchestratorError('etcd-odd', `etcdctl wrote something else than members: ${line.slice(0, 200)}`)
    }
    return { id, started: status === 'started', name, peers: peers.split(','), learner: learner.trim() === 'true' }
  })
}

/**
 * Tells the cluster of a member before it starts: as a learner, which has no vote before it has caught up, where etcd has
 * those (3.4 and newer).
 */
export async function addEtcdMember(
  shell: Shell,
  via: MachineWay,
  member: { readonly name: string; readonly peer: string },
  stop: AbortSignal,
): Promise<void> {
  const added = ['member', 'add', member.name, `--peer-urls=${member.peer}`]
  try {
    await etcdctl(shell, via, [...added, '--learner'], stop)
  } catch (error) {
    if (!(error instanceof OrchestratorError && /unknown flag/.test(error.message))) throw error
    await etcdctl(shell, via, added, stop)
  }
}

/** Gives a learner its vote. @throws OrchestratorError `etcd-unready` while it has not caught up */
export async function promoteEtcdMember(shell: Shell, via: MachineWay, id: string, stop: AbortSignal): Promise<void> {
  await etcdctl(shell, via, ['member', 'promote', id], stop)
}

/** Gone already is success. */
export async function removeEtcdMember(shell: Shell, via: MachineWay, id: string, stop: AbortSignal): Promise<void> {
  try {
    await etcdctl(shell, via, ['member', 'remove', id], stop)
  } catch (error) {
    if (!(error instanceof OrchestratorError && /member not found/i.test(error.message))) throw error
  }
}

/** Whether all members that have a vote answer. @throws OrchestratorError `etcd-unready` with those that do not */
export async function etcdHealthy(shell: Shell, via: MachineWay, stop: AbortSignal): Promise<void> {
  await etcdctl(shell, via, ['endpoint', 'health', '--cluster'], stop)
}

async function etcdctl(shell: Shell, via: MachineWay, args: readonly string[], stop: AbortSignal): Promise<string> {
  const { code, out, err } = await ask(shell, via, ['sh', '-c', RUN, 'sh', ...args], stop, { withinMs: CALL_MS })
  if (code === 0) return out
  // etcdctl writes a log line, then `Error: …`.
  const said = /^Error: (.*)$/m.exec(err)?.[1] ?? err.trim().split('\n').at(-1) ?? ''
  const message = `etcd on ${via.name}: ${args.slice(0, 2).join(' ')}: ${said.slice(0, 300) || `exit code ${code}`}`
  const later = { retryable: true, retryAfterMs: 2_000 }
  if (PASSES.test(err) || args[0] === 'endpoint') throw new OrchestratorError('etcd-unready', message, later)
  if (SILENT.test(err)) throw new OrchestratorError('etcd-silent', message, later)
  throw new OrchestratorError('etcd-refused', message)
}

/**
 * Does something through the first of these that can: another one may answer where one is down. A refusal that passes is a
 * refusal by the cluster: no other member would say something else.
 */
export async function throughAny<T>(
  machines: readonly MachineWay[],
  work: (via: MachineWay) => Promise<T>,
  stop: AbortSignal,
): Promise<T> {
  let last: unknown = new OrchestratorError('etcd-unready', 'no machine of the inventory is a member of the cluster', {
    retryable: true,
  })
  for (const via of machines) {
    try {
      return await work(via)
    } catch (error) {
      stop.throwIfAborted()
      last = error
      const code = error instanceof OrchestratorError ? error.code : ''
      const asks = error instanceof HostUnreachable || code === 'etcd-silent' || code === 'etcd-refused'
      if (!asks) throw error
    }
  }
  throw last
}
