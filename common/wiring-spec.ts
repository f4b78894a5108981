import { isIP } from 'node:net'
import { z } from 'zod'

/**
 * What a network namespace is to have, in one shape: templates hold it, the daemons send it to each other, and
 * `unionize wire` takes it from flags or a YAML file. Everything is a wish; nothing here knows the kernel.
 */

/** An interface name: IFNAMSIZ of linux/if.h, less the NUL. A longer one is made safe, see `safeName` in unionize/wiring. */
const NAME_LENGTH = 15
const interfaceName = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, 'expected letters, digits, "_", "." or "-"')
  .max(NAME_LENGTH, `expected at most ${NAME_LENGTH} characters`)
/** A name that may be long: it is shortened to 15 characters, always to the same ones. */
const longName = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, 'expected letters, digits, "_", "." or "-"')
  .max(200)
  .refine(
    (name) => name !== 'all' && name !== 'default',
    'expected another name: "all" and "default" mean every interface',
  )
const address = z.string().refine((text) => isIP(text) !== 0, 'expected an IPv4 or IPv6 address')
const prefix = z.string().refine(isPrefix, 'expected an address and a prefix length, such as 10.1.1.5/24 or fd00::5/64')
const ownPrefix = prefix.refine(
  (text) => !/^[0:.]*\//.test(text),
  'expected an address of its own: where there is to be none, leave it out',
)
const uint32 = z.number().int().min(0).max(0xffff_ffff)
const vlanId = z.number().int().min(1).max(4094)
const mac = z
  .string()
  .toLowerCase()
  .regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, 'expected the MAC of one station, such as 02:00:00:00:00:05')
/** A device of the host, by name, by its MAC (`mac:02:…`) or by PCI address (`pci:0000:03:00.0`). */
const hostDevice = z
  .string()
  .regex(
    /^(mac:[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}|pci:[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]|[A-Za-z0-9_][A-Za-z0-9_.-]{0,14})$/,
    'expected an interface name, mac:aa:bb:cc:dd:ee:ff or pci:0000:03:00.0',
  )
/** Bits per second, as tc(8) writes them: a number of bits, or with k, M, G (powers of 1000). */
const rate = z.union([
  z.number().int().positive(),
  z.string().regex(/^\d+(\.\d+)?[kMG]?(bit)?$/, 'expected bits per second, such as 10M or 512kbit'),
])

/** VLANs of a port on a VLAN-filtering Linux bridge (`bridge vlan`): untagged in one, or tagged in several. */
const portVlans = z.union([
  z.strictObject({ access: vlanId }),
  z.strictObject({
    trunk: z.array(z.union([vlanId, z.string().regex(/^\d{1,4}-\d{1,4}$/, 'expected a range such as 100-199')])).min(1),
    /** Untagged frames belong to this one. */
    native: vlanId.optional(),
  }),
])

/** How the interface comes to be, by kind. */
const link = z.discriminatedUnion('kind', [
  /** A veth pair whose outer end is a port of a Linux bridge. */
  z.strictObject({
    kind: z.literal('bridge'),
    bridge: interfaceName,
    /** Make the bridge if it is missing, and remove it with its last port if we made it. Else a missing one is an error. */
    create: z.boolean().default(true),
    vlan: portVlans.optional(),
    /** Port isolation: no frames to other isolated ports (IFLA_BRPORT_ISOLATED). */
    isolated: z.boolean().default(false),
  }),
  /** A veth pair whose outer end is a port of an Open vSwitch bridge. */
  z.strictObject({
    kind: z.literal('ovs'),
    bridge: longName,
    create: z.boolean().default(true),
    tag: vlanId.optional(),
    trunks: z.array(vlanId).optional(),
    externalIds: z.record(z.string(), z.string()).default({}),
  }),
  z.strictObject({
    kind: z.literal('macvlan'),
    parent: hostDevice,
    mode: z.enum(['bridge', 'vepa', 'private', 'passthru']).default('bridge'),
    /** On this VLAN of the parent: a VLAN sub-interface `parent.vlan` is made below, as long as it is used. */
    vlan: vlanId.optional(),
  }),
  z.strictObject({
    kind: z.literal('ipvlan'),
    parent: hostDevice,
    mode: z.enum(['l2', 'l3', 'l3s']).default('l2'),
    isolation: z.enum(['bridge', 'private', 'vepa']).default('bridge'),
    vlan: vlanId.optional(),
  }),
  z.strictObject({
    kind: z.literal('vlan'),
    parent: hostDevice,
    id: vlanId,
    protocol: z.enum(['802.1Q', '802.1ad']).default('802.1Q'),
  }),
  z.strictObject({
    kind: z.literal('vxlan'),
    /** VXLAN network identifier, 24 bits (RFC 7348, 5). */
    id: z.number().int().min(0).max(0xff_ffff),
    /** The other end, or a multicast group, which needs `parent`. */
    remote: address,
    local: address.optional(),
    parent: hostDevice.optional(),
    /** UDP port (RFC 7348, 5). */
    port: z.number().int().min(1).max(65535).default(4789),
    learning: z.boolean().default(true),
  }),
  z.strictObject({ kind: z.literal('dummy') }),
  /** A device of the host itself moves in, and back when it is unwired: name, addresses and state as before. */
  z.strictObject({ kind: z.literal('physical'), device: hostDevice }),
  /** A veth pair whose outer end is in another namespace, wired there as `peer` says. */
  z.strictObject({
    kind: z.literal('veth'),
    /** A container, `pid:N` or `netns:NAME`; absent: this host's own namespace. */
    to: z.string().min(1).optional(),
    peer: z.strictObject({
      name: longName.optional(),
      addresses: z.array(ownPrefix).default([]),
      mac: mac.optional(),
    }),
  }),
])

const route = z.strictObject({
  /** A prefix, or `default`; its family follows from `via` where it is `default`. */
  to: z.union([z.literal('default'), prefix]),
  via: address.optional(),
  metric: uint32.optional(),
  table: uint32.optional(),
  source: address.optional(),
  /** The gateway is reached on the link though no prefix covers it. */
  onlink: z.boolean().default(false),
  /** Bytes. */
  mtu: z.number().int().min(68).max(65535).optional(),
})

/** One rule of the routing policy (ip-rule(8)). */
const rule = z.strictObject({
  family: z.enum(['ipv4', 'ipv6']).optional(),
  from: prefix.optional(),
  to: prefix.optional(),
  incoming: interfaceName.optional(),
  outgoing: interfaceName.optional(),
  mark: uint32.optional(),
  table: uint32,
  priority: uint32,
})

const shaping = z.strictObject({
  /** From the namespace outwards: `tbf`, which delays what is too much. */
  egress: z
    .strictObject({
      rate,
      /** Bytes that may pass at once. */
      burst: z.number().int().positive().optional(),
      /** Milliseconds that a packet waits at most before it is dropped. */
      latencyMs: z.number().positive().default(50),
    })
    .optional(),
  /** Into the namespace: policed on arrival, what is too much is dropped. */
  ingress: z.strictObject({ rate, burst: z.number().int().positive().optional() }).optional(),
  /** Milliseconds that each packet is delayed on its way out, and how much that varies; for labs (netem). */
  delayMs: z.number().nonnegative().optional(),
  jitterMs: z.number().nonnegative().optional(),
  /** Share of packets that is lost on the way out, 0 to 1; for labs (netem). */
  loss: z.number().min(0).max(1).optional(),
})

export const interfaceShape = z.strictObject({
  /** Inside the namespace. Longer than 15 characters is shortened, always to the same name. */
  name: longName.default('eth1'),
  /** Name of the outer end of a veth pair; absent: made from namespace and name. */
  hostName: longName.optional(),
  link,
  /** A MAC, or `hash:TEXT`: a locally administered one that follows from the text. Absent: from namespace and name. */
  mac: z.union([z.string().regex(/^hash:.+$/, 'expected hash:TEXT'), mac]).optional(),
  /** Bytes; absent: that of bridge or parent. */
  mtu: z.number().int().min(68).max(65535).optional(),
  addresses: z.array(ownPrefix).default([]),
  /**
   * `static`: `addresses` alone. `slaac`: from router advertisements too. `dhcp`: DHCPv6 and DHCPv4, kept renewed as long
   * as the namespace lives; `dhcp4` and `dhcp6` one of them.
   */
  addressing: z.enum(['static', 'slaac', 'dhcp', 'dhcp4', 'dhcp6']).default('static'),
  /** Default route of each family. */
  gateways: z.array(address).max(2).default([]),
  routes: z.array(route).default([]),
  rules: z.array(rule).default([]),
  /** Per-interface settings below net.ipv4.conf, net.ipv6.conf, net.ipv4.neigh, net.ipv6.neigh: `ipv6.conf.accept_ra: "0"`. */
  sysctls: z
    .record(
      z.string().regex(/^ipv[46]\.(conf|neigh)\.[a-z0-9_]+$/, 'expected such as ipv6.conf.accept_ra'),
      z.string().max(64),
    )
    .default({}),
  shaping: shaping.optional(),
  up: z.boolean().default(true),
  /** Gratuitous ARP (RFC 5227, 3) and unsolicited neighbour advertisement (RFC 4861, 7.2.6) when an address appears. */
  announce: z.boolean().default(true),
})

/** All interfaces that we look after in one namespace. What others made there is never touched. */
export const wiringShape = z.strictObject({
  interfaces: z
    .array(interfaceShape)
    .max(64)
    .refine((list) => new Set(list.map((i) => i.name)).size === list.length, 'expected each name once'),
})

/** One document of `wiring.yaml`. */
export const wiringDocument = wiringShape.extend({
  /** A container's name or id, `pid:N`, or `netns:NAME` (also a path). */
  target: z.string().min(1),
})

export type InterfaceSpec = z.infer<typeof interfaceShape>
export type LinkSpec = InterfaceSpec['link']
export type LinkKind = LinkSpec['kind']
export type RouteSpec = z.infer<typeof route>
export type RuleSpec = z.infer<typeof rule>
export type ShapingSpec = z.infer<typeof shaping>
export type WiringSpec = z.infer<typeof wiringShape>
export type WiringDocument = z.infer<typeof wiringDocument>

function isPrefix(text: string): boolean {
  const [base = '', bits = '', extra] = text.split('/')
  const family = isIP(base)
  return extra === undefined && family !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)
}
