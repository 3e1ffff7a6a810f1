/**
 * The task of the tests with processes. Worker processes load it too, so it does not need vitest.
 */
import { Execution, Task, TaskGroup } from "@effect-docket/dsl"
import { Effect, Fiber, Layer, Schema } from "effect"

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
        // its time runs when it says that it has begun: the process may be stopped at once
        const time = yield* Effect.forkChild(Effect.sleep(millis), { startImmediately: true })
        yield* begins(n, (yield* Execution.CurrentExecution).attempt)
        yield* Fiber.join(time)
        return n
      })
    ),
    Works.client
  )
