/** What a manager answers, as much of it as is used (Docker Engine API 1.41; the names are its own). */

export interface Versioned {
  readonly ID: string
  readonly Version: { readonly Index: number }
}

export interface Service extends Versioned {
  readonly CreatedAt: string
  readonly UpdatedAt: string
  readonly Spec: ServiceSpecification
  readonly PreviousSpec?: ServiceSpecification | null
  /** Of the last update that changed its tasks; absent: there was none. */
  readonly UpdateStatus?: { readonly State?: string; readonly Message?: string } | null
}

/** What is asked for, and given back. */
export interface ServiceSpecification {
  readonly Name: string
  readonly Labels: Readonly<Record<string, string>>
  readonly TaskTemplate: TaskTemplate
  readonly [field: string]: unknown
}
export interface TaskTemplate {
  readonly ContainerSpec: {
    readonly TTY?: boolean
    readonly Secrets?: readonly { readonly SecretID: string; readonly SecretName: string }[]
    readonly [field: string]: unknown
  }
  readonly [field: string]: unknown
}

export interface Task extends Versioned {
  readonly CreatedAt: string
  readonly ServiceID: string
  readonly NodeID?: string
  readonly Spec: { readonly ContainerSpec?: { readonly Labels?: Readonly<Record<string, string>> | null } }
  readonly Status: {
    readonly Timestamp: string
    readonly State: string
    readonly Message?: string
    readonly Err?: string
    readonly ContainerStatus?: { readonly ExitCode?: number }
  }
  readonly DesiredState: string
}

export interface Node extends Versioned {
  readonly Spec: { readonly Labels?: Readonly<Record<string, string>> | null; readonly Availability: string }
  readonly Description: { readonly Hostname: string; readonly Engine: { readonly EngineVersion: string } }
  readonly Status: { readonly State: string; readonly Addr?: string }
  readonly ManagerStatus?: {
    readonly Leader?: boolean
    readonly Reachability: string
    readonly Addr: string
  } | null
}

/** A network, a secret: what has a name and labels. */
export interface Named {
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
}

export interface Info {
  readonly Swarm: {
    readonly LocalNodeState: string
    readonly ControlAvailable: boolean
    readonly Error?: string
    readonly Cluster?: { readonly ID?: string } | null
  }
}

export interface Version {
  readonly Version: string
  readonly ApiVersion: string
}

/** One event (Engine API, SystemEvents). */
export interface SwarmEvent {
  readonly Type: string
  readonly Action: string
  readonly timeNano: number
}
