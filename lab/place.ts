import type { LabEngine, Say } from './engine.ts'

/** Where instances of a lab run that are not on its host: a swarm, machines … */
export interface LabPlace {
  /** Its name in the settings, which templates say. */
  readonly backend: string
  /** What the daemons of the host must be told, over the settings of the lab. */
  readonly settings: {
    readonly orchestrator: Readonly<Record<string, unknown>>
    readonly unionize: Readonly<Record<string, unknown>>
  }
  /**
   * Starts what joins the orchestrator, which answers by now, or makes it known there. Resolves when instances can run there.
   * @param token for a host of that name @param orctl as the lab's operator
   */
  join(token: (host: string) => Promise<string>, orctl: (...args: string[]) => Promise<string>): Promise<void>
  /** Ends everything and takes it away. @returns what is left all the same, one line each */
  close(): Promise<string[]>
}

/** The host of a lab, as a place has to know it. */
export interface PlaceHome {
  /** Begins the names of all that a place makes, too. */
  readonly prefix: string
  readonly namespace: string
  readonly engine: LabEngine
  /** What the templates run: it has these. */
  readonly images: readonly string[]
  readonly say: Say
  readonly signal: AbortSignal | undefined
}

/** Makes a place, from nothing or from what a killed run left. */
export type OpenPlace = (home: PlaceHome) => Promise<LabPlace>
