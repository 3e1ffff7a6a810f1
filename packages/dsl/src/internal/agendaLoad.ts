/**
 * Where the load of a plan falls: the items per stretch of time and task. What the table sums up and the picture draws.
 */
import * as DateTime from "effect/DateTime"
import type * as Agenda from "../Agenda.ts"
import type * as Task from "../Task.ts"
import { origin } from "./agendaBatch.ts"
import type { Interval } from "./agendaWindow.ts"

/** Times and lengths that read well, in milliseconds. */
const steps: ReadonlyArray<number> = [
  [1, 2, 5, 10, 20, 50, 100, 200, 500],
  [1, 2, 5, 10, 15, 30].map((seconds) => seconds * 1000),
  [1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60_000),
  [1, 2, 3, 6, 12].map((hours) => hours * 3_600_000),
  [1, 2, 7, 14, 30, 90, 365, 3650].map((days) => days * 86_400_000)
].flat()

/** The shortest length that reads well, and that a span holds at most `count` times. */
export const stepOf = (span: number, count: number): number =>
  steps.find((step) => span / step <= count) ?? steps.at(-1)!

/** More would be thinner than what can be told apart in a picture. */
const mostBuckets = 60
/** Fewer would show nothing of a small agenda. */
const fewestBuckets = 6

/** The items that lie in one stretch of time. */
export interface Bucket extends Interval {
  /** By the index of their task. */
  readonly counts: ReadonlyArray<number>
  readonly total: number
}

/** The load of a plan. */
export interface Load extends Interval {
  /** By first appearance. */
  readonly tasks: ReadonlyArray<{ readonly name: string; readonly count: number }>
  /** How long a bucket is. The last one includes its end, where the last item of a plan lies. */
  readonly step: number
  readonly buckets: ReadonlyArray<Bucket>
  /** The first of the fullest; there is none in an empty plan. */
  readonly busiest: Bucket | undefined
  /** Times within the period where no item may lie. */
  readonly closed: ReadonlyArray<Interval>
}

const gaps = (from: number, to: number, open: ReadonlyArray<Interval>): ReadonlyArray<Interval> => {
  const found: Array<Interval> = []
  let end = from
  for (const one of open) {
    if (one.from > end) found.push({ from: end, to: one.from })
    end = one.to
  }
  return end < to ? [...found, { from: end, to }] : found
}

/** When a slot runs, in milliseconds of the epoch. */
export const timeOf = (slot: { readonly at: DateTime.Utc }): number => DateTime.toEpochMillis(slot.at)

/** The load of a plan. Items may lie outside of its period: those whose time had passed. */
export const load = (plan: Agenda.Plan<Task.Any>): Load => {
  const { period } = origin(plan)
  let from = period?.whole.from ?? Infinity
  let to = period?.whole.to ?? -Infinity
  const indices = new Map<string, number>()
  const tasks: Array<{ readonly name: string; count: number }> = []
  for (const slot of plan.slots) {
    from = Math.min(from, timeOf(slot))
    to = Math.max(to, timeOf(slot))
    let index = indices.get(slot.task)
    if (index === undefined) {
      indices.set(slot.task, index = tasks.length)
      tasks.push({ name: slot.task, count: 0 })
    }
    tasks[index]!.count++
  }
  if (from > to) from = to = 0 // what is left of a plan, and nothing is
  const span = Math.max(1, to - from)
  const step = stepOf(span, Math.min(mostBuckets, Math.max(fewestBuckets, Math.ceil(plan.length / 2))))
  const buckets = Array.from({ length: Math.ceil(span / step) }, (_, index) => ({
    from: from + index * step,
    to: Math.min(to, from + (index + 1) * step),
    counts: tasks.map(() => 0),
    total: 0
  }))
  for (const slot of plan.slots) {
    const bucket = buckets[Math.min(buckets.length - 1, Math.floor((timeOf(slot) - from) / step))]!
    bucket.counts[indices.get(slot.task)!]!++
    bucket.total++
  }
  let busiest: Bucket | undefined
  for (const bucket of buckets) if (bucket.total > (busiest?.total ?? 0)) busiest = bucket
  return { from, to, tasks, step, buckets, busiest, closed: period === undefined ? [] : gaps(from, to, period.open) }
}
