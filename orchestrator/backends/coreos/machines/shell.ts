import type { MachineWay } from '../../../domain/machine.ts'

/** Programs on machines, over SSH. What the keeping of machines needs of a connection. */
export interface Shell {
  /**
   * Runs a program to its end, as root.
   * @throws HostUnreachable, OrchestratorError `host-key-changed`
   */
  run(machine: MachineWay, command: readonly string[], options: ShellOptions): Promise<ShellOutcome>
  /** What a program prints, as it prints it, until it ends or the signal. @throws HostUnreachable */
  follow(machine: MachineWay, command: readonly string[], signal: AbortSignal): AsyncIterable<string>
  /** The public key that a machine shows, without logging in: `ssh-ed25519 AAAA…`. @throws HostUnreachable */
  hostKeyOf(address: string, port: number, signal: AbortSignal): Promise<string>
  /** Ends the connection to a machine: it is reached another way from now on, or is no longer ours. */
  forget(name: string): void
}

export interface ShellOptions {
  /** For its standard input; without it, that is empty. */
  readonly input?: string | Buffer | undefined
  readonly signal: AbortSignal
}

export interface ShellOutcome {
  /** -1: it was ended by a signal. */
  readonly code: number
  readonly out: string
  readonly err: string
}
