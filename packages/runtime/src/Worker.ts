/**
 * Runs tasks and flows.
 *
 * A worker claims due runs of the tasks that it has handlers for, runs them, and settles them: at least once each, with
 * every transition made exactly once. It never stops because of a run.
 *
 * @since 0.1.0
 */
import type { DocketError, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import type { DocketEngine } from "./DocketEngine.ts"
import { type AnyOptions, start, work } from "./internal/worker/start.ts"

/**
 * Options of a worker.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<Flows extends ReadonlyArray<Flow.AnyNamed>> {
  /** Executions at once in this worker. Default 10. */
  readonly concurrency?: number | undefined
  /** Flows this worker advances. It needs the handlers of all their tasks. */
  readonly flows?: Flows | undefined
  /** Lanes this worker serves, first come first; or a number of slots per lane. Default `["default"]`. */
  readonly lanes?: ReadonlyArray<string> | { readonly [lane: string]: number } | undefined
  /** How long an execution stays claimed without a sign of life. Default 30 seconds. */
  readonly lease?: Duration.Input | undefined
  /** How long running executions may go on when the layer closes, before they are released. Default 30 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** What to do after defects, timeouts and lost workers, if the task does not say. Default: three retries, exponential from 1 second. */
  readonly defectRetryPolicy?: Schedule.Schedule<unknown, unknown> | undefined
  /** Name in events and snapshots. Default: host, process and a number. */
  readonly name?: string | undefined
}

/**
 * What a worker needs: the engine, and the handler of every task of the group and of the flows.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Requirements<Tasks extends Task.Any, Flows extends ReadonlyArray<Flow.AnyNamed>> =
  | DocketEngine
  | Task.ToHandler<Tasks["_tag"] | Flow.Tags<Flows[number]>>
  | Task.ServicesServer<Tasks>
  | Flow.Services<Flows[number]>

/**
 * What a finite worker did.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly succeeded: number
  readonly failed: number
  readonly retried: number
}

/**
 * Layer that runs a worker for as long as it lives. A task without a handler is a missing requirement. Fails with reason
 * `InvalidOption` if an option makes no sense.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  options?: Options<Flows>
): Layer.Layer<never, DocketError.DocketError, Requirements<Tasks, Flows>> =>
  Layer.effectDiscard(Effect.flatMap(start(group, options ?? {}), (loop) => work(loop, false)))

const runFinite = (
  group: TaskGroup.Any,
  options: AnyOptions | undefined,
  limits?: ReadonlyMap<string, number>
): Effect.Effect<Report, DocketError.DocketError, DocketEngine> =>
  Effect.scoped(Effect.gen(function*() {
    const loop = yield* start(group, options ?? {}, limits)
    yield* Fiber.join(yield* work(loop, true))
    return { ...loop.counts }
  }))

/**
 * Runs until nothing is pending or running any more; waits for executions that are due later. What another worker runs
 * is waited for, what no handler of this worker fits is not.
 *
 * @category running
 * @since 0.1.0
 */
export const runUntilIdle = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  options?: Options<Flows>
): Effect.Effect<Report, DocketError.DocketError, Requirements<Tasks, Flows>> => runFinite(group, options)

/**
 * Runs each named task at most so often, then stops rescheduling it; ends when nothing else is pending. For perpetual
 * tasks.
 *
 * @category running
 * @since 0.1.0
 */
export const runAtMost = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  limits: { readonly [Tag in Tasks["_tag"]]?: number },
  options?: Options<Flows>
): Effect.Effect<Report, DocketError.DocketError, Requirements<Tasks, Flows>> =>
  runFinite(group, options, new Map(Object.entries<number>(limits as Readonly<Record<string, number>>))) // absent tags are absent
