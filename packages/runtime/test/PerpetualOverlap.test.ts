/**
 * `overlap: "allow"`: a tick that comes while a run is running has a run of its own, once.
 */
import { Docket, Execution, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it, vi } from "@effect/vitest"
import { Arbitrary, Clock, DateTime, Effect, Layer, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Kit from "./Kit.ts"

// the tests of a file run side by side, and some of them think for seconds
vi.setConfig({ testTimeout: 120_000 })

const minute = 60_000

type Body = (n: number, key: string) => Effect.Effect<void, never, Task.HandlerServices | Perpetual.Perpetual>

/** An automatic task whose runs may overlap; which tick each run was for, when it began, and under which key. */
const ticking = (perpetual: Record<string, unknown>, body: Body) => {
  const runs: Array<{ readonly tick: number; readonly at: number; readonly key: string; readonly attempt: number }> = []
  class Tick extends Task.make("Tick", {
    retention: 0,
    defectRetryPolicy: Schedule.recurs(5),
    perpetual: { automatic: true, overlap: "allow", ...(perpetual as unknown as Perpetual.Every) } // of either kind
  }) {}
  const group = TaskGroup.make(Tick)
  const handler = Tick.toLayer(() =>
    Effect.gen(function*() {
      const { attempt, key, scheduledAt } = yield* Execution.CurrentExecution
      const now = yield* Clock.currentTimeMillis
      const tick = DateTime.toEpochMillis(scheduledAt) / minute
      yield* body(runs.push({ tick, at: now / minute, key, attempt }), key)
    })
  )
  return { group, runs, ticks: () => runs.map(({ tick }) => tick), layer: Kit.live(group, handler) }
}

const quarterly = { cron: "*/15 * * * *" }
const long: Body = (n) => n === 1 ? Effect.sleep("40 minutes") : Effect.void

describe("Runs that may overlap", () => {
  it.effect("begin at their ticks while another is running, each under a key of its own", () => {
    const { group, layer, runs } = ticking(quarterly, long)
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "80 minutes" })
      assert.deepStrictEqual(runs.map(({ at, key, tick }) => [tick, at, key]), [
        [15, 15, "Tick"],
        [30, 30, "Tick@1970-01-01T00:30:00.000Z"],
        [45, 45, "Tick@1970-01-01T00:45:00.000Z"],
        [60, 60, "Tick"],
        [75, 75, "Tick"]
      ])
      const pending = yield* Stream.runCollect(Docket.snapshot)
      assert.deepStrictEqual(pending.map(({ key, state }) => [key, state]), [["Tick", "Scheduled"]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("by an interval, too", () => {
    const { group, layer, ticks } = ticking({ every: "15 minutes" }, long)
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "65 minutes" })
      assert.deepStrictEqual(ticks(), [0, 15, 30, 45, 60])
    }).pipe(Effect.provide(layer))
  })

  it.effect("have one run for a tick that comes when another ends, or a moment later", () =>
    Effect.gen(function*() {
      for (const early of [0, 1, 500, 2000]) {
        const { group, layer, ticks } = ticking(
          quarterly,
          (n) => n === 1 ? Effect.sleep(15 * minute - early) : Effect.void
        )
        yield* Effect.gen(function*() {
          yield* TestClock.setTime(0)
          yield* DocketTest.drain(group, { for: "50 minutes" })
          assert.deepStrictEqual(ticks(), [15, 30, 45], `${early} ms early`)
        }).pipe(Effect.provide(layer))
      }
    }))

  it.effect("have their runs when a body that ends has kept its worker from doing anything else", () => {
    let blocked = 0
    const { group, layer, ticks } = ticking(quarterly, (n) =>
      n > 1 ? Effect.void : Effect.andThen(
        Effect.sleep(15 * minute - 10_000),
        Effect.sync(() => {
          blocked = 20_000
        })
      ))
    return Effect.gen(function*() {
      const clock = yield* Clock.Clock
      // only the worker sees the time that it took
      const slow: Clock.Clock = {
        ...clock,
        currentTimeMillisUnsafe: () => {
          const late = blocked
          if (ticks().length > 1) blocked = 0
          return clock.currentTimeMillisUnsafe() + late
        }
      }
      yield* Kit.start(Worker.layer(group)).pipe(Effect.provideService(Clock.Clock, slow))
      yield* Kit.advanceBy("10 seconds", 50 * 6)
      assert.deepStrictEqual(ticks(), [15, 30, 45])
    }).pipe(Effect.provide(layer))
  })

  it.effect("do not begin beside a body that ignores its cancel", () => {
    const { group, layer, ticks } = ticking(quarterly, () => Effect.uninterruptible(Effect.sleep("40 minutes")))
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(group))
      yield* Kit.advanceBy("1 minute", 20)
      assert.isTrue(yield* Docket.cancel("Tick"))
      yield* Kit.advanceBy("1 minute", 60)
      assert.deepStrictEqual(ticks(), [15])
    }).pipe(Effect.provide(layer))
  })

  it.effect("have no successor but that of the run that holds the key, whatever they ask for", () => {
    const { group, layer, ticks } = ticking(
      quarterly,
      (n, key) =>
        key === "Tick" ?
          long(n, key) :
          Perpetual.Perpetual.use(({ after, cancel }) => n === 2 ? cancel : after("1 minute"))
    )
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "80 minutes" })
      assert.deepStrictEqual(ticks(), [15, 30, 45, 60, 75])
    }).pipe(Effect.provide(layer))
  })

  it.effect("end with their chain: no tick comes after a cancel", () => {
    const { group, layer, ticks } = ticking(quarterly, () => Effect.never)
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(group))
      yield* Kit.advance("35 minutes")
      assert.deepStrictEqual(ticks(), [15, 30])
      assert.isTrue(yield* Docket.cancel("Tick"))
      yield* Kit.advance("2 hours")
      assert.deepStrictEqual(ticks(), [15, 30])
      assert.isTrue(yield* Docket.cancel("Tick@1970-01-01T00:30:00.000Z"))
      yield* Kit.settle
      assert.deepStrictEqual(yield* Docket.counts, [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("whose worker died are redelivered; no tick has two runs", () => {
    const { group, layer, runs } = ticking(
      quarterly,
      (_, key) => key === "Tick" ? Effect.sleep("40 minutes") : Effect.void
    )
    return Effect.gen(function*() {
      // its turns do not reach the store any more, its body and what it adds go on: a zombie
      let dead = false
      const zombie = Kit.intercept((session) => ({
        turn: (request) => Effect.suspend(() => dead ? Effect.never : session.turn(request)),
        renew: (claims) => Effect.suspend(() => dead ? Effect.never : session.renew(claims)),
        outlook: session.outlook
      }))
      yield* Kit.start(Worker.layer(group, { lease: "3 minutes", concurrency: 1 }).pipe(Layer.provide(zombie)))
      yield* Kit.advanceBy("1 minute", 20)
      dead = true
      yield* Kit.start(Worker.layer(group, { lease: "3 minutes" }))
      yield* Kit.advanceBy("1 minute", 80)
      const chain = runs.filter(({ key }) => key === "Tick")
      assert.deepStrictEqual(chain.map(({ attempt, tick }) => [tick, attempt]), [[15, 1], [15, 2], [75, 1]])
      const others = runs.filter(({ key }) => key !== "Tick")
      assert.deepStrictEqual(others.map(({ attempt, tick }) => [tick, attempt]), [[30, 1], [45, 1], [60, 1], [90, 1]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("are added once when the store is away, or its reply is lost", () => {
    const { group, layer, runs } = ticking(quarterly, long)
    return Effect.gen(function*() {
      let calls = 0
      const flaky = Layer.effect(
        DocketEngine.DocketEngine,
        Effect.map(DocketEngine.DocketEngine, (engine) => ({
          ...engine,
          store: {
            ...engine.store,
            add: (additions, options) => {
              if (!additions.some(({ key }) => key.includes("@"))) return engine.store.add(additions, options)
              calls++
              // until after the tick
              if (calls < 11) return Effect.fail(Kit.unavailable)
              const added = engine.store.add(additions, options)
              return calls === 11 ? Effect.andThen(added, Effect.fail(Kit.unavailable)) : added
            }
          } satisfies typeof engine.store
        }))
      )
      yield* Kit.start(Worker.layer(group).pipe(Layer.provide(flaky)))
      yield* Kit.advanceBy("1 minute", 29)
      // small steps where somebody tries again
      yield* Kit.advanceBy("250 millis", 4 * 60 * 2)
      yield* Kit.advanceBy("1 minute", 49)
      assert.deepStrictEqual(runs.map(({ tick }) => tick), [15, 30, 45, 60, 75])
      assert.deepStrictEqual(runs.map(({ at }) => Math.round(at * 600)), [9000, 18_015, 27_000, 36_000, 45_000])
      assert.strictEqual(calls, 12)
    }).pipe(Effect.provide(layer))
  })

  it.effect("are missed when the store is away for long; that is logged, and the chain goes on", () => {
    const { at, layer: logs } = Kit.logs()
    const { group, layer, ticks } = ticking(quarterly, long)
    return Effect.gen(function*() {
      const away = Layer.effect(
        DocketEngine.DocketEngine,
        Effect.map(DocketEngine.DocketEngine, (engine) => ({
          ...engine,
          store: {
            ...engine.store,
            add: (additions, options) =>
              additions.some(({ key }) => key.includes("@"))
                ? Effect.fail(Kit.unavailable)
                : engine.store.add(additions, options)
          } satisfies typeof engine.store
        }))
      )
      yield* Kit.start(Worker.layer(group).pipe(Layer.provide(away)))
      yield* Kit.advanceBy("10 seconds", 65 * 6)
      assert.deepStrictEqual(ticks(), [15, 60])
      assert.strictEqual(at("Error").length, 2)
      assert.include(at("Error")[0]?.message, "Tick: a tick that came while it was running has no run")
    }).pipe(Effect.provide(Layer.provideMerge(layer, logs)))
  })

  it.effect("however long they take: each tick has exactly one", () =>
    Effect.gen(function*() {
      const Minutes = Schema.Literals([0, 0, 1, 7, 15, 16, 40, 45, 61])
      const samples = yield* Arbitrary.sampleEffect(
        Arbitrary.array(Arbitrary.schema(Minutes), { minLength: 5, maxLength: 20 }),
        { count: 40, seed: "perpetual" }
      )
      for (const minutes of samples) {
        const { group, layer, ticks } = ticking(quarterly, (n) => Effect.sleep((minutes[n - 1] ?? 0) * minute))
        yield* Effect.gen(function*() {
          yield* TestClock.setTime(0)
          yield* DocketTest.drain(group, { for: "6 hours", concurrency: 50 })
          const all = Array.from({ length: 24 }, (_, i) => 15 * (i + 1))
          assert.deepStrictEqual(ticks().toSorted((a, b) => a - b).slice(0, 23), all.slice(0, 23), minutes.join(" "))
        }).pipe(Effect.provide(layer))
      }
    }))
})
