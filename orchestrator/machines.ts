import type { Clock } from '../common/clock.ts'
import type { Backend } from './backends/backend.ts'
import type { Residents } from './backends/coreos/machines/care-context.ts'
import type { Machines } from './backends/coreos/machines/machines.ts'
import type { Store } from './store/store.ts'

/** The machines of those backends that look after some, by name of the backend. @param backends as they were made, unguarded */
export function machinesOf(backends: Iterable<Backend>): ReadonlyMap<string, Machines> {
  return new Map(
    [...backends].flatMap((backend) => {
      const { machines } = backend as Backend & { readonly machines?: Machines }
      return machines === undefined ? [] : [[backend.name, machines]]
    }),
  )
}

/**
 * Goes on with what was begun on machines. They stop when their backend is closed.
 * @param options.wake tells the reconciler that there is work
 */
export function startMachines(
  machines: ReadonlyMap<string, Machines>,
  options: {
    readonly store: Pick<Store, 'instances' | 'settle' | 'appendEvent'>
    readonly clock: Pick<Clock, 'now'>
    readonly wake: () => void
  },
): void {
  const { store, clock } = options
  for (const [backend, own] of machines) {
    own.start({
      residents: residentsOf({ ...options, backend }),
      tell: async (event) => await store.appendEvent(event, clock.now()),
    })
  }
}

/**
 * The instances that are placed on the machines of a backend. One that is moved away is placed again by the reconciler, with the
 * same generation; what is left of it where it was is taken away by whoever asked.
 */
export function residentsOf(options: {
  readonly backend: string
  readonly store: Pick<Store, 'instances' | 'settle'>
  readonly clock: Pick<Clock, 'now'>
  readonly wake: () => void
}): Residents {
  const { backend, store, clock, wake } = options
  return {
    async moveAway(machine) {
      const living = await store.instances({ live: true, host: machine })
      const placed = living.filter((instance) => instance.backend === backend)
      for (const instance of placed) {
        const lastError = `machine ${machine} is being removed`
        const nowhere = {
          host: null,
          reach: null,
          state: 'pending',
          failures: 0,
          dueAt: clock.now(),
          lastError,
        } as const
        // Where somebody was first it is still placed there, and found the next time.
        await store.settle(instance, nowhere, clock.now())
      }
      if (placed.length > 0) wake()
      return placed.length
    },
  }
}
