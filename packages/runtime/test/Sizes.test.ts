import { Agenda, Docket, DocketError, Flow, Perpetual, Progress, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, MemoryStore, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import * as Kit from "./Kit.ts"

class Fault extends Schema.TaggedError<Fault>()("Fault", { text: Schema.String }) {}
class Sized extends Task.make("Sized", {
  payload: { text: Schema.String, mode: Schema.optionalKey(Schema.String) },
  success: Schema.String,
  error: Fault,
  progress: Schema.String,
  maxBytes: 100
}) {}
class Deep extends Task.make("Deep", { payload: { value: Schema.Json }, success: Schema.Json }) {}
class Next
  extends Task.make("Next", { payload: { text: Schema.String }, perpetual: { every: "1 minute" }, maxBytes: 100 })
{}
class Sizes extends TaskGroup.make(Sized, Deep, Next) {}

const long = "x".repeat(100)
const nested = (depth: number) => {
  let value: Schema.Json = 1
  for (let n = 0; n < depth; n++) value = [value]
  return value
}

const bundle = Kit.live(
  Sizes,
  Sizes.toLayer({
    Sized: Effect.fnUntraced(function*({ mode = "succeed" }) {
      if (mode === "fail") return yield* new Fault({ text: "x".repeat(70_000) })
      if (mode === "die") return yield* Effect.die(new Error("x".repeat(70_000)))
      if (mode === "report") yield* Progress.report(Sized, long)
      return long
    }),
    Deep: ({ value }) => Effect.succeed(value === "deep" ? nested(100_000) : value),
    Next: Effect.fnUntraced(function*() {
      yield* Perpetual.Perpetual.use((perpetual) => perpetual.next(Next, { text: long }))
    })
  })
)

/** What was refused; nothing was written. */
const limitOf = <A, R>(effect: Effect.Effect<A, DocketError.DocketError, R>) =>
  Effect.gen(function*() {
    const { reason } = yield* Effect.flip(effect)
    const pending = yield* Stream.runCollect(Docket.snapshot)
    assert.deepStrictEqual(pending, [])
    assert.instanceOf(reason, DocketError.LimitExceeded)
    return reason
  })

describe("A payload", () => {
  it.effect("that is larger than its task allows is refused, whoever adds it", () =>
    Effect.gen(function*() {
      // 11 bytes around it
      const allowed = `${"é".repeat(44)}x`
      const limits = [
        yield* limitOf(Docket.add(Sized, { text: `${allowed}x` })),
        yield* limitOf(Docket.replace(Sized, { text: long })),
        yield* limitOf(Docket.addAll([[Sized, { text: "fits" }], [Sized, { text: long }]]))
      ]
      for (const { limit, message } of limits) {
        assert.strictEqual(limit, 100)
        assert.include(message, "maxBytes` of task \"Sized\"")
      }
      const rejected = yield* Effect.flip(
        Agenda.fromIterable(Sized, [{ text: "fits" }, { text: long }]).pipe(Agenda.scatter({ over: "1 hour" }))
      )
      assert.include(rejected.message, "maxBytes")
      yield* Docket.add(Sized, { text: allowed })
    }).pipe(Effect.provide(bundle)))

  it.effect("has a mebibyte, or what its group allows", () => {
    class Small extends TaskGroup.make(Deep).annotateTasks(Task.MaxBytes, 50) {}
    const add = (length: number) => Docket.add(Deep, { value: "x".repeat(length) })
    return Effect.gen(function*() {
      assert.strictEqual((yield* limitOf(add(2 ** 20))).limit, 2 ** 20)
      assert.strictEqual((yield* limitOf(Effect.provide(add(50), Small.client))).limit, 50)
      yield* add(2 ** 20 - 100)
    }).pipe(Effect.provide(bundle))
  })

  it.effect("that is nested too deep is refused where it is added, and by a worker that gets it", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      for (const depth of [501, 5000, 100_000]) {
        const { reason } = yield* Effect.flip(Docket.add(Deep, { value: nested(depth) }))
        assert.strictEqual(reason._tag, "InvalidPayload")
        const text = `{"value":${"[".repeat(depth)}1${"]".repeat(depth)}}`
        yield* docket.addEncoded([Kit.encoded({ task: "Deep", key: `${depth}`, payload: text })], { atomic: true })
      }
      const deepest = yield* Docket.add(Deep, { value: nested(499) })
      // brackets in a text are none
      const text = yield* Docket.add(Deep, { value: "\\\"[{".repeat(1000) })
      yield* Worker.runUntilIdle(Sizes)
      assert.deepStrictEqual(yield* deepest.await, nested(499))
      assert.strictEqual(yield* text.await, "\\\"[{".repeat(1000))
      const letters = yield* Stream.runCollect(docket.deadLetters("Deep"))
      assert.deepStrictEqual(letters.map(({ attempt, key }) => [key, attempt]), [["501", 1], ["5000", 1], [
        "100000",
        1
      ]])
      for (const { exit } of letters) assert.include(exit, "it is nested deeper than 500 levels")
    }).pipe(Effect.provide(bundle)))

  it.effect("of the step of a flow that is too large is a failure of the flow", () => {
    class Grow extends Flow.make("Grow", Deep.pipe(Flow.map(() => ({ text: long })), Flow.andThen(Sized))) {}
    return Effect.gen(function*() {
      const run = yield* Docket.start(Grow, { value: 1 })
      yield* DocketTest.drain(Sizes, { flows: [Grow] })
      const reason = Kit.reasonOf(yield* Effect.flip(run.await))
      assert.strictEqual(reason._tag, "Undecodable")
      assert.include(reason.message, "the 100 bytes that `maxBytes` allows")
    }).pipe(Effect.provide(bundle))
  })

  it.effect("of the next run of a perpetual task that is too large is a defect of its handler", () =>
    Effect.gen(function*() {
      const run = yield* Docket.add(Next, { text: "fits" })
      yield* DocketTest.runAtMost(Sizes, { Next: 1 })
      assert.include(Kit.defectOf(yield* Effect.flip(run.await)), "maxBytes")
    }).pipe(Effect.provide(bundle)))
})

describe("A name", () => {
  const half = "half \ud83d"

  it.effect("holds no half of a surrogate pair: two of them would be one in a store", () =>
    Effect.gen(function*() {
      const complaints = [
        Kit.thrown(() => Task.make(half)),
        Kit.thrown(() => Task.make("T", { lane: half })),
        Kit.thrown(() => Task.make("T", { concurrency: { max: 1, scope: half } })),
        Kit.thrown(() => Flow.make(half, Deep)),
        yield* Effect.flip(Effect.scoped(Layer.build(Worker.layer(Sizes, { lanes: [half] })))),
        yield* Effect.flip(Effect.scoped(Layer.build(Worker.layer(Sizes, { name: half })))),
        yield* Effect.flip(Effect.scoped(Layer.build(DocketEngine.layer({ name: half })))),
        yield* Effect.flip(Effect.scoped(Layer.build(DocketEngine.layer({ name: "n", prefix: half }))))
      ]
      const options = ["tag", "lane", "concurrency.scope", "name", "lanes", "name", "name", "prefix"]
      assert.deepStrictEqual(complaints.map(Kit.invalidOption), options)
      for (const error of complaints) assert.include(String(error), "half of a surrogate pair")
    }).pipe(Effect.provide(Layer.merge(MemoryStore.layer, bundle))))
})

describe("A result", () => {
  it.effect("that is too large is a failure that says so; the worker goes on", () =>
    Effect.gen(function*() {
      const runs = yield* Effect.forEach(
        ["succeed", "fail", "die", "report"],
        (mode) => Docket.add(Sized, { text: "", mode })
      )
      const { store } = yield* DocketEngine.DocketEngine
      yield* DocketTest.drain(Sizes)
      const messages = yield* Effect.forEach(runs, (run) => Effect.map(Effect.flip(run.await), Kit.defectOf))
      const allows = "has more than the 100 bytes that `maxBytes` of its task allows"
      assert.include(messages[0], `its success ${allows}`)
      assert.include(messages[1], `its error ${allows}`)
      assert.include(messages[2], `its error ${allows}`)
      assert.include(messages[3], "Progress.report: more than the limit of 100")
      assert.strictEqual((yield* store.get(runs[3]!.key))?.progress, undefined)
    }).pipe(Effect.provide(bundle)))

  it.effect("that is nested too deep is a failure that says so", () =>
    Effect.gen(function*() {
      const run = yield* Docket.add(Deep, { value: "deep" })
      yield* DocketTest.drain(Sizes)
      assert.include(Kit.defectOf(yield* Effect.flip(run.await)), "its success does not fit the schema")
    }).pipe(Effect.provide(bundle)))
})
