/** The name by which a host joined, or of another target of a backend: one DNS label. */
export type HostName = string & { readonly __host: true }

/** Where a backend puts instances: a host that runs unionize, a swarm, a region of a cloud, a machine. */
export interface Target {
  readonly name: HostName
}

/** A machine that runs instances, looked after by its `unionize`. */
export interface Host extends Target {
  /** +1 with each connection: an answer of an earlier one is worth nothing. */
  readonly epoch: number
  readonly connected: boolean
  readonly joinedAt: number
  /** Epoch ms of the last connection's begin or end. */
  readonly seenAt: number | null
  readonly facts: {
    readonly engine?: string | undefined
    readonly kernel?: string | undefined
    readonly version?: string | undefined
    /** IPv6 address at which other hosts and machines reach this one; absent: it has told none. */
    readonly address?: string | undefined
  }
}
