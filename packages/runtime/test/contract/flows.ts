/**
 * Flows as users see them: chains, branches, fan-out and fan-in, limits, compensation, running again, deploys.
 */
import { Docket, Execution, Flow, Gather, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { DateTime, type Duration, Effect, Exit, Fiber, Layer, Option, Result, Schedule, Schema, Stream } from "effect"
import { Boom, type Kit, live, now, signal, start, stateOf, stored } from "./kit.ts"
import { addition, attach, listen } from "./seam.ts"

class Even extends Schema.TaggedClass<Even>()("Even", { n: Schema.Int }) {}
class Odd extends Schema.TaggedClass<Odd>()("Odd", { n: Schema.Int }) {}

const N = { n: Schema.Int }

class Work extends Task.make("Work", { payload: N, success: Schema.Struct(N), error: Boom }) {}
class Other extends Task.make("Other", { payload: N, success: Schema.Struct(N), error: Boom }) {}
class Decide extends Task.make("Decide", { payload: N, success: Schema.Union([Even, Odd]) }) {}
class Split extends Task.make("Split", { payload: N, success: Schema.Array(Schema.Struct(N)) }) {}
class Sum extends Task.make("Sum", { payload: Schema.Array(Schema.Struct(N)), success: Schema.Int }) {}
class Undo extends Task.make("Undo", { payload: N }) {}
class Report extends Task.make("Report", { payload: { gathered: Gather.schema(Work) }, success: Schema.String }) {}
class All extends TaskGroup.make(Work, Other, Decide, Split, Sum, Undo, Report) {}

type Body = (n: number) => Effect.Effect<void, Boom, Task.HandlerServices>

/** The tasks, which note their bodies as `Task n`. `Work` and `Other` give back what they got, once their body has ended. */
const tasks = (bodies: { readonly work?: Body; readonly other?: Body; readonly undo?: Body } = {}) => {
  const seen: Array<string> = []
  const note = (what: string, n: number) => Effect.sync(() => void seen.push(`${what} ${n}`))
  const running = (what: string, body: Body = () => Effect.void) => ({ n }: { readonly n: number }) =>
    note(what, n).pipe(Effect.andThen(body(n)), Effect.as({ n }))
  const layer = Layer.mergeAll(
    live(Work, running("Work", bodies.work)),
    live(Other, running("Other", bodies.other)),
    live(Decide, ({ n }) => Effect.as(note("Decide", n), n % 2 === 0 ? new Even({ n }) : new Odd({ n }))),
    live(Split, ({ n }) => Effect.as(note("Split", n), Array.from({ length: n }, (_, i) => ({ n: i })))),
    live(Sum, (all) => Effect.as(note("Sum", all.length), all.reduce((sum, { n }) => sum + n, 0))),
    live(
      Undo,
      ({ n }) =>
        Effect.andThen(note("Undo", n), Effect.asVoid((bodies.undo ?? (() => Effect.void))(n)).pipe(Effect.orDie))
    ),
    live(Report, ({ gathered }) =>
      Effect.as(
        note("Report", gathered.children.length),
        `${gathered.reason}: ${
          gathered.children.map((child) => `${child.index}${child._tag === "Done" ? `=${child.value.n}` : child._tag}`)
            .join(" ")
        }`
      ))
  )
  return { seen, layer, count: (what: string) => seen.filter((line) => line.startsWith(`${what} `)).length }
}

const boomAt = (...bad: ReadonlyArray<number>): Body => (n) =>
  bad.includes(n) ? Effect.fail(new Boom({ n })) : Effect.void
const never: Body = () => Effect.never

const joined = (gathered: Gather.Outcomes<{ readonly n: number }, Boom>) => ({ gathered })

class Chain extends Flow.make("Chain", Work.pipe(Flow.andThen(Other), Flow.map(({ n }) => n))) {}
class Branch extends Flow.make("Branch", Decide.pipe(Flow.match({ Even: Work, Odd: Other }))) {}
class Total extends Flow.make("Total", Split.pipe(Flow.forEach(Work), Flow.andThen(Sum))) {}
class Settled extends Flow.make(
  "Settled",
  Split.pipe(Flow.forEach(Work, { policy: Gather.allSettled, deadline: "1 hour" }), Flow.andThen(Report, joined))
) {}
class Saga extends Flow.make(
  "Saga",
  Work.pipe(
    Flow.compensate(Undo),
    Flow.andThen(Work, ({ n }) => ({ n: n + 1 })),
    Flow.compensate(Undo),
    Flow.andThen(Other)
  )
) {}

// `In` is not `void`: an input is there
const startAny = Docket.start as <Name extends string, In, A, E, Tags extends string, R>(
  flow: Flow.Named<Name, In, A, E, Tags, R>,
  input: In,
  options?: Docket.AddOptions
) => ReturnType<typeof Docket.start<Name, In, A, E, Tags, R>>

/** The tests of this part. */
export const flows = ({ drain, eventually, isLive, pass, passing, test }: Kit): void => {
  /** Starts a flow and runs a worker until nothing is left. */
  const run = <Name extends string, In, A, E, Tags extends string, R>(
    flow: Flow.Named<Name, In, A, E, Tags, R>,
    input: In,
    options?: Docket.AddOptions
  ) =>
    Effect.gen(function*() {
      const execution = yield* startAny(flow, input, options)
      yield* drain(All, { flows: [flow], concurrency: 20 })
      return yield* Effect.exit(execution.await)
    })

  const error = (exit: Exit.Exit<unknown, unknown>) =>
    Exit.isFailure(exit) ? Option.getOrUndefined(Exit.findErrorOption(exit)) : undefined
  const reason = (exit: Exit.Exit<unknown, unknown>) => {
    const failure = error(exit)
    return failure instanceof TaskFailure.TaskFailure ? failure.reason._tag : undefined
  }

  // ---------------------------------------------------------------------------------------------------------------------
  // chains and branches
  // ---------------------------------------------------------------------------------------------------------------------

  test("A then B → B gets A's success, once", () => {
    const { layer, seen } = tasks()
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Chain, { n: 7 }), Exit.succeed(7))
      assert.deepStrictEqual(seen, ["Work 7", "Other 7"])
    }).pipe(Effect.provide(layer))
  })

  test("a chain of 1,000 steps works", () => {
    const { count, layer } = tasks()
    let chain: Flow.Flow<{ readonly n: number }, { readonly n: number }, Boom, "Work"> = Flow.task(Work)
    for (let i = 1; i < 1000; i++) chain = Flow.andThen(chain, Work, ({ n }) => ({ n: n + 1 }))
    const Long = Flow.make("Long", chain)
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Long, { n: 0 }), Exit.succeed({ n: 999 }))
      assert.strictEqual(count("Work"), 1000)
    }).pipe(Effect.provide(layer))
  })

  test("settle and next step are one write: no moment where neither exists", () => {
    const { layer } = tasks()
    return Effect.gen(function*() {
      const states = new Set<string | undefined>()
      const execution = yield* Docket.start(Chain, { n: 1 }, { key: "k" })
      const watching = yield* Effect.forkChild(
        Stream.runForEach(Docket.events, () => Effect.map(stateOf("k"), (state) => states.add(state))).pipe(
          Effect.ignore
        )
      )
      yield* drain(All, { flows: [Chain] })
      yield* execution.await
      yield* Fiber.interrupt(watching)
      assert.isFalse(states.has(undefined), Array.from(states).join(" "))
    }).pipe(Effect.provide(layer))
  })

  test("match on a tagged success → exactly the matching branch", () => {
    const { layer, seen } = tasks()
    return Effect.gen(function*() {
      yield* run(Branch, { n: 2 })
      yield* run(Branch, { n: 3 })
      assert.deepStrictEqual(seen, ["Decide 2", "Work 2", "Decide 3", "Other 3"])
    }).pipe(Effect.provide(layer))
  })

  test("when → `Some` of the step, or `None`", () => {
    const { layer, seen } = tasks()
    const Maybe = Flow.make("Maybe", Work.pipe(Flow.when(({ n }) => n > 1, Other)))
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Maybe, { n: 1 }), Exit.succeed(Option.none()))
      assert.deepStrictEqual(yield* run(Maybe, { n: 2 }), Exit.succeed(Option.some({ n: 2 })))
      assert.deepStrictEqual(seen, ["Work 1", "Work 2", "Other 2"])
    }).pipe(Effect.provide(layer))
  })

  test("a sleep keeps the value, and the next step is not early", () => {
    const { layer } = tasks()
    const times: Array<number> = []
    const Slept = Flow.make(
      "Slept",
      Work.pipe(Flow.map(({ n }) => n + 1), Flow.sleep(100), Flow.andThen(Other, (n) => ({ n })), Flow.sleep(50))
    )
    return Effect.gen(function*() {
      const begin = yield* now
      assert.deepStrictEqual(yield* run(Slept, { n: 1 }), Exit.succeed({ n: 2 }))
      times.push((yield* now) - begin)
      assert.isAtLeast(times[0]!, 150)
    }).pipe(Effect.provide(layer))
  })

  test("two starts with one key → one run; the key of the first task, or that of the flow", () => {
    const { layer, seen } = tasks()
    class Keyed extends Task.make("Keyed", { payload: N, key: ["n"] }) {}
    const First = Flow.make("First", Flow.task(Keyed))
    const Own = Flow.make("Own", Flow.task(Work), { key: ({ n }) => `own-${n}` })
    return Effect.gen(function*() {
      assert.strictEqual((yield* Docket.start(First, { n: 1 })).key, "First/Keyed/1")
      const one = yield* Docket.start(Own, { n: 1 })
      const two = yield* Docket.start(Own, { n: 1 })
      assert.deepStrictEqual([one.key, one.disposition, two.disposition], ["own-1", "Added", "Existing"])
      yield* drain(All, { flows: [Own] })
      assert.deepStrictEqual(yield* two.await, { n: 1 })
      assert.deepStrictEqual(seen, ["Work 1"])
      yield* Docket.cancel("First/Keyed/1")
    }).pipe(Effect.provide(Layer.mergeAll(layer, live(Keyed, () => Effect.void))))
  })

  test("a handler knows its flow; its own key is another one in each step", () => {
    const keys: Array<string> = []
    const noting: Body = () =>
      Execution.CurrentExecution.useSync(({ flow, key }) => {
        const { key: flowKey, name } = Option.getOrThrow(flow)
        keys.push(`${name} ${flowKey} ${key}`)
      })
    const { layer } = tasks({ work: noting, other: noting })
    const Both = Flow.make("Both", Split.pipe(Flow.forEach(Work), Flow.andThen(Other, () => ({ n: 9 }))))
    return Effect.gen(function*() {
      yield* run(Both, { n: 2 }, { key: "k" })
      assert.deepStrictEqual(keys.toSorted(), ["Both k k/1/0/1/0", "Both k k/1/1/1/0", "Both k k/2/0/0"])
    }).pipe(Effect.provide(layer))
  })

  test("input that fits no schema → typed error at the caller, nothing written", () => {
    const { layer } = tasks()
    return Effect.gen(function*() {
      const failed = yield* Effect.flip(Docket.start(Chain, { n: 1.5 }))
      assert.strictEqual(failed.reason._tag, "InvalidPayload")
      assert.deepStrictEqual(yield* Docket.counts, [])
    }).pipe(Effect.provide(layer))
  })

  // ---------------------------------------------------------------------------------------------------------------------
  // fan-out and fan-in
  // ---------------------------------------------------------------------------------------------------------------------

  for (const n of [0, 1, 2, 250]) {
    test(`fan-out of ${n} → the join runs exactly once, results by index, a list`, () => {
      const { count, layer } = tasks()
      const Listed = Flow.make("Listed", Split.pipe(Flow.forEach(Work), Flow.map((all) => all.map(({ n }) => n))))
      return Effect.gen(function*() {
        assert.deepStrictEqual(yield* run(Total, { n }), Exit.succeed(Math.max(0, (n * (n - 1)) / 2)))
        assert.strictEqual(count("Work"), n)
        assert.strictEqual(count("Sum"), 1)
        assert.deepStrictEqual(yield* run(Listed, { n }), Exit.succeed(Array.from({ length: n }, (_, i) => i)))
      }).pipe(Effect.provide(layer))
    })
  }

  test("all succeed, one fails for good → the join fails with that typed error, the rest is let run", () => {
    const { count, layer } = tasks({ work: boomAt(1) })
    return Effect.gen(function*() {
      assert.deepStrictEqual(error(yield* run(Total, { n: 3 })), new Boom({ n: 1 }))
      assert.strictEqual(count("Work"), 3)
      assert.strictEqual(count("Sum"), 0)
    }).pipe(Effect.provide(layer))
  })

  test("all succeed, one fails for good → the rest is cancelled, as declared", () => {
    const ended = signal()
    const { layer } = tasks({
      work: (n) => n === 1 ? Effect.fail(new Boom({ n })) : Effect.onInterrupt(Effect.never, () => ended.open)
    })
    const Strict = Flow.make("Strict", Split.pipe(Flow.forEach(Work, { onRelease: "cancelRest" }), Flow.andThen(Sum)))
    return Effect.gen(function*() {
      assert.deepStrictEqual(error(yield* run(Strict, { n: 3 })), new Boom({ n: 1 }))
      yield* ended.await
    }).pipe(Effect.provide(layer))
  })

  test("all settled → the join runs with typed outcomes", () => {
    const { layer } = tasks({ work: boomAt(1) })
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Settled, { n: 3 }), Exit.succeed("AllSettled: 0=0 1Failed 2=2"))
    }).pipe(Effect.provide(layer))
  })

  test("quorum → released when it is met, or when it cannot be met any more", () => {
    const { layer } = tasks({ work: (n) => n < 2 ? Effect.void : never(n) })
    const failing = tasks({ work: (n) => n < 2 ? Effect.fail(new Boom({ n })) : never(n) })
    const Quorum = Flow.make(
      "Quorum",
      Split.pipe(
        Flow.forEach(Work, { policy: Gather.quorum(2), deadline: "1 hour", onRelease: "cancelRest" }),
        Flow.andThen(Report, joined)
      )
    )
    return Effect.gen(function*() {
      const met = yield* run(Quorum, { n: 3 }).pipe(Effect.provide(layer))
      assert.deepStrictEqual(met, Exit.succeed("QuorumMet: 0=0 1=1 2Pending"))
      const impossible = yield* run(Quorum, { n: 3 }).pipe(Effect.provide(failing.layer))
      assert.deepStrictEqual(impossible, Exit.succeed("QuorumImpossible: 0Failed 1Failed 2Pending"))
    })
  })

  // by the clock of the store; a gather begins after its flow
  const patience = 500
  /** Listens to the end of a member. Whether that came before a deadline, which a slow machine may miss. */
  const endOf = Effect.fnUntraced(function*(key: string) {
    const next = yield* listen(key)
    const begin = yield* now
    return { inTime: Effect.map(next("Finished"), ({ event }) => event.at < begin + patience) }
  })

  test("the deadline passes → the join runs, unfinished children are `Pending`", () => {
    const { layer } = tasks({ work: (n) => n === 0 ? Effect.void : never(n) })
    const Late = Flow.make(
      "Late",
      Split.pipe(
        Flow.forEach(Work, { policy: Gather.allSettled, deadline: patience, onRelease: "cancelRest" }),
        Flow.andThen(Report, joined)
      )
    )
    return Effect.gen(function*() {
      const { inTime } = yield* endOf("k/1/0")
      const end = yield* run(Late, { n: 2 }, { key: "k" })
      const possible = (yield* inTime) ? ["0=0 1Pending"] : ["0=0 1Pending", "0Pending 1Pending"]
      assert.include(possible.map((one) => `DeadlinePassed: ${one}`), Exit.getSuccess(end).pipe(Option.getOrUndefined))
    }).pipe(Effect.provide(layer))
  })

  test("a child that ends after the release is late: the value of the gather stays what it was", () => {
    const over = signal()
    const { layer, seen } = tasks({ work: (n) => n === 0 ? Effect.void : over.await })
    const Late = Flow.make(
      "Late",
      Split.pipe(
        Flow.forEach(Work, { policy: Gather.allSettled, deadline: patience }),
        Flow.compensate(Undo, (gathered) => ({ n: Gather.successes(gathered).length })),
        Flow.andThen(Other, () => ({ n: 0 }))
      )
    )
    return Effect.gen(function*() {
      yield* Docket.pause({ task: Other })
      const { inTime } = yield* endOf("k/1/0")
      const execution = yield* Docket.start(Late, { n: 3 }, { key: "k" })
      yield* start(All, { flows: [Late] })
      yield* eventually(Effect.map(execution.explain, ({ _tag }) => _tag === "Paused"))
      yield* over.open
      yield* eventually(Effect.map(Docket.counts, (counts) => counts.every(({ task }) => task !== "Work")))
      yield* execution.cancel
      yield* passing(Effect.exit(execution.await))
      assert.include((yield* inTime) ? ["Undo 1"] : ["Undo 0", "Undo 1"], seen.at(-1))
      yield* Docket.resume({ task: Other })
    }).pipe(Effect.provide(layer))
  })

  test("a child is cancelled, struck, or dies → an outcome, never a hang", () => {
    const { layer } = tasks({ work: (n) => n === 0 ? Effect.die(new Error("boom")) : Effect.void })
    class Frail extends Flow.make(
      "Frail",
      Split.pipe(
        Flow.forEach(Work, { policy: Gather.allSettled, deadline: "1 hour" }),
        Flow.andThen(Report, joined)
      )
    ) {}
    return Effect.gen(function*() {
      yield* Docket.pause({ task: Work })
      const execution = yield* Docket.start(Frail, { n: 3 }, { key: "k" })
      yield* start(All, { flows: [Frail], defectRetryPolicy: Schedule.recurs(0) })
      yield* eventually(Effect.map(stateOf("k/1/2"), (state) => state !== undefined))
      yield* Docket.strike(Work, { where: { n: 1 }, reason: "no" })
      assert.isTrue(yield* Docket.cancel("k/1/2"))
      yield* Docket.resume({ task: Work })
      yield* passing(Effect.ignore(execution.await))
      assert.deepStrictEqual(yield* execution.await, "AllSettled: 0Died 1Died 2Cancelled")
    }).pipe(Effect.provide(layer))
  })

  test("concurrency of a fan-out → never more at once, all run", () => {
    let running = 0
    let most = 0
    const { count, layer } = tasks({
      work: () =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++running)
          }),
          () => Effect.sleep(1),
          () =>
            Effect.sync(() => {
              running--
            })
        )
    })
    const Few = Flow.make("Few", Split.pipe(Flow.forEach(Work, { concurrency: 3 }), Flow.andThen(Sum)))
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Few, { n: 20 }), Exit.succeed(190))
      assert.strictEqual(count("Work"), 20)
      assert.isAtMost(most, 3)
    }).pipe(Effect.provide(layer))
  })

  test("scattered over a window → start, end and what lies between them", () => {
    const starts: Array<number> = []
    const { layer } = tasks({
      work: () =>
        Execution.CurrentExecution.useSync(({ scheduledAt }) => {
          starts.push(DateTime.toEpochMillis(scheduledAt))
        })
    })
    const Spread = Flow.make("Spread", Split.pipe(Flow.forEach(Work, { over: "300 millis" }), Flow.andThen(Sum)))
    return Effect.gen(function*() {
      yield* run(Spread, { n: 4 })
      const offsets = starts.toSorted((a, b) => a - b).map((at) => at - Math.min(...starts))
      assert.deepStrictEqual(offsets, [0, 100, 200, 300])
    }).pipe(Effect.provide(layer))
  })

  test("scattered over a window, few at once → the window is not longer for that", () => {
    const starts: Array<number> = []
    const { layer } = tasks({
      work: () =>
        Execution.CurrentExecution.useSync(({ scheduledAt }) => {
          starts.push(DateTime.toEpochMillis(scheduledAt))
        })
    })
    const Spread = Flow.make(
      "Spread",
      Split.pipe(Flow.forEach(Work, { over: "500 millis", concurrency: 2 }), Flow.andThen(Sum))
    )
    return Effect.gen(function*() {
      yield* run(Spread, { n: 6 })
      const offsets = starts.map((at) => at - starts[0]!)
      // in real time one that comes late is late
      if (isLive) assert.strictEqual(offsets.length, 6)
      else assert.deepStrictEqual(offsets, [0, 100, 200, 300, 400, 500])
    }).pipe(Effect.provide(layer))
  })

  test("branches → all of them by name; the first failure fails the flow, or is a value", () => {
    const { layer } = tasks({ other: boomAt(5) })
    const Strict = Flow.make("Strict", Work.pipe(Flow.all({ a: Work, b: Other })))
    const Lenient = Flow.make("Lenient", Work.pipe(Flow.outcomes({ a: Work, b: Other })))
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Strict, { n: 1 }), Exit.succeed({ a: { n: 1 }, b: { n: 1 } }))
      assert.deepStrictEqual(error(yield* run(Strict, { n: 5 })), new Boom({ n: 5 }))
      assert.deepStrictEqual(
        yield* run(Lenient, { n: 5 }),
        Exit.succeed({ a: Result.succeed({ n: 5 }), b: Result.fail(new Boom({ n: 5 })) })
      )
    }).pipe(Effect.provide(layer))
  })

  test("members may be flows, with fan-outs of their own", () => {
    const { layer } = tasks()
    const Nested = Flow.make(
      "Nested",
      Split.pipe(
        Flow.forEach(Split.pipe(Flow.forEach(Work), Flow.map((all) => all.length))),
        Flow.map((all) => all.join())
      )
    )
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Nested, { n: 4 }), Exit.succeed("0,1,2,3"))
    }).pipe(Effect.provide(layer))
  })

  // ---------------------------------------------------------------------------------------------------------------------
  // failures
  // ---------------------------------------------------------------------------------------------------------------------

  test("a typed error → the `catchTag` branch runs; another one is not caught", () => {
    const { layer, seen } = tasks({ work: boomAt(1), other: boomAt(3) })
    const Caught = Flow.make("Caught", Work.pipe(Flow.catchTag("Boom", Undo)))
    const Missed = Flow.make("Missed", Other.pipe(Flow.catchTag("TaskFailure", Undo, () => ({ n: 0 }))))
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Caught, { n: 1 }), Exit.succeed(undefined))
      assert.deepStrictEqual(yield* run(Caught, { n: 2 }), Exit.succeed({ n: 2 }))
      assert.deepStrictEqual(error(yield* run(Missed, { n: 3 })), new Boom({ n: 3 }))
      assert.deepStrictEqual(seen, ["Work 1", "Undo 1", "Work 2", "Other 3"])
    }).pipe(Effect.provide(layer))
  })

  test("a flow fails → compensations run in reverse for what had completed, before `await` fails", () => {
    const { layer, seen } = tasks({ other: boomAt(2) })
    return Effect.gen(function*() {
      assert.deepStrictEqual(error(yield* run(Saga, { n: 1 })), new Boom({ n: 2 }))
      assert.deepStrictEqual(seen, ["Work 1", "Work 2", "Other 2", "Undo 2", "Undo 1"])
    }).pipe(Effect.provide(layer))
  })

  test("a failing compensation becomes a dead letter, and the others run", () => {
    const { layer, seen } = tasks({ other: boomAt(2), undo: boomAt(2) })
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Saga, { n: 1 })
      yield* drain(All, { flows: [Saga], defectRetryPolicy: Schedule.recurs(0) })
      assert.deepStrictEqual(error(yield* Effect.exit(execution.await)), new Boom({ n: 2 }))
      assert.strictEqual(seen.at(-1), "Undo 1")
      const letters = yield* Stream.runCollect(Docket.deadLetters(Undo))
      assert.deepStrictEqual(letters.map(({ payload }) => payload), [{ n: 2 }])
    }).pipe(Effect.provide(layer))
  })

  test("what a branch has done is undone when another one fails", () => {
    const booked = signal()
    const { layer, seen } = tasks({ other: (n) => Effect.andThen(booked.await, Effect.fail(new Boom({ n }))) })
    const Booked = Flow.make("Booked", Work.pipe(Flow.all({ a: Work.pipe(Flow.compensate(Undo)), b: Other })))
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Booked, { n: 1 }, { key: "k" })
      yield* start(All, { flows: [Booked] })
      yield* eventually(Effect.map(execution.explain, (why) => why._tag === "Gathering" && why.succeeded === 1))
      yield* booked.open
      assert.deepStrictEqual(error(yield* passing(Effect.exit(execution.await))), new Boom({ n: 1 }))
      assert.strictEqual(seen.at(-1), "Undo 1")
    }).pipe(Effect.provide(layer))
  })

  test("a struck step → a failure that the flow may catch", () => {
    const { layer, seen } = tasks()
    const Guarded = Flow.make(
      "Guarded",
      Work.pipe(Flow.andThen(Other), Flow.catchTag("TaskFailure", Undo, () => ({ n: 9 })))
    )
    return Effect.gen(function*() {
      yield* Docket.strike(Other, { reason: "no" })
      yield* run(Guarded, { n: 1 })
      assert.strictEqual(reason(yield* run(Chain, { n: 2 })), "Struck")
      assert.deepStrictEqual(seen, ["Work 1", "Undo 9", "Work 2"])
    }).pipe(Effect.provide(layer))
  })

  for (const where of ["a body", "a sleep", "a gather", "a pause"] as const) {
    test(`a deadline passes in ${where} → the flow fails with \`Timeout\`, and something may catch that`, () => {
      const { layer, seen } = tasks({ work: where === "a sleep" ? () => Effect.void : never })
      const inner = where === "a gather"
        ? Split.pipe(Flow.forEach(Work), Flow.andThen(Sum), Flow.map(() => ({ n: 0 })))
        : Work.pipe(Flow.sleep("1 hour"))
      const Limited = Flow.make(
        "Limited",
        inner.pipe(Flow.deadline("200 millis"), Flow.catchTag("TaskFailure", Undo, () => ({ n: 8 })))
      )
      return Effect.gen(function*() {
        if (where === "a pause") yield* Docket.pause({ task: Work })
        const begin = yield* now
        assert.isTrue(Exit.isSuccess(yield* run(Limited, { n: 2 })))
        assert.isAtLeast((yield* now) - begin, 199) // clocks are read in whole milliseconds
        assert.strictEqual(seen.at(-1), "Undo 8")
        if (where === "a pause") yield* Docket.resume({ task: Work })
      }).pipe(Effect.provide(layer))
    })
  }

  test("the deadline of a flow passes before its step is given back → it waits no longer", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const thread = { flow: "F", version: 1, step: "0", state: "{}", deadline: 1000, onCancel: "end" } as const
      const worker = yield* attach({ flows: new Map([["F", new Set([1])]]) })
      yield* store.add(["retry", "snooze", "release"].map((key) => addition(key, { thread })), { atomic: true })
      const claims = yield* worker.claim()
      assert.strictEqual(claims.length, 3)
      yield* pass(1100)
      const { claimed, settled } = yield* worker.turn({
        settle: claims.map(({ generation, key, token }) => ({
          key,
          generation,
          token,
          change: key === "retry"
            ? { _tag: "Retry", after: 3_600_000, exit: "{}", failures: "[]" }
            : key === "snooze"
            ? { _tag: "Snooze", after: 3_600_000 }
            : { _tag: "Released" },
          successor: undefined
        })),
        between: 3
      })
      assert.deepStrictEqual(settled, ["Applied", "Applied", "Applied"])
      assert.deepStrictEqual(claimed.map(({ thread }) => thread?.stopped?._tag), ["Expired", "Expired", "Expired"])
      for (const claim of claimed) yield* worker.settle(claim, { _tag: "Failed", exit: "{}" })
    }))

  test("a failed flow is redriven → it goes on with the failed step, and keeps what succeeded", () => {
    let broken = true
    const { layer, seen } = tasks({ other: (n) => broken ? Effect.fail(new Boom({ n })) : Effect.void })
    return Effect.gen(function*() {
      assert.deepStrictEqual(error(yield* run(Chain, { n: 1 }, { key: "k" })), new Boom({ n: 1 }))
      const letters = yield* Stream.runCollect(Docket.deadLetters(Chain))
      assert.deepStrictEqual(letters.map(({ error, key, step }) => ({ error, key, step })), [
        { error: new Boom({ n: 1 }), key: "k", step: Option.some("1/0") }
      ])
      broken = false
      assert.strictEqual(yield* Docket.redrive(Chain), 1)
      assert.strictEqual(yield* Docket.redrive(Chain), 0)
      yield* drain(All, { flows: [Chain] })
      const again = Option.getOrThrow(yield* Docket.get(Chain, "k"))
      assert.strictEqual(yield* again.await, 1)
      assert.deepStrictEqual(seen, ["Work 1", "Other 1", "Other 1"])
    }).pipe(Effect.provide(layer))
  })

  test("a step is redriven as a dead letter of its task, repaired → its flow goes on", () => {
    const { layer, seen } = tasks({ other: boomAt(1) })
    return Effect.gen(function*() {
      yield* run(Chain, { n: 1 }, { key: "k" })
      assert.strictEqual(yield* Docket.redrive(Other, { map: ({ payload }) => ({ n: payload.n + 1 }) }), 1)
      yield* drain(All, { flows: [Chain] })
      assert.strictEqual(yield* Option.getOrThrow(yield* Docket.get(Chain, "k")).await, 2)
      assert.deepStrictEqual(seen, ["Work 1", "Other 1", "Other 2"])
    }).pipe(Effect.provide(layer))
  })

  for (const onRelease of ["letRun", "cancelRest"] as const) {
    test(`a flow that failed at a gather is redriven → only the failed members run again (${onRelease})`, () => {
      let broken = true
      const others = signal()
      const { count, layer } = tasks({
        work: (n) => n === 1 && broken ? Effect.andThen(others.await, Effect.fail(new Boom({ n }))) : Effect.void
      })
      const Strict = Flow.make("Strict", Split.pipe(Flow.forEach(Work, { onRelease }), Flow.andThen(Sum)))
      return Effect.gen(function*() {
        const execution = yield* Docket.start(Strict, { n: 5 }, { key: "k" })
        const worker = yield* start(All, { flows: [Strict] })
        yield* eventually(Effect.map(execution.explain, (why) => why._tag === "Gathering" && why.succeeded === 4))
        yield* others.open
        assert.deepStrictEqual(error(yield* passing(Effect.exit(execution.await))), new Boom({ n: 1 }))
        yield* worker.stop
        broken = false
        assert.strictEqual(yield* Docket.redrive(Strict), 1)
        yield* drain(All, { flows: [Strict] })
        assert.strictEqual(yield* Option.getOrThrow(yield* Docket.get(Strict, "k")).await, 10)
        assert.strictEqual(count("Work"), 6)
        assert.strictEqual(count("Split"), 1)
      }).pipe(Effect.provide(layer))
    })
  }

  test("members that succeed after their flow has failed → kept when it is redriven", () => {
    let broken = true
    const over = signal()
    const { count, layer } = tasks({
      work: (n) => !broken ? Effect.void : n === 1 ? Effect.fail(new Boom({ n })) : over.await
    })
    const Strict = Flow.make("Strict", Split.pipe(Flow.forEach(Work), Flow.andThen(Sum)))
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Strict, { n: 5 }, { key: "k" })
      const worker = yield* start(All, { flows: [Strict] })
      assert.deepStrictEqual(error(yield* passing(Effect.exit(execution.await))), new Boom({ n: 1 }))
      broken = false
      yield* over.open
      const ended = Docket.Docket.use((docket) => docket.members("k", "1", 0, 5))
      yield* eventually(Effect.map(ended, (members) => members.every((member) => member !== undefined)))
      yield* worker.stop
      assert.deepStrictEqual(error(yield* Effect.exit(execution.await)), new Boom({ n: 1 }))
      assert.strictEqual(yield* Docket.redrive(Strict), 1)
      yield* drain(All, { flows: [Strict] })
      assert.strictEqual(yield* Option.getOrThrow(yield* Docket.get(Strict, "k")).await, 10)
      assert.strictEqual(count("Work"), 6)
    }).pipe(Effect.provide(layer))
  })

  test("a flow is redriven and cancelled at once, while members of the generation before go on → it ends", () => {
    const { layer } = tasks({ work: (n) => n === 1 ? Effect.fail(new Boom({ n })) : Effect.never })
    const Strict = Flow.make("Strict", Split.pipe(Flow.forEach(Work), Flow.andThen(Sum)))
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Strict, { n: 3 }, { key: "k" })
      const worker = yield* start(All, { flows: [Strict], drainTimeout: 0 })
      assert.deepStrictEqual(error(yield* passing(Effect.exit(execution.await))), new Boom({ n: 1 }))
      yield* passing(worker.stop)
      assert.strictEqual(yield* Docket.redrive(Strict), 1)
      const again = Option.getOrThrow(yield* Docket.get(Strict, "k"))
      assert.isTrue(yield* again.cancel)
      yield* start(All, { flows: [Strict] })
      assert.strictEqual(reason(yield* passing(Effect.exit(again.await))), "Cancelled")
      for (const key of ["k/1/0", "k/1/2"]) {
        assert.isTrue(yield* Docket.cancel(key))
        yield* eventually(Effect.map(stateOf(key), (state) => state === undefined))
      }
    }).pipe(Effect.provide(layer))
  })

  test("a gather of 1,200 that failed is redriven → each failed member runs once more, and no other", () => {
    let broken = true
    const others = signal()
    const all = Array.from({ length: 1200 }, (_, n) => n)
    const isWeak = (n: number) => n % 3 === 0 && !(n >= 500 && n < 1000)
    const weak = all.filter(isWeak)
    const { layer, seen } = tasks({
      work: (n) => isWeak(n) && broken ? Effect.andThen(others.await, Effect.fail(new Boom({ n }))) : Effect.void
    })
    const Strict = Flow.make("Strict", Split.pipe(Flow.forEach(Work), Flow.andThen(Sum)))
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Strict, { n: all.length }, { key: "k" })
      const worker = yield* start(All, { flows: [Strict], concurrency: weak.length + 10 })
      const strong = all.length - weak.length
      yield* eventually(Effect.map(execution.explain, (why) => why._tag === "Gathering" && why.succeeded === strong))
      yield* others.open
      yield* passing(Effect.exit(execution.await))
      yield* worker.stop
      assert.strictEqual(seen.length, 1 + all.length)
      broken = false
      seen.length = 0
      assert.strictEqual(yield* Docket.redrive(Strict), 1)
      yield* drain(All, { flows: [Strict], concurrency: 20 })
      assert.strictEqual(yield* Option.getOrThrow(yield* Docket.get(Strict, "k")).await, 1200 * 1199 / 2)
      assert.deepStrictEqual(seen.toSorted(), [...weak.map((n) => `Work ${n}`), "Sum 1200"].toSorted())
    }).pipe(Effect.provide(layer))
  })

  test("a gather with few at once whose flow ran out of time is redriven → as few at once, until all have succeeded", () => {
    let broken = true
    let [running, most] = [0, 0]
    const { count, layer } = tasks({
      work: (n) => {
        if (broken) return n < 9 ? Effect.fail(new Boom({ n })) : Effect.never
        most = Math.max(most, ++running)
        // those that fail again do not count as those that are still to come
        const body = Effect.andThen(
          Effect.sleep(5),
          n === 4 && count("Work") < 25 ? Effect.fail(new Boom({ n })) : Effect.void
        )
        return Effect.ensuring(body, Effect.sync(() => running--))
      }
    })
    const fan = Flow.forEach(Work, { policy: Gather.allSettled, concurrency: 4, deadline: "1 hour" })
    const Limited = Flow.make("Limited", Split.pipe(fan, Flow.deadline(patience), Flow.andThen(Report, joined)))
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Limited, { n: 14 }, { key: "k" })
      const worker = yield* start(All, { flows: [Limited] })
      assert.strictEqual(reason(yield* passing(Effect.exit(execution.await))), "Timeout")
      yield* worker.stop
      const before = count("Work")
      if (!isLive) assert.strictEqual(before, 12)
      broken = false
      const again = Effect.gen(function*() {
        assert.strictEqual(yield* Docket.redrive(Limited), 1)
        yield* drain(All, { flows: [Limited], concurrency: 14 })
        return yield* Effect.exit(Option.getOrThrow(yield* Docket.get(Limited, "k")).await)
      })
      // a slow machine may run out of time again
      const exit = yield* Effect.repeat(again, { until: Exit.isSuccess })
      assert.match(
        String(Exit.isSuccess(exit) && exit.value),
        /^AllSettled: 0=0 1=1 2=2 3=3 4(=4|Failed) 5=5 .* 13=13$/
      )
      if (!isLive) {
        assert.deepStrictEqual([most, count("Work") - before], [4, 14])
        assert.include(String(Exit.isSuccess(exit) && exit.value), "4Failed")
      }
      assert.isAtMost(most, 4)
    }).pipe(Effect.provide(layer))
  })

  test("a flow whose compensations ran is redriven → it begins again", () => {
    let broken = true
    const { layer, seen } = tasks({ other: (n) => broken ? Effect.fail(new Boom({ n })) : Effect.void })
    return Effect.gen(function*() {
      yield* run(Saga, { n: 1 }, { key: "k" })
      broken = false
      seen.length = 0
      assert.strictEqual(yield* Docket.redrive(Saga), 1)
      yield* drain(All, { flows: [Saga] })
      assert.deepStrictEqual(yield* Option.getOrThrow(yield* Docket.get(Saga, "k")).await, { n: 2 })
      assert.deepStrictEqual(seen, ["Work 1", "Work 2", "Other 2"])
    }).pipe(Effect.provide(layer))
  })

  test("… and its fan-outs run again, and what they did is undone again", () => {
    const { count, layer } = tasks({ other: (n) => Effect.fail(new Boom({ n })) })
    const Wide = Flow.make(
      "Wide",
      Split.pipe(Flow.forEach(Work.pipe(Flow.compensate(Undo))), Flow.andThen(Other, () => ({ n: 9 })))
    )
    return Effect.gen(function*() {
      yield* run(Wide, { n: 3 }, { key: "k" })
      assert.deepStrictEqual([count("Work"), count("Undo")], [3, 3])
      for (const round of [2, 3]) {
        assert.strictEqual(yield* Docket.redrive(Wide), 1)
        yield* drain(All, { flows: [Wide] })
        assert.deepStrictEqual([count("Work"), count("Undo")], [3 * round, 3 * round])
      }
    }).pipe(Effect.provide(layer))
  })

  // ---------------------------------------------------------------------------------------------------------------------
  // again, cancel
  // ---------------------------------------------------------------------------------------------------------------------

  const until = (after: Duration.Input) =>
    Flow.make(
      "Until",
      Decide.pipe(Flow.match({ Even: Flow.again({ after, input: ({ n }: Even) => ({ n: n + 1 }) }), Odd: Other })),
      { key: () => "until" }
    )

  test("conditional rescheduling → the same key, later, with the declared input", () => {
    const { layer, seen } = tasks()
    return Effect.gen(function*() {
      const begin = yield* now
      assert.deepStrictEqual(yield* run(until("100 millis"), { n: 2 }), Exit.succeed({ n: 3 }))
      assert.deepStrictEqual(seen, ["Decide 2", "Decide 3", "Other 3"])
      assert.isAtLeast((yield* now) - begin, 99) // as above
    }).pipe(Effect.provide(layer))
  })

  test("again without an input → with the first one", () => {
    let rounds = 0
    const { layer, seen } = tasks({ work: (n) => ++rounds < 3 ? Effect.fail(new Boom({ n })) : Effect.void })
    const Retried = Flow.make(
      "Retried",
      Flow.mapInput(Work, (n: number) => ({ n: n * 2 })).pipe(Flow.catchTag("Boom", Flow.again({ after: 10 })))
    )
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* run(Retried, 4), Exit.succeed({ n: 8 }))
      assert.deepStrictEqual(seen, ["Work 8", "Work 8", "Work 8"])
    }).pipe(Effect.provide(layer))
  })

  test("cancel between two rounds wins", () => {
    const { layer, seen } = tasks()
    const Until = until("1 hour")
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Until, { n: 2 })
      const worker = yield* start(All, { flows: [Until] })
      yield* eventually(Effect.map(stateOf("until"), (state) => state === "Scheduled"))
      assert.isTrue(yield* execution.cancel)
      assert.strictEqual(reason(yield* passing(Effect.exit(execution.await))), "Cancelled")
      assert.deepStrictEqual(yield* Docket.counts, [])
      if (!isLive) yield* pass(3_600_000)
      yield* worker.stop
      assert.deepStrictEqual(seen, ["Decide 2"])
    }).pipe(Effect.provide(layer))
  })

  test("cancel a flow → running steps are interrupted, its waiters told", () => {
    const begun = signal()
    const ended = signal()
    const { layer, seen } = tasks({
      work: () => Effect.andThen(begun.open, Effect.onInterrupt(Effect.never, () => ended.open))
    })
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Chain, { n: 1 })
      yield* start(All, { flows: [Chain] })
      const waiting = yield* Effect.forkChild(Effect.exit(execution.await))
      yield* passing(begun.await)
      assert.isTrue(yield* execution.cancel)
      yield* passing(ended.await)
      assert.strictEqual(reason(yield* passing(Fiber.join(waiting))), "Cancelled")
      assert.deepStrictEqual(seen, ["Work 1"])
    }).pipe(Effect.provide(layer))
  })

  test("cancel a flow that gathers → its members are gone, and what was done is undone", () => {
    const { layer, seen } = tasks({ work: (n) => n === 3 ? Effect.void : never(n) })
    const Deep = Flow.make(
      "Deep",
      Work.pipe(Flow.compensate(Undo), Flow.andThen(Split), Flow.forEach(Work), Flow.andThen(Sum))
    )
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Deep, { n: 3 }, { key: "k" })
      yield* start(All, { flows: [Deep], concurrency: 2 })
      yield* eventually(
        Effect.map(Docket.counts, (counts) => counts.some(({ running, task }) => task === "Work" && running === 2))
      )
      assert.isTrue(yield* execution.cancel)
      assert.strictEqual(reason(yield* passing(Effect.exit(execution.await))), "Cancelled")
      assert.strictEqual(seen.at(-1), "Undo 3")
      assert.deepStrictEqual(yield* Docket.counts, [])
    }).pipe(Effect.provide(layer))
  })

  // ---------------------------------------------------------------------------------------------------------------------
  // workers, deploys, views
  // ---------------------------------------------------------------------------------------------------------------------

  test("a worker dies with a step → it runs again, and the next one once", () => {
    const { layer, seen } = tasks()
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Chain, { n: 1 })
      yield* Effect.scoped(Effect.gen(function*() {
        const dying = yield* attach({ tasks: new Map([["Work", 1]]), lease: 100 })
        assert.strictEqual((yield* dying.claimOne).task, "Work")
      }))
      yield* pass(100)
      yield* drain(All, { flows: [Chain] })
      assert.strictEqual(yield* execution.await, 1)
      assert.deepStrictEqual(seen, ["Work 1", "Other 1"])
    }).pipe(Effect.provide(layer))
  })

  test("a worker without the flow runs its steps; one that has it goes on", () => {
    const { layer, seen } = tasks()
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Chain, { n: 1 }, { key: "k" })
      const without = yield* start(All)
      yield* eventually(Effect.map(execution.explain, ({ _tag }) => _tag === "NoInterpreter"))
      assert.deepStrictEqual(yield* execution.explain, { _tag: "NoInterpreter", flow: "Chain", version: 1 })
      assert.strictEqual(yield* stateOf("k"), "Held")
      yield* without.stop
      yield* drain(All, { flows: [Chain] })
      assert.strictEqual(yield* execution.await, 1)
      assert.deepStrictEqual(seen, ["Work 1", "Other 1"])
    }).pipe(Effect.provide(layer))
  })

  test("a definition changes between deploys → flows go on under the version that they started with", () => {
    const { layer, seen } = tasks()
    const Old = Flow.make("Moved", Work.pipe(Flow.sleep(10), Flow.andThen(Other)))
    const New = Flow.make("Moved", Work.pipe(Flow.andThen(Undo)), { version: 2 })
    return Effect.gen(function*() {
      const old = yield* Docket.start(Old, { n: 1 })
      const fresh = yield* Docket.start(New, { n: 2 })
      const worker = yield* start(All, { flows: [New] })
      yield* passing(fresh.await)
      yield* eventually(Effect.map(old.explain, ({ _tag }) => _tag === "NoInterpreter"))
      yield* worker.stop
      yield* drain(All, { flows: [Old, New] })
      assert.deepStrictEqual(yield* old.await, { n: 1 })
      assert.deepStrictEqual(seen.toSorted(), ["Other 1", "Undo 2", "Work 1", "Work 2"])
    }).pipe(Effect.provide(layer))
  })

  /** Watches a flow from before it begins; it is due in an hour, and replaced by whoever has it begin. */
  const watch = <Name extends string, In, A, E, Tags extends string, R>(
    flow: Flow.Named<Name, In, A, E, Tags, R>,
    input: In
  ) =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const execution = yield* startAny(flow, input, { key: "k", after: "1 hour" })
      const watching = yield* Effect.forkChild(Stream.runForEach(execution.changes, (event) =>
        Effect.sync(() => {
          if (event._tag === "Progress") lines.push(`${event.value.key}: ${event.value.step} ${event.value.state}`)
          else if (event._tag === "Replaced" || event._tag === "Finished") lines.push(event._tag)
        })))
      // it listens when it hears something
      yield* eventually(Effect.map(
        startAny(flow, input, { key: "k", after: "1 hour", onExisting: "replace" }),
        () => lines.length > 0
      ))
      const begin = Effect.asVoid(startAny(flow, input, { key: "k", onExisting: "replace" }))
      const ended = Effect.map(Fiber.join(watching), () => lines.filter((line) => line !== "Replaced"))
      return { execution, begin, ended }
    })

  test("changes of a flow → its steps begin and end, then its value", () => {
    const { layer } = tasks()
    return Effect.gen(function*() {
      const { begin, ended, execution } = yield* watch(Chain, { n: 1 })
      yield* begin
      yield* drain(All, { flows: [Chain] })
      assert.deepStrictEqual(yield* ended, [
        "k: 0 Started",
        "k: 0 Ended",
        "k: 1/0 Started",
        "k: 1/0 Ended",
        "Finished"
      ])
      assert.deepStrictEqual(yield* Effect.exit(execution.await), Exit.succeed(1))
    }).pipe(Effect.provide(layer))
  })

  test("changes of a flow → steps of its members as well, and of theirs; not those of a generation before", () => {
    const { layer } = tasks()
    const Deep = Flow.make("Deep", Split.pipe(Flow.forEach(Split.pipe(Flow.forEach(Work), Flow.andThen(Sum)))))
    return Effect.gen(function*() {
      const docket = yield* Docket.Docket
      const { begin, ended, execution } = yield* watch(Deep, { n: 2 })
      const before: Array<string> = []
      let heard = false
      const later = yield* Effect.forkChild(Stream.runForEach(docket.changes("k", 1e9), (event) =>
        Effect.sync(() => {
          if (event._tag === "Replaced") heard = true
          if (event._tag === "Step" && event.key !== undefined) before.push(event.key)
        })))
      yield* eventually(Effect.map(
        startAny(Deep, { n: 2 }, { key: "k", after: "1 hour", onExisting: "replace" }),
        () => heard
      ))
      yield* begin
      yield* drain(All, { flows: [Deep], concurrency: 20 })
      assert.deepStrictEqual(yield* execution.await, [0, 0])
      const lines = yield* ended
      const steps = [
        "k: 0",
        "k: 1",
        "k/1/0: 1/0",
        "k/1/0: 1/2/0",
        "k/1/1: 1/0",
        "k/1/1: 1/1",
        "k/1/1/1/1/0: 1/1/0",
        "k/1/1: 1/2/0"
      ]
      assert.deepStrictEqual(
        lines.toSorted(),
        ["Finished", ...steps.flatMap((step) => [`${step} Started`, `${step} Ended`])].toSorted()
      )
      assert.deepStrictEqual(lines.filter((line) => line.startsWith("k/1/1")), [
        "k/1/1: 1/0 Started",
        "k/1/1: 1/0 Ended",
        "k/1/1: 1/1 Started",
        "k/1/1/1/1/0: 1/1/0 Started",
        "k/1/1/1/1/0: 1/1/0 Ended",
        "k/1/1: 1/1 Ended",
        "k/1/1: 1/2/0 Started",
        "k/1/1: 1/2/0 Ended"
      ])
      yield* Fiber.interrupt(later)
      assert.deepStrictEqual(before, [])
    }).pipe(Effect.provide(layer))
  })

  test("explain says where a flow gathers", () => {
    const { layer } = tasks({ work: (n) => n === 0 ? Effect.void : never(n) })
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Total, { n: 2 })
      yield* start(All, { flows: [Total] })
      yield* eventually(Effect.map(execution.explain, (why) => why._tag === "Gathering" && why.succeeded === 1))
      assert.deepStrictEqual(yield* execution.explain, {
        _tag: "Gathering",
        step: "1",
        succeeded: 1,
        failed: 0,
        until: Option.none()
      })
      yield* execution.cancel
      yield* passing(Effect.ignore(execution.await))
    }).pipe(Effect.provide(layer))
  })

  test("a flow is replaced → members of the one before do not count", () => {
    const begun = signal()
    const { count, layer } = tasks({
      work: (n) => n === 0 ? Effect.void : Effect.andThen(begun.open, Effect.sleep(100))
    })
    return Effect.gen(function*() {
      yield* Docket.start(Total, { n: 3 }, { key: "k" })
      const worker = yield* start(All, { flows: [Total], concurrency: 1 })
      yield* eventually(Effect.map(Docket.explain("k"), (why) => why._tag === "Gathering" && why.succeeded === 1))
      // it ends before the second flow has members
      yield* passing(begun.await)
      const second = yield* Docket.start(Total, { n: 2 }, { key: "k", onExisting: "replace" })
      assert.strictEqual(yield* passing(second.await), 1)
      assert.strictEqual(count("Work"), 5, "three members, then two")
      yield* passing(Effect.asVoid(drain(All, { flows: [Total] })))
      yield* worker.stop
    }).pipe(Effect.provide(layer))
  })

  test("a flow that replaced another is cancelled → members of the one before are not waited for", () => {
    const { count, layer } = tasks({ work: (n) => count("Work") > 3 || n > 1 ? Effect.never : Effect.void })
    const Few = Flow.make("Few", Split.pipe(Flow.forEach(Work, { concurrency: 2 })))
    return Effect.gen(function*() {
      yield* Docket.start(Few, { n: 4 }, { key: "k" })
      const worker = yield* start(All, { flows: [Few] })
      yield* eventually(Effect.sync(() => count("Work") === 4))
      const second = yield* Docket.start(Few, { n: 4 }, { key: "k", onExisting: "replace" })
      yield* eventually(Effect.sync(() => count("Work") === 6))
      assert.isTrue(yield* second.cancel)
      assert.strictEqual(reason(yield* passing(Effect.exit(second.await))), "Cancelled")
      for (const key of ["k/1/2", "k/1/3"]) {
        assert.isTrue(yield* Docket.cancel(key))
        yield* eventually(Effect.map(stateOf(key), (state) => state === undefined))
      }
      yield* worker.stop
    }).pipe(Effect.provide(layer))
  })

  /** A member of `Total`, as an interpreter adds it. */
  const memberOf = (generation: number, key: string, index: number) =>
    addition(key, {
      task: "Work",
      payload: "{\"n\":0}",
      thread: {
        flow: "Total",
        version: 1,
        step: "1/0",
        state: "{\"x\":{\"t\":\"step\",\"p\":\"1/0\"},\"s\":\"1\"}",
        deadline: undefined,
        onCancel: "end",
        parent: { key: "k", generation, gather: "1", index }
      }
    })

  test("a member that has ended is added again, by a repeated request → Existing, it does not run twice", () => {
    const over = signal()
    const { count, layer } = tasks({ work: (n) => n === 0 ? Effect.void : over.await })
    return Effect.gen(function*() {
      const store = yield* stored
      const { await: end } = yield* Docket.start(Total, { n: 2 }, { key: "k" })
      const worker = yield* start(All, { flows: [Total], drainTimeout: 0 })
      yield* eventually(Effect.map(Docket.explain("k"), (why) => why._tag === "Gathering" && why.succeeded === 1))
      const { generation } = (yield* store.get("k"))!
      const member = memberOf(generation, "k/1/0", 0)
      assert.deepStrictEqual((yield* store.add([member], { atomic: false })).map((one) => one.disposition), [
        "Existing"
      ])
      yield* over.open
      assert.strictEqual(yield* passing(end), 1)
      assert.strictEqual(count("Work"), 2)
      yield* worker.stop
    }).pipe(Effect.provide(layer))
  })

  test("two runs report to one place of a gather → the first report counts", () => {
    const [first, rest] = [signal(), signal()]
    const { layer } = tasks({ work: (n) => n === 0 ? Effect.void : n === 1 ? first.await : rest.await })
    const succeeded = Effect.map(Docket.explain("k"), (why) => why._tag === "Gathering" ? why.succeeded : undefined)
    return Effect.gen(function*() {
      const store = yield* stored
      const { await: end } = yield* Docket.start(Total, { n: 3 }, { key: "k" })
      const worker = yield* start(All, { flows: [Total] })
      yield* eventually(Effect.map(succeeded, (n) => n === 1))
      yield* store.add([memberOf((yield* store.get("k"))!.generation, "twin", 1)], { atomic: false })
      yield* eventually(Effect.map(succeeded, (n) => n === 2))
      yield* first.open
      yield* eventually(Effect.map(stateOf("k/1/1"), (state) => state === undefined))
      assert.strictEqual(yield* succeeded, 2)
      yield* rest.open
      assert.strictEqual(yield* passing(end), 2)
      yield* worker.stop
    }).pipe(Effect.provide(layer))
  })

  test("a docket is cleared while a flow gathers → nothing of it is left", () => {
    const { layer } = tasks({ work: never })
    return Effect.gen(function*() {
      const execution = yield* Docket.start(Total, { n: 3 }, { key: "k" })
      yield* Effect.scoped(Effect.gen(function*() {
        const worker = yield* start(All, { flows: [Total], drainTimeout: 0, concurrency: 1 })
        yield* eventually(Effect.map(stateOf("k/1/0"), (state) => state === "Running"))
        yield* passing(worker.stop)
      }))
      yield* Docket.clear
      assert.strictEqual(reason(yield* Effect.exit(execution.await)), "Gone")
      const store = yield* stored
      assert.deepStrictEqual(yield* store.counts, [])
    }).pipe(Effect.provide(layer))
  })
}
