import { readFileSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { Addressing } from './addressing.ts'
import { sendable, WiringError } from './errors.ts'
import { Firewall } from './firewall/firewall.ts'
import { Namespaces } from './kernel/namespaces.ts'
import { RouteSocket } from './kernel/route-socket.ts'
import type { Calls, FromWorker, ToWorker, Verb } from './protocol.ts'
import { Wires } from './wires.ts'
import type { HostNetwork, Placement } from './wiring.ts'

/**
 * The thread that talks to the kernel. Everything in it is synchronous: a call that has begun ends before the next one
 * begins, and nothing else ever runs on this thread while it is in another network namespace.
 */
const port = parentPort
if (port === null) throw new Error('this file is a worker of unionize/wiring/lane.ts')

const FORWARDING = '/proc/sys/net/ipv6/conf/all/forwarding'

const tell = (message: FromWorker) => port.postMessage(message)
const host = new RouteSocket().configure()
const namespaces = new Namespaces()
const wires = new Wires(host, namespaces)
const addressing = new Addressing(host, namespaces, wires)
let loaded: { network: HostNetwork; firewall: Firewall } | null = null
let madeFirewall: Firewall | null = null

const verbs: { readonly [V in Verb]: (args: Calls[V]) => unknown } = {
  prepare: (network) => {
    for (const warning of wires.checkHost(network)) tell({ warning })
    if (readFileSync(FORWARDING, 'utf8').trim() !== '1') {
      throw new WiringError(
        'forwarding-off',
        'this host does not forward IPv6: run "sysctl -w net.ipv6.conf.all.forwarding=1"',
      )
    }
    firewall().load(network)
    loaded = { network, firewall: firewall() }
  },
  attach: (sandbox) => wires.attach(sandbox, ready().network),
  place,
  open: (passage) => ready().firewall.open(passage),
  close: (passage) => ready().firewall.close(passage),
  unplace,
  forget: ({ link }) => {
    for (const address of ready().firewall.addressesOf(link)) forget(link, address)
  },
  links: () => wires.list(),
  guard: () => ready().firewall.guard(),
  replace: ({ passages, sources }) => ready().firewall.replace(ready().network, passages, sources),
  removeRules: () => {
    firewall().remove()
    loaded = null
  },
  detach: ({ links }) => wires.detach(links),
}

/** The path opens last: by then everything behind it answers. */
function place(placement: Placement): void {
  const { network, firewall } = ready()
  const { link, mac, address, owner } = placement
  const former = firewall.addressesOf(link).filter((other) => other !== address)
  const mine = former.filter((other) => !firewall.isElsewhere(other, link))
  addressing.place(placement, network)
  addressing.forget(mine, network)
  firewall.place({ link, mac, address }, owner)
}

/** The path closes first: what is behind it may then go in any order. */
function unplace(placement: Placement): void {
  const { network } = ready()
  forget(placement.link, placement.address)
  addressing.unplace(placement, network)
}

/** Also when the firewall knows nothing of it: a crash may have come between its entry and the neighbour's. */
function forget(link: string, address: string): void {
  const { network, firewall } = ready()
  const elsewhere = firewall.isElsewhere(address, link)
  firewall.unplace(link, address)
  if (!elsewhere) addressing.forget([address], network)
}

function firewall(): Firewall {
  madeFirewall ??= new Firewall((warning) => tell({ warning }))
  return madeFirewall
}

function ready(): { network: HostNetwork; firewall: Firewall } {
  if (loaded === null) throw new WiringError('not-prepared', 'the host network is not prepared')
  return loaded
}

port.on('message', (message: ToWorker) => {
  if (message === 'stop') {
    port.close()
    return
  }
  const { id, verb, args } = message
  try {
    const carryOut = verbs[verb] as (args: unknown) => unknown
    tell({ id, answer: carryOut(args) })
  } catch (thrown) {
    tell({ id, error: sendable(thrown) })
  }
})
tell({ loaded: true })
