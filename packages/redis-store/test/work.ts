/**
 * The task of the tests with processes. Worker processes load it too, so it does not need vitest.
 */
import { Execution, Task, TaskGroup } from "@effect-docket/dsl"
import { Effect, Layer, Schema } from "effect"

/** A task that takes a while. */
export class Work extends Task.make("Work", {
  payload: { n: Schema.Int, millis: Schema.Int },
  success: Schema.Int
}) {}

/** Its group. */
export class Works extends TaskGroup.make(Work) {}

/** Handlers that tell when a body begins, and with which attempt. */
export const handling = (begins: (n: number, attempt: number) => Effect.Effect<void>) =>
  Layer.merge(
    Work.toLayer(({ millis, n }) =>
      Effect.gen(function*() {
        yield* begins(n, (yield* Execution.CurrentExecution).attempt)
        yield* Effect.sleep(millis)
        return n
      })
    ),
    Works.client
  )
