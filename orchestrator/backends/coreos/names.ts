import type { InstanceId } from '../../domain/instance.ts'

/** Where everything of ours is on a machine. */
export const PLACES = {
  units: '/etc/systemd/system',
  quadlets: '/etc/containers/systemd',
  /** Root's alone, on the disk: environments of services. */
  kept: '/var/lib/orchestrator/instances',
  /** Root's alone, in memory: files of services, outputs. */
  memory: '/run/orchestrator',
  program: '/opt/orchestrator/unionize',
  settings: '/etc/orchestrator/machine.yaml',
} as const

/** The program that wires, whichever version is in force. */
export const UNIONIZE = `${PLACES.program}/current/bin/unionize`
/** The unit that makes the bridge. */
export const NETWORK_UNIT = 'orc-network.service'
/** The image of what owns an instance's network namespace. */
export const SANDBOX_IMAGE = 'orchestrator/pause:1'
/** In `unionize/contract.ts`: bytes of an outputs file at most. */
export const MAX_OUTPUTS_BYTES = 64 * 1024

/** Name of the target that holds all units of an instance together; it is written last, and so tells that they are whole. */
export function targetOf(id: InstanceId): string {
  return `orc-${id}.target`
}
/** What all units, containers and volumes of an instance begin with. Ids never end with a hyphen that another goes on with. */
export function prefixOf(id: InstanceId): string {
  return `orc-${id}-`
}
export function wireOf(id: InstanceId): string {
  return `orc-${id}-wire`
}
/** Of a service: its unit (with `.service`), and its container. `wire` is taken, so each has a letter before its name. */
export function serviceOf(id: InstanceId, service: string): string {
  return `orc-${id}-s-${service}`
}
export function volumeOf(id: InstanceId, volume: string): string {
  return `orc-${id}-v-${volume}`
}
