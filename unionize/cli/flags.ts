import { type Command, Option } from 'commander'

/** What stands on the command line about one interface, as text. */
export interface InterfaceFlags {
  readonly bridge?: string
  readonly ovs?: string
  readonly macvlan?: string
  readonly ipvlan?: string
  readonly vlan?: string
  readonly vxlan?: string
  readonly dummy?: boolean
  readonly physical?: string
  readonly veth?: boolean
  readonly vethTo?: string
  readonly create?: boolean
  readonly isolated?: boolean
  readonly externalId?: readonly string[]
  readonly remote?: string
  readonly local?: string
  readonly parent?: string
  readonly udpPort?: string
  readonly learning?: boolean
  readonly peerName?: string
  readonly peerAddress?: readonly string[]
  readonly peerMac?: string
  readonly interface?: string
  readonly hostName?: string
  readonly mac?: string
  readonly mtu?: string
  readonly down?: boolean
  readonly announce?: boolean
  readonly address?: readonly string[]
  readonly addressing?: string
  readonly gateway?: readonly string[]
  readonly route?: readonly string[]
  readonly rule?: readonly string[]
  readonly sysctl?: readonly string[]
  readonly rateOut?: string
  readonly burstOut?: string
  readonly latencyOut?: string
  readonly rateIn?: string
  readonly burstIn?: string
  readonly delay?: string
  readonly jitter?: string
  readonly loss?: string
}

/** Flags of commander and what `--help` says of each; those of one list end up under one heading. */
const GROUPS: Readonly<Record<string, readonly (readonly [flags: string, help: string])[]>> = {
  'Where it leads (one of these):': [
    ['--bridge <name>', 'port of a Linux bridge, made if it is missing'],
    ['--ovs <name>', 'port of an Open vSwitch bridge, made if it is missing'],
    ['--macvlan <parent[:mode]>', 'macvlan of a device: bridge (default), vepa, private, passthru'],
    ['--ipvlan <parent[:mode[:iso]]>', 'ipvlan of a device: l2 (default), l3, l3s; bridge (default), private, vepa'],
    [
      '--vlan <vlan>',
      'VLAN sub-interface of a device: eth0.12 or eth0.12:802.1ad; beside --bridge and --ovs the VLANs of the port: 10 or trunk=10,20-30,native=5; beside --macvlan and --ipvlan: 10',
    ],
    ['--vxlan <id>', 'VXLAN tunnel, with --remote'],
    ['--physical <device>', 'the device itself moves in; unwire brings it back as it was'],
    ['--veth', 'a veth pair whose other end stays on this host'],
    ['--veth-to <target>', 'a veth pair whose other end is in another target'],
    ['--dummy', 'nowhere: a dummy device that only bears addresses'],
  ],
  'About that way:': [
    ['--no-create', 'the bridge must be there already'],
    ['--isolated', 'no frames to other isolated ports of the bridge'],
    ['--external-id <key=value>', 'external id of the Open vSwitch port (repeatable)'],
    ['--remote <address>', 'other end of the VXLAN tunnel, or a multicast group with --parent'],
    ['--local <address>', 'this end of the VXLAN tunnel'],
    ['--parent <device>', 'device that the VXLAN tunnel goes over'],
    ['--udp-port <number>', 'UDP port of the VXLAN tunnel (default 4789)'],
    ['--no-learning', 'the VXLAN tunnel learns no addresses from packets'],
    ['--peer-name <name>', 'name of the other end of --veth or --veth-to'],
    ['--peer-address <prefix>', 'address of the other end (repeatable)'],
    ['--peer-mac <mac>', 'MAC of the other end'],
  ],
  'The interface itself:': [
    ['-i, --interface <name>', 'its name inside (default eth1); a long one is shortened'],
    ['-l, --host-name <name>', 'name of its outer end on the host (default: made from target and interface)'],
    ['--mac <mac>', 'MAC address, or hash:TEXT for one that follows from a text'],
    ['--mtu <bytes>', 'MTU (default: that of the bridge or parent)'],
    ['--sysctl <key=value>', 'such as ipv6.conf.accept_ra=0 (repeatable)'],
    ['--down', 'leave it down'],
    ['--no-announce', 'no gratuitous ARP and unsolicited neighbour advertisement for new addresses'],
  ],
  'Addresses and routes:': [
    ['-a, --address <prefix>', 'such as 10.1.1.5/24 or fd00::5/64 (repeatable)'],
    ['--addressing <how>', 'static (default), slaac, dhcp, dhcp4 or dhcp6'],
    ['-g, --gateway <address>', 'default route through this router (one for each family)'],
    ['--route <route>', '"10.0.0.0/8 via 10.1.1.1 [metric N] [table N] [src A] [mtu N] [onlink]" (repeatable)'],
    ['--rule <rule>', '"[from P] [to P] [iif I] [oif I] [fwmark N] table N priority N" (repeatable)'],
  ],
  'Traffic:': [
    ['--rate-out <rate>', 'bits per second at most out of the target, such as 10M or 512k'],
    ['--burst-out <bytes>', 'bytes that may go out at once'],
    ['--latency-out <ms>', 'how long a packet waits for --rate-out before it is dropped (default 50)'],
    ['--rate-in <rate>', 'bits per second at most into the target'],
    ['--burst-in <bytes>', 'bytes that may come in at once'],
    ['--delay <ms>', 'delay each packet that goes out, for labs: 20, 20ms, 1.5s'],
    ['--jitter <ms>', 'by how much --delay varies'],
    ['--loss <share>', 'share of packets that is lost on the way out, for labs: 5% or 0.05'],
  ],
}

/** Gives a command the flags that describe one interface. */
export function addInterfaceFlags(command: Command): Command {
  for (const [heading, options] of Object.entries(GROUPS)) {
    for (const [flags, help] of options) {
      const option = new Option(flags, help).helpGroup(heading)
      if (REPEATABLE.test(help)) option.argParser(collect)
      command.addOption(option)
    }
  }
  return command
}

const REPEATABLE = /\((repeatable|one for each family)\)$/

function collect(value: string, former: readonly string[] | undefined): readonly string[] {
  return [...(former ?? []), value]
}
