/**
 * A fan-out of ten thousand. Its members are read in pages, and are never one message.
 */
import { Docket, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema } from "effect"
import { drive, left } from "./flow/kit.ts"

class Item extends Task.make("Item", { payload: Schema.Int, success: Schema.Int }) {}
class Join extends Task.make("Join", { payload: { sum: Schema.Int, inOrder: Schema.Boolean }, success: Schema.Int }) {}
class Tasks extends TaskGroup.make(Item, Join) {}

const Wide = Flow.make(
  "Wide",
  Flow.input(Schema.Int).pipe(
    Flow.forEach(Item, { items: (n) => Array.from({ length: n }, (_, i) => i) }),
    Flow.andThen(Join, (all) => ({ sum: all.reduce((a, b) => a + b, 0), inOrder: all.every((n, i) => n === i) }))
  )
)

describe("a wide flow", () => {
  it.effect("fan-out of 10,000 → the join runs exactly once, with all of them, in their order", () => {
    let items = 0
    const joins: Array<boolean> = []
    const handlers = Tasks.toLayer({
      Item: (n) =>
        Effect.sync(() => {
          items++
          return n
        }),
      Join: ({ inOrder, sum }) =>
        Effect.sync(() => {
          joins.push(inOrder)
          return sum
        })
    })
    return Effect.gen(function*() {
      const run = yield* Docket.start(Wide, 10_000)
      const worker = yield* Effect.forkChild(
        Worker.runUntilIdle(Tasks, { flows: [Wide], concurrency: 1000, lease: "1 day" })
      )
      assert.isTrue(yield* drive(worker))
      yield* Fiber.join(worker)
      assert.strictEqual(yield* run.await, (10_000 * 9999) / 2)
      assert.strictEqual(items, 10_000)
      assert.deepStrictEqual(joins, [true])
      assert.deepStrictEqual(yield* left, [])
    }).pipe(Effect.provide(Layer.merge(handlers, Tasks.client).pipe(Layer.provideMerge(DocketTest.layer))))
  }, 60_000)
})
