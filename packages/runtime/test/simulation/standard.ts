/**
 * The tasks that are simulated in CI: one for each thing that a task can ask for, with times that meet those of faults.
 */
import { Agenda, Docket, Perpetual, Progress, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { Simulation } from "@effect-docket/runtime/testing"
import { Effect, Random, Schedule, Schema } from "effect"

const N = { n: Schema.Int }

class Again extends Schema.TaggedError<Again>()("Again", {}) {}
class Later extends Schema.TaggedError<Later>()("Later", {}) {}
class Enough extends Schema.TaggedError<Enough>()("Enough", {}) {}

class Plain extends Task.make("Plain", { payload: N, success: Schema.Int, key: ({ n }) => `plain-${n}` }) {}
class Unnamed extends Task.make("Unnamed", { payload: N, retention: 0 }) {}
class Urgent extends Task.make("Urgent", { payload: N, priority: ({ n }) => n, retention: "2 seconds" }) {}
class Failing extends Task.make("Failing", {
  payload: N,
  error: Schema.Union([Again, Later, Enough]),
  key: ({ n }) => `failing-${n}`,
  retry: { Again: Retry.after("300 millis"), Later: Retry.snooze("500 millis"), Enough: Retry.never }
}) {}
class Scheduled extends Task.make("Scheduled", {
  payload: N,
  error: Again,
  retry: Schedule.exponential("100 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 3 }))
}) {}
class Slow extends Task.make("Slow", { payload: N, key: ({ n }) => `slow-${n}`, lane: "slow" }) {}
class Dying extends Task.make("Dying", {
  payload: N,
  defectRetryPolicy: Schedule.spaced("400 millis").pipe(Schedule.upTo({ times: 2 }))
}) {}
class Timed extends Task.make("Timed", { payload: N, timeout: "500 millis", key: ({ n }) => `timed-${n}` }) {}
class Stubborn extends Task.make("Stubborn", { payload: N, timeout: "300 millis" }) {}
class Reporting extends Task.make("Reporting", { payload: N, progress: Schema.Int }) {}
class Adding extends Task.make("Adding", { payload: N, key: ({ n }) => `adding-${n}` }) {}

class Tick extends Task.make("Tick", { perpetual: { every: "2 seconds", automatic: true } }) {}
class Failed extends Task.make("Failed", {
  error: Again,
  perpetual: { every: "3 seconds", jitter: "500 millis" },
  key: () => "failed"
}) {}
class Queued extends Task.make("Queued", {
  payload: N,
  key: ({ n }) => `queued-${n}`,
  perpetual: { every: "1 second", overlap: "queue", catchUp: "skip" }
}) {}
class Beside extends Task.make("Beside", { key: () => "beside", perpetual: { every: "1 second", overlap: "allow" } }) {}
class All extends Task.make("All", { key: () => "all", perpetual: { every: "1 minute", catchUp: "all" } }) {}
class Cron extends Task.make("Cron", { key: () => "cron", perpetual: { cron: "*/5 * * * * *", catchUp: "skip" } }) {}
class Ending extends Task.make("Ending", {
  payload: N,
  key: ({ n }) => `ending-${n}`,
  perpetual: { every: "500 millis" }
}) {}

class Narrow extends Task.make("Narrow", { payload: N, concurrency: { max: 2, key: ({ n }) => String(n % 2) } }) {}
class One extends Task.make("One", { payload: N, concurrency: { max: 1, scope: "shared" } }) {}
class Other extends Task.make("Other", {
  payload: N,
  concurrency: { max: 1, scope: "shared" },
  rateLimit: { limit: 3, window: "2 seconds" }
}) {}
class Rated extends Task.make("Rated", { payload: N, rateLimit: { limit: 2, window: "1 second" } }) {}
class Dropped extends Task.make("Dropped", {
  payload: N,
  rateLimit: { limit: 1, window: "1 second", excess: "drop", key: ({ n }) => String(n % 2) }
}) {}
class DroppedTick extends Task.make("DroppedTick", {
  key: () => "dropped-tick",
  rateLimit: { limit: 1, window: "3 seconds", excess: "drop" },
  perpetual: { every: "1 second" }
}) {}
class Guarded extends Task.make("Guarded", {
  payload: N,
  key: ({ n }) => `guarded-${n}`,
  concurrency: { max: 1, scope: "guarded" },
  perpetual: { every: "400 millis" }
}) {}
class Cooled
  extends Task.make("Cooled", { payload: N, cooldown: { for: "2 seconds", key: ({ n }) => String(n % 2) } })
{}
class Settling extends Task.make("Settling", {
  payload: N,
  debounce: { for: "500 millis", max: "2 seconds", key: ({ n }) => String(n % 2) }
}) {}
class First extends Task.make("First", {
  payload: N,
  key: ({ n }) => `first-${n}`,
  concurrency: 1,
  debounce: { for: "300 millis", payload: "first" }
}) {}

/** All of them. */
export class Standard extends TaskGroup.make(
  Plain,
  Unnamed,
  Urgent,
  Failing,
  Scheduled,
  Slow,
  Dying,
  Timed,
  Stubborn,
  Reporting,
  Adding,
  Tick,
  Failed,
  Queued,
  Beside,
  All,
  Cron,
  Ending,
  Narrow,
  One,
  Other,
  Rated,
  Dropped,
  DroppedTick,
  Guarded,
  Cooled,
  Settling,
  First
) {}

const chance = <A>(choices: ReadonlyArray<A>): Effect.Effect<A> =>
  Effect.map(Random.nextIntBetween(0, choices.length, { halfOpen: true }), (index) => choices[index]!)

/** As long as chance says. */
const takes = (...millis: ReadonlyArray<number>): Effect.Effect<void> =>
  Effect.flatMap(chance(millis), (length) => length === 0 ? Effect.void : Effect.sleep(length))

const handlers = Standard.toLayer({
  Plain: ({ n }) => Effect.as(takes(0, 0, 50), n),
  Unnamed: () => takes(0, 20),
  Urgent: () => takes(0, 100),
  Failing: () =>
    Effect.flatMap(chance([Effect.void, new Again(), new Later(), new Enough()]), (end): Effect.Effect<
      void,
      Again | Later | Enough
    > => end),
  Scheduled: () => Effect.flatMap(chance([undefined, new Again()]), (error) => error ?? Effect.void),
  Slow: () => takes(500, 3000, 8000),
  Dying: () => Effect.flatMap(chance([true, false]), (dies) => dies ? Effect.die(new Error("simulated")) : takes(10)),
  Timed: () => takes(0, 400, 600),
  Stubborn: () => Effect.uninterruptible(takes(100, 400, 9000)),
  Reporting: Effect.fnUntraced(function*() {
    const progress = yield* Progress.Progress
    for (let step = 1; step <= 3; step++) {
      yield* progress.report(Reporting, step)
      yield* takes(50, 300)
    }
  }),
  Adding: ({ n }) => Effect.orDie(Effect.asVoid(Docket.add(Plain, { n: n + 100 }, { after: "1 second" }))),
  Tick: () => takes(0, 100, 3000),
  Failed: () => Effect.flatMap(chance([undefined, new Again()]), (error) => error ?? takes(500)),
  Queued: () => takes(0, 1500),
  Beside: () => takes(500, 2500),
  All: () => takes(0, 1000),
  Cron: () => takes(0, 6000),
  Ending: Effect.fnUntraced(function*({ n }) {
    const perpetual = yield* Perpetual.Perpetual
    const what = yield* chance(["cancel", "after", "next", "die", "nothing"])
    if (what === "cancel") yield* perpetual.cancel
    if (what === "after") yield* perpetual.after("50 millis")
    if (what === "next") yield* perpetual.next(Ending, { n: n + 1 })
    if (what === "die") return yield* Effect.die(new Error("simulated"))
  }),
  Narrow: () => takes(100, 1000),
  One: () => takes(0, 200),
  Other: () => takes(0, 200),
  Rated: () => takes(0, 50),
  Dropped: () => Effect.void,
  DroppedTick: () => Effect.void,
  Guarded: () => takes(0, 600),
  Cooled: () => takes(0, 500),
  Settling: () => takes(0, 500),
  First: () => takes(0, 500)
})

const arguments_ = Effect.gen(function*() {
  const after = yield* chance([0, 0, 0, 1, 100, 2000, 20_000])
  return { n: yield* chance([0, 1, 2, 3]), options: { after } }
})

/** Scatters over a while, and writes what is left when the store was away. */
const scatter = (ns: ReadonlyArray<number>) =>
  Agenda.fromIterable(Unnamed, ns.map((n) => ({ n }))).pipe(
    Agenda.addAll(Plain, ns.map((n) => ({ n: n + 1000 }))),
    Agenda.scatter({ over: "10 seconds", jitter: "500 millis" }),
    Effect.catchTag("ScatterPartial", ({ rest }) => Effect.delay(Agenda.resume(rest), "1 second"))
  )

/** Additions about the same, one soon after the other, for longer than the first of them may wait. */
const settle = (n: number) =>
  Effect.forEach([0, 2, 4, 6, 8, 10], (more) => Effect.delay(Docket.add(Settling, { n: n + more }), "400 millis"))

/** Adds something that ends by itself. */
const produceOne = Effect.gen(function*() {
  const { n, options } = yield* arguments_
  yield* yield* chance([
    Docket.add(Plain, { n }, options),
    Docket.add(Plain, { n }, { onExisting: "replace" }),
    Docket.addAll([[Plain, { n }, options], [Unnamed, { n }], [Slow, { n }]]),
    Docket.add(Unnamed, { n }, options),
    Docket.add(Urgent, { n }, options),
    Docket.add(Failing, { n }, options),
    Docket.add(Failing, { n }, options),
    Docket.add(Scheduled, { n }, options),
    Docket.add(Slow, { n }, options),
    Docket.add(Slow, { n }),
    Docket.add(Dying, { n }, options),
    Docket.add(Timed, { n }, options),
    Docket.add(Stubborn, { n }, options),
    Docket.add(Reporting, { n }, options),
    Docket.add(Adding, { n }, options),
    Docket.addAll([[Narrow, { n }], [Narrow, { n }], [Narrow, { n }, options]]),
    Docket.addAll([[One, { n }], [Other, { n }], [One, { n }], [Other, { n }]]),
    Docket.addAll([[Rated, { n }], [Rated, { n }], [Rated, { n }, options]]),
    Docket.addAll([[Dropped, { n }], [Dropped, { n }], [Dropped, { n }, options]]),
    Docket.addAll([[Cooled, { n }, options], [Cooled, { n }]]),
    Docket.addAll([[Cooled, { n }], [Cooled, { n: n + 2 }]]),
    Effect.andThen(Docket.add(Cooled, { n }), Effect.delay(Docket.add(Cooled, { n: n + 2 }), "600 millis")),
    Docket.addAll([[Settling, { n }, options], [Settling, { n: n + 2 }]]),
    Docket.addAll([[Settling, { n }], [Settling, { n: n + 1 }]]),
    settle(n),
    Docket.addAll([[First, { n }, options], [First, { n: n + 1 }]]),
    scatter([n, n + 1, n + 2, n + 3])
  ])
})

/** Adds something that goes on for ever. */
const producePerpetual = Effect.gen(function*() {
  const { n, options } = yield* arguments_
  yield* yield* chance([
    Docket.add(Failed, undefined, options),
    Docket.add(Queued, { n: n % 2 }, options),
    Docket.add(Beside, undefined, options),
    Docket.add(All, undefined, options),
    Docket.add(Cron, undefined, options),
    Docket.add(Ending, { n: n % 2 }, options),
    Docket.add(DroppedTick, undefined, options),
    Docket.addAll([[Guarded, { n: 0 }], [Guarded, { n: 1 }, options]])
  ])
})

/** Everything. */
export const standard: Effect.Effect<Simulation.Workload> = Effect.sync(() =>
  Simulation.workload({
    group: Standard,
    handlers,
    produce: Effect.gen(function*() {
      if (yield* chance([true, false, false, false])) yield* producePerpetual
      else yield* produceOne
    })
  })
)

/** Nothing that goes on for ever: a worker that nobody wakes has nothing else to wake it. */
export const finite: Effect.Effect<Simulation.Workload> = Effect.sync(() =>
  Simulation.workload({
    group: Standard.omit("Tick", "Failed", "Queued", "Beside", "All", "Cron", "Ending", "DroppedTick", "Guarded"),
    handlers,
    produce: produceOne
  })
)
