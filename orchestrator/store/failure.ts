import { OrchestratorError } from '../../common/errors.ts'
import type { Store } from './store.ts'

/** The store could not do what was asked: full disk, lost server. Trying again later may succeed. */
export class StoreFailure extends OrchestratorError {
  constructor(message: string, cause: unknown) {
    super('store-failed', message, { retryable: true, cause })
  }
}

/** The same store, whose every failure is a StoreFailure that names the method. */
export function worded(store: Store): Store {
  return new Proxy(store, {
    get(target, name: keyof Store) {
      const method = target[name] as (...args: unknown[]) => Promise<unknown>
      if (typeof method !== 'function') return method
      return async (...args: unknown[]) => {
        try {
          return await method.apply(target, args)
        } catch (error) {
          throw failure(`the store failed (${name})`, error)
        }
      }
    },
  })
}

/** What we worded ourselves stays as it is. */
export function failure(what: string, cause: unknown): Error {
  return cause instanceof OrchestratorError ? cause : new StoreFailure(what, cause)
}
