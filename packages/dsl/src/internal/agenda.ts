/**
 * Where the slots of an agenda lie: a pure function of the number of items, the options, the time and a random source.
 *
 * Item `i` of `n` lies at `start + i·over/(n−1)`, so that both ends are used; a single item lies at the middle. This is
 * the formula of docket for Python (chrisguidry/docket, `src/docket/agenda.py`). Its jitter is not taken over: there a
 * slot may leave the period. Clamping it to the period would pile slots up at the ends (with a jitter of a tenth of the
 * period, one slot in forty would lie exactly at its start), so the interval to draw from shrinks instead.
 *
 * Times are whole milliseconds, as stores keep them.
 */
import type * as Random from "effect/Random"
import * as Result from "effect/Result"
import { type Period, type PlanOptions, type Read, readPeriod } from "./agendaOptions.ts"

/** A random whole number between two numbers, both included; `around` if none lies there. */
const between = (low: number, high: number, around: number, random: Random.Random): number => {
  const from = Math.ceil(low)
  const to = Math.floor(high)
  return from > to ? Math.round(around) : from + Math.floor(random.nextDoubleUnsafe() * (to - from + 1))
}

/** Times, and the period that they share out. */
export interface Spread {
  readonly times: ReadonlyArray<number>
  readonly period: Period
}

/** The times of `count` items, in their order. A time that has passed is now. */
export const spread = (
  count: number,
  options: PlanOptions,
  now: number,
  random: Random.Random
): Read<Spread> =>
  Result.map(readPeriod(options, now), (period) => {
    const { jitter, open, soonest } = period
    // offsets count open time only: `starts` holds where each open interval begins among them
    const starts: Array<number> = []
    let total = 0
    for (const { from, to } of open) {
      starts.push(total)
      total += to - from
    }
    const times: Array<number> = []
    for (let i = 0; i < count; i++) {
      // `total * i` may be too large to be exact, and the last item has to lie at the very end
      const base = count === 1 ? total / 2 : i === count - 1 ? total : (total * i) / (count - 1)
      const offset = jitter === 0
        ? Math.round(base)
        : between(Math.max(0, base - jitter), Math.min(total, base + jitter), base, random)
      const index = lastAtMost(starts, offset)
      const time = open[index]!.from + offset - starts[index]!
      times.push(time < now ? soonest : time)
    }
    return { times, period }
  })

/** The index of the last of ascending numbers that is not greater than `value`; the first number is 0. */
const lastAtMost = (numbers: ReadonlyArray<number>, value: number): number => {
  let low = 0
  let high = numbers.length - 1
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (numbers[middle]! <= value) low = middle
    else high = middle - 1
  }
  return low
}
