/**
 * The clock of a worker's machine is set while bodies run: what is measured from there goes on as before.
 */
import { Docket, Execution, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Exit, Latch, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Kit from "./Kit.ts"
import * as settableClock from "./settableClock.ts"

class Tick extends Task.make("Tick", { perpetual: { cron: "0 * * * *", automatic: true } }) {}
class Ticks extends TaskGroup.make(Tick) {}

/** A tick every hour with this body, and the hours in which it began. */
const hourly = (body: Effect.Effect<void>) => {
  const hours: Array<number> = []
  const Tick = () =>
    Effect.flatMap(Execution.CurrentExecution, ({ startedAt }) => {
      hours.push(DateTime.toEpochMillis(startedAt) / 3_600_000)
      return body
    })
  return { hours, layer: Kit.live(Ticks, Ticks.toLayer({ Tick })) }
}

for (const by of [Duration.hours(-3), Duration.hours(3)]) {
  const name = Duration.isNegative(by) ? "back" : "forward"
  describe(`The clock of a worker is set ${name} by three hours`, () => {
    it.effect("→ a timeout is neither late nor early, also one that a body extends", () => {
      class Slow extends Task.make("Slow", {
        payload: { extends: Schema.Boolean },
        timeout: "10 seconds",
        defectRetryPolicy: Schedule.recurs(0)
      }) {}
      class Slows extends TaskGroup.make(Slow) {}
      const set = Latch.makeUnsafe()
      const layer = Kit.live(
        Slows,
        Slows.toLayer({
          Slow: (payload) =>
            Effect.gen(function*() {
              yield* set.await
              if (payload.extends) {
                yield* Effect.flatMap(Execution.CurrentExecution, ({ extendTimeout }) => extendTimeout("30 seconds"))
              }
              return yield* Effect.never
            })
        })
      )
      return Effect.gen(function*() {
        const worker = yield* settableClock.make
        const started = yield* Kit.start(Worker.layer(Slows)).pipe(Effect.provideService(Clock.Clock, worker.clock))
        const brief = yield* Docket.add(Slow, { extends: false })
        const long = yield* Docket.add(Slow, { extends: true })
        yield* Kit.advance("5 seconds")
        worker.set(by)
        yield* set.open
        yield* Kit.advance("4 seconds")
        assert.deepStrictEqual([(yield* brief.poll)._tag, (yield* long.poll)._tag], ["None", "None"])
        yield* Kit.advanceBy("1 second", 2)
        const ended = yield* brief.poll
        assert.isTrue(ended._tag === "Some" && Exit.isFailure(ended.value), "after ten seconds")
        yield* Kit.advance("22 seconds")
        assert.strictEqual((yield* long.poll)._tag, "None", "after thirty-three")
        yield* Kit.advanceBy("1 second", 3)
        assert.strictEqual((yield* long.poll)._tag, "Some", "after thirty-five")
        yield* started.stop
      }).pipe(Effect.provide(layer))
    })

    it.effect("→ a perpetual task misses no tick, and none is early", () => {
      const { hours, layer } = hourly(Effect.sleep("10 minutes"))
      return Effect.gen(function*() {
        const worker = yield* settableClock.make
        yield* TestClock.setTime(30 * 60_000)
        const started = yield* Kit.start(Worker.layer(Ticks)).pipe(Effect.provideService(Clock.Clock, worker.clock))
        yield* Kit.advanceBy("1 minute", 35)
        assert.deepStrictEqual(hours, [1], "it runs")
        worker.set(by)
        yield* Kit.advanceBy("1 minute", 190)
        assert.deepStrictEqual(hours, [1, 2, 3, 4])
        yield* started.stop
      }).pipe(Effect.provide(layer))
    })

    it.effect("→ a chain that somebody has cleared is back with its next tick, not with another", () => {
      const { hours, layer } = hourly(Effect.void)
      return Effect.gen(function*() {
        const worker = yield* settableClock.make
        yield* TestClock.setTime(30 * 60_000)
        const started = yield* Kit.start(Worker.layer(Ticks)).pipe(Effect.provideService(Clock.Clock, worker.clock))
        worker.set(by)
        assert.strictEqual(yield* Docket.clear, 1)
        yield* Kit.advanceBy("1 minute", 20)
        assert.deepStrictEqual(hours, [])
        yield* Kit.advanceBy("1 minute", 15)
        assert.deepStrictEqual(hours, [1])
        yield* started.stop
      }).pipe(Effect.provide(layer))
    })
  })
}
