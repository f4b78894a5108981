import { OrchestratorError } from '../../../../../common/errors.ts'
import type { Turns } from '../../../turns.ts'
import { TAG } from '../../provider.ts'
import type { NetworkCalls } from './calls/network.ts'
import { saysSo } from './failures.ts'
import { unlessUsed } from './network.ts'

/** Which address a security group admits: one group for all machines whose owners come from the same host. */
const ADMIT = 'orchestrator-admit'

export interface Groups {
  /** The group that admits this address alone; made if there is none. */
  admitting(address: string, vpc: string, signal: AbortSignal): Promise<string>
  /** Removes those of ours that no machine uses. @param used ids of groups. @returns whether all of them are gone */
  remove(used: ReadonlySet<string>, signal: AbortSignal): Promise<boolean>
  /** The next one looks anew: somebody else changed them. */
  forget(): void
}

export function createGroups(calls: NetworkCalls, installation: string, turns: Turns): Groups {
  const ours = { [TAG.installation]: installation }
  const known = new Map<string, string>()

  const find = async (address: string, vpc: string, signal: AbortSignal): Promise<string | undefined> => {
    const found = await calls.groups({ ...ours, [ADMIT]: address }, signal)
    return found.filter((group) => group.vpc === vpc).toSorted((a, b) => (a.id < b.id ? -1 : 1))[0]?.id
  }

  const make = async (address: string, vpc: string, signal: AbortSignal): Promise<string> => {
    const name = `orchestrator-${installation}-${address.replaceAll(':', '-')}`
    const description = `orchestrator ${installation}: admits ${address} alone`
    const group =
      (await find(address, vpc, signal)) ??
      (await calls
        .createGroup(name, vpc, description, { ...ours, [ADMIT]: address, Name: name }, signal)
        .catch(lateToList))
    // Also for one that was found: whoever made it may have crashed before this.
    await calls.admit(group, address, signal).catch((error: unknown) => {
      if (!saysSo(error, /^InvalidPermission\.Duplicate$/)) throw error
    })
    return group
  }

  return {
    admitting(address, vpc, signal) {
      const key = `${vpc} ${address}`
      return turns.take(`group ${key}`, signal, async () => {
        const group = known.get(key) ?? (await make(address, vpc, signal))
        known.set(key, group)
        return group
      })
    },
    async remove(used, signal) {
      known.clear()
      let all = true
      for (const { id } of await calls.groups(ours, signal)) {
        if (!used.has(id) && !(await unlessUsed(calls.deleteGroup(id, signal)))) all = false
      }
      return all
    },
    forget() {
      known.clear()
    },
  }
}

/** EC2 has a group of that name, but its list does not show it yet. */
function lateToList(error: unknown): never {
  if (!saysSo(error, /^InvalidGroup\.Duplicate$/)) throw error
  throw new OrchestratorError('network-pending', 'EC2 does not list the security group yet that was just made', {
    retryable: true,
    retryAfterMs: 2000,
    cause: error,
  })
}
