import type { DropCounts } from '../../common/drop-reasons.ts'
import type { Policy } from '../../common/wiring-policy.ts'
import { WiringError } from './errors.ts'
import {
  parseEach,
  parseLink,
  parseNetwork,
  parsePassage,
  parsePath,
  parsePlacement,
  parseSandbox,
  parseSource,
  parseWay,
  parseWayName,
} from './input.ts'
import { type HubRest, type HubShare, parseShare } from './private/share.ts'
import { Lane } from './threads/lane.ts'
import type { Answers, Caller, Calls, Verb } from './threads/protocol.ts'

/** What the host offers; checked by `prepare`. */
export interface HostNetwork {
  /** Name of the bridge that instances are behind, such as `br-instances`. */
  readonly bridge: string
  /** IPv6 address of the host on that bridge: the router and name server of instances. */
  readonly gateway: string
  /** Length in bits of the prefix that instances share, 1 to 128; usually 64. */
  readonly prefixLength: number
  /** The well-known address behind the name `my.instance`: leads each owner to its own instance. */
  readonly myAddress: string
}

/** One owner's path to one instance on this host: their IPv6 addresses. */
export interface Passage {
  readonly owner: string
  readonly instance: string
  /** Next hop for what goes to the owner: the host that leads it here. Absent: the owner comes as this host's routes say. */
  readonly ownerVia?: string | undefined
}

/** One owner's path to an instance that is not on this host. Of an owner and an address there is one: the last. */
export interface Way {
  readonly owner: string
  /** The instance's own address, of the instances' prefix. */
  readonly address: string
  /**
   * `routed`: the instance has its address, behind the next hop `via`. `translated`: it is at another address; what the
   * owner sends leaves with the source `from`, or as the kernel chooses one of the host's own.
   */
  readonly reach:
    | { readonly kind: 'routed'; readonly via: string }
    | { readonly kind: 'translated'; readonly address: string; readonly from?: string | undefined }
}

/** A sandbox and its link. */
export interface SandboxLink {
  /** A process in the sandbox's network namespace. */
  readonly pid: number
  /** Name of the link's end on the host: `ui-` and up to 12 more characters. */
  readonly link: string
  /** MAC of the link's end in the sandbox. */
  readonly mac: string
  /** Name of that end; `eth0` unless told: where somebody else has given the sandbox interfaces of its own. */
  readonly inside?: string | undefined
}

/** What one link may send from, and whither. */
export interface Source {
  readonly link: string
  readonly mac: string
  readonly address: string
  /** Absent: the owner alone reaches it, it begins nothing, and the default limits of the firewall hold. */
  readonly policy?: Policy | undefined
}

/** An attached sandbox, the address it has, and who may reach it: nobody yet when `owner` is null. */
export interface Placement extends SandboxLink {
  readonly address: string
  readonly owner: string | null
  /** As with {@link Passage}. */
  readonly ownerVia?: string | undefined
  /** As with {@link Source}. Placed anew with another one, the new one holds. */
  readonly policy?: Policy | undefined
}

/**
 * Links, addresses and firewall of the instances on this host. Every call may be repeated, also after a crash at any
 * moment, and ends in the same state. Every call may fail with {@link WiringError} (its codes are listed there), with
 * `InvalidInput` for malformed arguments, and with `worker-died`, which is retryable. What is in the kernel outlives
 * this process.
 */
export interface Wiring {
  /**
   * Checks bridge, gateway and forwarding, pins the bridge's MAC, and loads the rules; passages that are there stay.
   * Comes before all other calls, and again when the network's settings change.
   * @throws WiringError `bridge-missing`, `gateway-missing`, `forwarding-off`
   */
  prepare(network: HostNetwork): Promise<void>
  /**
   * Links a sandbox to the bridge: its interface inside, up, with this MAC and without any address. Resolves when packets
   * pass. A link of that name to anywhere else is replaced.
   * @throws WiringError `sandbox-gone`, `not-isolated`, `interface-in-use`, `bridge-full`
   */
  attach(sandbox: SandboxLink): Promise<void>
  /**
   * Gives an attached sandbox its address, in place of any former one, with route and neighbours, and opens the passage
   * from its owner, which `my.instance` leads to then; where it leads stays as it is if the passage is open already.
   * Passages to the former address are closed, and those of anybody else to this one, unless another link has it too.
   * @throws WiringError `sandbox-gone`, `link-gone`, `next-hop-unreachable`
   */
  place(placement: Placement): Promise<void>
  /**
   * Lets an owner reach an instance. `my.instance` leads an owner to the instance opened, or led to, last.
   * @throws WiringError `next-hop-unreachable`
   */
  open(passage: Passage): Promise<void>
  /** Cuts an owner off from an instance, established connections too. */
  close(passage: Passage): Promise<void>
  /**
   * Leads an owner, and nobody else, to an instance elsewhere, in place of a former way of this owner to that address.
   * @throws WiringError `next-hop-unreachable`: then there is no way
   */
  lead(way: Way): Promise<void>
  /** Takes such a way away, however it led, established connections too. */
  unlead(way: Pick<Way, 'owner' | 'address'>): Promise<void>
  /**
   * Takes the address away and closes every passage to it, whoever has one, unless another link has that address now.
   * A sandbox or link that is gone already does not matter.
   */
  unplace(placement: Placement): Promise<void>
  /**
   * Removes a link from the host and the sandbox, and what the firewall still lets it send. Takes some 15 ms in the
   * kernel, beside the other calls; many at once are removed as one.
   */
  detach(link: string): Promise<void>
  /**
   * Makes the private networks of one instance what its share of the hub says, and removes those of its ports, and the
   * bridges, that are no longer wanted. With no network wanted and no other instance there, nothing is removed: the hub
   * can go as it is. Sandboxes that are gone took their ports with them.
   * @throws WiringError `sandbox-gone` (the hub or a member), `interface-in-use`
   */
  connect(share: HubShare): Promise<HubRest>
  /** Names of the links that exist. */
  links(): Promise<readonly string[]>
  /**
   * Makes exactly this the contents of the firewall, in one transaction, and then the routes what they need; of an owner's
   * passages and ways `my.instance` leads to the last. A route that is refused is told in the log, and tried again by `guard`.
   */
  replacePassages(paths: readonly (Passage | Way)[], sources: readonly Source[]): Promise<void>
  /**
   * Restores our firewall tables, with their contents, and our routes, if somebody removed them: the kernel does with routes
   * of a link that goes down. Cheap: to be called now and then.
   */
  guard(): Promise<void>
  /**
   * What the firewall dropped, by reason, since this host's kernel began to count. Grows only, also when the tables were
   * lost and restored; a restart of the host, or `teardown`, begins anew. Cheap: does not grow with the number of instances.
   */
  counters(): Promise<DropCounts>
  /** Ends the workers when the calls under way are done. Nothing in the kernel changes. */
  stop(): Promise<void>
  /** Removes our firewall tables, routes and all links. */
  teardown(): Promise<void>
}

/** Where the wiring tells what an operator should know. */
export type WiringLog = (level: 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>) => void

/**
 * Starts the wiring of this network namespace within this process. It needs CAP_NET_ADMIN, CAP_SYS_ADMIN and
 * CAP_SYS_PTRACE. In production a process of its own does it: see service.ts, and remote.ts for its clients.
 */
export function startWiring(options: { readonly log: WiringLog }): Wiring {
  return wiringOver({ quick: new Lane('quick', options.log), slow: new Lane('slow', options.log) })
}

/**
 * The wiring over two callers: `slow` removes links, which takes the kernel long, and `quick` does all else. Apart from
 * {@link startWiring} for those who hold the callers themselves.
 */
export function wiringOver(lanes: { readonly quick: Caller; readonly slow: Caller }): Wiring {
  const { quick, slow } = lanes
  const forgetting = new Batch(async (links) => {
    await quick.call('forget', { links })
  })
  const detaching = new Batch(async (links) => {
    await slow.call('detach', { links })
  })
  let prepared = false

  const demandPrepared = (verb: string) => {
    if (!prepared) throw new WiringError('not-prepared', `"${verb}" came before "prepare"`)
  }
  const call = <V extends Verb>(verb: V, args: Calls[V]): Promise<Answers[V]> => {
    demandPrepared(verb)
    return quick.call(verb, args)
  }
  return {
    async prepare(network) {
      const parsed = parseNetwork(network)
      await quick.call('prepare', parsed)
      quick.greeting = { verb: 'prepare', args: parsed }
      prepared = true
    },
    attach: async (sandbox) => call('attach', parseSandbox(sandbox)),
    place: async (placement) => call('place', parsePlacement(placement)),
    open: async (passage) => call('open', parsePassage(passage)),
    close: async (passage) => call('close', parsePassage(passage)),
    lead: async (way) => call('lead', parseWay(way)),
    unlead: async (way) => call('unlead', parseWayName(way)),
    unplace: async (placement) => call('unplace', parsePlacement(placement)),
    async detach(link) {
      const parsed = parseLink(link)
      demandPrepared('detach')
      await forgetting.add(parsed)
      await detaching.add(parsed)
    },
    connect: async (share) => quick.call('connect', parseShare(share)),
    links: async () => quick.call('links', {}),
    async replacePassages(paths, sources) {
      await call('replace', {
        paths: parseEach(paths, parsePath, 'paths'),
        sources: parseEach(sources, parseSource, 'sources'),
      })
    },
    async guard() {
      await call('guard', {})
    },
    counters: async () => call('counters', {}),
    async stop() {
      await Promise.all([quick.stop(), slow.stop()])
    },
    async teardown() {
      await slow.call('detach', { links: await quick.call('links', {}) })
      await quick.call('removeRules', {})
      quick.greeting = null
      prepared = false
    },
  }
}

/** Gathers what comes while one round is under way, for the next round. */
class Batch {
  readonly #carryOut: (items: readonly string[]) => Promise<void>
  #next: { items: string[]; done: Promise<void> } | null = null
  #last: Promise<void> = Promise.resolve()

  constructor(carryOut: (items: readonly string[]) => Promise<void>) {
    this.#carryOut = carryOut
  }

  async add(item: string): Promise<void> {
    if (this.#next === null) {
      const items: string[] = []
      const done = this.#last.then(() => {
        this.#next = null
        return this.#carryOut(items)
      })
      this.#last = done.catch(() => {})
      this.#next = { items, done }
    }
    this.#next.items.push(item)
    return this.#next.done
  }
}
