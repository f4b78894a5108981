import type { ArmedFault, Fault, FaultInjector } from '../contract/subject.ts'

/** A call to a target as it passes. */
export interface PassingCall {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly body: string
}

export interface FaultOptions {
  /** Which calls count at all; unless told: each. */
  readonly counts?: (call: PassingCall) => boolean
  /** Which are answered piece by piece, for ever: they are never repeated, nor are their answers waited for. Unless told: `/events`. */
  readonly streams?: (call: PassingCall) => boolean
  /**
   * What is answered instead of `text`, the answer to a call for a list; null: that call asks for no list. Unless told: of
   * JSON, what was answered earlier, else the same without any elements.
   * @param earlier what was answered when the same was last asked for, whatever its query; undefined: nothing yet
   */
  readonly wrongPage?: (call: PassingCall, text: string, earlier: string | undefined) => string | null
}

/** A call that goes wrong now. */
export interface Strike {
  readonly fault: Exclude<Fault, 'wrong-page'>
  /** To be called when it went wrong: before any effect, or once it took effect. */
  readonly hit: () => void
  /** Resolves when calls may pass again. */
  readonly over: Promise<void>
}

/** Decides which call goes wrong. Any number of proxies may share it: calls to all of them count. */
export interface Faults extends FaultInjector {
  /** Each call is shown once, before it is passed on. */
  strike(call: PassingCall): Strike | null
  /** Each whole answer is shown once. @returns what is answered */
  answered(call: PassingCall, text: string): string
  streams(call: PassingCall): boolean
}

interface Armed {
  readonly fault: Fault
  /** Calls until it is that one's turn. */
  left: number
  wasHit: boolean
  ended: boolean
  readonly hit: PromiseWithResolvers<void>
  readonly over: PromiseWithResolvers<void>
}

/** Answers that are remembered for wrong pages. */
const MOST_EARLIER = 200

export function createFaults(options: FaultOptions = {}): Faults {
  const { counts = () => true, streams = ({ path }) => path.includes('/events'), wrongPage = wrongJson } = options
  const earlier = new Map<string, string>()
  let armed: Armed | null = null
  const turn = (mine: Armed) => --mine.left === 0
  const hit = (mine: Armed) => () => {
    // It was given up while that call was still taking effect.
    if (mine.ended) return
    mine.wasHit = true
    mine.hit.resolve()
  }
  return {
    faults: ['refuse', 'lose-answer', 'hang', 'repeat', 'wrong-page'],
    arm(fault, call): ArmedFault {
      armed?.over.resolve()
      const parts = { hit: Promise.withResolvers<void>(), over: Promise.withResolvers<void>() }
      const mine: Armed = { fault, left: call, wasHit: false, ended: false, ...parts }
      armed = mine
      return {
        hit: mine.hit.promise,
        end() {
          mine.ended = true
          mine.over.resolve()
          if (armed === mine) armed = null
          return mine.wasHit
        },
      }
    },
    strike(call) {
      const mine = armed
      if (mine === null || mine.fault === 'wrong-page' || !counts(call)) return null
      // What only reads may be carried out twice without anybody seeing it.
      if (mine.fault === 'repeat' && (/^(GET|HEAD)$/.test(call.method) || streams(call))) return null
      return turn(mine) ? { fault: mine.fault, hit: hit(mine), over: mine.over.promise } : null
    },
    answered(call, text) {
      const key = `${call.method} ${call.path.split('?')[0]} ${call.method === 'GET' ? '' : call.body}`
      const former = earlier.get(key)
      const mine = armed
      const wrong = mine?.fault === 'wrong-page' && counts(call) ? wrongPage(call, text, former) : null
      earlier.delete(key)
      earlier.set(key, text)
      const [oldest] = earlier.keys()
      if (earlier.size > MOST_EARLIER && oldest !== undefined) earlier.delete(oldest)
      if (mine === null || wrong === null || !turn(mine)) return text
      hit(mine)()
      return wrong
    },
    streams,
  }
}

/** A stale or an empty page of a list in JSON; null: it is no list, or an empty one. */
function wrongJson({ method }: PassingCall, text: string, earlier: string | undefined): string | null {
  if (method !== 'GET') return null
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return null
  }
  const empty = JSON.stringify(emptied(body))
  if (empty === JSON.stringify(body)) return null
  return earlier !== undefined && earlier !== text ? earlier : empty
}

/** The same without the elements of its lists, and of those one level below. */
function emptied(body: unknown): unknown {
  if (Array.isArray(body)) return []
  if (typeof body !== 'object' || body === null) return body
  return Object.fromEntries(Object.entries(body).map(([key, value]) => [key, Array.isArray(value) ? [] : value]))
}
