import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, Exit, Latch, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { readFile } from "node:fs/promises"
import * as Kit from "./Kit.ts"

const second = 1000
const minute = 60 * second

class Mail extends Task.make("Mail", {
  payload: {
    to: Schema.String,
    at: Schema.DateTimeUtc.pipe(Schema.withConstructorDefault(Effect.succeed(DateTime.makeUnsafe(0)))),
    copy: Schema.Option(Schema.String).pipe(Schema.withConstructorDefault(Effect.succeedNone))
  },
  success: Schema.Int,
  key: ["to"]
}) {}
class Sweep extends Task.make("Sweep", { key: () => "sweep" }) {}
class Mails extends TaskGroup.make(Mail, Sweep) {}

const nothing = { succeeded: 0, failed: 0, retried: 0 }

const bundle = (body: (to: string) => Effect.Effect<unknown, never, Task.HandlerServices> = () => Effect.void) =>
  Kit.live(
    Mails,
    Mails.toLayer({
      Mail: ({ to }) => Effect.flatMap(body(to), () => Clock.currentTimeMillis),
      Sweep: () => Effect.void
    })
  )

const now = Clock.currentTimeMillis

describe("DocketTest.drain", () => {
  it.effect("runs what is due, then what is due next, and moves the clock no further than that", () =>
    Effect.gen(function*() {
      const first = yield* Docket.add(Mail, { to: "a" })
      const last = yield* Docket.add(Mail, { to: "b" }, { after: "23 hours" })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { succeeded: 2, failed: 0, retried: 0 })
      assert.strictEqual(yield* first.await, 0)
      assert.strictEqual(yield* last.await, 23 * 60 * minute)
      assert.strictEqual(yield* now, 23 * 60 * minute)
      // outcomes are kept as long as everywhere: for a day
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(Kit.reasonOf(yield* Effect.flip(first.await))._tag, "Gone")
    }).pipe(Effect.provide(bundle())))

  it.effect("stops after `for`, with the clock exactly there and the rest still scheduled", () =>
    Effect.gen(function*() {
      const early = yield* Docket.add(Mail, { to: "early" }, { after: "1 minute" })
      const late = yield* Docket.add(Mail, { to: "late" }, { after: "1 hour" })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "10 minutes" }), { ...nothing, succeeded: 1 })
      assert.strictEqual(yield* now, 10 * minute)
      assert.strictEqual(yield* early.await, minute)
      assert.isTrue(Option.isNone(yield* late.poll))
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "50 minutes" }), { ...nothing, succeeded: 1 })
      assert.strictEqual(yield* late.await, 60 * minute)
    }).pipe(Effect.provide(bundle())))

  it.effect("does not run what is due right after `for`, and runs what is due right at its end", () =>
    Effect.gen(function*() {
      const inside = yield* Docket.add(Mail, { to: "inside" }, { after: 10 * minute })
      const outside = yield* Docket.add(Mail, { to: "outside" }, { after: 10 * minute + 1 })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "10 minutes" }), { ...nothing, succeeded: 1 })
      assert.strictEqual(yield* inside.await, 10 * minute)
      assert.isTrue(Option.isNone(yield* outside.poll))
      assert.strictEqual(yield* now, 10 * minute)
    }).pipe(Effect.provide(bundle())))

  it.effect("ends at once when nothing is left, however long it may go on", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), nothing)
      assert.strictEqual(yield* now, 0)
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "1 minute" }), nothing)
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: 0 }), nothing)
      assert.strictEqual(yield* now, 0)
    }).pipe(Effect.provide(bundle())))

  it.effect("moves the clock for bodies that sleep, each as long as it wants", () =>
    Effect.gen(function*() {
      const short = yield* Docket.add(Mail, { to: "1" })
      const long = yield* Docket.add(Mail, { to: "100" })
      yield* DocketTest.drain(Mails)
      assert.strictEqual(yield* short.await, second)
      assert.strictEqual(yield* long.await, 100 * second)
    }).pipe(Effect.provide(bundle((to) => Effect.sleep(Number(to) * second)))))

  it.effect("runs what is due while a body sleeps", () =>
    Effect.gen(function*() {
      const sleeper = yield* Docket.add(Mail, { to: "100" })
      const other = yield* Docket.add(Mail, { to: "0" }, { after: "50 seconds" })
      yield* DocketTest.drain(Mails)
      assert.strictEqual(yield* other.await, 50 * second)
      assert.strictEqual(yield* sleeper.await, 100 * second)
    }).pipe(Effect.provide(bundle((to) => Effect.sleep(Number(to) * second)))))

  it.effect("releases what still runs when `for` is over", () =>
    Effect.gen(function*() {
      const run = yield* Docket.add(Mail, { to: "a" })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "1 minute" }), nothing)
      assert.isTrue(Option.isNone(yield* run.poll))
      assert.deepStrictEqual((yield* Docket.counts).map(({ held, ready, running }) => [ready + held, running]), [[
        1,
        0
      ]])
      assert.strictEqual(yield* now, minute)
    }).pipe(Effect.provide(bundle(() => Effect.never))))

  it.effect("ends when what is left has no handler here, or is paused", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      yield* docket.addEncoded([Kit.encoded({ task: "Unknown", key: "unknown" })], { atomic: true })
      yield* Docket.pause({ task: Mail, reason: "no mail today" })
      const mail = yield* Docket.add(Mail, { to: "a" })
      yield* Docket.add(Sweep, undefined, { after: "1 minute" })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { ...nothing, succeeded: 1 })
      assert.strictEqual(yield* now, minute)
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), nothing)
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "1 minute" }), nothing)
      assert.strictEqual(yield* now, 2 * minute)
      yield* Docket.resume({ task: Mail })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { ...nothing, succeeded: 1 })
      assert.strictEqual(yield* mail.await, 2 * minute)
    }).pipe(Effect.provide(bundle())))

  it.effect("ends when everything is paused, also what is due later", () =>
    Effect.gen(function*() {
      yield* Docket.add(Sweep, undefined, { after: "1 minute" })
      yield* Docket.pause()
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), nothing)
      yield* Docket.resume()
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { ...nothing, succeeded: 1 })
    }).pipe(Effect.provide(bundle())))

  it.effect("waits for promises, for the file system and for callbacks of the host", () =>
    Effect.gen(function*() {
      const runs = yield* Docket.addAll([[Mail, { to: "1" }], [Mail, { to: "2" }], [Mail, { to: "3" }]])
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { ...nothing, succeeded: 3 })
      for (const run of runs) yield* run.await
      yield* Docket.add(Mail, { to: "4" })
      assert.deepStrictEqual(yield* DocketTest.drain(Mails, { for: "1 minute" }), { ...nothing, succeeded: 1 })
    }).pipe(Effect.provide(bundle(() =>
      Effect.promise(async () => {
        await readFile(new URL(import.meta.url))
        await new Promise((resolve) => setImmediate(resolve))
        await Promise.resolve()
      })
    ))))

  it.effect("lets bodies wait for each other, and sleep between promises", () => {
    const latch = Latch.makeUnsafe()
    return Effect.gen(function*() {
      const waits = yield* Docket.add(Mail, { to: "waits" })
      yield* Docket.add(Mail, { to: "opens" })
      yield* DocketTest.drain(Mails)
      assert.strictEqual(yield* waits.await, minute)
    }).pipe(Effect.provide(bundle((to) =>
      to === "waits"
        ? latch.await
        : Effect.promise(() => Promise.resolve()).pipe(
          Effect.andThen(Effect.sleep("1 minute")),
          Effect.andThen(Effect.promise(() => readFile(new URL(import.meta.url)))),
          Effect.andThen(latch.open)
        )
    )))
  })

  it.effect("may run many in a short time", () =>
    Effect.gen(function*() {
      yield* Docket.addAll(
        Array.from({ length: 2000 }, (_, n) => [Mail, { to: String(n) }, { after: n * second }] as const)
      )
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { ...nothing, succeeded: 2000 })
      assert.strictEqual(yield* now, 1999 * second)
    }).pipe(Effect.provide(bundle())), 30_000)

  it.effect("takes the options of a worker", () =>
    Effect.gen(function*() {
      yield* Docket.addAll([[Mail, { to: "a" }], [Mail, { to: "b" }], [Mail, { to: "c" }]])
      yield* DocketTest.drain(Mails, { concurrency: 1 })
      assert.strictEqual(yield* now, 30 * second)
    }).pipe(Effect.provide(bundle(() => Effect.sleep("10 seconds")))))

  it.effect("reports failures and retries", () =>
    Effect.gen(function*() {
      yield* Docket.add(Mail, { to: "a" })
      yield* Docket.add(Sweep)
      assert.deepStrictEqual(yield* DocketTest.drain(Mails), { succeeded: 1, failed: 1, retried: 3 })
    }).pipe(Effect.provide(bundle(() => Effect.die("boom")))))
})

describe("DocketTest.runAtMost", () => {
  it.effect("moves the clock, and ends a perpetual task after so many runs", () =>
    Effect.gen(function*() {
      class Tick extends Task.make("Tick", { perpetual: { every: "1 hour", automatic: true } }) {}
      const group = TaskGroup.make(Tick)
      yield* Effect.gen(function*() {
        const begun = yield* now
        assert.deepStrictEqual(yield* DocketTest.runAtMost(group, { Tick: 5 }), { ...nothing, succeeded: 5 })
        assert.strictEqual((yield* now) - begun, 4 * 60 * minute)
        assert.deepStrictEqual(yield* Docket.counts, [])
      }).pipe(Effect.provide(Kit.live(group, Tick.toLayer(() => Effect.void))))
    }))

  it.effect("does not bound the tasks that it does not name", () =>
    Effect.gen(function*() {
      yield* Docket.addAll([[Mail, { to: "a" }], [Mail, { to: "b" }]])
      yield* Docket.add(Sweep)
      assert.deepStrictEqual(yield* DocketTest.runAtMost(Mails, { Sweep: 0 }), { ...nothing, succeeded: 2 })
      yield* DocketTest.assertScheduled(Sweep)
    }).pipe(Effect.provide(bundle())))
})

describe("DocketTest.assertScheduled", () => {
  /** Three mails and no sweep. */
  const scenario = <A, E>(body: Effect.Effect<A, E, Layer.Success<ReturnType<typeof bundle>>>) =>
    Effect.andThen(
      Effect.andThen(
        TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe("2026-01-01T00:00:00Z"))),
        Docket.addAll([
          [Mail, { to: "ada", copy: Option.some("eve") }, { after: "1 hour" }],
          [Mail, { to: "bob" }],
          [Mail, { to: "cyd", at: DateTime.makeUnsafe(5) }, { after: "1 hour" }]
        ])
      ),
      body
    ).pipe(Effect.provide(bundle()))

  it.effect("gives the one that matches, decoded", () =>
    scenario(Effect.gen(function*() {
      assert.deepStrictEqual(yield* DocketTest.assertScheduled(Mail, { to: "ada" }), {
        key: "Mail/ada",
        payload: { to: "ada", at: DateTime.makeUnsafe(0), copy: Option.some("eve") },
        at: DateTime.makeUnsafe("2026-01-01T01:00:00Z")
      })
      assert.strictEqual((yield* DocketTest.assertScheduled(Mail, { copy: Option.some("eve") })).key, "Mail/ada")
      assert.strictEqual((yield* DocketTest.assertScheduled(Mail, { at: DateTime.makeUnsafe(5) })).key, "Mail/cyd")
      assert.strictEqual((yield* DocketTest.assertScheduled(Mail, undefined, { key: "Mail/bob" })).key, "Mail/bob")
      assert.strictEqual((yield* DocketTest.assertScheduled(Mail, undefined, { after: 0 })).key, "Mail/bob")
      assert.strictEqual((yield* DocketTest.assertScheduled(Mail, {}, { after: "1 hour", times: 2 })).key, "Mail/ada")
      assert.strictEqual((yield* DocketTest.assertScheduled(Mail, {}, { at: "2026-01-01T00:00:00Z" })).key, "Mail/bob")
      yield* DocketTest.assertScheduled(Mail, {}, { times: 3 })
      yield* DocketTest.assertScheduled(Sweep, undefined, { times: 0 })
      yield* DocketTest.assertScheduled(Mail, { to: "zoe" }, { times: 0 })
    })))

  const list = [
    "Scheduled of \"Mail\":",
    "  2026-01-01T00:00:00.000Z  \"Mail/bob\"  {\"to\":\"bob\",\"at\":\"1970-01-01T00:00:00.000Z\",\"copy\":{\"_tag\":\"None\"}}",
    "  2026-01-01T01:00:00.000Z  \"Mail/ada\"  {\"to\":\"ada\",\"at\":\"1970-01-01T00:00:00.000Z\",\"copy\":{\"_tag\":\"Some\",\"value\":\"eve\"}}",
    "  2026-01-01T01:00:00.000Z  \"Mail/cyd\"  {\"to\":\"cyd\",\"at\":\"1970-01-01T00:00:00.005Z\",\"copy\":{\"_tag\":\"None\"}}"
  ].join("\n")

  const messageOf = <A, R>(effect: Effect.Effect<A, { readonly message: string }, R>) =>
    Effect.map(Effect.flip(effect), ({ message }) => message)

  it.effect("says what it wanted and what there is instead", () =>
    scenario(Effect.gen(function*() {
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail, { to: "zoe" })),
        `expected 1 scheduled execution of "Mail" with payload {"to":"zoe"}, found 0.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail)),
        `expected 1 scheduled execution of "Mail", found 3.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail, { to: "ada" }, { times: 2 })),
        `expected 2 scheduled executions of "Mail" with payload {"to":"ada"}, found 1.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail, undefined, { times: 0 })),
        `expected 0 scheduled executions of "Mail", found 3.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail, undefined, { key: "Mail/zoe" })),
        `expected 1 scheduled execution of "Mail" with key "Mail/zoe", found 0.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail, { to: "ada" }, { key: "Mail/ada", after: "2 hours" })),
        `expected 1 scheduled execution of "Mail" with payload {"to":"ada"}, key "Mail/ada", at 2026-01-01T02:00:00.000Z, found 0.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Mail, undefined, { at: "2027-01-01T00:00:00Z" })),
        `expected 1 scheduled execution of "Mail" with at 2027-01-01T00:00:00.000Z, found 0.\n${list}`
      )
      assert.strictEqual(
        yield* messageOf(DocketTest.assertScheduled(Sweep)),
        "expected 1 scheduled execution of \"Sweep\", found 0.\nNone of \"Sweep\" is scheduled."
      )
    })))

  it.effect("is a tagged error", () =>
    scenario(Effect.gen(function*() {
      const error = yield* Effect.flip(DocketTest.assertScheduled(Sweep))
      assert.instanceOf(error, DocketTest.ExpectationFailed)
      assert.strictEqual(error._tag, "ExpectationFailed")
    })))

  it.effect("names a payload that does not decode", () =>
    scenario(Effect.gen(function*() {
      const docket = yield* Docket.Docket
      yield* docket.addEncoded([Kit.encoded({ task: "Mail", key: "bad", payload: "{}" })], { atomic: true })
      const message = yield* messageOf(DocketTest.assertScheduled(Mail, { to: "ada" }))
      assert.include(message, "the payload of \"bad\" does not decode")
      assert.include(message, "[\"to\"]")
      assert.isTrue(Exit.hasDies(yield* Effect.exit(DocketTest.scheduled(Mail))))
    })))

  it.effect("counts what is due and not claimed, and nothing that runs or has ended", () =>
    Effect.gen(function*() {
      yield* Docket.addAll([[Mail, { to: "a" }], [Mail, { to: "b" }]])
      yield* DocketTest.assertScheduled(Mail, {}, { times: 2 })
      const crashed = yield* Kit.crashingWorker({ tasks: ["Mail"] })
      yield* crashed.claim
      assert.deepStrictEqual(yield* DocketTest.scheduled(Mail), [])
    }).pipe(Effect.scoped, Effect.provide(bundle())))
})

describe("DocketTest.scheduled", () => {
  it.effect("lists the executions of a task by time, decoded", () =>
    Effect.gen(function*() {
      yield* Docket.addAll([
        [Mail, { to: "late" }, { after: "2 hours" }],
        [Mail, { to: "soon" }, { after: "1 hour" }],
        [Mail, { to: "now" }]
      ])
      yield* Docket.add(Sweep)
      const list = yield* DocketTest.scheduled(Mail)
      assert.deepStrictEqual(list.map(({ payload }) => payload.to), ["now", "soon", "late"])
      assert.deepStrictEqual(list.map(({ at }) => DateTime.toEpochMillis(at)), [0, 60 * minute, 120 * minute])
      assert.deepStrictEqual(list.map(({ key }) => key), ["Mail/now", "Mail/soon", "Mail/late"])
      assert.isTrue(DateTime.isDateTime(list[0]?.payload.at))
    }).pipe(Effect.provide(bundle())))
})

describe("DocketTest.layer", () => {
  const add = Docket.add(Mail, { to: "a" }).pipe(Effect.provide(Mails.client))

  const count = Effect.map(DocketTest.scheduled(Mail), (list) => list.length)
  const addAndCount = Effect.andThen(add, count)

  it.effect("is a docket of its own at each use", () =>
    Effect.gen(function*() {
      const use = Effect.provide(addAndCount, DocketTest.layer)
      assert.deepStrictEqual(yield* Effect.all([use, use]), [1, 1])
      assert.deepStrictEqual(yield* Effect.all([use, use], { concurrency: 2 }), [1, 1])
      assert.strictEqual(yield* Effect.provide(count, DocketTest.layer), 0)
    }))

  it.effect("is shared, as any layer, by what is provided within, unless that is fresh", () =>
    Effect.gen(function*() {
      yield* add
      assert.strictEqual(yield* Effect.provide(count, DocketTest.layer), 1)
      assert.strictEqual(yield* Effect.provide(count, Layer.fresh(DocketTest.layer)), 0)
    }).pipe(Effect.provide(DocketTest.layer)))

  it.effect("follows the clock of the test", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(5 * minute)
      yield* Effect.gen(function*() {
        const run = yield* add
        assert.strictEqual(DateTime.toEpochMillis(run.scheduledAt), 5 * minute)
      }).pipe(Effect.provide(DocketTest.layer))
    }))

  it("brings a clock of its own where there is none", () =>
    Effect.runPromise(
      Effect.gen(function*() {
        assert.strictEqual(yield* now, 0)
        const run = yield* Docket.add(Mail, { to: "a" }, { after: "365 days" })
        yield* TestClock.adjust("1 day")
        assert.deepStrictEqual(yield* DocketTest.drain(Mails), { ...nothing, succeeded: 1 })
        assert.strictEqual(yield* run.await, 365 * 24 * 60 * minute)
        assert.strictEqual(yield* now, 365 * 24 * 60 * minute)
      }).pipe(Effect.provide(bundle()))
    ))

  it("brings a clock per use", () =>
    Effect.runPromise(Effect.gen(function*() {
      const run = Effect.andThen(Docket.add(Sweep, undefined, { after: "1 day" }), DocketTest.drain(Mails)).pipe(
        Effect.andThen(now),
        Effect.provide(bundle())
      )
      assert.deepStrictEqual(yield* Effect.all([run, run], { concurrency: 2 }), [24 * 60 * minute, 24 * 60 * minute])
    })))
})
