/**
 * Flows and the workers that have them or not: versions, steps that run where their flow is not known, members that speak
 * twice.
 */
import { Docket, type Execution, Flow, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, type DocketStore, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { drive, left } from "./flow/kit.ts"
import { encoded, settle } from "./Kit.ts"

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
  for (
    const [has, first] of [
      ["the old version", [Old]],
      ["the new version", [New]],
      ["both versions", [Old, New]],
      ["neither version", []]
    ] as const
  ) {
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
            const without = yield* Effect.forkChild(
              Worker.runUntilIdle(Tasks, { flows: first as ReadonlyArray<never> })
            )
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
  const Saga = Flow.make(
    "Saga",
    Wait.pipe(Flow.compensate(Undo), Flow.andThen(Wait, (n) => n * 10), Flow.andThen(Quick))
  )

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
      const both = yield* Effect.forkChild(
        Worker.runUntilIdle(Tasks, { flows: [Saga], lease: "1 day", drainTimeout: 0 })
      )
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
      const run = yield* Docket.start(Saga, 0, { key: "k" })
      yield* work([])
      yield* work([Saga])
      assert.strictEqual(yield* ended(run), "Cancelled")
      assert.deepStrictEqual(seen.bodies, ["Wait 0", "Undo 0"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a cancel comes when a step has ended and nobody has its flow → that step is undone as well", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const run = yield* Docket.start(Saga, 0, { key: "k" })
      yield* work([])
      yield* Docket.cancel("k")
      assert.isTrue(Option.isNone(yield* run.poll))
      yield* work([Saga])
      assert.strictEqual(yield* ended(run), "Cancelled")
      assert.deepStrictEqual(seen.bodies, ["Wait 0", "Undo 0"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  const Late = Flow.make("Late", Wait.pipe(Flow.compensate(Undo), Flow.andThen(Quick), Flow.deadline("10 seconds")))
  const InTime = Flow.make("InTime", Wait.pipe(Flow.deadline("10 seconds"), Flow.andThen(Quick)))

  it.effect("a limit passes when a step has ended and nobody has its flow → undone, or it had ended in time", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const late = yield* Docket.start(Late, 1)
      const inTime = yield* Docket.start(InTime, 2)
      yield* Docket.add(Wait, 60)
      yield* work([])
      yield* work([Late, InTime])
      assert.strictEqual(yield* ended(late), "Timeout")
      assert.strictEqual(yield* ended(inTime), "value 2")
      assert.sameMembers(seen.bodies, ["Wait 1", "Wait 2", "Wait 60", "Undo 1", "Quick 2"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a step that was claimed ahead is cancelled → what was done before is undone", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const engine = yield* DocketEngine.DocketEngine
      const docket = yield* Docket.Docket
      const add = docket.addEncoded([encoded({ task: "Wait", key: "other", payload: "7" })], { atomic: true })
      // before its flow goes on: the worker has one slot, and one more than that
      seen.last = Effect.suspend(() => seen.bodies.length === 1 ? Effect.orDie(add) : Effect.void)
      const run = yield* Docket.start(Saga, 1, { key: "k" })
      const worker = yield* Effect.forkChild(
        Worker.runUntilIdle(Tasks, { flows: [Saga], concurrency: 1, lease: "1 day" }).pipe(
          Effect.provideService(DocketEngine.DocketEngine, {
            ...engine,
            store: {
              ...engine.store,
              attach: (options) =>
                Effect.map(engine.store.attach(options), (session) => ({
                  ...session,
                  turn: (request) =>
                    session.turn({ ...request, capacity: request.capacity === 0 ? 0 : request.capacity + 1 })
                }))
            }
          })
        )
      )
      yield* Effect.forkChild(Effect.andThen(Effect.sleep(1010), Docket.cancel("k")))
      yield* drive(worker)
      assert.strictEqual(yield* ended(run), "Cancelled")
      assert.deepStrictEqual(seen.bodies, ["Wait 1", "Wait 7", "Undo 1"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  const Each = Flow.make("Each", Flow.input(Schema.Array(Schema.Int)).pipe(Flow.forEach(Quick), Flow.andThen(Sum)))

  it.effect("a member settles twice, and one whose claim was lost settles too → each counts once", () => {
    const seen = new Seen()
    return Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      const run = yield* Docket.start(Each, [1, 2], { key: "k" })
      const attach = (lease: number, flows?: ReadonlyMap<string, ReadonlySet<number>>) =>
        store.attach({
          worker: `${lease}`,
          tasks: new Map([["Quick", 1]]),
          flows,
          lanes: ["default"],
          lease,
          onWake: () => {}
        })
      const turn = { settle: [], capacity: 0, lanes: undefined, except: undefined }
      // one that has the flow fans out, and is gone
      const fanOut = yield* Effect.forkChild(
        Worker.layer(TaskGroup.make(Sum), { flows: [Each], lanes: ["nothing"] }).pipe(Layer.launch)
      )
      yield* TestClock.adjust(0)
      yield* settle
      yield* Fiber.interrupt(fanOut)
      const slow = yield* attach(1000)
      const fast = yield* attach(60_000)
      const first = (yield* slow.turn({ ...turn, capacity: 2 })).claimed
      assert.deepStrictEqual(first.map(({ key }) => key), ["k/1/0", "k/1/1"])
      yield* TestClock.adjust(1000)
      const again = (yield* fast.turn({ ...turn, capacity: 2 })).claimed
      const completed = (n: number) => ({
        _tag: "Completed" as const,
        exit: `{"_tag":"Success","value":${n},"flow":{"p":"1/0"}}`
      })
      const settlementOf = ({ generation, key, token }: DocketStore.Claim, n: number) => ({
        key,
        generation,
        token,
        change: completed(n),
        successor: undefined
      })
      const settled = yield* fast.turn({ ...turn, settle: again.map((claim, n) => settlementOf(claim, n + 1)) })
      assert.deepStrictEqual(settled.settled, ["Applied", "Applied"])
      // too late, and once more: they are gone, and nobody counts them
      const late = yield* slow.turn({ ...turn, settle: first.map((claim) => settlementOf(claim, 100)) })
      const twice = yield* fast.turn({ ...turn, settle: again.map((claim) => settlementOf(claim, 200)) })
      assert.deepStrictEqual([...late.settled, ...twice.settled], ["Lost", "Lost", "Lost", "Lost"])
      yield* work([Each])
      assert.strictEqual(yield* ended(run), "value 3")
      assert.deepStrictEqual(seen.bodies, ["Sum 2"])
      yield* nothingLeft
    }).pipe(Effect.scoped, Effect.provide(bundle(seen)))
  })
})
