import { Docket, Execution, Perpetual, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it, vi } from "@effect/vitest"
import { Clock, DateTime, Effect, Exit, Latch, Layer, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Kit from "./Kit.ts"

// the tests of a file run side by side, and some of them think for seconds
vi.setConfig({ testTimeout: 120_000 })

const second = 1000
const minute = 60 * second
const hour = 60 * minute

class Busy extends Schema.TaggedError<Busy>()("Busy", { seconds: Schema.Int }) {}

type Body = (n: number) => Effect.Effect<void, Busy, Task.HandlerServices | Perpetual.Perpetual>

/** An automatic task; when each of its runs began, and the time that it stands for. */
const ticking = (
  perpetual: Record<string, unknown>,
  body: Body = () => Effect.void,
  options?: Pick<Task.Options<void, void, Busy>, "retention" | "rateLimit">
) => {
  const starts: Array<readonly [at: number, scheduledAt: number]> = []
  class Tick extends Task.make("Tick", {
    error: Busy,
    retry: { Busy: ({ seconds }) => Retry.after(seconds * second) },
    perpetual: { automatic: true, ...(perpetual as unknown as Perpetual.Every) }, // options of either kind
    ...options
  }) {}
  const group = TaskGroup.make(Tick)
  const handler = Tick.toLayer(() =>
    Effect.gen(function*() {
      const { scheduledAt } = yield* Execution.CurrentExecution
      const now = yield* Clock.currentTimeMillis
      yield* body(starts.push([now, DateTime.toEpochMillis(scheduledAt)]))
    })
  )
  return {
    Tick,
    group,
    starts,
    times: () => starts.map(([at]) => at / minute),
    scheduled: () => starts.map(([, at]) => at / minute),
    layer: Kit.live(group, handler)
  }
}

const quarterly = { cron: "*/15 * * * *" }

describe("Perpetual tasks", () => {
  describe("whose ticks come while they run", () => {
    const long: Body = (n) => n === 1 ? Effect.sleep("40 minutes") : Effect.void

    it.effect("leave them out", () => {
      const { group, layer, scheduled, times } = ticking(quarterly, long)
      return Effect.gen(function*() {
        yield* DocketTest.runAtMost(group, { Tick: 3 })
        assert.deepStrictEqual(times(), [15, 60, 75])
        assert.deepStrictEqual(scheduled(), [15, 60, 75])
      }).pipe(Effect.provide(layer))
    })

    it.effect("or queue one, which stands for the last of them", () => {
      const { group, layer, scheduled, times } = ticking({ ...quarterly, overlap: "queue" }, long)
      return Effect.gen(function*() {
        yield* DocketTest.runAtMost(group, { Tick: 3 })
        assert.deepStrictEqual(times(), [15, 55, 60])
        assert.deepStrictEqual(scheduled(), [15, 45, 60])
      }).pipe(Effect.provide(layer))
    })

    it.effect("a run that waits for its retry is running, too", () => {
      const retried: Body = (n) => n === 1 ? Effect.fail(new Busy({ seconds: 2400 })) : Effect.void
      const { group, layer, scheduled, times } = ticking({ ...quarterly, overlap: "queue" }, retried)
      return Effect.gen(function*() {
        yield* DocketTest.runAtMost(group, { Tick: 3 })
        assert.deepStrictEqual(times(), [15, 55, 55, 60])
        assert.deepStrictEqual(scheduled(), [15, 55, 45, 60])
      }).pipe(Effect.provide(layer))
    })

    it.effect("an interval counts from the first attempt", () => {
      const retried: Body = (n) => n === 1 ? Effect.fail(new Busy({ seconds: 240 })) : Effect.void
      const { group, layer, times } = ticking({ every: "10 minutes" }, retried)
      return Effect.gen(function*() {
        yield* DocketTest.runAtMost(group, { Tick: 3 })
        assert.deepStrictEqual(times(), [0, 4, 10, 20])
      }).pipe(Effect.provide(layer))
    })
  })

  describe("whose ticks come while nothing runs", () => {
    /** Runs for ten minutes, is away for more than an hour, and comes back. */
    const away = (perpetual: Record<string, unknown>) => {
      const { group, layer, scheduled, times } = ticking(perpetual)
      return Effect.gen(function*() {
        yield* TestClock.setTime(0)
        yield* DocketTest.drain(group, { for: "20 minutes" })
        yield* Kit.advance("58 minutes")
        yield* DocketTest.drain(group, { for: "15 minutes" })
        return { times: times(), scheduled: scheduled() }
      }).pipe(Effect.provide(layer))
    }

    it.effect("run once, late, and go on", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* away(quarterly), { times: [15, 78, 90], scheduled: [15, 30, 90] })
        assert.deepStrictEqual((yield* away({ every: "15 minutes" })).times, [0, 15, 78, 93])
      }))

    it.effect("or leave them out", () =>
      Effect.gen(function*() {
        const skip = { catchUp: "skip" }
        assert.deepStrictEqual(yield* away({ ...quarterly, ...skip }), { times: [15, 90], scheduled: [15, 90] })
        assert.deepStrictEqual((yield* away({ every: "15 minutes", ...skip })).times, [0, 15, 90])
      }))

    it.effect("or run for each of them, one after the other, each with its time", () =>
      Effect.gen(function*() {
        const all = { catchUp: "all" }
        assert.deepStrictEqual(yield* away({ ...quarterly, ...all }), {
          times: [15, 78, 78, 78, 78, 90],
          scheduled: [15, 30, 45, 60, 75, 90]
        })
        assert.deepStrictEqual((yield* away({ every: "15 minutes", ...all })).scheduled, [0, 15, 30, 45, 60, 75, 90])
      }))

    it.effect("also when the task was paused", () => {
      const { Tick, group, layer, times } = ticking({ ...quarterly, catchUp: "skip" })
      return Effect.gen(function*() {
        yield* Kit.start(Worker.layer(group))
        yield* Docket.pause({ task: Tick })
        yield* Kit.advance("20 minutes")
        yield* Docket.resume({ task: Tick })
        yield* Kit.settle
        assert.deepStrictEqual(times(), [])
        yield* Kit.advance("10 minutes")
        assert.deepStrictEqual(times(), [30])
      }).pipe(Effect.provide(layer))
    })

    it.effect("but one that was interrupted by a shutdown has begun, and goes on", () => {
      const gate = Latch.makeUnsafe()
      const { group, layer, starts, times } = ticking({ ...quarterly, catchUp: "skip" }, () => gate.await)
      return Effect.gen(function*() {
        const first = yield* Kit.start(Worker.layer(group, { drainTimeout: 0 }))
        yield* Kit.advance("15 minutes")
        yield* Kit.advance("10 minutes")
        yield* Effect.forkChild(first.stop)
        yield* Kit.advance("1 second")
        yield* gate.open
        yield* Kit.start(Worker.layer(group))
        yield* Kit.settle
        assert.deepStrictEqual(times(), [15, 25 + 1 / 60])
        yield* Kit.advance("5 minutes")
        assert.strictEqual(starts.length, 3)
      }).pipe(Effect.provide(layer))
    })

    it.effect("and so has one whose worker died", () => {
      const { group, layer, times } = ticking({ ...quarterly, catchUp: "skip" })
      return Effect.gen(function*() {
        yield* DocketTest.drain(group, { for: "5 minutes" })
        const crashed = yield* Kit.crashingWorker({ tasks: ["Tick"], lease: 5 * minute })
        yield* Kit.advance("10 minutes")
        assert.strictEqual((yield* crashed.claim).length, 1)
        yield* DocketTest.drain(group, { for: "10 minutes" })
        assert.deepStrictEqual(times(), [20])
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  })

  it.effect("with jitter begin up to that much later than their tick, and never before", () => {
    const { group, layer, times } = ticking({ cron: "*/15 * * * *", jitter: "10 minutes" })
    return Effect.gen(function*() {
      yield* DocketTest.runAtMost(group, { Tick: 50 })
      assert.strictEqual(times().length, 50)
      const delays = times().map((at, n) => at - 15 * (n + 1))
      assert.isTrue(delays.every((delay) => delay >= 0 && delay <= 10), delays.join(" "))
      assert.isAbove(new Set(delays).size, 40)
    }).pipe(Effect.provide(layer))
  })

  it.effect("with jitter and an interval do not drift", () => {
    const { group, layer, times } = ticking({ every: "15 minutes", jitter: "10 minutes" })
    return Effect.gen(function*() {
      yield* DocketTest.runAtMost(group, { Tick: 50 })
      const delays = times().map((at, n) => at - 15 * n)
      assert.isTrue(delays.every((delay) => delay >= 0 && delay <= 10), delays.join(" "))
      assert.isAbove(new Set(delays).size, 40)
    }).pipe(Effect.provide(layer))
  })

  it.effect("that have no next time end with an error in the log, and their worker goes on", () => {
    const { at, layer: logs } = Kit.logs()
    const { Tick, group, layer, starts } = ticking({ cron: "0 0 1 1 *" })
    const end = 8.64e15
    return Effect.gen(function*() {
      yield* TestClock.setTime(end - minute)
      yield* Kit.start(Worker.layer(group))
      yield* Kit.settle
      assert.include(at("Error")[0]?.message, "perpetual task \"Tick\" has no next time: it is not seeded")
      for (const key of ["one", "two"]) {
        const run = yield* Docket.add(Tick, undefined, { key })
        yield* run.await
      }
      assert.strictEqual(starts.length, 2)
      assert.deepStrictEqual(
        at("Error").slice(1).map(({ annotations, message }) => [annotations["key"], message]),
        [["one", "Tick: it has no next time: it ends"], ["two", "Tick: it has no next time: it ends"]]
      )
      assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
    }).pipe(Effect.provide(Layer.provideMerge(layer, logs)))
  })

  // -------------------------------------------------------------------------------------------------------------------
  // seeding
  // -------------------------------------------------------------------------------------------------------------------

  describe("that are automatic", () => {
    it.effect("are seeded once by two hundred workers, and run once per cycle", () => {
      const { group, layer, starts } = ticking({ every: "1 minute" })
      return Effect.gen(function*() {
        yield* Effect.forEach(Array.from({ length: 200 }), () => Kit.start(Worker.layer(group)), {
          concurrency: "unbounded"
        })
        yield* Kit.settle
        for (let n = 1; n <= 3; n++) {
          assert.strictEqual(starts.length, n)
          assert.strictEqual((yield* Stream.runCollect(Docket.snapshot)).length, 1)
          yield* Kit.advance("1 minute")
        }
      }).pipe(Effect.provide(layer))
    })

    it.effect("and end themselves stay ended, whatever their retention, for workers old and new", () => {
      const { Tick, group, layer, starts } = ticking(
        { every: "1 minute" },
        () => Perpetual.Perpetual.use(({ cancel }) => cancel),
        { retention: 0 }
      )
      return Effect.gen(function*() {
        const workers = Effect.forEach(Array.from({ length: 3 }), () => Kit.start(Worker.layer(group)))
        yield* workers
        yield* Kit.settle
        assert.strictEqual(starts.length, 1)
        // started while its outcome is kept
        yield* workers
        yield* Kit.advanceBy("10 seconds", 60)
        assert.strictEqual((yield* Docket.explain("Tick"))._tag, "Unknown")
        yield* Kit.advance("1 day")
        assert.strictEqual(starts.length, 1)
        // until somebody begins it again
        yield* Docket.add(Tick, undefined, { key: "Tick" })
        yield* Kit.settle
        assert.strictEqual(starts.length, 2)
      }).pipe(Effect.provide(layer))
    })

    it.effect("and struck are not seeded, and resume when the strike is over", () => {
      const { Tick, group, layer, times } = ticking({ every: "1 minute" })
      return Effect.gen(function*() {
        yield* Kit.start(Worker.layer(group))
        yield* Kit.settle
        yield* Docket.strike(Tick)
        yield* Kit.advance("1 minute")
        assert.strictEqual((yield* Docket.explain("Tick"))._tag, "Finished")
        yield* Kit.advanceBy("30 seconds", 10)
        assert.deepStrictEqual(times(), [0])
        yield* Docket.restore(Tick)
        yield* Kit.advance("30 seconds")
        assert.deepStrictEqual(times(), [0, 6.5])
        yield* Kit.advance("1 minute")
        assert.deepStrictEqual(times(), [0, 6.5, 7.5])
      }).pipe(Effect.provide(layer))
    })

    it.effect("and struck before the first worker starts are seeded when the strike is over", () => {
      const { Tick, group, layer, times } = ticking({ every: "1 minute" })
      return Effect.gen(function*() {
        yield* Docket.strike(Tick)
        yield* Kit.start(Worker.layer(group))
        yield* Kit.advanceBy("30 seconds", 3)
        assert.deepStrictEqual(times(), [])
        yield* Docket.restore(Tick)
        yield* Kit.advance("30 seconds")
        assert.deepStrictEqual(times(), [2])
      }).pipe(Effect.provide(layer))
    })

    it.effect("and cancelled between two runs stay ended", () => {
      const { group, layer, starts } = ticking({ every: "1 minute" }, undefined, { retention: 0 })
      return Effect.gen(function*() {
        yield* Kit.start(Worker.layer(group))
        yield* Kit.settle
        assert.isTrue(yield* Docket.cancel("Tick"))
        yield* Kit.advanceBy("10 seconds", 60)
        assert.strictEqual(starts.length, 1)
      }).pipe(Effect.provide(layer))
    })

    it.effect("are bounded again by each finite worker that asks for it", () => {
      const { group, layer, starts } = ticking({ every: "1 minute" })
      return Effect.gen(function*() {
        yield* DocketTest.runAtMost(group, { Tick: 2 })
        yield* DocketTest.runAtMost(group, { Tick: 3 })
        assert.strictEqual(starts.length, 5)
      }).pipe(Effect.provide(layer))
    })
  })

  describe("kept by `Perpetual.layer`", () => {
    class Poll extends Task.make("Poll", {
      payload: { url: Schema.String },
      retention: 0,
      perpetual: { cron: "@hourly" }
    }) {}
    class Polls extends TaskGroup.make(Poll) {}

    const polling = (body: Effect.Effect<void, never, Perpetual.Perpetual>) => {
      const starts: Array<number> = []
      const handler = Poll.toLayer(() =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          starts.push(now / minute)
          return body
        })
      )
      return { starts, layer: Kit.live(Polls, handler) }
    }

    it.effect("begin at the next tick", () => {
      const { layer, starts } = polling(Effect.void)
      return Effect.gen(function*() {
        yield* TestClock.setTime(10 * minute)
        yield* Kit.start(Layer.merge(Worker.layer(Polls), Perpetual.layer(Poll, { url: "a" })))
        const pending = yield* Stream.runCollect(Docket.snapshot)
        assert.deepStrictEqual(pending.map(({ scheduledAt }) => DateTime.toEpochMillis(scheduledAt)), [hour])
        yield* Kit.advance("2 hours")
        assert.deepStrictEqual(starts, [60, 120])
      }).pipe(Effect.provide(layer))
    })

    it.effect("and ended by their handler stay ended, however seldom they are looked for", () => {
      const { layer, starts } = polling(Perpetual.Perpetual.use(({ cancel }) => cancel))
      return Effect.gen(function*() {
        yield* Kit.start(
          Layer.merge(Worker.layer(Polls), Perpetual.layer(Poll, { url: "a" }, { checkEvery: "1 day" }))
        )
        yield* Kit.advanceBy("6 hours", 40)
        assert.deepStrictEqual(starts, [60])
      }).pipe(Effect.provide(layer))
    })

    it.effect("end with the layer, and what was seeded stays", () => {
      const { layer } = polling(Effect.void)
      return Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(Perpetual.layer(Poll, { url: "a" }), scope)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* Docket.clear, 1)
        yield* Kit.advance("1 day")
        assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
      }).pipe(Effect.provide(layer))
    })

    it.effect("are refused with an interval of looking that is none", () => {
      const { layer } = polling(Effect.void)
      return Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.scoped(
          Layer.build(Perpetual.layer(Poll, { url: "a" }, { checkEvery: 0 }))
        ))
        assert.strictEqual(Kit.invalidOption(error), "checkEvery")
      }).pipe(Effect.provide(layer))
    })
  })

  it.effect("that their rate limit drops come back with their next tick, and not at once", () => {
    const options = { rateLimit: { limit: 1, window: "150 seconds", excess: "drop" } } as const
    const { group, layer, times } = ticking({ every: "1 minute" }, undefined, options)
    let dropped = 0
    const counting = Kit.intercept((session) => ({
      ...session,
      turn: (request) =>
        Effect.tap(session.turn(request), ({ claimed }) =>
          Effect.sync(() => {
            dropped += claimed.filter(({ droppedBy }) => droppedBy !== undefined).length
          }))
    }))
    return Effect.gen(function*() {
      yield* Kit.start(Layer.provide(Worker.layer(group), counting))
      yield* Kit.advanceBy("10 seconds", 55)
      assert.deepStrictEqual(times(), [0, 3, 6, 9])
      assert.strictEqual(dropped, 6)
    }).pipe(Effect.provide(layer))
  })

  it.effect("whose worker has another time than the store follow that of the store", () =>
    Effect.gen(function*() {
      for (const offset of [5 * minute, -5 * minute]) {
        const { group, layer, times } = ticking({ cron: "0 * * * *" })
        yield* Effect.gen(function*() {
          const clock = yield* Clock.Clock
          const other: Clock.Clock = {
            ...clock,
            currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + offset,
            currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset)
          }
          yield* TestClock.setTime(57 * minute)
          yield* Kit.start(Worker.layer(group)).pipe(Effect.provideService(Clock.Clock, other))
          yield* Kit.advanceBy("1 minute", 70)
          assert.deepStrictEqual(times(), [60, 120])
        }).pipe(Effect.provide(layer))
      }
    }))
})
