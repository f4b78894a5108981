import type { Day, RuleMatch } from './rule.ts'

/** Days in the order of a week; a window that begins on one may end on the next. */
export const DAYS: readonly Day[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
const DAY_MINUTES = 24 * 60
const MINUTE_MS = 60_000

/** What clock and calendar on the wall show in a time zone. */
export interface WallTime {
  /** Position in {@link DAYS}. */
  readonly day: number
  /** Minutes since midnight. */
  readonly minute: number
}

/** A window of the week: a matching minute is at or after `from` and before `to`. */
export interface TimeWindow {
  readonly zone: string
  contains(wall: WallTime): boolean
  /** `mon, tue 08:00 to 17:30 in Europe/Berlin` */
  readonly text: string
}

/** Minutes since midnight of `08:00`, or of `24:00`; null: it is no time of day. */
export function minutesOf(text: string): number | null {
  const [, hours, minutes] = /^(\d{1,2}):(\d\d)$/.exec(text) ?? []
  if (hours === undefined || minutes === undefined || Number(minutes) > 59) return null
  const total = Number(hours) * 60 + Number(minutes)
  return total <= DAY_MINUTES ? total : null
}

/**
 * Compiles a rule's window. Its days are those on which it begins: `fri` from 22:00 to 06:00 ends on Saturday. A window
 * whose times are no times, or whose end is its beginning, holds no minute; rules-file.ts refuses those.
 */
export function compileWindow(time: NonNullable<RuleMatch['time']>): TimeWindow {
  const from = minutesOf(time.from ?? '00:00') ?? 0
  const to = minutesOf(time.to ?? '24:00') ?? 0
  const days = new Set((time.days ?? DAYS).map((day) => DAYS.indexOf(day)))
  const begins = (day: number) => days.has((day + DAYS.length) % DAYS.length)
  const when = time.days === undefined ? [] : [time.days.join(', ')]
  const hours =
    time.from === undefined && time.to === undefined ? [] : [`${time.from ?? '00:00'} to ${time.to ?? '24:00'}`]
  return {
    zone: time.zone,
    text: [...when, ...hours, `in ${time.zone}`].join(' '),
    contains: ({ day, minute }) =>
      from <= to
        ? begins(day) && from <= minute && minute < to
        : (begins(day) && from <= minute) || (begins(day - 1) && minute < to),
  }
}

/** Whether the time zone is one of the IANA database that this Node knows. Offsets such as `+02:00` are none. */
export function isZone(zone: string): boolean {
  if (!/^[A-Za-z]/.test(zone)) return false
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone })
    return true
  } catch {
    return false
  }
}

/** What the wall shows in each zone: asked once a minute of each, since that costs more than all else in a rule. */
export function wallClock(): (zone: string, now: number) => WallTime {
  const zones = new Map<string, { format: Intl.DateTimeFormat; minute: number; wall: WallTime }>()
  return (zone, now) => {
    const minute = Math.floor(now / MINUTE_MS)
    const known = zones.get(zone)
    if (known?.minute === minute) return known.wall
    const format =
      known?.format ??
      new Intl.DateTimeFormat('en-US', {
        timeZone: zone,
        weekday: 'short',
        hour: '2-digit',
        minute: '2-digit',
        hourCycle: 'h23',
      })
    const wall = wallTime(format, now)
    zones.set(zone, { format, minute, wall })
    return wall
  }
}

function wallTime(format: Intl.DateTimeFormat, now: number): WallTime {
  const parts = new Map(format.formatToParts(now).map(({ type, value }) => [type, value]))
  const day = DAYS.indexOf((parts.get('weekday') ?? '').toLowerCase() as Day)
  return { day, minute: Number(parts.get('hour')) * 60 + Number(parts.get('minute')) }
}
