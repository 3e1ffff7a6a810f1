/**
 * Typed progress reports of a running handler.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Task from "./Task.ts"

/**
 * Progress of a task that declares no `progress` schema.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Counter = Schema.Struct({
  current: Schema.Finite,
  total: Schema.optionalKey(Schema.Finite),
  message: Schema.optionalKey(Schema.String)
})

/**
 * Sink for progress reports; the worker provides it to every handler.
 *
 * @category services
 * @since 0.1.0
 */
export class Progress extends Context.Service<Progress, {
  /** Stores and publishes a report. `task` has to be the task that runs; another one is a defect. */
  readonly report: <T extends Task.Any>(task: T, value: Task.Progress<T>) => Effect.Effect<void>
}>()("@effect-docket/dsl/Progress") {}

/**
 * Reports progress of the running task. Reports are best effort: a store that is down does not fail the handler.
 *
 * @category accessors
 * @since 0.1.0
 */
export const report = <T extends Task.Any>(task: T, value: Task.Progress<T>): Effect.Effect<void, never, Progress> =>
  Progress.use((progress) => progress.report(task, value))
