/**
 * What a worker tells the outside: metrics of each task, made once, and names of log annotations.
 *
 * Times are in seconds and labels are bounded: docket and task, never a key.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

// from a millisecond to about four hours, doubling
const boundaries = Metric.exponentialBoundaries({ start: 0.001, factor: 2, count: 24 })

const metrics = {
  started: counter("docket_started_total", "Attempts begun"),
  completed: counter("docket_completed_total", "Runs that succeeded"),
  failed: counter("docket_failed_total", "Runs that failed for good"),
  cancelled: counter("docket_cancelled_total", "Runs that were cancelled while they ran"),
  retried: counter("docket_retried_total", "Attempts that failed and are tried again"),
  redelivered: counter("docket_redelivered_total", "Attempts taken over from a worker that disappeared"),
  lost: counter("docket_lost_total", "Settlements that came after the claim was lost"),
  duration: Metric.histogram("docket_duration_seconds", { description: "How long an attempt took", boundaries }),
  punctuality: Metric.histogram("docket_punctuality_seconds", {
    description: "How long after its due time an attempt began",
    boundaries
  })
}

/** The name of a metric of a worker. */
export type Name = keyof typeof metrics

/** The metrics of one task, ready to be updated. */
export type TaskMetrics = (name: Name, value: number) => void

/** The metrics of a task. */
export const make = (context: Context.Context<never>, docket: string, task: string): TaskMetrics => {
  const attributes = { docket, task }
  const tagged = {
    started: Metric.withAttributes(metrics.started, attributes),
    completed: Metric.withAttributes(metrics.completed, attributes),
    failed: Metric.withAttributes(metrics.failed, attributes),
    cancelled: Metric.withAttributes(metrics.cancelled, attributes),
    retried: Metric.withAttributes(metrics.retried, attributes),
    redelivered: Metric.withAttributes(metrics.redelivered, attributes),
    lost: Metric.withAttributes(metrics.lost, attributes),
    duration: Metric.withAttributes(metrics.duration, attributes),
    punctuality: Metric.withAttributes(metrics.punctuality, attributes)
  }
  return (name, value) => tagged[name].updateUnsafe(value, context)
}
