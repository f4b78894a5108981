import { WiringError } from '../errors.ts'
import { attributesIn, textOf } from './netlink.ts'

/** A kernel's refusal, with its errno name for those who can go on. */
export class KernelRefusal extends WiringError {
  readonly errno: string
  constructor(code: string, message: string, errno: string) {
    super(code, message, { retryable: errno === 'EBUSY' || errno === 'EAGAIN' || errno === 'ENOBUFS' })
    this.errno = errno
  }
}

/** What was asked of the kernel, as far as an error tells it. */
export interface Refused {
  /** What is being done: `give it fd00::5/64`. */
  readonly purpose: string
  /** The interface that the purpose is about, where it does not name it itself. */
  readonly interface?: string
  /** The message that was refused; it tells which part of the kernel was needed. */
  readonly bytes?: Buffer
}

const RTM_NEWLINK = 16
const RTM_SETLINK = 19
const RTM_NEWRULE = 32
const RTM_GETRULE = 34
const RTM_NEWQDISC = 36
const RTM_NEWTFILTER = 44
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_BR_VLAN_FILTERING = 7
const TCA_KIND = 1
const MESSAGE_HEADER = 16
/** Bytes of struct ifinfomsg and struct tcmsg. */
const IFINFOMSG = 16
const TCMSG = 20

/** What a kernel must have been built with: the option of its configuration and the module, if it may be one. */
interface Part {
  readonly what: string
  readonly option: string
  readonly module: string | null
}

const bridgeVlans: Part = { what: 'VLANs of a bridge', option: 'CONFIG_BRIDGE_VLAN_FILTERING', module: null }
const scheduling: Part = { what: 'traffic control', option: 'CONFIG_NET_SCHED', module: null }
const policing: Part = { what: 'policing', option: 'CONFIG_NET_ACT_POLICE', module: 'act_police' }
const policyRules: Part = {
  what: 'policy rules',
  option: 'CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES',
  module: null,
}
const devices: Readonly<Record<string, Part>> = {
  bridge: { what: 'bridges', option: 'CONFIG_BRIDGE', module: 'bridge' },
  dummy: { what: 'dummy devices', option: 'CONFIG_DUMMY', module: 'dummy' },
  ipvlan: { what: 'ipvlan devices', option: 'CONFIG_IPVLAN', module: 'ipvlan' },
  macvlan: { what: 'macvlan devices', option: 'CONFIG_MACVLAN', module: 'macvlan' },
  veth: { what: 'veth pairs', option: 'CONFIG_VETH', module: 'veth' },
  vlan: { what: 'VLAN sub-interfaces', option: 'CONFIG_VLAN_8021Q', module: '8021q' },
  vxlan: { what: 'VXLAN devices', option: 'CONFIG_VXLAN', module: 'vxlan' },
}
const disciplines: Readonly<Record<string, Part>> = {
  ingress: { what: 'policing on arrival', option: 'CONFIG_NET_SCH_INGRESS', module: 'sch_ingress' },
  netem: { what: 'delay and loss', option: 'CONFIG_NET_SCH_NETEM', module: 'sch_netem' },
  tbf: { what: 'rate limits', option: 'CONFIG_NET_SCH_TBF', module: 'sch_tbf' },
}
const classifiers: Readonly<Record<string, Part>> = {
  matchall: { what: 'policing of everything', option: 'CONFIG_NET_CLS_MATCHALL', module: 'cls_matchall' },
}

/**
 * The error for a refusal: one sentence with the interface, what was to be done, the errno and the kernel's own text.
 * Codes: `not-permitted`, `bridge-full`, `not-supported` (names what the kernel was built without), `kernel-refused`.
 */
export function refusal(refused: Refused, errno: string, text: string): KernelRefusal {
  const words = text === '' ? errno : `${errno}: ${text}`
  const subject = refused.interface === undefined ? '' : `${refused.interface}: `
  const sentence = `${subject}cannot ${refused.purpose} (${words})`
  if (errno === 'EPERM') return new KernelRefusal('not-permitted', `${sentence}: CAP_NET_ADMIN is needed`, errno)
  if (errno === 'EXFULL') return new KernelRefusal('bridge-full', `${sentence}: a bridge takes 1,023 ports`, errno)
  const part = missingPart(refused.bytes, errno, text)
  if (part !== null) return new KernelRefusal('not-supported', `${sentence}: ${lack(part)}`, errno)
  return new KernelRefusal('kernel-refused', sentence, errno)
}

function lack({ what, option, module }: Part): string {
  const loading = module === null ? '' : `, and no module ${module} can be loaded`
  return `this kernel has no ${what} (it was built without ${option}${loading})`
}

/** What the kernel lacks if it refused this message so; null: it knows what it was asked for and does not want it. */
function missingPart(bytes: Buffer | undefined, errno: string, text: string): Part | null {
  if (bytes === undefined || bytes.length < MESSAGE_HEADER) return null
  const type = bytes.readUInt16LE(4)
  const body = bytes.subarray(MESSAGE_HEADER)
  const unsupported = errno === 'EOPNOTSUPP' || errno === 'EAFNOSUPPORT'
  if (type === RTM_NEWLINK && unsupported) return missingDevice(body, text)
  if (type === RTM_SETLINK && unsupported) return bridgeVlans
  if (type >= RTM_NEWRULE && type <= RTM_GETRULE && unsupported) return policyRules
  if (type === RTM_NEWQDISC && unsupported) return scheduling
  if (errno !== 'ENOENT') return null
  const kind = textOf(attributesIn(body.subarray(TCMSG)).get(TCA_KIND))
  if (type === RTM_NEWQDISC && /qdisc/.test(text)) return disciplines[kind] ?? null
  if (type === RTM_NEWTFILTER && /action/.test(text)) return policing
  if (type === RTM_NEWTFILTER && /classifier/.test(text)) return classifiers[kind] ?? null
  return null
}

/** A bridge without VLAN filtering refuses it without a word, any unknown device with one (`__rtnl_newlink`). */
function missingDevice(body: Buffer, text: string): Part | null {
  const info = attributesIn(attributesIn(body.subarray(IFINFOMSG)).get(IFLA_LINKINFO))
  const kind = textOf(info.get(IFLA_INFO_KIND))
  if (/unknown device type/i.test(text)) return devices[kind] ?? null
  const filtering = kind === 'bridge' && attributesIn(info.get(IFLA_INFO_DATA)).has(IFLA_BR_VLAN_FILTERING)
  return filtering && text === '' ? bridgeVlans : null
}
