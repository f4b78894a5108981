import { LABEL, type WireMarks, type WireObserved, type WireOrder } from '../contract.ts'
import type { ListedContainer } from '../engine/answers.ts'
import { unhealthySentence } from './health.ts'
import type { Known } from './known.ts'
import type { Orders } from './orders.ts'
import { staysEnded } from './starting.ts'

/** Characters of a detail at most: the contract's. */
const DETAIL_CHARACTERS = 2000

/**
 * An instance as it is told, by its order in force; `entry` may be of an older one, or absent, while that is not carried
 * out: then the times of its start are not known yet.
 */
export function describe(
  order: WireOrder,
  entry: Known | undefined,
  state: WireObserved['state'],
  details: readonly (string | undefined)[] = [],
): WireObserved {
  const detail = details.filter((one) => one !== undefined).join('; ')
  return {
    instance: order.instance,
    generation: order.generation,
    state,
    address: order.address,
    ...(detail === '' ? {} : { detail: detail.slice(0, DETAIL_CHARACTERS) }),
    marks: entry?.order.generation === order.generation ? entry.marks : {},
  }
}

/** The engine's containers as instances. */
export function summarize(
  all: readonly ListedContainer[],
  orders: Pick<Orders, 'current' | 'generation'>,
  about: (instance: string) => { readonly marks: WireMarks; readonly unhealthy: string | undefined },
): readonly WireObserved[] {
  const running = new Set(all.filter((c) => c.running).map((c) => c.id))
  const byInstance = Map.groupBy(
    all.filter((c) => c.labels[LABEL.role] === 'service'),
    (c) => c.labels[LABEL.instance] ?? '',
  )
  return [...byInstance].map(([instance, services]) => {
    const order = orders.current(instance)
    const specOf = (c: ListedContainer) => order?.services.find(({ name }) => name === c.labels[LABEL.service])
    const ended = (c: ListedContainer) => {
      const spec = specOf(c)
      return spec !== undefined && staysEnded(spec, c.exitCode)
    }
    const alive = services.filter((c) => c.running && c.namespaceOf !== null && running.has(c.namespaceOf))
    const dead = services.filter((c) => !alive.includes(c) && !ended(c))
    const complete = order !== null && dead.length === 0 && services.length === order.services.length
    const missing = dead.map((c) => c.labels[LABEL.service])
    const ill = alive.filter((c) => c.health === 'unhealthy').map((c) => c.labels[LABEL.service] ?? '')
    const { marks, unhealthy } = about(instance)
    const details = [
      ...(missing.length > 0 ? [`not running: ${missing.join(', ')}`] : []),
      ...(ill.length > 0 ? [unhealthy ?? ill.map((name) => unhealthySentence(name, '')).join('; ')] : []),
    ].join('; ')
    return {
      instance,
      // The highest ever seen, so that whoever wants it removed knows which generation is high enough.
      generation: orders.generation(instance),
      state: complete ? 'running' : alive.length > 0 ? 'partial' : 'stopped',
      address: order?.address ?? null,
      ...(details === '' ? {} : { detail: details.slice(0, DETAIL_CHARACTERS) }),
      marks,
    }
  })
}
