/** What is known of the health of services, beyond that they run: an unhealthy one is told, not started again. */
export interface HealthBook {
  /** Notes how all services of an instance stand: what the checks of the unhealthy ones said, by name. */
  replace(instance: string, unhealthy: ReadonlyMap<string, string>): void
  /** Notes one service; null: it is not unhealthy, or ended. @returns whether that is news */
  note(instance: string, service: string, said: string | null): boolean
  /** A sentence for each unhealthy service; undefined: there is none. */
  detail(instance: string): string | undefined
  forget(instance: string): void
}

export function createHealthBook(): HealthBook {
  const unhealthy = new Map<string, ReadonlyMap<string, string>>()
  const replace = (instance: string, all: ReadonlyMap<string, string>) => {
    if (all.size === 0) unhealthy.delete(instance)
    else unhealthy.set(instance, all)
  }
  return {
    replace,
    note(instance, service, said) {
      const before = unhealthy.get(instance)
      if (said === null && !before?.has(service)) return false
      const news = said === null || !before?.has(service)
      const all = new Map(before)
      if (said === null) all.delete(service)
      else all.set(service, said)
      replace(instance, all)
      return news
    },
    detail(instance) {
      const all = unhealthy.get(instance)
      return all === undefined ? undefined : [...all].map(([name, said]) => unhealthySentence(name, said)).join('; ')
    },
    forget: (instance) => unhealthy.delete(instance),
  }
}

export function unhealthySentence(service: string, said: string): string {
  return `service ${service} is unhealthy${said === '' ? '' : `: ${said}`}`
}

/** The health that an event of a container tells (`health_status: unhealthy`); null: it is about something else. */
export function healthIn(action: string): 'healthy' | 'unhealthy' | null {
  const health = /^health_status: (healthy|unhealthy)$/.exec(action)?.[1]
  return health === 'healthy' || health === 'unhealthy' ? health : null
}
