/**
 * Flows where two things meet: a limit and a sleep, a cancel and a fan-out, a round and what is undone, a late word and an end.
 * Most of them were found by `FlowProperty.test.ts` and `FlowCrash.test.ts`, and are here as small as they could be made.
 */
import { Docket, type Execution, Flow, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, Option, Queue, Schema } from "effect"
import { drive, left } from "./flow/kit.ts"

const second = 1000

class Boom extends Schema.TaggedError<Boom>("edges/Boom")("Boom", {}) {}

/** Takes so many seconds. */
class Wait extends Task.make("Wait", { payload: Schema.Int, success: Schema.Int, error: Boom }) {}
class Fail extends Task.make("Fail", { payload: Schema.Int, error: Boom }) {}
class Undo extends Task.make("Undo", { payload: Schema.Int }) {}
/** `n` numbers. */
class Split extends Task.make("Split", { payload: Schema.Int, success: Schema.Array(Schema.Int) }) {}
/** Asks for another round so often. */
class Poll extends Task.make("Poll", {
  payload: Schema.Int,
  success: Schema.Struct({ _tag: Schema.Literals(["More", "Done"]) })
}) {}
class Tasks extends TaskGroup.make(Wait, Fail, Undo, Split, Poll) {}

/** What began, with its time in seconds. */
class Seen {
  readonly bodies: Array<string> = []
  rounds = 0
  /** What a body of `Split` does besides. */
  split: Effect.Effect<unknown> = Effect.void
}

const handlers = (seen: Seen) => {
  const note = (what: string) =>
    Effect.map(Clock.currentTimeMillis, (now) => void seen.bodies.push(`${now / second} ${what}`))
  return Tasks.toLayer({
    Wait: (n) => note(`Wait ${n}`).pipe(Effect.andThen(Effect.sleep(n * second)), Effect.as(n)),
    Fail: (n) =>
      note(`Fail ${n}`).pipe(Effect.andThen(Effect.sleep(n * second)), Effect.andThen(Effect.fail(new Boom()))),
    Undo: (n) => Effect.andThen(note(`Undo ${n}`), Effect.sleep(second)),
    Split: (n) =>
      note(`Split ${n}`).pipe(Effect.andThen(seen.split), Effect.as(Array.from({ length: n }, (_, i) => i))),
    Poll: (n) => Effect.as(note(`Poll ${n}`), { _tag: seen.rounds-- > 0 ? "More" as const : "Done" as const })
  })
}

const bundle = (seen: Seen) => Layer.merge(handlers(seen), Tasks.client).pipe(Layer.provideMerge(DocketTest.layer))

const reasonOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return `value ${JSON.stringify(exit.value)}`
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error instanceof TaskFailure.TaskFailure ? error.reason._tag : String(error)
}

type Run = Execution.Execution<unknown, unknown, unknown>

/** How a flow ended, with the time in seconds. */
const endOf = (run: Run) =>
  Effect.forkChild(
    Effect.flatMap(Effect.exit(run.await), (exit) =>
      Effect.map(Clock.currentTimeMillis, (now) => `${now / second} ${reasonOf(exit)}`))
  )

/** Works until nothing is left. */
const workOn = Effect.fnUntraced(function*(flows: ReadonlyArray<unknown>) {
  // their tasks are those of the group
  const worker = yield* Effect.forkChild(
    Worker.runUntilIdle(Tasks, { flows: flows as ReadonlyArray<never>, lease: "1 day" })
  )
  assert.isTrue(yield* drive(worker), "the worker waits for ever")
  yield* Fiber.join(worker)
})

const nothingLeft = Effect.map(left, (left) => assert.deepStrictEqual(left, []))

const later = (seconds: number, effect: Effect.Effect<unknown, unknown, Docket.Docket>) =>
  Effect.forkChild(Effect.andThen(Effect.sleep(seconds * second), effect))

describe("flows where two things meet", () => {
  it.effect("a limit behind a sleep counts while it sleeps, before a step too", () => {
    const seen = new Seen()
    const Late = Flow.make(
      "Late",
      Wait.pipe(Flow.sleep("60 seconds"), Flow.deadline("30 seconds"), Flow.andThen(Undo))
    )
    return Effect.gen(function*() {
      const end = yield* endOf(yield* Docket.start(Late, 1))
      yield* workOn([Late])
      assert.strictEqual(yield* Fiber.join(end), "30 Timeout")
      assert.deepStrictEqual(seen.bodies, ["0 Wait 1"])
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("what is undone behind a sleep is not undone by a cancel that comes while it sleeps", () => {
    const seen = new Seen()
    const Slow = Flow.make(
      "Slow",
      Wait.pipe(Flow.sleep("60 seconds"), Flow.compensate(Undo), Flow.andThen(Wait))
    )
    return Effect.gen(function*() {
      const end = yield* endOf(yield* Docket.start(Slow, 1, { key: "k" }))
      yield* later(30, Docket.cancel("k"))
      yield* workOn([Slow])
      assert.strictEqual(yield* Fiber.join(end), "30 Cancelled")
      assert.deepStrictEqual(seen.bodies, ["0 Wait 1"])
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a limit of the whole counts from the start, also if that is a sleep", () => {
    const seen = new Seen()
    const Slept = Flow.make(
      "Slept",
      Flow.input(Schema.Int).pipe(Flow.sleep("60 seconds"), Flow.andThen(Wait), Flow.deadline("70 seconds"))
    )
    return Effect.gen(function*() {
      const end = yield* endOf(yield* Docket.start(Slept, 20))
      yield* workOn([Slept])
      assert.strictEqual(yield* Fiber.join(end), "70 Timeout")
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a short limit beside a very long one counts from the start, whenever that is", () => {
    const seen = new Seen()
    const Both = Flow.make(
      "Both",
      Wait.pipe(Flow.deadline("30 seconds"), Flow.andThen(Wait), Flow.deadline("100000 days"))
    )
    return Effect.gen(function*() {
      yield* Docket.add(Wait, 100)
      yield* workOn([])
      const end = yield* endOf(yield* Docket.start(Both, 10))
      yield* workOn([Both])
      assert.strictEqual(yield* Fiber.join(end), "120 value 10")
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("again without an input → the limits of the flow begin again", () => {
    const seen = new Seen()
    seen.rounds = 1
    const Watched = Flow.make(
      "Watched",
      Flow.make("First", Poll.pipe(Flow.andThen(Wait, () => 20 - seen.rounds), Flow.deadline("20500 millis"))).pipe(
        Flow.andThen(Poll),
        Flow.match({ More: Flow.again({ after: "100 seconds" }), Done: Wait.pipe(Flow.mapInput(() => 5)) }),
        Flow.deadline("50 seconds")
      )
    )
    return Effect.gen(function*() {
      seen.rounds = 2
      const end = yield* endOf(yield* Docket.start(Watched, 1))
      yield* workOn([Watched])
      // the second round takes longer than its limit
      assert.strictEqual(yield* Fiber.join(end), "139.5 Timeout")
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("what another round is to undo is not undone before that begins", () => {
    const seen = new Seen()
    seen.rounds = 1
    const Rounds = Flow.make(
      "Rounds",
      Flow.input(Schema.Int).pipe(
        Flow.compensate(Undo),
        Flow.andThen(Poll),
        Flow.match({ More: Flow.again({ after: "60 seconds" }), Done: Wait.pipe(Flow.mapInput(() => 1)) })
      )
    )
    return Effect.gen(function*() {
      const end = yield* endOf(yield* Docket.start(Rounds, 1, { key: "k" }))
      yield* later(30, Docket.cancel("k"))
      yield* workOn([Rounds])
      assert.strictEqual(yield* Fiber.join(end), "30 Cancelled")
      assert.deepStrictEqual(seen.bodies, ["0 Poll 1"])
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a cancel while branches end whose failure is then caught → it wins", () => {
    const seen = new Seen()
    const Caught = Flow.make(
      "Caught",
      Flow.input(Schema.Int).pipe(
        Flow.all({ a: Wait.pipe(Flow.compensate(Undo), Flow.sleep("1 hour")), b: Fail }),
        Flow.catchTag("Boom", Wait, () => 100),
        Flow.map(() => "caught")
      )
    )
    return Effect.gen(function*() {
      const end = yield* endOf(yield* Docket.start(Caught, 10, { key: "k" }))
      // `a` is undone from the tenth second to the eleventh
      yield* later(10.5, Docket.cancel("k"))
      yield* workOn([Caught])
      assert.strictEqual(yield* Fiber.join(end), "11 Cancelled")
      assert.sameMembers(seen.bodies, ["0 Wait 10", "0 Fail 10", "10 Undo 10"])
    }).pipe(Effect.provide(bundle(seen)))
  })

  for (const n of [3, 200]) {
    it.effect(`a cancel that meets the step before a fan-out of ${n} → the flow ends, what was done is undone`, () => {
      const seen = new Seen()
      const Fan = Flow.make("Fan", Split.pipe(Flow.compensate(Undo, (all) => all.length), Flow.forEach(Wait)))
      return Effect.gen(function*() {
        const docket = yield* Docket.Docket
        // it is asked for when the body has ended, and before that is written
        seen.split = Effect.orDie(Effect.provideService(Docket.cancel("k"), Docket.Docket, docket))
        const end = yield* endOf(yield* Docket.start(Fan, n, { key: "k" }))
        yield* workOn([Fan])
        assert.strictEqual(yield* Fiber.join(end), "1 Cancelled")
        assert.deepStrictEqual(seen.bodies, [`0 Split ${n}`, `0 Undo ${n}`])
        yield* nothingLeft
      }).pipe(Effect.provide(bundle(seen)))
    })
  }

  it.effect("a fan-out whose members are added bit by bit begins once, and ends once", () => {
    const seen = new Seen()
    const Few = Flow.make("Few", Split.pipe(Flow.forEach(Wait, { concurrency: 2 })))
    return Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      const events = yield* store.subscribe("k")
      yield* Docket.start(Few, 7, { key: "k" })
      yield* workOn([Few])
      const steps = (yield* Queue.takeAll(events)).flatMap(({ event, key }) =>
        event._tag === "Step" && key === "k" ? [`${event.step} ${event.state}`] : []
      )
      assert.deepStrictEqual(steps, ["0 Started", "0 Ended", "1 Started", "1 Ended"])
    }).pipe(Effect.scoped, Effect.provide(bundle(seen)))
  })

  it.effect("a limit that passes after a cancel, before anybody interprets it → it stays cancelled", () => {
    const seen = new Seen()
    const Saga = Flow.make(
      "Saga",
      Wait.pipe(
        Flow.compensate(Undo),
        Flow.sleep("1 day"),
        Flow.deadline("1 hour"),
        Flow.catchTag("TaskFailure", Wait, () => 1)
      )
    )
    return Effect.gen(function*() {
      const end = yield* endOf(yield* Docket.start(Saga, 1, { key: "k" }))
      const worker = yield* Effect.forkChild(Worker.runUntilIdle(Tasks, { flows: [Saga], lease: "1 day" }))
      yield* later(2, Effect.andThen(Fiber.interrupt(worker), Docket.cancel("k")))
      yield* drive(worker)
      // nobody interprets it for two hours
      yield* Docket.add(Wait, 7200)
      yield* workOn([])
      yield* workOn([Saga])
      assert.match(yield* Fiber.join(end), /Cancelled$/)
      assert.deepStrictEqual(seen.bodies.map((body) => body.replace(/^[\d.]+ /, "")), ["Wait 1", "Wait 7200", "Undo 1"])
      yield* nothingLeft
    }).pipe(Effect.provide(bundle(seen)))
  })

  it.effect("a member that arrives after the end of its flow is none", () => {
    const seen = new Seen()
    const Fan = Flow.make("Fan", Split.pipe(Flow.forEach(Wait)))
    return Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      yield* Docket.start(Fan, 0, { key: "k" })
      yield* workOn([Fan])
      const { generation } = (yield* store.get("k"))!
      const [added] = yield* store.add([{
        key: "k/1/0",
        task: "Wait",
        version: 1,
        lane: "default",
        priority: 0,
        payload: "1",
        due: { after: 0 },
        onExisting: "keep",
        retention: { success: 0, failure: 0 },
        thread: {
          flow: "Fan",
          version: 1,
          step: "1/0",
          state: "{}",
          deadline: undefined,
          onCancel: "end",
          parent: { key: "k", generation, gather: "1", index: 0 }
        }
      }], { atomic: false })
      assert.strictEqual(added!.disposition, "Existing")
      assert.deepStrictEqual(yield* left, [])
    }).pipe(Effect.provide(bundle(seen)))
  })
})
