import { HostUnreachable, OrchestratorError } from '../../common/errors.ts'
import type { Backend, BackendKind } from '../../orchestrator/backends/backend.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Price } from '../../orchestrator/domain/price.ts'

/** What the backends of a test have in common: who is let in, and what is away. */
export interface LockedWorld {
  /** The password that lets a backend in. */
  password: string
  readonly away: Set<string>
  readonly missing: string[]
  /** Passwords that backends came with, in order. */
  readonly came: string[]
}

/** A kind of backend that has nothing but a door: it asks for its credential with each call. */
export function lockedKind(world: LockedWorld): BackendKind {
  return {
    contract: 1,
    async create(settings, context): Promise<Backend> {
      const { credential, targets, price } = settings as { credential: string; targets: HostName[]; price?: Price }
      const enter = async (target: { readonly name: HostName }) => {
        if (world.away.has(target.name)) throw new HostUnreachable(target.name, 'nobody opens')
        const { password = '' } = await context.credential(credential)
        world.came.push(password)
        // As careless as a library may be.
        if (password === world.password) return
        const cause = new Error(`401: ${password}`)
        throw new OrchestratorError('credential-refused', `${password} is wrong`, { cause })
      }
      return {
        name: context.name,
        targets: () => targets,
        checkTemplate: () => {},
        ...(price && { price: () => price }),
        async list(target) {
          await enter(target)
          return []
        },
        ensure: async (_order, target) => {
          await enter(target)
          throw new OrchestratorError('not-here', 'there is only a door')
        },
        remove: async (_instance, target) => await enter(target),
        async check(target) {
          await enter(target)
          return { version: 'Door 1', abilities: ['opens'], missing: world.missing }
        },
        close: async () => {},
      }
    },
  }
}
