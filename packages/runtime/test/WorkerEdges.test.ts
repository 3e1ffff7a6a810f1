/**
 * Workers where two things meet: a stop and what was claimed ahead, a stop and a timeout.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Layer, Schedule, Schema } from "effect"
import * as Kit from "./Kit.ts"

class Job extends Task.make("Job", { payload: { id: Schema.Int }, key: ["id"] }) {}
class Slow extends Task.make("Slow", { timeout: "1 second", defectRetryPolicy: Schedule.recurs(0) }) {}
class Jobs extends TaskGroup.make(Job, Slow) {}

/** The tasks, whose bodies note themselves, and wait for a latch whether they are interrupted or not. */
const bundle = () => {
  const began: Array<string> = []
  const gate = Latch.makeUnsafe()
  const body = (what: string) =>
    Effect.andThen(Effect.sync(() => void began.push(what)), Effect.uninterruptible(gate.await))
  const layer = Kit.live(Jobs, Jobs.toLayer({ Job: ({ id }) => body(`Job ${id}`), Slow: () => body("Slow") }))
  return { began, gate, layer }
}

// with a simulated clock nothing takes time, and a worker claims nothing ahead: the store is asked for more than it wants
const ahead = (more: number) =>
  Kit.intercept((session) => ({
    ...session,
    turn: (request) => session.turn({ ...request, capacity: request.capacity === 0 ? 0 : request.capacity + more })
  }))

describe("workers where two things meet", () => {
  it.effect("what was claimed ahead waits for a slot, and a worker that stops gives it back at once, in its order", () => {
    const { began, gate, layer } = bundle()
    return Effect.gen(function*() {
      yield* Docket.addAll([0, 1, 2, 3].map((id) => [Job, { id }] as const))
      const options = { concurrency: 1, drainTimeout: "1 minute" } as const
      const worker = yield* Kit.start(Layer.provide(Worker.layer(Jobs, options), ahead(3)))
      yield* Kit.settle
      const other = yield* Kit.crashingWorker({ tasks: ["Job"] })
      assert.deepStrictEqual(yield* other.claim, [], "the worker has them all")
      assert.deepStrictEqual(began, ["Job 0"])
      const stopping = yield* Effect.forkChild(worker.stop)
      yield* Kit.settle
      assert.deepStrictEqual((yield* other.claim).map(({ key }) => key), ["Job/1", "Job/2", "Job/3"])
      yield* gate.open
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(began, ["Job 0"])
    }).pipe(Effect.ensuring(gate.open), Effect.scoped, Effect.provide(layer))
  })

  it.effect("a body that has timed out, and goes on while its worker stops, has timed out", () => {
    const { began, gate, layer } = bundle()
    return Effect.gen(function*() {
      const run = yield* Docket.add(Slow)
      const worker = yield* Kit.start(Worker.layer(Jobs, { drainTimeout: "1 second" }))
      yield* Kit.advance("1500 millis")
      const stopping = yield* Effect.forkChild(worker.stop)
      yield* Kit.advanceBy("1 second", 10)
      yield* Fiber.join(stopping)
      const exit = yield* Effect.exit(run.await)
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Timeout")
      assert.deepStrictEqual(began, ["Slow"])
    }).pipe(Effect.ensuring(gate.open), Effect.provide(layer))
  })
})
