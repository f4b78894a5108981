import { chmodSync, chownSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LabError } from './command.ts'
import { hostNamespace } from './namespaces.ts'
import { runDirectory, SOURCE_DIRECTORY } from './places.ts'
import { type LabProcess, launch } from './processes.ts'
import { idsOf } from './users.ts'

export type DnsmasqRole = 'clients' | 'instances'

/** Where the lab's dnsmasq and unionize meet; the same layout as in production, below the lab's own folder. */
export interface LeasePlaces {
  readonly journal: string
  readonly leaseFile: string
  /** dnsmasq's hostsdir, written by unionize. */
  readonly names: string
  /** The configuration that dnsmasq@clients runs with. */
  readonly clientsConfig: string
}

export interface DnsmasqOptions {
  /** As dnsmasq writes it: `2m` (its shortest), `1h`; unless told, that of the configuration file. */
  readonly leaseTime?: string
  /** Most leases (dhcp-lease-max); unless told, that of the configuration file. */
  readonly leaseMax?: number
}

/** The paths of the lab `prefix`, without making them. */
export function leasePlaces(prefix: string): LeasePlaces {
  const leases = runDirectory(prefix, 'leases')
  return {
    journal: join(leases, 'journal'),
    leaseFile: join(leases, 'dnsmasq.leases'),
    names: join(runDirectory(prefix, 'unionize'), 'hosts.d'),
    clientsConfig: join(runDirectory(prefix, 'dnsmasq'), 'clients.conf'),
  }
}

/**
 * Makes the folders with the owners that they have in production, and both configurations: the shipped files with the
 * lab's paths and times in place of theirs. Needs the system users.
 */
export function prepareDnsmasq(prefix: string, options: DnsmasqOptions = {}): LeasePlaces {
  const places = leasePlaces(prefix)
  const hook = idsOf('orchestrator-hook')
  const unionize = idsOf('unionize')
  const leases = runDirectory(prefix, 'leases')
  chownSync(leases, hook.uid, unionize.gid)
  chmodSync(leases, 0o2770)
  mkdirSync(places.names, { recursive: true, mode: 0o755 })
  chownSync(places.names, unionize.uid, unionize.gid)
  const script = join(runDirectory(prefix, 'dnsmasq'), 'lease-hook')
  copyFileSync(join(SOURCE_DIRECTORY, 'dnsmasq/lease-hook'), script)
  chmodSync(script, 0o755)

  const shipped = (role: DnsmasqRole): string => readFileSync(join(SOURCE_DIRECTORY, `dnsmasq/${role}.conf`), 'utf8')
  const range = /^dhcp-range=(.*),[^,]+$/m.exec(shipped('clients'))?.[1]
  const common = { hostsdir: places.names }
  writeFileSync(
    places.clientsConfig,
    withSettings(shipped('clients'), {
      ...common,
      'pid-file': pidFile(prefix, 'clients'),
      'dhcp-leasefile': places.leaseFile,
      'dhcp-script': script,
      ...(options.leaseTime === undefined ? {} : { 'dhcp-range': `${range},${options.leaseTime}` }),
      ...(options.leaseMax === undefined ? {} : { 'dhcp-lease-max': String(options.leaseMax) }),
    }),
  )
  writeFileSync(
    join(runDirectory(prefix, 'dnsmasq'), 'instances.conf'),
    withSettings(shipped('instances'), {
      ...common,
      'pid-file': pidFile(prefix, 'instances'),
      'dhcp-leasefile': join(leases, 'dnsmasq-instances.leases'),
    }),
  )
  return places
}

/** Starts dnsmasq in the host's namespace, as its unit does: as root, which it gives up itself. Resolves when it serves. */
export async function startDnsmasq(prefix: string, role: DnsmasqRole, signal?: AbortSignal): Promise<LabProcess> {
  const name = `dnsmasq-${role}`
  const log = join(runDirectory(prefix, 'log'), `${name}.log`)
  const before = statSync(log, { throwIfNoEntry: false })?.size ?? 0
  const config = join(runDirectory(prefix, 'dnsmasq'), `${role}.conf`)
  const started = launch(prefix, {
    name,
    namespace: hostNamespace(prefix),
    command: ['dnsmasq', '--keep-in-foreground', '--log-facility=-', `--conf-file=${config}`],
    environment: { ORCHESTRATOR_JOURNAL: leasePlaces(prefix).journal },
  })
  return await started.ready(() => readFileSync(log).subarray(before).includes(': started, '), 30_000, signal)
}

/**
 * A configuration with other values for some of its settings.
 * @throws LabError 'no-such-setting' unless each of them is there exactly once
 */
export function withSettings(text: string, values: Readonly<Record<string, string>>): string {
  let result = text
  for (const [key, value] of Object.entries(values)) {
    const found = [...result.matchAll(new RegExp(`^${key}=.*$`, 'gm'))]
    const [only] = found
    if (only === undefined || found.length > 1) {
      throw new LabError('no-such-setting', `expected ${key} once in the configuration, found it ${found.length} times`)
    }
    result = `${result.slice(0, only.index)}${key}=${value}${result.slice(only.index + only[0].length)}`
  }
  return result
}

function pidFile(prefix: string, role: DnsmasqRole): string {
  return join(runDirectory(prefix, 'dnsmasq'), `${role}.pid`)
}
