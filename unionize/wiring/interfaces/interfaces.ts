import type { InterfaceSpec, WiringSpec } from '../../../common/wiring-spec.ts'

/** A network namespace, found already: by a process in it, or by a file (`/run/netns/x`). */
export type Namespace = { readonly pid: number } | { readonly path: string }

/** Whose wiring it is. */
export interface Target {
  /**
   * Under which it is kept, and found again after a restart of the container: `container:ID`, `pid:N`, `netns:PATH`.
   * For a sandbox of the orchestrator its container id as well.
   */
  readonly key: string
  /** As people call it: a container's name, `pid:12`, `netns:lab`. */
  readonly label: string
  readonly namespace: Namespace
  /**
   * Where veth pairs of the spec lead, by their `to`: found by whoever can ask the engine for a container. `pid:N`,
   * `netns:NAME` and `netns:PATH` need no entry.
   */
  readonly peers?: Readonly<Record<string, Namespace>>
}

/** One thing that is done, or would be. */
export interface Step {
  /** Name inside the namespace; of a bridge or parent on the host its name there. */
  readonly interface: string
  /** What, as a phrase: `give it fd00::5/64`, `make it a port of br1`. */
  readonly text: string
}

/** One thing in which the kernel differs from what is wanted. */
export interface Difference {
  readonly interface: string
  /** Path in the spec: `mtu`, `addresses`, `link.bridge`, `link.vlan`, `routes`, … */
  readonly field: string
  readonly wanted: string
  readonly found: string
}

/** One wired namespace, as it was asked for and as the kernel has it. */
export interface Wired {
  readonly key: string
  readonly label: string
  /** False: the namespace is no more (its container ended). */
  readonly alive: boolean
  readonly spec: WiringSpec
  readonly interfaces: readonly FoundInterface[]
}

/** An interface of ours as the kernel has it. */
export interface FoundInterface {
  readonly name: string
  /** Name of the outer end on the host; null: there is none. */
  readonly hostName: string | null
  readonly kind: InterfaceSpec['link']['kind']
  readonly mac: string
  readonly mtu: number
  readonly up: boolean
  /** Whether it has a carrier. */
  readonly running: boolean
  /** With prefix length, those of DHCP and SLAAC too. */
  readonly addresses: readonly string[]
  readonly routes: readonly string[]
}

/**
 * Declared wiring of network namespaces, on its own or beside the instances. Level-triggered: every verb may be repeated,
 * also after a crash at any moment, and ends in the same state. What is needed for undoing is on disk before the kernel
 * is changed. One change at a time for the whole state directory, across processes (a lock file), since wirings share bridges
 * and parents of the host; `plan`, `check` and `show` take no lock.
 *
 * Only what we made is ever changed or removed: the state says what that is. Verbs fail with WiringError; those that a
 * spec can bring about are `interface-in-use`, `device-missing`, `bridge-missing`, `not-supported` (this kernel has no
 * such device; the message names the option it was built without), `namespace-gone`, `path-mtu`, `vlans-not-filtered`,
 * `ovs-unreachable`, `ovs-refused`, `kernel-refused`. Before anything is changed: `state-unreadable`, `state-unwritable`, `busy`. What this kernel
 * cannot make is refused before anything is taken away for it. After a later failure what this call made is gone again; what
 * it changed of what was there is put right by the next call.
 */
export interface Interfaces {
  /** What {@link wire} would do now, in order. Changes nothing. */
  plan(target: Target, spec: WiringSpec): Promise<readonly Step[]>
  /** Makes the namespace's wiring what `spec` says. @returns what was done; nothing when it was so already */
  wire(target: Target, spec: WiringSpec): Promise<readonly Step[]>
  /** In what the kernel differs from what was last asked for. @throws WiringError `not-wired` */
  check(key: string): Promise<readonly Difference[]>
  /** Undoes all of it, or the named interfaces. Not wired, or gone already, is success. @returns what was done */
  unwire(key: string, names?: readonly string[]): Promise<readonly Step[]>
  /** Everything that is wired, by label; or what is wired under these keys. */
  show(keys?: readonly string[]): Promise<readonly Wired[]>
  /** Ends the worker when the calls under way are done. Nothing in the kernel changes. */
  stop(): Promise<void>
}
