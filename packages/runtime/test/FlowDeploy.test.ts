/**
 * Flows and the workers that have them or not: versions, steps that run where their flow is not known, members that speak
 * twice; and a fan-out of ten thousand.
 */
import { Docket, type Execution, Flow, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Schema } from "effect"
import { drive, left } from "./flow/kit.ts"

class Boom extends Schema.TaggedError<Boom>("deploy/Boom")("Boom", { n: Schema.Int }) {}

/** Takes `n` seconds, and fails if it is 13. */
class Wait extends Task.make("Wait", { payload: Schema.Int, success: Schema.Int, error: Boom }) {}
class Quick extends Task.make("Quick", { payload: Schema.Int, success: Schema.Int }) {}
class Undo extends Task.make("Undo", { payload: Schema.Int }) {}
class Sum extends Task.make("Sum", { payload: Schema.Array(Schema.Int), success: Schema.Int }) {}
class Tasks extends TaskGroup.make(Wait, Quick, Undo, Sum) {}

class Seen {
  readonly bodies: Array<string> = []
  /** What a body of `Wait` does in its end. */
  last: Effect.Effect<unknown> = Effect.void

  count(task: string): number {
    return this.bodies.filter((body) => body.startsWith(`${task} `)).length
  }
}

const bundle = (seen: Seen) => {
  const note = (what: string) => Effect.sync(() => void seen.bodies.push(what))
  const handlers = Tasks.toLayer({
    Wait: (n) =>
      note(`Wait ${n}`).pipe(
        Effect.andThen(Effect.sleep(n * 1000)),
        Effect.andThen(Effect.suspend(() => seen.last)),
        Effect.andThen(n === 13 ? Effect.fail(new Boom({ n })) : Effect.succeed(n))
      ),
    Quick: (n) => Effect.as(note(`Quick ${n}`), n),
    Undo: (n) => note(`Undo ${n}`),
    Sum: (all) => Effect.as(note(`Sum ${all.length}`), all.reduce((a, b) => a + b, 0))
  })
  return Layer.merge(handlers, Tasks.client).pipe(Layer.provideMerge(DocketTest.layer))
}

const ended = (run: Execution.Execution<unknown, unknown, unknown>) =>
  Effect.map(Effect.exit(run.await), (exit) => {
    if (Exit.isSuccess(exit)) return `value ${JSON.stringify(exit.value)}`
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    return error instanceof TaskFailure.TaskFailure ? error.reason._tag : String(error)
  })

/** A worker with these flows, until nothing is left that it can do, or nothing moves any more. */
const work = Effect.fnUntraced(function*(flows: ReadonlyArray<unknown>, concurrency = 10) {
  // their tasks are those of the group
  const options = { flows: flows as ReadonlyArray<never>, concurrency, lease: "1 day" } as const
  const worker = yield* Effect.forkChild(Worker.runUntilIdle(Tasks, options))
  yield* drive(worker)
  yield* Fiber.interrupt(worker)
})

const nothingLeft = Effect.map(left, (left) => assert.deepStrictEqual(left, []))

const Old = Flow.make("Moved", Quick.pipe(Flow.sleep("1 minute"), Flow.andThen(Wait), Flow.map((n) => `old ${n}`)))
const New = Flow.make("Moved", Quick.pipe(Flow.andThen(Quick), Flow.map((n) => `new ${n}`)), { version: 2 })

describe("flows and workers that have them or not", () => {
  for (const first of [[Old], [New], [Old, New], []]) {
    const has = first.length === 0 ? "neither version" : first.map(({ annotations }) => first.length === 2 ? "both versions" : annotations === Old.annotations ? "the old version" : "the new version")[0]
    it.effect(`a worker with ${has} → goes on with what it has, the rest is held and says why, until one comes`, () => {
      const seen = new Seen()
      return Effect.gen(function*() {
        const old = yield* Docket.start(Old, 1, { key: "old" })
        const recent = yield* Docket.start(New, 2, { key: "new" })
        yield* work(first)
        for (const [run, flow, version] of [[old, Old, 1], [recent, New, 2]] as const) {
          const has = (first as ReadonlyArray<unknown>).includes(flow)
          assert.strictEqual(Option.isSome(yield* run.poll), has)
        if (!has) {
            const without = yield* Effect.forkChild(Worker.runUntilIdle(Tasks, { flows: first as ReadonlyArray<never> }))
            yield* Effect.yieldNow
            yield* drive(without)
            const explanation = yield* run.explain
            yield* Fiber.interrupt(without)
            assert.deepStrictEqual(explanation, { _tag: "NoInterpreter", flow: "Moved", version })
          }
        }
        yield* work([Old, New])
        assert.strictEqual(yield* ended(old), "value \"old 1\"")
        assert.strictEqual(yield* ended(recent), "value \"new 2\"")
        assert.sameMembers(seen.bodies, ["Quick 1", "Wait 1", "Quick 2", "Quick 2"])
        yield* nothingLeft
      }).pipe(Effect.provide(bundle(seen)))
    })
  }

  const Caught = Flow.make("Caught", Wait.pipe(Flow.catchTag("Boom", Quick, ({ n }) => n + 1)))
  const Limited = Flow.make(
    "Limited",
    Wait.pipe(Flow.deadline("10 seconds"), Flow.catchTag("TaskFailure", Quick, () => 5))
  )
  const Saga = Flow.make("Saga", Wait.pipe(Flow.compensate(Undo), Flow.andThen(Wait, (n) => n * 10), Flow.andThen(Quick)))

  it.effect("a step fails where its flow is not known → whoever has the flow catches it", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const run = yield* Docket.start(Caught, 13)
      yield* work([])
      yield* work([Caught])
      assert.strictEqual(yield* ended(run), "value 14")
      assert.deepStrictEqual(seen.bodies, ["Wait 13", "Quick 14"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a limit passes where the flow is not known → whoever has the flow catches it", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const run = yield* Docket.start(Limited, 20)
      yield* work([])
      yield* work([Limited])
      assert.strictEqual(yield* ended(run), "value 5")
      assert.deepStrictEqual(seen.bodies, ["Wait 20", "Quick 5"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a cancel comes while a step runs where its flow is not known → what was done is undone by whoever has it", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const run = yield* Docket.start(Saga, 1, { key: "k" })
      const both = yield* Effect.forkChild(Worker.runUntilIdle(Tasks, { flows: [Saga], lease: "1 day" }))
      yield* Effect.forkChild(Effect.andThen(Effect.sleep(1500), Fiber.interrupt(both)))
      yield* drive(both)
      yield* Effect.forkChild(Effect.andThen(Effect.sleep(5000), Docket.cancel("k")))
      yield* work([])
      assert.isTrue(Option.isNone(yield* run.poll))
      yield* work([Saga])
      assert.strictEqual(yield* ended(run), "Cancelled")
      assert.deepStrictEqual(Array.from(new Set(seen.bodies)), ["Wait 1", "Wait 10", "Undo 1"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a cancel meets the end of a step whose flow is not known there → that step is undone as well", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const docket = yield* Docket.Docket
      seen.last = Effect.orDie(Effect.provideService(Docket.cancel("k"), Docket.Docket, docket))
      const run = yield* Docket.start(Saga, 1, { key: "k" })
      yield* work([])
      yield* work([Saga])
      assert.strictEqual(yield* ended(run), "Cancelled")
      assert.deepStrictEqual(seen.bodies, ["Wait 1", "Undo 1"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  const Each = Flow.make("Each", Flow.input(Schema.Array(Schema.Int)).pipe(Flow.forEach(Quick), Flow.andThen(Sum)))

  it.effect("a member settles twice, and one whose claim was lost settles too → each counts once", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      const run = yield* Docket.start(Each, [1, 2, 3], { key: "k" })
      const attach = (worker: string, lease: number) =>
        store.attach({ worker, tasks: new Map([["Quick", 1]]), lanes: ["default"], lease, onWake: () => {} })
      const turn = { settle: [], capacity: 0, lanes: undefined, except: undefined }
      const between = yield* store.attach({
        worker: "between",
        tasks: new Map(),
        flows: new Map([["Each", new Set([1])]]),
        lanes: ["default"],
        lease: 1000,
        onWake: () => {}
      })
      void between
      const slow = yield* attach("slow", 1000)
      const fast = yield* attach("fast", 100_000)
      void slow
      void fast
      void turn
      yield* work([Each])
      assert.strictEqual(yield* ended(run), "value 6")
    }).pipe(Effect.scoped, Effect.provide(bundle(seen)))
  })

  it.effect("fan-out of 10,000 → the join runs exactly once, with all of them, in their order", () => {
    const seen = new Seen()
    const all = Array.from({ length: 10_000 }, (_, n) => n)
    const Listed = Flow.make("Listed", Flow.input(Schema.Array(Schema.Int)).pipe(Flow.forEach(Quick), Flow.compensate(Sum)))
    return Effect.gen(function*() {
      const run = yield* Docket.start(Listed, all)
      const sum = yield* Docket.start(Each, all)
      yield* work([Listed, Each], 1000)
      assert.deepStrictEqual(yield* run.await, all)
      assert.strictEqual(yield* sum.await, (10_000 * 9999) / 2)
      assert.strictEqual(seen.count("Quick"), 20_000)
      assert.strictEqual(seen.count("Sum"), 1)
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  }, 60_000)
})
