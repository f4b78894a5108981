import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from './until.ts'

/** A real DHCP server in a network namespace, and what it tells of its leases. */
export interface DhcpServer {
  /** Everything that it logged so far. */
  log(): string
  /** Addresses that are leased now. */
  leased(): string[]
  stop(): Promise<void>
}

/** Where a server runs, and what it gives. */
export interface ServerPlace {
  /** Name of a network namespace. */
  readonly namespace: string
  readonly link: string
  readonly folder: string
}

/** Seconds after which Kea has its clients renew. */
export const KEA_RENEW_SECONDS = 2

/** dnsmasq for both families, with router advertisements; its shortest lease is 2 minutes. */
export async function startDnsmasq(
  place: ServerPlace,
  ranges: { v4: string; v6: string },
  extra: readonly string[] = [],
): Promise<DhcpServer> {
  const { folder, link } = place
  mkdirSync(folder, { recursive: true })
  const [log, leases] = [join(folder, 'dnsmasq.log'), join(folder, 'dnsmasq.leases')]
  const child = start(place, [
    ...['dnsmasq', '--conf-file=/dev/null', '--keep-in-foreground', '--user=root', '--port=0', '--log-dhcp'],
    ...[`--interface=${link}`, '--bind-interfaces', `--log-facility=${log}`, `--pid-file=${join(folder, 'pid')}`],
    ...[`--dhcp-leasefile=${leases}`, '--dhcp-authoritative', '--no-ping', '--enable-ra'],
    ...[`--dhcp-range=${ranges.v4},2m`, `--dhcp-range=${ranges.v6},2m`],
    ...extra,
  ])
  await until('dnsmasq runs', () => existsSync(log) && readFileSync(log, 'utf8').includes(': started, '))
  return {
    log: () => readFileSync(log, 'utf8'),
    // Time, MAC or IAID, address, …; the server's own DUID has a line of its own.
    leased: () =>
      readFileSync(leases, 'utf8')
        .split('\n')
        .map((line) => line.split(' '))
        .flatMap(([time, , address]) => (address !== undefined && time !== 'duid' ? [address] : [])),
    stop: () => end(child),
  }
}

/** One of Kea's two servers, with leases of some seconds. */
export async function startKea(
  place: ServerPlace,
  family: 4 | 6,
  range: { subnet: string; pool: string; options: readonly { name: string; data: string }[] },
): Promise<DhcpServer> {
  const { folder, link } = place
  mkdirSync(folder, { recursive: true })
  const file = (name: string) => join(folder, `kea${family}${name}`)
  const { subnet, pool, options } = range
  const configuration = {
    [`Dhcp${family}`]: {
      'interfaces-config': { interfaces: [link] },
      'lease-database': { type: 'memfile', persist: true, name: file('.csv') },
      ...(family === 6 ? { 'data-directory': folder, 'preferred-lifetime': 30 } : {}),
      ...{ 'valid-lifetime': 40, 'renew-timer': KEA_RENEW_SECONDS, 'rebind-timer': 20 },
      'option-data': options,
      [`subnet${family}`]: [{ subnet, pools: [{ pool }], ...(family === 6 ? { interface: link } : {}) }],
      loggers: [{ name: `kea-dhcp${family}`, severity: 'INFO', output_options: [{ output: file('.log') }] }],
    },
  }
  writeFileSync(file('.json'), JSON.stringify(configuration))
  const log = () => (existsSync(file('.log')) ? readFileSync(file('.log'), 'utf8') : '')
  const former = log().length
  const child = start(place, [`kea-dhcp${family}`, '-c', file('.json')])
  await until('Kea runs', () => log().slice(former).includes(`DHCP${family}_STARTED`))
  return { log, leased: () => keaLeases(readFileSync(file('.csv'), 'utf8')), stop: () => end(child) }
}

/** Kea appends a line for each change: the last of an address counts; lifetime 0 or a state other than 0 ended it. */
function keaLeases(csv: string): string[] {
  const [header = '', ...lines] = csv.trim().split('\n')
  const column = (name: string) => header.split(',').indexOf(name)
  const last = new Map(lines.map((line) => [line.split(',')[0] ?? '', line.split(',')]))
  return [...last]
    .filter(([, fields]) => fields[column('valid_lifetime')] !== '0' && fields[column('state')] === '0')
    .map(([address]) => address)
}

function start(place: ServerPlace, command: readonly string[]): ChildProcess {
  return spawn('nsenter', [`--net=/run/netns/${place.namespace}`, ...command], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, KEA_PIDFILE_DIR: place.folder, KEA_LOCKFILE_DIR: place.folder },
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
}
