/** The name by which a host joined: one DNS label. */
export type HostName = string & { readonly __host: true }

/** A machine that runs instances, looked after by its `unionize`. */
export interface Host {
  readonly name: HostName
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
  }
}
