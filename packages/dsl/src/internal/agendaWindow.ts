/**
 * The open hours of a window: which times have a clock, in some time zone, that shows an hour between two others.
 *
 * A day's hours are an interval of local times. Where the clock of the zone changes, the same local interval is shorter,
 * longer, or two intervals of real time; it is therefore cut where the offset changes, and each part is moved by the
 * offset of its side. Turning the two ends into instants would be simpler and is wrong: when an hour comes twice, there
 * are closed times between the first and the last moment that the clock shows an open one.
 */
import * as DateTime from "effect/DateTime"

export const minute = 60 * 1000
export const day = 24 * 60 * minute

/** A span of time, in milliseconds of the epoch. */
export interface Interval {
  readonly from: number
  readonly to: number
}

/** A window, read. */
export interface Hours {
  /** Milliseconds from midnight of the day it opens; `to` lies on the next day if the window is open over midnight. */
  readonly from: number
  readonly to: number
  readonly zone: DateTime.TimeZone
  /** Whether it opens on this day of the week; Sunday is 0. */
  readonly opens: ReadonlyArray<boolean>
}

export const weekdays = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] as const

/** How far the clock of the zone is ahead of UTC at a time. */
const offsetAt = (zone: DateTime.TimeZone, time: number): number =>
  DateTime.zonedOffset(DateTime.setZone(DateTime.makeUnsafe(time), zone))

/** The first millisecond with another offset than `before`, between a time with it and a time without. */
const changeOf = (zone: DateTime.TimeZone, before: number, from: number, to: number): number => {
  while (to - from > 1) {
    const middle = Math.floor((from + to) / 2)
    if (offsetAt(zone, middle) === before) from = middle
    else to = middle
  }
  return to
}

/** The real time of an interval of local time; clocks change at most once within two days of it. */
const real = (zone: DateTime.TimeZone, from: number, to: number): ReadonlyArray<Interval> => {
  const before = offsetAt(zone, from - day) // no zone is a day away from UTC: this lies before the interval
  const after = offsetAt(zone, to + day)
  if (before === after) return [{ from: from - before, to: to - before }]
  const change = changeOf(zone, before, from - day, to + day)
  return [
    { from: from - before, to: Math.min(to - before, change) },
    { from: Math.max(from - after, change), to: to - after }
  ]
}

/** The open intervals between two times, in order. */
export const intervals = (hours: Hours, from: number, to: number): ReadonlyArray<Interval> => {
  const open: Array<Interval> = []
  // days are counted from the epoch; the hours of the day before the first may reach over midnight
  const last = Math.floor(to / day) + 1
  for (let date = Math.floor(from / day) - 2; date <= last; date++) {
    const weekday = (((date + 4) % 7) + 7) % 7 // the epoch began on a Thursday
    if (!hours.opens[weekday]) continue
    for (const one of real(hours.zone, date * day + hours.from, date * day + hours.to)) {
      const clipped = { from: Math.max(one.from, from), to: Math.min(one.to, to) }
      if (clipped.from < clipped.to) open.push(clipped)
    }
  }
  // where a clock goes back over midnight, the second pass of a day comes after the first one of the next
  return open.toSorted((a, b) => a.from - b.from)
}

/** Where the window opens next; two weeks, because a change of the clock may leave out a day's hours. */
export const nextOpening = (hours: Hours, now: number): number => intervals(hours, now, now + 15 * day)[0]?.from ?? now
