import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { getAllAddresses } from '../../unionize/wiring/kernel/addresses.ts'
import { getBridgeVlans } from '../../unionize/wiring/kernel/bridge-vlans.ts'
import { createDevice } from '../../unionize/wiring/kernel/devices.ts'
import { close, recv, send, setsockopt, socket } from '../../unionize/wiring/kernel/libc.ts'
import { getLinks, getNetnsId, setMtu } from '../../unionize/wiring/kernel/links.ts'
import { Namespaces } from '../../unionize/wiring/kernel/namespaces.ts'
import { getNeighbours } from '../../unionize/wiring/kernel/neighbours.ts'
import { messagesIn, NLMSG_DONE, NLMSG_ERROR, setSequence } from '../../unionize/wiring/kernel/netlink.ts'
import { getQdiscs } from '../../unionize/wiring/kernel/queueing.ts'
import { getRoutes } from '../../unionize/wiring/kernel/routes.ts'
import { getRules } from '../../unionize/wiring/kernel/rules.ts'

/**
 * Records what this kernel answers to our questions, for test/unit/netlink-fuzz.test.ts, as root:
 * `node test/support/record-netlink-replies.ts`. Each answer is the datagrams in hexadecimal, with sequence number 1.
 */
const FIXTURE = new URL('../fixtures/netlink-replies.json', import.meta.url)
const [AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, SOL_NETLINK] = [16, 3, 0, 270]
const OPTIONS = [10, 11, 12]

const [here, other] = [`wt-${process.pid}-here`, `wt-${process.pid}-other`]
const setUp = [
  'ip link add br0 type bridge',
  `ip link add p0 type veth peer name p1 netns ${other}`,
  'ip link set p0 alias unionize:abc master br0 up',
  'ip link property add dev p0 altname a-rather-long-name-of-it altname another',
  'ip link set p0 type bridge_slave isolated on',
  'ip link set br0 up',
  'ip link add link br0 name m0 type macvlan mode vepa',
  'ip link add vx type vxlan id 42 remote fd00::5 local fd00::6 dstport 4789',
  'ip address add 10.9.0.1/24 dev br0 valid_lft 3600 preferred_lft 1800',
  'ip address add fd09::1/64 dev br0 nodad',
  'ip route add 10.6.0.0/16 via 10.9.0.2 table 1000 src 10.9.0.1 mtu 1400 proto 117',
  'ip -6 route add default via fd09::2 metric 7 proto 117',
  'ip rule add from 10.1.0.0/16 iif br0 fwmark 5 table 1000 priority 77 protocol 117',
  'ip neigh add fd09::2 lladdr 02:00:00:00:00:0a dev br0 nud permanent',
  'tc qdisc replace dev p0 root handle 1: tbf rate 10mbit burst 15000 latency 50ms',
]

/** The datagrams up to the end of the answer. */
function ask(bytes: Buffer): string[] {
  const fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
  try {
    for (const option of OPTIONS) setsockopt(fd, SOL_NETLINK, option, Buffer.from([1, 0, 0, 0]), 4)
    setSequence(bytes, 1)
    send(fd, bytes, bytes.length, 0)
    const datagrams: string[] = []
    for (const buffer = Buffer.alloc(128 * 1024); ; ) {
      const datagram = Buffer.from(buffer.subarray(0, recv(fd, buffer, buffer.length, 0)))
      datagrams.push(datagram.toString('hex'))
      if ([...messagesIn(datagram)].some(({ type }) => type === NLMSG_DONE || type === NLMSG_ERROR)) return datagrams
    }
  } finally {
    close(fd)
  }
}

try {
  for (const name of [here, other]) execFileSync('ip', ['netns', 'add', name])
  for (const command of setUp) execFileSync('nsenter', [`--net=/run/netns/${here}`, ...command.split(' ')])
  const namespaces = new Namespaces()
  const answers = namespaces.visit({ path: `/run/netns/${other}` }, ({ namespace }) =>
    namespaces.visit({ path: `/run/netns/${here}` }, ({ inside }) =>
      inside(() => ({
        links: ask(getLinks()),
        addresses: ask(getAllAddresses()),
        routes4: ask(getRoutes('ipv4')),
        routes6: ask(getRoutes('ipv6')),
        rules: ask(getRules('ipv4')),
        neighbours: ask(getNeighbours('ipv6')),
        qdiscs: ask(getQdiscs(0)),
        vlans: ask(getBridgeVlans()),
        netnsId: ask(getNetnsId(namespace)),
        unknownDevice: ask(createDevice({ name: 'x', device: { kind: 'dummy' } })),
        wrongMtu: ask(setMtu('p0', 1)),
      })),
    ),
  )
  writeFileSync(FIXTURE, `${JSON.stringify(answers, null, 2)}\n`)
} finally {
  for (const name of [here, other]) spawnSync('ip', ['netns', 'delete', name])
}
