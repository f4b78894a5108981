import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceSpec } from '../../../common/service-spec.ts'
import type { Order } from '../../domain/instance.ts'
import type { Json, Template } from '../../domain/template.ts'
import { parseOptions } from './options.ts'

/** Bytes of one secret at most (swarmkit, api/validation/secrets.go: MaxSecretSize is 500 KiB). */
export const MAX_SECRET_BYTES = 500 * 1024

/** Keys of a service in a Compose file that a swarm's API (1.41 to 1.50) has no word for, and what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  privileged: 'a swarm runs no privileged tasks: use the docker backend',
  devices: 'a swarm gives tasks no devices: use the docker backend',
  security_opt: 'a swarm has no security options for tasks: set them in the engines of its nodes',
  cpu_shares: 'a swarm has no weights: use cpus',
  cpuset: 'a swarm does not bind tasks to processors: use cpus',
  memswap_limit: 'a swarm has no limit for swap: leave it out',
  oom_score_adj: 'a swarm does not set it: leave it out',
  depends_on: 'an instance in a swarm is one service so far',
  networks:
    'private networks are of hosts that run unionize: use overlay networks of the swarm, under x-orchestrator.options',
}

/** What can be told before there is an order. @throws InvalidInput naming the key */
export function checkTemplate(template: Template, backend: string): void {
  parseOptions(template.options?.[backend], `x-orchestrator.options.${backend}`)
  const services = mapping(template.stack['services'])
  if (Object.keys(services).length > 1) {
    const message = 'an instance in a swarm is one service so far: make one image of them, or use the docker backend'
    throw new InvalidInput('services', message)
  }
  if (template.outputs.length > 0) {
    throw new InvalidInput('x-orchestrator.outputs', 'nothing reads what a task of a swarm writes: take them away')
  }
  if ((template.wiring?.interfaces.length ?? 0) > 0) {
    throw new InvalidInput('x-orchestrator.wiring.interfaces', 'a task of a swarm has no interfaces of the host')
  }
  for (const [name, service] of Object.entries(services)) {
    for (const [key, value] of Object.entries(mapping(service))) {
      const why = REFUSED[key]
      if (why !== undefined && !isNothing(value)) throw new InvalidInput(`services.${name}.${key}`, why)
      if (key === 'pull_policy' && value === 'never') {
        throw new InvalidInput(`services.${name}.${key}`, 'every node of a swarm asks the registry: use missing')
      }
    }
  }
}

/** What an order asks for that a swarm cannot give, or that checkTemplate could not see. @throws InvalidInput naming it */
export function checkOrder(
  order: Order,
  can: { readonly api: string; readonly nodesForbidNewPrivileges: boolean },
): void {
  const [service, ...others] = order.services
  if (service === undefined || others.length > 0) {
    throw new InvalidInput('services', 'an instance in a swarm is one service so far')
  }
  if (order.outputs) throw new InvalidInput('outputs', 'nothing reads what a task of a swarm writes')
  if ((order.wiring?.interfaces.length ?? 0) > 0) {
    throw new InvalidInput('wiring.interfaces', 'a task of a swarm has no interfaces of the host')
  }
  const refuse = (key: string, why: string) => {
    throw new InvalidInput(`services.${service.name}.${key}`, why)
  }
  for (const [key, isThere, why] of faultsOf(service)) if (isThere) refuse(key, why)
  for (const { kind, target, ...mount } of service.mounts) {
    if (kind === 'volume' && 'volume' in mount && mount.volume !== null) {
      refuse(
        'mounts',
        `${target}: a task that moves finds no volume by name; use one without a name, or a path of all nodes`,
      )
    }
  }
  for (const { target, content } of service.files) {
    if ((content.length / 4) * 3 > MAX_SECRET_BYTES) {
      refuse(
        'files',
        `${target} is larger than the ${MAX_SECRET_BYTES / 1024} KiB that a secret of a swarm holds: put it into the image`,
      )
    }
  }
  checkPrivileges(service, can, refuse)
}

function faultsOf(service: ServiceSpec): readonly (readonly [string, boolean, string])[] {
  const why = (key: string) => REFUSED[key] ?? ''
  return [
    ['privileged', service.privileged, why('privileged')],
    ['devices', service.devices.length > 0, why('devices')],
    ['securityOptions', service.securityOptions.length > 0, why('security_opt')],
    ['cpuShares', service.cpuShares !== undefined, why('cpu_shares')],
    ['cpuset', service.cpuset !== undefined, why('cpuset')],
    ['memorySwapBytes', service.memorySwapBytes !== undefined, why('memswap_limit')],
    ['oomScoreAdjust', service.oomScoreAdjust !== undefined, why('oom_score_adj')],
    ['networks', Object.keys(service.networks ?? {}).length > 0, why('networks')],
    ['sandbox', service.sandbox !== undefined, why('networks')],
    ['dependsOn', service.dependsOn.length > 0, why('depends_on')],
    ['pull', service.pull === 'never', 'every node of a swarm asks the registry: use missing'],
    ['platform', (service.platform?.split('/').length ?? 0) > 2, 'a swarm tells no variants apart: use OS/ARCH'],
  ]
}

/** Engine API from which on a task can be forbidden to gain privileges (Docker 25). */
const NEW_PRIVILEGES_API = '1.44'

function checkPrivileges(
  service: ServiceSpec,
  { api, nodesForbidNewPrivileges }: { readonly api: string; readonly nodesForbidNewPrivileges: boolean },
  refuse: (key: string, why: string) => void,
): void {
  if (service.noNewPrivileges && !nodesForbidNewPrivileges && !knowsNewPrivileges(api)) {
    const remedy =
      'set "no-new-privileges": true in /etc/docker/daemon.json of every node and nodesForbidNewPrivileges in the settings'
    refuse('noNewPrivileges', `engines that speak API ${api} do not know it for tasks of a swarm: ${remedy}`)
  }
  if (!service.noNewPrivileges && nodesForbidNewPrivileges) {
    refuse(
      'noNewPrivileges',
      'the engines of all nodes forbid new privileges, by nodesForbidNewPrivileges of the settings',
    )
  }
}

export function knowsNewPrivileges(api: string): boolean {
  return !isBefore(api, NEW_PRIVILEGES_API)
}

/** Whether a version of the engine's API is an earlier one: 1.9 is before 1.41. */
export function isBefore(api: string, least: string): boolean {
  const [major = 0, minor = 0] = api.split('.').map(Number)
  const [leastMajor = 0, leastMinor = 0] = least.split('.').map(Number)
  return major < leastMajor || (major === leastMajor && minor < leastMinor)
}

function mapping(value: Json | undefined): { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as { [key: string]: Json }) : {}
}

/** What a Compose file may say and not mean anything by it. */
function isNothing(value: Json): boolean {
  if (value === false || value === null) return true
  if (Array.isArray(value))
    return value.every((one) => typeof one === 'string' && /^no-new-privileges(:true)?$/.test(one))
  return typeof value === 'object' && Object.keys(value).length === 0
}
