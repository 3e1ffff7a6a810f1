/**
 * Large agendas in memory: the process goes on meanwhile. What every store does with an agenda is in `contract/agenda.ts`.
 */
import { Agenda, Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, MemoryStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Fiber, Layer, Random, Schema, Stream } from "effect"
import { wrappedStore } from "./contract/kit.ts"

class Mail extends Task.make("Mail", { payload: { id: Schema.Int }, key: ["id"] }) {}
class Mails extends TaskGroup.make(Mail) {}

const size = 100_000
const mails = Agenda.fromIterable(Mail, Array.from({ length: size }, (_, id) => ({ id })))

describe("an agenda of 100,000 items in memory", () => {
  it.effect("is written in chunks of 250, each item once at its time, and other fibers run meanwhile", () => {
    const sizes: Array<number> = []
    const store = wrappedStore((docket) => ({
      ...docket,
      add: (additions, options) => {
        sizes.push(additions.length)
        return docket.add(additions, options)
      }
    })).pipe(Layer.provide(MemoryStore.layer))
    let turns = 0
    const others = Effect.forever(Effect.map(Effect.yieldNow, () => turns++))
    return Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(others)
      const plan = yield* Random.withSeed(
        Agenda.plan(mails, { over: "1 day", start: 60_000, jitter: "1 minute" }),
        "large"
      )
      const planned = turns
      const report = yield* Agenda.resume(plan)
      yield* Fiber.interrupt(fiber)
      // planning gives way after so many steps, of which each item takes some; writing after each chunk
      assert.isAtLeast(planned, 50)
      assert.isAtLeast(turns - planned, 50)
      assert.deepStrictEqual(sizes, Array.from({ length: 400 }, () => 250))
      assert.strictEqual(report.scheduled.length, size)
      const times = new Map((yield* Stream.runCollect(Docket.snapshot)).map(({ key, scheduledAt }) => [
        key,
        DateTime.toEpochMillis(scheduledAt)
      ]))
      assert.strictEqual(times.size, size)
      assert.isTrue(plan.slots.every(({ at, key }) => times.get(key) === DateTime.toEpochMillis(at)))
    }).pipe(Effect.provide(Mails.client.pipe(
      Layer.provideMerge(DocketEngine.layer({ name: "large" })),
      Layer.provide(store)
    )))
  }, 60_000)
})
