import { OWN_FOLDER } from '../kernel/seclusion.ts'

/** What an interface asks servers for. */
export interface DhcpInterface {
  /** Inside the namespace, as the kernel has it. */
  readonly name: string
  readonly mac: string
  readonly families: readonly ('ipv4' | 'ipv6')[]
  /** Told to servers (option 12 of RFC 2132, RFC 4704); null: none. A DNS label. */
  readonly hostname: string | null
  /** Whether a default route of a DHCPv4 server is taken; false where the wiring has a gateway of its own. */
  readonly gateway: boolean
}

/** A DUID-LL of an Ethernet MAC (RFC 8415, 11.4): type 3, hardware type 1. The same MAC is always the same client. */
export function duidOf(mac: string): string {
  return `00:03:00:01:${mac.toLowerCase()}`
}

/** The identity association's number: the last four octets of the MAC, so that it is always the same (RFC 8415, 12). */
export function iaidOf(mac: string): number {
  return Number.parseInt(mac.split(':').slice(-4).join(''), 16)
}

/** The client identifier of DHCPv4 that says the same as DUID and IAID do (RFC 4361, 6.1). */
export function clientIdOf(mac: string): string {
  return ['ff', ...mac.toLowerCase().split(':').slice(-4), duidOf(mac)].join(':')
}

/**
 * The dhcpcd.conf(5) of an interface. `persistent`: what it set stays when it ends without a release, so that a restart
 * goes unnoticed. `noipv6rs`: the kernel hears the router advertisements. `noarp`: no 5 s of probing (RFC 5227) before an
 * address that the server has looked after is used. `nodelay`: asks at once.
 */
export function dhcpcdConfiguration(wanted: DhcpInterface): string {
  const { name, mac, families } = wanted
  const v4 = families.includes('ipv4')
  const v6 = families.includes('ipv6')
  const lines = [
    `duid ${duidOf(mac)}`,
    ...(wanted.hostname === null ? [] : [`hostname ${wanted.hostname}`]),
    `logfile ${OWN_FOLDER}/log`,
    'persistent',
    'nodev',
    'nodelay',
    'noarp',
    'noipv4ll',
    'noipv6rs',
    'timeout 0',
    'slaac hwaddr',
    'require dhcp_server_identifier',
    ...(v4 ? [`clientid ${clientIdOf(mac)}`, `option ${OPTIONS_V4}`] : ['ipv6only']),
    ...(v6 ? [`option ${OPTIONS_V6}`] : ['ipv4only']),
    ...(wanted.gateway ? [] : ['nogateway']),
    `allowinterfaces ${name}`,
    `interface ${name}`,
    `iaid ${iaidOf(mac)}`,
    ...(v6 ? [`ia_na ${iaidOf(mac)}`] : []),
  ]
  return `${lines.join('\n')}\n`
}

const OPTIONS_V4 = 'subnet_mask, routers, classless_static_routes, domain_name_servers, domain_name, domain_search'
const OPTIONS_V6 = 'dhcp6_name_servers, dhcp6_domain_search'

/**
 * What dhcpcd runs at each change (dhcpcd-run-hooks(8)): keeps what a server said last, by family, as a file that is
 * there or not, whole. It changes nothing else: no resolv.conf of anybody.
 */
export const HOOK = `#!/bin/sh
case $reason in
  BOUND|RENEW|REBIND|REBOOT|INFORM) to=lease4 ;;
  BOUND6|RENEW6|REBIND6|REBOOT6|INFORM6) to=lease6 ;;
  EXPIRE|NAK|RELEASE|STOP|FAIL) rm -f ${OWN_FOLDER}/lease4; exit ;;
  EXPIRE6|RELEASE6|STOP6) rm -f ${OWN_FOLDER}/lease6; exit ;;
  *) exit ;;
esac
env > ${OWN_FOLDER}/.$to && mv ${OWN_FOLDER}/.$to ${OWN_FOLDER}/$to
`
