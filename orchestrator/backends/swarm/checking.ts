import type { TargetCheck } from '../backend.ts'
import type { SwarmEngine } from './engine.ts'
import { NODE_LABEL } from './names.ts'
import { addressOf, hostOf } from './observing.ts'
import type { SwarmSettings } from './settings.ts'
import { knowsNewPrivileges } from './support.ts'

/** Asks a swarm what it is, changing nothing. */
export async function checked(engine: SwarmEngine, settings: SwarmSettings, signal: AbortSignal): Promise<TargetCheck> {
  const version = await engine.version(signal)
  const { manager, swarm } = await engine.about(signal)
  const nodes = await engine.nodes(signal)
  const managers = nodes.flatMap((node) => node.ManagerStatus ?? [])
  const reachable = managers.filter(({ Reachability }) => Reachability === 'reachable')
  const ready = nodes.filter(({ Status, Spec }) => Status.State === 'ready' && Spec.Availability === 'active')
  const missing: string[] = []
  if (managers.length < 3) {
    missing.push(
      `it has ${managers.length} manager(s), so that it cannot lose one: promote nodes until there are three or five`,
    )
  }
  if (reachable.length < managers.length) {
    missing.push(
      `${managers.length - reachable.length} of its ${managers.length} managers are away: bring them back, or demote them`,
    )
  }
  if (ready.length === 0) missing.push('no node takes tasks: "docker node ls" says why')
  for (const node of nodes.filter((one) => addressOf(one) === null)) {
    const { Hostname: host } = node.Description
    missing.push(
      `node ${host} has no IPv6 address that other hosts reach: docker node update --label-add ${NODE_LABEL.address}=IPV6-ADDRESS ${host}`,
    )
  }
  if (!knowsNewPrivileges(version.ApiVersion) && !settings.nodesForbidNewPrivileges) {
    missing.push(
      'its engines cannot forbid single tasks to gain privileges: set "no-new-privileges": true in daemon.json of every node, and nodesForbidNewPrivileges in the settings',
    )
  }
  return {
    version: `Docker Swarm ${version.Version} (API ${version.ApiVersion}), ${swarm}, asked through ${manager}`,
    abilities: [
      `${reachable.length} of ${managers.length} managers, ${ready.length} of ${nodes.length} nodes take tasks`,
      `hosts: ${nodes.map(hostOf).join(', ')}`,
      'services, overlay networks and secrets may be listed',
    ],
    missing,
  }
}
