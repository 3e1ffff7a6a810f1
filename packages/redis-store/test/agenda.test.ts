/**
 * Agendas on a real server: large ones leave it free for others, and one that dies in the middle is completed.
 */
import { Agenda, Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, Fiber, Layer, Schedule, Schema, Stream } from "effect"
import { wrappedStore } from "../../runtime/test/contract/kit.ts"
import { docketIn, logs, range, uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

class Mail extends Task.make("Mail", { payload: { id: Schema.Int }, key: ["id"] }) {}
class Mails extends TaskGroup.make(Mail) {}

const mails = (n: number) => Agenda.fromIterable(Mail, range(n).map((id) => ({ id })))
const inAnHour = Effect.map(Clock.currentTimeMillis, (now) => now + 3_600_000)

/** A docket whose chunks are announced before they are written. */
const announcing = (url: string, chunk: (size: number) => Effect.Effect<void>) => {
  const store = wrappedStore((docket) => ({
    ...docket,
    add: (additions, options) => Effect.andThen(chunk(additions.length), docket.add(additions, options))
  })).pipe(Layer.provide(RedisStore.layer({ url })))
  return Mails.client.pipe(Layer.provideMerge(docketIn(store, uniqueName())), Layer.provide(logs().layer))
}

/** What is pending, by the number in its key. */
const pending = Effect.map(
  Stream.runCollect(Docket.snapshot),
  (runs) =>
    runs.map(({ key, scheduledAt }) =>
      [Number(key.slice("Mail/".length)), DateTime.toEpochMillis(scheduledAt)] as const
    )
      .toSorted(([a], [b]) => a - b)
)

const planned = (plan: Agenda.Plan<typeof Mail>) =>
  plan.slots.map(({ at, index }) => [index, DateTime.toEpochMillis(at)] as const)

describe("agendas on a server", () => {
  it.live("100,000 items → four hundred calls of 250, and others are served between them", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* servers.start()
      const sizes: Array<number> = []
      let served = 0
      const others = Effect.forever(Effect.map(Effect.promise(() => admin.ping()), () => served++))
      yield* Effect.gen(function*() {
        const plan = yield* Agenda.plan(mails(100_000), { start: yield* inAnHour, over: "1 day", jitter: "1 minute" })
        yield* Effect.promise(() => admin.config("RESETSTAT"))
        const fiber = yield* Effect.forkChild(others)
        const report = yield* Agenda.resume(plan)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(report.scheduled.length, 100_000)
        assert.deepStrictEqual(sizes, range(400).map(() => 250))
        // not put together again by the store
        const calls = /cmdstat_evalsha:calls=(?<calls>\d+)/.exec(
          yield* Effect.promise(() => admin.info("commandstats"))
        )
        assert.isAtLeast(Number(calls?.groups?.["calls"]), 400)
        assert.isAtLeast(served, 100)
        const [counts] = yield* Docket.counts
        assert.strictEqual(counts?.scheduled, 100_000)
        assert.deepStrictEqual(yield* pending, planned(plan))
      }).pipe(Effect.provide(announcing(url, (size) =>
        Effect.sync(() => {
          sizes.push(size)
        }))))
    }).pipe(Effect.scoped))

  it.live("the server is killed in the middle and comes back → resume completes the plan, each item exists once", () =>
    Effect.gen(function*() {
      const server = yield* servers.start({ config: ["appendonly yes", "appendfsync always"] })
      let chunks = 0
      const kill = Effect.suspend(() => ++chunks === 3 ? server.stop("SIGKILL") : Effect.void)
      yield* Effect.gen(function*() {
        const plan = yield* Agenda.plan(mails(1100), { start: yield* inAnHour, over: "1 hour" })
        const partial = yield* Effect.flip(Agenda.resume(plan))
        assert.deepStrictEqual(partial.scheduled, plan.slots.slice(0, 500))
        assert.deepStrictEqual(partial.rest.slots, plan.slots.slice(500))
        assert.isTrue(partial.failed.every(({ reason }) => reason._tag === "StoreUnavailable"))
        assert.strictEqual(chunks, 3)
        yield* server.start
        const report = yield* Agenda.resume(partial.rest).pipe(
          Effect.retry({ while: ({ rest }) => rest.length === partial.rest.length, schedule: Schedule.spaced(20) })
        )
        assert.deepStrictEqual(report, { scheduled: partial.rest.slots, existing: [], struck: [], limited: [] })
        assert.deepStrictEqual(yield* pending, planned(plan))
      }).pipe(Effect.provide(announcing(server.url, () => kill)))
    }).pipe(Effect.scoped))
})
