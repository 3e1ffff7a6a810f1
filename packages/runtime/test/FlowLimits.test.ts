/**
 * What of a flow is over when something else begins: a limit behind its steps, a round behind the next one.
 */
import { Docket, Execution, Flow, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, Option, Schema } from "effect"
import { drive, left } from "./flow/kit.ts"

const second = 1000

class Boom extends Schema.TaggedError<Boom>("limits/Boom")("Boom", {}) {}

/** Takes so many seconds. */
class Wait extends Task.make("Wait", { payload: Schema.Int, success: Schema.Int }) {}
class Fail extends Task.make("Fail", { payload: Schema.Int, error: Boom }) {}
class Undo extends Task.make("Undo", { payload: Schema.Int }) {}
/** The numbers from 0 on. */
class Split extends Task.make("Split", { payload: Schema.Int, success: Schema.Array(Schema.Int) }) {}
/** Asks for another round, once. */
class Poll extends Task.make("Poll", {
  payload: Schema.Int,
  success: Schema.Struct({ _tag: Schema.Literals(["More", "Done"]) })
}) {}
/** Ends when it is interrupted, five seconds later. */
class Stubborn extends Task.make("Stubborn", { payload: Schema.Int }) {}
/** Once an hour, where it is added by itself. */
class Alert extends Task.make("Alert", { payload: Schema.Int, cooldown: { for: "1 hour" } }) {}
class Tasks extends TaskGroup.make(Wait, Fail, Undo, Split, Poll, Stubborn, Alert) {}

/** The tasks; what began, with its time in seconds; the keys of `Poll`. */
const bundle = () => {
  const bodies: Array<string> = []
  const keys: Array<string> = []
  const note = (what: string) =>
    Effect.map(Clock.currentTimeMillis, (now) => void bodies.push(`${now / second} ${what}`))
  const handlers = Tasks.toLayer({
    Wait: (n) => note(`Wait ${n}`).pipe(Effect.andThen(Effect.sleep(n * second)), Effect.as(n)),
    Fail: (n) => Effect.andThen(note(`Fail ${n}`), Effect.fail(new Boom())),
    Undo: (n) => note(`Undo ${n}`),
    Alert: (n) => note(`Alert ${n}`),
    Split: (n) => Effect.as(note(`Split ${n}`), Array.from({ length: n }, (_, i) => i)),
    Stubborn: (n) =>
      Effect.andThen(note(`Stubborn ${n}`), Effect.onInterrupt(Effect.never, () => Effect.sleep(5 * second))),
    Poll: (n) =>
      Effect.andThen(
        note(`Poll ${n}`),
        Execution.CurrentExecution.useSync(({ key }) => ({
          _tag: keys.push(key) === 1 ? "More" as const : "Done" as const
        }))
      )
  })
  return { bodies, keys, layer: Layer.merge(handlers, Tasks.client).pipe(Layer.provideMerge(DocketTest.layer)) }
}

const reasonOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return `value ${JSON.stringify(exit.value)}`
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error instanceof TaskFailure.TaskFailure ? error.reason._tag : String(error)
}

/** How a flow ends that is started with 1, with the time in seconds. */
const endOf = <Name extends string, A, E, Tags extends string>(flow: Flow.Named<Name, number, A, E, Tags, never>) =>
  Effect.gen(function*() {
    const run = yield* Docket.start(flow, 1, { key: "k" })
    const end = yield* Effect.forkChild(
      Effect.flatMap(
        Effect.exit(run.await),
        (exit) => Effect.map(Clock.currentTimeMillis, (now) => `${now / second} ${reasonOf(exit)}`)
      )
    )
    const worker = yield* Effect.forkChild(Worker.runUntilIdle(Tasks, { flows: [flow], lease: "1 day" }))
    assert.isTrue(yield* drive(worker), "the worker waits for ever")
    assert.deepStrictEqual(yield* left, [])
    return yield* Fiber.join(end)
  })

describe("flows, and what is over", () => {
  it.effect("a limit ends with the steps that it is for", () => {
    const { layer } = bundle()
    const Two = Flow.make("Two", Wait.pipe(Flow.deadline("30 seconds"), Flow.andThen(Wait, () => 50)))
    return Effect.gen(function*() {
      assert.strictEqual(yield* endOf(Two), "51 value 50")
    }).pipe(Effect.provide(layer))
  })

  it.effect("of two limits, the first that passes is the one that has passed", () => {
    const { layer } = bundle()
    const Nested = Flow.make(
      "Nested",
      Flow.input(Schema.Int).pipe(
        Flow.andThen(Wait, () => 100),
        Flow.deadline("10 seconds"),
        Flow.catchTag("TaskFailure", Wait, () => 3),
        Flow.deadline("50 seconds")
      )
    )
    return Effect.gen(function*() {
      assert.strictEqual(yield* endOf(Nested), "13 value 3")
    }).pipe(Effect.provide(layer))
  })

  it.effect("a round that fails undoes what it has done, and not what an earlier one has", () => {
    const { bodies, layer } = bundle()
    const Rounds = Flow.make(
      "Rounds",
      Wait.pipe(
        Flow.compensate(Undo),
        Flow.andThen(Poll),
        Flow.match({ More: Flow.again({ after: "10 seconds" }), Done: Flow.mapInput(Fail, () => 0) })
      )
    )
    return Effect.gen(function*() {
      assert.match(yield* endOf(Rounds), /^12 .*Boom/)
      assert.deepStrictEqual(bodies, ["0 Wait 1", "1 Poll 1", "11 Wait 1", "12 Poll 1", "12 Fail 0", "12 Undo 1"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a limit of a branch ends with its round, also if the next one takes another branch", () => {
    const { layer } = bundle()
    const Limited = Flow.make(
      "Limited",
      Poll.pipe(
        Flow.match({
          More: Flow.again({ after: "10 seconds" }).pipe(Flow.deadline("30 seconds")),
          Done: Flow.mapInput(Wait, () => 60)
        })
      )
    )
    return Effect.gen(function*() {
      assert.strictEqual(yield* endOf(Limited), "70 value 60")
    }).pipe(Effect.provide(layer))
  })

  it.effect("a step has another key in each round", () => {
    const { keys, layer } = bundle()
    const Polled = Flow.make(
      "Polled",
      Poll.pipe(Flow.match({ More: Flow.again({ after: "10 seconds" }), Done: Flow.mapInput(Wait, () => 0) }))
    )
    return Effect.gen(function*() {
      assert.strictEqual(yield* endOf(Polled), "10 value 0")
      assert.deepStrictEqual(keys, ["k/0", "k/0~1"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a single member that is scattered begins in the middle", () => {
    const { bodies, layer } = bundle()
    const Scattered = Flow.make("Scattered", Split.pipe(Flow.forEach(Wait, { over: "300 seconds" })))
    return Effect.gen(function*() {
      assert.strictEqual(yield* endOf(Scattered), "150 value [0]")
      assert.deepStrictEqual(bodies, ["0 Split 1", "150 Wait 0"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a cancel of a step undoes what was done before it", () => {
    const { bodies, layer } = bundle()
    const Saga = Flow.make("Saga", Wait.pipe(Flow.compensate(Undo), Flow.andThen(Wait, () => 60)))
    return Effect.gen(function*() {
      yield* Effect.forkChild(Effect.andThen(Effect.sleep(30 * second), Docket.cancel("k")))
      assert.strictEqual(yield* endOf(Saga), "30 Cancelled")
      assert.deepStrictEqual(bodies, ["0 Wait 1", "1 Wait 60", "30 Undo 1"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a cancel undoes nothing while members still run", () => {
    const { bodies, layer } = bundle()
    const Fan = Flow.make(
      "Fan",
      Wait.pipe(Flow.compensate(Undo), Flow.andThen(Split, () => 2), Flow.forEach(Stubborn))
    )
    return Effect.gen(function*() {
      yield* Effect.forkChild(Effect.andThen(Effect.sleep(30 * second), Docket.cancel("k")))
      assert.strictEqual(yield* endOf(Fan), "35 Cancelled")
      assert.deepStrictEqual(bodies, ["0 Wait 1", "1 Split 2", "1 Stubborn 0", "1 Stubborn 1", "35 Undo 1"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a cooldown is about additions: steps neither wait for it nor begin it", () => {
    const { bodies, layer } = bundle()
    const Loud = Flow.make("Loud", Flow.andThen(Alert, Alert, () => 2))
    return Effect.gen(function*() {
      assert.strictEqual(yield* endOf(Loud), "0 value undefined")
      assert.strictEqual((yield* Docket.add(Alert, 3)).disposition, "Added")
      assert.strictEqual(yield* endOf(Loud), "0 value undefined")
      assert.deepStrictEqual(bodies, ["0 Alert 1", "0 Alert 2", "0 Alert 3", "0 Alert 1", "0 Alert 2"])
      assert.strictEqual((yield* Docket.add(Alert, 4)).disposition, "Limited")
    }).pipe(Effect.provide(layer))
  })
})
