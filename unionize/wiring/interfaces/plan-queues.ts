import type { ShapingSpec } from '../../../common/wiring-spec.ts'
import {
  defaultBurst,
  deleteIngress,
  deleteRoot,
  policeIngress,
  type Qdisc,
  setIngress,
  setNetem,
  setTbf,
} from '../kernel/queueing.ts'
import { atEnd, type End } from './action.ts'
import { type Change, consequent, differing } from './change.ts'
import type { Queues } from './look.ts'

/** What is to be at the root of one end. */
interface RootWish {
  readonly tbf: { readonly rate: number; readonly burst: number; readonly latencyMs: number } | null
  readonly netem: { readonly delayMs: number; readonly jitterMs: number; readonly loss: number } | null
}

/** How long what comes in may wait where it is delayed and not policed: as `latencyMs` of the spec by default. */
const INGRESS_LATENCY_MS = 50
/** The kernel keeps a burst as the time it takes, in microseconds and then in ticks: so much of it may be lost. */
const BURST_SECONDS_LOST = 3e-6
const OUR_KINDS: readonly string[] = ['tbf', 'netem']

/**
 * What shapes an interface. What comes in is policed in the namespace, but of a veth pair it is delayed where it enters the
 * pair: that needs less of the kernel, and nobody inside can take it away.
 */
export function planQueues(
  name: string,
  shaping: ShapingSpec | undefined,
  ends: { inner: Queues; outer: Queues | null; outerEnd: Extract<End, { outer: string }> | null; fresh: boolean },
): Change[] {
  const { egress, ingress, delayMs, jitterMs, loss } = shaping ?? {}
  const lab = delayMs !== undefined || jitterMs !== undefined || loss !== undefined
  const out: RootWish = {
    tbf: egress === undefined ? null : { ...limit(egress), latencyMs: egress.latencyMs },
    netem: lab ? { delayMs: delayMs ?? 0, jitterMs: jitterMs ?? 0, loss: loss ?? 0 } : null,
  }
  const changes = planRoot(name, 'shaping.egress', { inner: name }, out, ends.inner, ends.fresh)
  if (ends.outerEnd !== null && ends.outer !== null) {
    const into = ingress === undefined ? null : { ...limit(ingress), latencyMs: INGRESS_LATENCY_MS }
    const wish = { tbf: into, netem: null }
    return [...changes, ...planRoot(name, 'shaping.ingress', ends.outerEnd, wish, ends.outer, ends.fresh)]
  }
  return [...changes, ...planPolice(name, ingress === undefined ? null : limit(ingress), ends)]
}

function planRoot(name: string, field: string, end: End, wish: RootWish, queues: Queues, fresh: boolean): Change[] {
  const found = rootOf(queues.qdiscs)
  if (isLike(wish, found)) return []
  const act = atEnd(end, (route, link) => {
    const ask = (purpose: string, bytes: Buffer, fine: readonly string[] = []) =>
      route.ask({ interface: link.name, purpose, bytes, fine })
    if (found !== null) ask('remove its queue', deleteRoot(link.index), ['ENOENT', 'EINVAL'])
    if (wish.netem !== null) ask('delay and lose what goes out', setNetem(link.index, wish.netem))
    if (wish.tbf !== null) {
      const under = wish.netem === null ? 'root' : 'netem'
      ask('limit its rate', setTbf(link.index, { ...wish.tbf, under }))
    }
  })
  const text = `${field === 'shaping.ingress' ? 'let in' : 'let out'} ${rootText(wish)}`
  if (fresh) return [consequent(name, text, act)]
  return [
    differing(name, { field, wanted: rootText(wish), found: found === null ? 'no limit' : rootText(found) }, text, act),
  ]
}

function planPolice(
  name: string,
  wish: { rate: number; burst: number } | null,
  ends: { inner: Queues; fresh: boolean },
): Change[] {
  const { police, qdiscs } = ends.inner
  const there = qdiscs.some((qdisc) => qdisc.kind === 'ingress')
  const alike = wish === null ? police === null : police !== null && isLimit(wish, police)
  if (alike) return []
  const act = atEnd({ inner: name }, (route, link) => {
    const on = { interface: name }
    if (there)
      route.ask({ ...on, purpose: 'let everything in', bytes: deleteIngress(link.index), fine: ['ENOENT', 'EINVAL'] })
    if (wish === null) return
    route.ask({ ...on, purpose: 'look at what comes in', bytes: setIngress(link.index) })
    route.ask({ ...on, purpose: 'police what comes in', bytes: policeIngress(link.index, wish) })
  })
  const wanted = wish === null ? 'no limit' : `${wish.rate} bit/s`
  const text = `let in ${wanted}`
  if (ends.fresh) return [consequent(name, text, act)]
  const found = police === null ? 'no limit' : `${police.rate} bit/s`
  return [differing(name, { field: 'shaping.ingress', wanted, found }, text, act)]
}

/** Ours at the root, or one that is in its place; null: only what the kernel put there. */
function rootOf(qdiscs: readonly Qdisc[]): RootWish | null {
  const root = qdiscs.find((qdisc) => qdisc.root && OUR_KINDS.includes(qdisc.kind))
  if (root === undefined) return null
  const child = qdiscs.find((qdisc) => qdisc.kind === 'tbf' && !qdisc.root)
  return { netem: root.netem, tbf: root.tbf ?? child?.tbf ?? null }
}

function isLike(wish: RootWish, found: RootWish | null): boolean {
  if (found === null) return wish.tbf === null && wish.netem === null
  if ((wish.tbf === null) !== (found.tbf === null) || (wish.netem === null) !== (found.netem === null)) return false
  if (wish.tbf !== null && found.tbf !== null) {
    if (!isLimit(wish.tbf, found.tbf)) return false
    const slack = 1 + (1000 * 8 * (wish.tbf.rate * BURST_SECONDS_LOST + 8)) / wish.tbf.rate
    if (Math.abs(wish.tbf.latencyMs - found.tbf.latencyMs) > slack) return false
  }
  if (wish.netem === null || found.netem === null) return true
  const near = (a: number, b: number, slack: number) => Math.abs(a - b) <= slack
  return (
    near(wish.netem.delayMs, found.netem.delayMs, 0.002) &&
    near(wish.netem.jitterMs, found.netem.jitterMs, 0.002) &&
    near(wish.netem.loss, found.netem.loss, 1e-8)
  )
}

function isLimit(wish: { rate: number; burst: number }, found: { rate: number; burst: number }): boolean {
  const bytesPerSecond = Math.max(1, Math.floor(wish.rate / 8))
  const slack = Math.ceil(bytesPerSecond * BURST_SECONDS_LOST) + 1
  return found.rate === bytesPerSecond * 8 && Math.abs(found.burst - wish.burst) <= slack
}

function rootText(wish: RootWish): string {
  const parts = [
    ...(wish.tbf === null ? [] : [`${wish.tbf.rate} bit/s`]),
    ...(wish.netem === null
      ? []
      : [`${wish.netem.delayMs} ms late (±${wish.netem.jitterMs}), ${wish.netem.loss * 100} % lost`]),
  ]
  return parts.length === 0 ? 'no limit' : parts.join(', ')
}

function limit(wish: { rate: number | string; burst?: number | undefined }): { rate: number; burst: number } {
  const rate = bitsOf(wish.rate)
  return { rate, burst: wish.burst ?? defaultBurst(rate) }
}

/** `512kbit`, `10M`, 9600. The shape has checked it. */
function bitsOf(rate: number | string): number {
  if (typeof rate === 'number') return rate
  const [, number = '', unit = ''] = /^([\d.]+)([kMG]?)/.exec(rate) ?? []
  return Math.round(Number(number) * { '': 1, k: 1e3, M: 1e6, G: 1e9 }[unit as '' | 'k' | 'M' | 'G'])
}
