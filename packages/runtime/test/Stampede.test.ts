/**
 * After an outage nobody is overrun: workers come back one by one, and begin no more than they have slots for.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Layer, Random, Schema } from "effect"
import * as Kit from "./Kit.ts"

class Job extends Task.make("Job", { payload: { n: Schema.Int } }) {}
class Jobs extends TaskGroup.make(Job) {}

const workers = 30
const second = 1000

describe("An outage of a minute", () => {
  it.effect("→ thirty workers ask seldom, not at the same instants, and take what waits without a burst", () => {
    const asked: Array<{ readonly worker: number; readonly at: number }> = []
    let isAway = false
    const started: Array<number> = []
    let running = 0
    let most = 0
    const handler = Kit.live(
      Jobs,
      Jobs.toLayer({
        Job: ({ n }) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              started.push(n)
              most = Math.max(most, ++running)
            }),
            () => Effect.sleep("1 second"),
            () => Effect.sync(() => running--)
          )
      })
    )
    const outage = (worker: number) =>
      Kit.intercept((session) => ({
        ...session,
        turn: (request) =>
          Effect.flatMap(Clock.currentTimeMillis, (at) => {
            asked.push({ worker, at })
            return isAway ? Effect.fail(Kit.unavailable) : session.turn(request)
          })
      }))
    return Effect.gen(function*() {
      for (let n = 0; n < workers; n++) {
        const worker = Worker.layer(Jobs, { name: `w${n}`, concurrency: 2 })
        yield* Kit.start(Layer.provide(worker, outage(n)))
      }
      yield* Kit.settle
      isAway = true
      const from = yield* Clock.currentTimeMillis
      // additions wake everybody
      yield* Docket.addAll(Array.from({ length: 200 }, (_, n) => [Job, { n }] as const))
      asked.length = 0
      yield* Kit.advanceBy("1 second", 60)
      const late = asked.filter(({ at }) => at > from + 20 * second)
      for (let n = 0; n < workers; n++) {
        const times = asked.filter(({ worker }) => worker === n).map(({ at }) => at)
        assert.isAtMost(times.length, 40, `worker ${n} asks ${times.length} times in a minute`)
        const own = late.filter(({ worker }) => worker === n).map(({ at }) => at)
        for (const [index, at] of own.slice(1).entries()) assert.isAtLeast(at - own[index]!, 2.5 * second)
      }
      const perInstant = Array.from(Map.groupBy(late, ({ at }) => Math.floor(at / 100)).values(), (all) => all.length)
      assert.isAtMost(Math.max(...perInstant), workers / 3, "within a tenth of a second")

      isAway = false
      const back = yield* Clock.currentTimeMillis
      asked.length = 0
      yield* Kit.advanceBy("1 second", 30)
      assert.deepStrictEqual(started.toSorted((a, b) => a - b), Array.from({ length: 200 }, (_, n) => n), "each once")
      assert.isAtMost(most, 2 * workers)
      const atOnce = new Set(asked.filter(({ at }) => at < back + 100).map(({ worker }) => worker))
      assert.isAtMost(atOnce.size, workers / 2, "workers that come back at once")
    }).pipe(Random.withSeed("stampede"), Effect.provide(handler), Effect.scoped)
  })
})
