import { Agenda, Docket, DocketError, Task, TaskGroup } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, DateTime, Duration, Effect, Exit, Layer, Random, Redacted, Schema, SchemaGetter } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"

class Item extends Task.make("Item", { payload: { id: Schema.Int } }) {}
class Keyed extends Task.make("Keyed", { payload: { id: Schema.Int }, key: ["id"] }) {}
class Named extends Task.make("Named", { payload: Schema.NonEmptyString }) {}
class Tick extends Task.make("Tick") {}
// a stand-in for encryption
const turned = (text: string) => Array.from(text).toReversed().join("")
const Sealed = Schema.String.pipe(Schema.decodeTo(Schema.Redacted(Schema.String), {
  decode: SchemaGetter.transform((text: string) => Redacted.make(turned(text))),
  encode: SchemaGetter.transform((value: Redacted.Redacted<string>) => turned(Redacted.value(value)))
}))
class Secret extends Task.make("Secret", { payload: { token: Sealed } }) {}
class Ranked extends Task.make("Ranked", { payload: { id: Schema.Int }, priority: ({ id }) => id }) {}
class All extends TaskGroup.make(Item, Keyed, Named, Tick, Secret, Ranked) {}

const second = 1000
const hour = 3600 * second
const range = (n: number) => Array.from({ length: n }, (_, id) => ({ id }))
const itemsOf = (n: number) => Agenda.fromIterable(Item, range(n))
const keyedOf = (n: number) => Agenda.fromIterable(Keyed, range(n))
const at = (text: string) => DateTime.toEpochMillis(DateTime.makeUnsafe(text))
const timesOf = (slots: ReadonlyArray<{ readonly at: DateTime.Utc }>) =>
  slots.map((slot) => DateTime.toEpochMillis(slot.at))
const isoOf = (slots: ReadonlyArray<{ readonly at: DateTime.Utc }>) =>
  slots.map((slot) => DateTime.formatIso(slot.at).slice(5, 16))
const keysOf = (slots: ReadonlyArray<{ readonly key: string }>) => slots.map((slot) => slot.key)

type Answer = "ok" | "unavailable" | "lost" | "full"
const errors = {
  unavailable: new DocketError.StoreUnavailable({ cause: new Error("connection refused") }),
  lost: new DocketError.StoreUnavailable({ cause: new Error("reply lost") }),
  full: new DocketError.LimitExceeded({ limit: 1, option: "the runs of a docket" })
}

/** A docket that keeps what is added, and answers each call as it is told. */
const bundle = (
  answers: ReadonlyArray<Answer> = [],
  options?: { readonly forgets?: boolean; readonly struck?: string }
) => {
  const stored = new Map<string, Docket.EncodedAddition>()
  const done = new Map<string, Docket.EncodedAddition>()
  const lookups: Array<string> = []
  const calls: Array<{ readonly size: number; readonly atomic: boolean }> = []
  const docket = {
    name: "fake",
    addEncoded: (additions, { atomic }) =>
      Effect.suspend(() => {
        const answer = answers[calls.length] ?? "ok"
        calls.push({ size: additions.length, atomic })
        if (options?.forgets === true) stored.clear()
        const fail = answer === "ok"
          ? undefined
          : new DocketError.DocketError({ operation: "add", reason: errors[answer] })
        if (fail !== undefined && answer !== "lost") return fail
        const added = additions.map((addition): Docket.EncodedAdded => {
          const known = stored.has(addition.key)
          const struck = addition.task === options?.struck
          if (!known && !struck) stored.set(addition.key, addition)
          return { disposition: struck ? "Struck" : known ? "Existing" : "Added", generation: 1, due: 0 }
        })
        return fail ?? Effect.succeed(added)
      }),
    refused: (additions) =>
      Effect.sync(() =>
        additions.map(({ key, task }) =>
          task === options?.struck && !stored.has(key) ? { _tag: "Struck", reason: "no" } : undefined
        )
      ),
    get: (key) =>
      Effect.sync(() => {
        lookups.push(key)
        const addition = stored.get(key) ?? done.get(key)
        if (addition === undefined) return undefined
        const { due, payload, task } = addition
        return {
          task,
          version: 1,
          key,
          generation: 1,
          state: stored.has(key) ? "Scheduled" : "Completed",
          due: "at" in due ? due.at : 0,
          attempt: 1,
          worker: undefined,
          payload,
          progress: undefined
        }
      })
  } satisfies Partial<Docket.Docket["Service"]>
  /** Everything that is pending runs, and ends. */
  const run = () => {
    for (const [key, addition] of stored) done.set(key, addition)
    stored.clear()
  }
  const docketLayer = Layer.succeed(Docket.Docket, docket as unknown as Docket.Docket["Service"])
  const agenda = Layer.provideMerge(Agenda.layer, docketLayer)
  return {
    stored,
    done,
    run,
    lookups,
    calls,
    agenda,
    docket: docketLayer,
    layer: Layer.provideMerge(All.client, agenda)
  }
}

const invalidOption = (error: unknown) => {
  assert.instanceOf(error, DocketError.DocketError)
  assert.strictEqual(error.reason._tag, "InvalidOption")
  return error.reason._tag === "InvalidOption" ? error.reason.option : ""
}

/** The option that a plan of no items complains about. */
const complaint = (options: Agenda.PlanOptions) =>
  Effect.map(Effect.flip(Agenda.plan(Agenda.empty, options)), invalidOption)

describe("Agenda", () => {
  describe("batches", () => {
    it("are immutable lists in the order of their items", () => {
      const one = Agenda.empty.pipe(Agenda.add(Item, { id: 1 }))
      const two = one.pipe(Agenda.add(Tick), Agenda.add(Named, "a", { key: "k" }))
      const first = Agenda.addAll(Agenda.add(one, Tick), Item, range(2))
      const both = Agenda.concat(two, first)
      assert.strictEqual(Agenda.empty.length, 0)
      assert.deepStrictEqual([one.length, two.length, first.length, both.length], [1, 3, 4, 7])
      assert.deepStrictEqual(Array.from(two), [
        { task: Item, payload: { id: 1 }, key: undefined },
        { task: Tick, payload: undefined, key: undefined },
        { task: Named, payload: "a", key: "k" }
      ])
      assert.deepStrictEqual(Array.from(both), [...two, ...first])
      assert.deepStrictEqual(Array.from(one.pipe(Agenda.concat(two))), [...one, ...two])
      assert.deepStrictEqual(Array.from(one.pipe(Agenda.addAll(Item, range(2)))), [...one, ...itemsOf(2)])
      assert.isTrue(Agenda.isBatch(both))
      assert.isFalse(Agenda.isBatch(Item))
      assert.isFalse(Agenda.isBatch([]))
    })

    it("read an iterable once, when they are made", () => {
      const source = range(2)
      const batch = Agenda.fromIterable(Item, source[Symbol.iterator]())
      source.push({ id: 2 })
      assert.strictEqual(Array.from(batch).length, 2)
      assert.strictEqual(Array.from(batch).length, 2)
    })

    it("take a hundred thousand appended items", () => {
      let one: Agenda.Batch<typeof Item> = Agenda.empty
      let many: Agenda.Batch<typeof Item> = Agenda.empty
      for (let id = 0; id < 100_000; id++) one = Agenda.add(one, Item, { id })
      for (let i = 0; i < 1000; i++) many = Agenda.addAll(many, Item, range(100))
      assert.deepStrictEqual(Array.from(one)[99_999]?.payload, { id: 99_999 })
      assert.deepStrictEqual(Array.from(many, ({ payload }) => payload.id % 100).slice(0, 3), [0, 1, 2])
      assert.strictEqual(Array.from(many).length, 100_000)
    }, 60_000)
  })

  describe("plan", () => {
    const table: ReadonlyArray<readonly [n: number, over: number, offsets: ReadonlyArray<number>]> = [
      [0, 600, []],
      [1, 600, [300]],
      [2, 1200, [0, 1200]],
      [3, 60, [0, 30, 60]],
      [4, 90, [0, 30, 60, 90]],
      [5, 600, [0, 150, 300, 450, 600]]
    ]
    for (const [n, over, offsets] of table) {
      it.effect(`spreads ${n} items over ${over} s`, () =>
        Effect.gen(function*() {
          yield* TestClock.setTime(12_345_678)
          const plan = yield* Agenda.plan(itemsOf(n), { over: Duration.seconds(over) })
          assert.deepStrictEqual(timesOf(plan.slots), offsets.map((offset) => 12_345_678 + offset * second))
        }))
    }

    it.effect("spreads 100 items to the last millisecond of the period", () =>
      Effect.gen(function*() {
        const start = at("2027-01-01T00:00:00Z")
        const plan = yield* itemsOf(100).pipe(Agenda.plan({ start: DateTime.makeUnsafe(start), over: "50 minutes" }))
        const offsets = timesOf(plan.slots).map((time) => time - start)
        assert.strictEqual(offsets[99], 3000 * second)
        offsets.forEach((offset, i) => assert.closeTo(offset, i * 3000 * second / 99, 0.5))
      }))

    it.effect("refuses options that make no sense, also without items", () =>
      Effect.gen(function*() {
        const over = "1 hour"
        const bad: ReadonlyArray<unknown> = [
          0,
          -1,
          "-5 minutes",
          Number.NaN,
          Infinity,
          "Infinity",
          "soon",
          Duration.days(40_000)
        ]
        for (const value of bad) {
          assert.strictEqual(yield* complaint({ over: value as Duration.Input }), "over", String(value))
        }
        for (const jitter of [-1, Infinity, Number.NaN]) {
          assert.strictEqual(yield* complaint({ over, jitter }), "jitter")
        }
        assert.strictEqual(yield* complaint({ over, start: "garbage" }), "start")
        assert.strictEqual(yield* complaint({ over, start: 8.64e15 }), "start")
        const window = { from: "09:00", to: "17:00" } as const
        assert.strictEqual(yield* complaint({ over, window: { ...window, from: "25:00" } }), "window.from")
        assert.strictEqual(yield* complaint({ over, window: { ...window, from: "24:00" } }), "window.from")
        assert.strictEqual(yield* complaint({ over, window: { ...window, from: "9:5" } }), "window.from")
        assert.strictEqual(yield* complaint({ over, window: { ...window, to: "24:01" } }), "window.to")
        assert.strictEqual(yield* complaint({ over, window: { ...window, to: "12:60" } }), "window.to")
        assert.strictEqual(yield* complaint({ over, window: { ...window, to: "09:00" } }), "window")
        assert.strictEqual(
          yield* complaint({ over, window: { ...window, timeZone: "Mars/Olympus" } }),
          "window.timeZone"
        )
        assert.strictEqual(yield* complaint({ over, window: { ...window, days: [] } }), "window.days")
        assert.strictEqual(yield* complaint({ over, window: { ...window, days: ["funday" as "sun"] } }), "window.days")
        // 1970-01-01 00:00 to 01:00 is closed
        assert.strictEqual(yield* complaint({ over, window }), "window")
        assert.strictEqual(
          (yield* Agenda.plan(Agenda.empty, { over, start: "1970-01-01T09:00:00Z", window })).length,
          0
        )
      }))

    it.effect("gives times that have passed the present", () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(10 * hour)
        const plan = yield* Agenda.plan(itemsOf(5), { start: 9 * hour, over: "2 hours" })
        assert.deepStrictEqual(timesOf(plan.slots).map((time) => time / hour), [10, 10, 10, 10.5, 11])
      }))

    it.effect("keeps the order of mixed tasks, and fixes their keys", () =>
      Effect.gen(function*() {
        const batch = Agenda.empty.pipe(
          Agenda.add(Item, { id: 1 }),
          Agenda.add(Keyed, { id: 2 }),
          Agenda.add(Named, "a", { key: "given" }),
          Agenda.add(Item, { id: 3 })
        )
        const plan = yield* Agenda.plan(batch, { over: "1 hour" })
        assert.deepStrictEqual(plan.slots.map(({ index, task }) => [index, task]), [[0, "Item"], [1, "Keyed"], [
          2,
          "Named"
        ], [3, "Item"]])
        for (const slot of plan.slots) if (slot.task === "Keyed") assert.strictEqual(slot.payload.id, 2)
        const keys = keysOf(plan.slots)
        assert.deepStrictEqual(keys.slice(1, 3), ["Keyed/2", "given"])
        assert.match(keys[0]!, /^Item\/[0-9A-Z]{26}$/)
        assert.isTrue(keys[0]! < keys[3]!)
        // a plan is a batch with these keys
        assert.deepStrictEqual(Array.from(plan, ({ key }) => key), keys)
        assert.strictEqual(plan.length, 4)
        const later = yield* Agenda.plan(plan, { start: hour, over: "1 hour" })
        assert.deepStrictEqual(keysOf(later.slots), keys)
        assert.deepStrictEqual(timesOf(later.slots), timesOf(plan.slots).map((time) => time + hour))
      }))

    it.effect("rejects every slot that stands in the way", () =>
      Effect.gen(function*() {
        class Throws extends Task.make("Throws", {
          payload: { id: Schema.Int },
          key: ({ id }) => {
            throw new Error(`no ${id}`)
          }
        }) {}
        const batch = Agenda.empty.pipe(
          Agenda.add(Keyed, { id: 1 }),
          Agenda.add(Named, ""),
          Agenda.add(Keyed, { id: 1 }),
          Agenda.add(Named, "", { key: "mine" }),
          Agenda.add(Tick, undefined, { key: "" }),
          Agenda.add(Tick, undefined, { key: "x".repeat(5000) }),
          Agenda.add(Throws, { id: 1 }),
          Agenda.add(Keyed, { id: 1 })
        )
        const error = yield* Effect.flip(Agenda.plan(batch, { over: "1 hour" }))
        assert(error._tag === "ScatterRejected")
        assert.deepStrictEqual(
          error.rejected.map(({ reason, slot }) => [slot.index, slot.key.slice(0, 8), reason._tag]),
          [
            [1, "", "InvalidPayload"],
            [2, "Keyed/1", "KeyExists"],
            [3, "mine", "InvalidPayload"],
            [4, "", "InvalidOption"],
            [5, "xxxxxxxx", "LimitExceeded"],
            [6, "", "InvalidPayload"],
            [7, "Keyed/1", "KeyExists"]
          ]
        )
        assert.match(
          error.message,
          /^nothing was scheduled, because of 7 items:\n {2}item 1 \(Named, no key\): .*invalid/
        )
        assert.match(error.message, /\n {2}and 4 more$/)
      }))

    it.effect("does not show the text of its payloads", () =>
      Effect.gen(function*() {
        const plan = yield* Agenda.empty.pipe(
          Agenda.add(Secret, { token: Redacted.make("hunter2") }),
          Agenda.plan({ over: "1 hour" })
        )
        const shown = inspect(plan, { depth: 9, showHidden: true })
        assert.notInclude(shown, "hunter2")
        assert.notInclude(shown, turned("hunter2"))
      }))

    it.effect("plans a hundred thousand items", () =>
      Effect.gen(function*() {
        const plan = yield* Agenda.plan(itemsOf(100_000), { over: "1 day", jitter: "1 minute" })
        assert.strictEqual(new Set(keysOf(plan.slots)).size, 100_000)
      }), 60_000)
  })

  describe("jitter", () => {
    const jittered = (n: number, over: number, jitter: number, seed: string) =>
      Agenda.plan(itemsOf(n), { start: hour, over, jitter }).pipe(
        Random.withSeed(seed),
        Effect.map((plan) => timesOf(plan.slots).map((time) => time - hour))
      )

    it.effect("stays near its base and inside the period", () =>
      Effect.gen(function*() {
        const offsets = yield* jittered(2000, 1000 * second, 100 * second, "bounds")
        let [least, most] = [0, 0]
        offsets.forEach((offset, i) => {
          const moved = offset - (i * 1000 * second) / 1999
          assert.isAtMost(Math.abs(moved), 100 * second)
          assert.isTrue(offset >= 0 && offset <= 1000 * second && Number.isInteger(offset))
          least = Math.min(least, moved)
          most = Math.max(most, moved)
        })
        // both ways, nearly all of the way
        assert.isTrue(least < -95 * second && most > 95 * second)
      }))

    it.effect("does not pile up at the ends", () =>
      Effect.gen(function*() {
        // clamping would put one slot in forty, 50 of these, on each end
        const offsets = yield* jittered(2000, 1000 * second, 100 * second, "piles")
        assert.isAtMost(offsets.filter((offset) => offset === 0).length, 2)
        assert.isAtMost(offsets.filter((offset) => offset === 1000 * second).length, 2)
        // near an end there are ln 2 times as many as in the middle, where 1 % of the period holds 20
        const near = offsets.filter((offset) => offset < 10 * second).length
        assert.isTrue(near > 5 && near < 30, `${near} slots in the first 1 %`)
      }))

    it.effect("may be longer than the period, and shorter than a millisecond", () =>
      Effect.gen(function*() {
        const long = yield* jittered(1000, second, hour, "long")
        assert.isTrue(long.every((offset) => offset >= 0 && offset <= second))
        assert.isTrue(new Set(long).size > 300)
        assert.deepStrictEqual(yield* jittered(3, 1001, 0.1, "short"), [0, 501, 1001])
      }))

    it.effect("gives the same plans one after the other for the same seed, however long each takes", () =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        const options = { start: hour, over: "1 hour", jitter: "1 minute" } as const
        const both = Effect.map(
          Effect.all([Agenda.plan(itemsOf(50), options), Agenda.plan(itemsOf(50), options)]),
          (plans) => plans.map(({ slots }) => timesOf(slots))
        ).pipe(Random.withSeed("seed"))
        let time = 0
        // a machine that takes a millisecond for each look at the clock
        const slow: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
          currentTimeMillisUnsafe: () => time++,
          currentTimeMillis: Effect.sync(() => time++)
        })
        assert.deepStrictEqual(yield* Effect.provideService(both, Clock.Clock, slow), yield* both)
      }))

    it.effect("gives the same plan for the same seed", () =>
      Effect.gen(function*() {
        const make = (seed: string) =>
          Effect.map(
            Random.withSeed(Agenda.plan(itemsOf(50), { over: "1 hour", jitter: "1 minute" }), seed),
            ({ slots }) => slots.map((slot) => [slot.key, DateTime.toEpochMillis(slot.at)])
          )
        assert.deepStrictEqual(yield* make("a"), yield* make("a"))
        assert.notDeepEqual(yield* make("a"), yield* make("b"))
      }))
  })

  describe("window", () => {
    const planned = (n: number, options: Agenda.PlanOptions) =>
      Effect.map(Agenda.plan(itemsOf(n), options), ({ slots }) => isoOf(slots))

    it.effect("leaves out the time when it is closed", () =>
      Effect.gen(function*() {
        const window = { from: "09:00", to: "17:00" } as const
        assert.deepStrictEqual(
          yield* planned(5, { start: "2026-06-01T12:00:00Z", over: "1 day", window }),
          ["06-01T12:00", "06-01T14:00", "06-01T16:00", "06-02T10:00", "06-02T12:00"]
        )
        assert.deepStrictEqual(
          yield* planned(1, {
            start: "2026-06-01T00:00:00Z",
            over: "1 day",
            window: { ...window, timeZone: "+02:00" }
          }),
          ["06-01T11:00"]
        )
        // where it closes, the next opening follows
        assert.deepStrictEqual(
          yield* planned(3, { start: "2026-06-01T00:00:00Z", over: "2 days", window }),
          ["06-01T09:00", "06-02T09:00", "06-02T17:00"]
        )
      }))

    it.effect("reaches over midnight from the day on which it opens", () =>
      Effect.gen(function*() {
        const window = { from: "22:00", to: "06:00", days: ["fri"] } as const
        // 2026-06-05 is a Friday
        assert.deepStrictEqual(
          yield* planned(3, { start: "2026-06-01T00:00:00Z", over: "7 days", window }),
          ["06-05T22:00", "06-06T02:00", "06-06T06:00"]
        )
        assert.deepStrictEqual(
          yield* planned(2, { start: "2026-06-06T01:00:00Z", over: "1 day", window }),
          ["06-06T01:00", "06-06T06:00"]
        )
      }))

    it.effect("opens late where the clock skips its beginning", () =>
      Effect.gen(function*() {
        // 02:00 becomes 03:00 at 01:00Z
        const window = { from: "02:30", to: "03:30", timeZone: "Europe/Berlin" } as const
        assert.deepStrictEqual(
          yield* planned(3, { start: "2026-03-29T00:00:00Z", over: "12 hours", window }),
          ["03-29T01:00", "03-29T01:15", "03-29T01:30"]
        )
      }))

    it.effect("opens twice where the clock shows its hours twice", () =>
      Effect.gen(function*() {
        // 03:00 becomes 02:00 at 01:00Z
        const window = { from: "02:15", to: "02:45", timeZone: "Europe/Berlin" } as const
        assert.deepStrictEqual(
          yield* planned(5, { start: "2026-10-25T00:00:00Z", over: "6 hours", window }),
          ["10-25T00:15", "10-25T00:30", "10-25T01:15", "10-25T01:30", "10-25T01:45"]
        )
      }))

    for (
      const [change, timeZone] of [
        ["2026-03-26T00:00:00Z", "Europe/Berlin"],
        ["2026-10-22T00:00:00Z", "Europe/Berlin"],
        ["2026-03-05T00:00:00Z", "America/New_York"],
        ["2026-10-29T00:00:00Z", "America/New_York"],
        ["2026-10-01T00:00:00Z", "Australia/Lord_Howe"],
        ["2026-04-02T00:00:00Z", "Pacific/Auckland"]
      ] as const
    ) {
      it.effect(`has its hours on its days around ${change} in ${timeZone}`, () =>
        Effect.gen(function*() {
          const window = { from: "01:30", to: "17:00", timeZone, days: ["sun", "mon", "tue", "thu", "fri"] } as const
          const plan = yield* Agenda.plan(itemsOf(2000), { start: change, over: "12 days", window })
          const zone = DateTime.zoneMakeNamedUnsafe(timeZone)
          const days = new Set<number>()
          for (const slot of plan.slots) {
            const parts = DateTime.toParts(DateTime.setZone(slot.at, zone))
            const minutes = parts.hour * 60 + parts.minute + parts.second / 60
            assert.isTrue(minutes >= 90 && minutes <= 17 * 60, DateTime.formatIso(slot.at))
            days.add(parts.weekDay)
          }
          assert.deepStrictEqual([...days].toSorted(), [0, 1, 2, 4, 5])
          const times = timesOf(plan.slots)
          assert.deepStrictEqual(times, times.toSorted((a, b) => a - b))
        }))
    }

    it.effect("keeps jitter within its hours", () =>
      Effect.gen(function*() {
        const window = { from: "09:00", to: "10:00" } as const
        const { slots } = yield* Agenda.plan(itemsOf(1000), {
          start: "2026-06-01T00:00:00Z",
          over: "5 days",
          jitter: "30 minutes",
          window
        })
        const minutes = timesOf(slots).map((time) => (time % (24 * hour)) / 60_000)
        assert.isTrue(minutes.every((minute) => minute >= 540 && minute <= 600))
      }))

    it.effect("gives times that have passed its next opening", () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(at("2026-06-02T03:00:00Z"))
        const window = { from: "09:00", to: "17:00" } as const
        assert.deepStrictEqual(
          yield* planned(3, { start: "2026-06-01T00:00:00Z", over: "2 days", window }),
          ["06-02T09:00", "06-02T09:00", "06-02T17:00"]
        )
        yield* TestClock.setTime(at("2026-06-02T10:00:00Z"))
        assert.deepStrictEqual(
          yield* planned(3, { start: "2026-06-01T00:00:00Z", over: "2 days", window }),
          ["06-02T10:00", "06-02T10:00", "06-02T17:00"]
        )
      }))
  })

  describe("scatter", () => {
    it.effect("writes what plan shows", () => {
      const { calls, layer, stored } = bundle()
      return Effect.gen(function*() {
        const batch = Agenda.empty.pipe(Agenda.addAll(Item, range(3)), Agenda.add(Named, "a"))
        const plan = yield* Random.withSeed(Agenda.plan(batch, { start: hour, over: "1 hour" }), "seed")
        assert.deepStrictEqual(calls, [])
        const report = yield* Random.withSeed(Agenda.scatter(batch, { start: hour, over: "1 hour" }), "seed")
        assert.deepStrictEqual(report, { scheduled: plan.slots, existing: [], struck: [], limited: [] })
        assert.deepStrictEqual(
          Array.from(
            stored.values(),
            ({ due, key, onExisting, payload, task }) => ({ due, key, onExisting, payload, task })
          ),
          plan.slots.map(({ at, key, payload, task }) => ({
            due: { at: DateTime.toEpochMillis(at) },
            key,
            onExisting: "keep" as const,
            payload: JSON.stringify(payload),
            task
          }))
        )
      }).pipe(Effect.provide(layer))
    })

    it.effect("writes nothing for an empty batch", () => {
      const { calls, layer } = bundle()
      return Effect.gen(function*() {
        const nothing = { scheduled: [], existing: [], struck: [], limited: [] }
        assert.deepStrictEqual(yield* Agenda.scatter(Agenda.empty, { over: "1 hour" }), nothing)
        assert.deepStrictEqual(yield* Agenda.scatter(Agenda.empty, { over: "1 hour", atomic: true }), nothing)
        assert.deepStrictEqual(calls, [])
      }).pipe(Effect.provide(layer))
    })

    it.effect("dies of options that make no sense", () => {
      const { calls, layer } = bundle()
      return Effect.gen(function*() {
        const exit = yield* Effect.exit(Agenda.scatter(Agenda.empty, { over: 0 }))
        assert(Exit.isFailure(exit))
        assert.isTrue(Cause.hasDies(exit.cause))
        assert.strictEqual(invalidOption(Cause.squash(exit.cause)), "over")
        assert.deepStrictEqual(calls, [])
      }).pipe(Effect.provide(layer))
    })

    it.effect("can be repeated with one batch", () => {
      const { layer, stored } = bundle()
      return Effect.gen(function*() {
        const batch = Agenda.concat(itemsOf(3), keyedOf(2))
        const first = yield* Agenda.scatter(batch, { over: "1 hour" })
        const second = yield* Agenda.scatter(batch, { over: "1 hour" })
        assert.strictEqual(first.scheduled.length, 5)
        assert.deepStrictEqual(second.scheduled.map(({ task }) => task), ["Item", "Item", "Item"])
        assert.deepStrictEqual(keysOf(second.existing), ["Keyed/0", "Keyed/1"])
        assert.strictEqual(stored.size, 8)
      }).pipe(Effect.provide(layer))
    })

    it.effect("writes in chunks, in order", () => {
      const { calls, layer, stored } = bundle()
      return Effect.gen(function*() {
        const report = yield* Agenda.scatter(keyedOf(600), { over: "1 hour" })
        assert.deepStrictEqual(calls.map(({ size }) => size), [250, 250, 100])
        assert.isTrue(calls.every(({ atomic }) => !atomic))
        assert.deepStrictEqual(report.scheduled.map(({ index }) => index), range(600).map(({ id }) => id))
        assert.strictEqual(stored.size, 600)
      }).pipe(Effect.provide(layer))
    })

    it.effect("writes what is valid, and reports the rest", () => {
      const { layer, stored } = bundle()
      return Effect.gen(function*() {
        const batch = Agenda.fromIterable(Named, ["a", "b", "", "d"])
        const partial = yield* Effect.flip(Agenda.scatter(batch, { start: hour, over: "90 seconds" }))
        assert.strictEqual(partial._tag, "ScatterPartial")
        assert.deepStrictEqual(timesOf(partial.scheduled).map((time) => (time - hour) / second), [0, 30, 90])
        assert.deepStrictEqual(partial.failed.map(({ reason, slot }) => [slot.index, slot.payload, reason._tag]), [
          [2, "", "InvalidPayload"]
        ])
        assert.strictEqual(partial.rest.length, 0)
        assert.match(
          partial.message,
          /^1 item not scheduled \(3 scheduled, 0 existing, 0 struck\); repeating it does not help:\n/
        )
        assert.strictEqual(stored.size, 3)
        assert.strictEqual((yield* Agenda.resume(partial.rest)).scheduled.length, 0)
      }).pipe(Effect.provide(layer))
    })

    it.effect("keeps the first of two items with one key", () => {
      const { calls, layer, stored } = bundle()
      return Effect.gen(function*() {
        const batch = Agenda.empty.pipe(
          Agenda.add(Item, { id: 1 }, { key: "k" }),
          Agenda.add(Item, { id: 2 }, { key: "k" })
        )
        const report = yield* Agenda.scatter(batch, { over: "1 hour" })
        assert.deepStrictEqual(
          [report.scheduled.map(({ index }) => index), report.existing.map(({ index }) => index)],
          [[0], [1]]
        )
        assert.strictEqual(stored.get("k")?.payload, `{"id":1}`)
        const rejected = yield* Effect.flip(Agenda.scatter(batch, { over: "1 hour", atomic: true }))
        assert.deepStrictEqual(rejected.rejected.map(({ reason, slot }) => [slot.index, reason._tag]), [[
          1,
          "KeyExists"
        ]])
        assert.strictEqual(calls.length, 1)
      }).pipe(Effect.provide(layer))
    })

    it.effect("does not write a key again that has run meanwhile", () => {
      const { calls, layer } = bundle([], { forgets: true })
      return Effect.gen(function*() {
        const batch = Agenda.concat(keyedOf(300), keyedOf(1))
        const report = yield* Agenda.scatter(batch, { over: "1 hour" })
        assert.deepStrictEqual([report.scheduled.length, report.existing.map(({ index }) => index)], [300, [300]])
        assert.deepStrictEqual(calls.map(({ size }) => size), [250, 50])
      }).pipe(Effect.provide(layer))
    })

    it.effect("reports what is struck", () => {
      const { calls, layer } = bundle([], { struck: "Tick" })
      return Effect.gen(function*() {
        const batch = Agenda.add(itemsOf(1), Tick)
        const { rejected } = yield* Effect.flip(Agenda.scatter(batch, { over: "1 hour", atomic: true }))
        assert.deepStrictEqual(rejected.map(({ reason, slot }) => [slot.task, reason._tag]), [["Tick", "Struck"]])
        assert.strictEqual(calls.length, 0)
        const report = yield* Agenda.scatter(batch, { over: "1 hour" })
        assert.deepStrictEqual([report.scheduled.length, report.struck.map(({ task }) => task)], [1, ["Tick"]])
        assert.deepStrictEqual(calls.map(({ size }) => size), [1])
      }).pipe(Effect.provide(layer))
    })

    it.effect("applies the options of the group that grants a task, under those of the task", () => {
      const { agenda, stored } = bundle()
      const group = All.annotateTasks(Task.Lane, "slow").annotateTasks(Task.Priority, 7).annotateTasks(Task.Retention, {
        success: "1 hour",
        failure: "2 hours"
      })
      return Effect.gen(function*() {
        const batch = Agenda.empty.pipe(Agenda.add(Item, { id: 1 }), Agenda.add(Ranked, { id: 3 }))
        yield* Agenda.scatter(batch, { over: "1 hour" })
        assert.deepStrictEqual(
          Array.from(
            stored.values(),
            ({ lane, priority, retention, task }) => [task, lane, priority, retention.success]
          ),
          [["Item", "slow", 7, hour], ["Ranked", "slow", 3, hour]]
        )
      }).pipe(Effect.provide(Layer.provideMerge(group.client, agenda)))
    })

    it.effect("refuses tasks of different dockets", () => {
      const one = bundle()
      const other = bundle()
      return Effect.gen(function*() {
        const exit = yield* Effect.exit(Agenda.scatter(Agenda.add(itemsOf(1), Tick), { over: "1 hour" }))
        assert(Exit.isFailure(exit))
        assert.strictEqual(invalidOption(Cause.squash(exit.cause)), "client")
        assert.deepStrictEqual([one.calls, other.calls], [[], []])
      }).pipe(
        Effect.provide(Layer.mergeAll(
          Layer.provide(Item.client, one.docket),
          Layer.provide(Tick.client, Layer.fresh(other.docket)),
          one.agenda
        ))
      )
    })

    it.effect("writes where the permission was granted", () => {
      const one = bundle()
      const other = bundle()
      return Effect.gen(function*() {
        yield* Agenda.scatter(itemsOf(1), { over: "1 hour" })
        assert.deepStrictEqual([one.stored.size, other.stored.size], [1, 0])
      }).pipe(Effect.provide(Layer.mergeAll(Layer.provide(Item.client, one.docket), other.agenda)))
    })
  })

  it.live("reports the times that it planned, however long that took", () => {
    const { layer, stored } = bundle()
    class Slow extends Task.make("Item", { payload: { id: Schema.Int }, key: ({ id }) => busy(`Slow/${id}`) }) {}
    const busy = (key: string) => {
      const end = performance.now() + 5
      while (performance.now() < end);
      return key
    }
    return Effect.gen(function*() {
      const report = yield* Agenda.scatter(Agenda.fromIterable(Slow, range(3)), { over: "1 hour" })
      const [first, ...others] = timesOf(report.scheduled)
      assert.deepStrictEqual(others.map((time) => time - first!), [hour / 2, hour])
      assert.deepStrictEqual(stored.get("Slow/0")?.due, { after: 0 })
    }).pipe(Effect.provide(layer))
  })

  describe("atomic", () => {
    it.effect("writes up to a thousand items in one call", () => {
      const { calls, layer } = bundle()
      return Effect.gen(function*() {
        const report = yield* Agenda.scatter(itemsOf(1000), { over: "1 hour", atomic: true })
        assert.strictEqual(report.scheduled.length, 1000)
        assert.deepStrictEqual(calls, [{ size: 1000, atomic: true }])
      }).pipe(Effect.provide(layer))
    })

    it.effect("refuses more, naming the limit", () => {
      const { calls, layer } = bundle()
      return Effect.gen(function*() {
        const { message, rejected } = yield* Effect.flip(
          Agenda.scatter(itemsOf(1002), { over: "1 hour", atomic: true })
        )
        assert.deepStrictEqual(rejected.map(({ slot }) => slot.index), [1000, 1001])
        assert(rejected.every(({ reason }) => reason._tag === "LimitExceeded" && reason.limit === 1000))
        assert.include(message, "limit of 1000")
        assert.deepStrictEqual(calls, [])
      }).pipe(Effect.provide(layer))
    })

    it.effect("writes nothing if a payload is invalid", () => {
      const { calls, layer } = bundle()
      return Effect.gen(function*() {
        const batch = Agenda.fromIterable(Named, ["a", "", "c", ""])
        const { rejected } = yield* Effect.flip(Agenda.scatter(batch, { over: "1 hour", atomic: true }))
        assert.deepStrictEqual(rejected.map(({ reason, slot }) => [slot.index, reason._tag]), [[1, "InvalidPayload"], [
          3,
          "InvalidPayload"
        ]])
        assert.deepStrictEqual(calls, [])
      }).pipe(Effect.provide(layer))
    })

    it.effect("rejects everything with the reason of the store, and can be written again", () => {
      const { layer, stored } = bundle(["lost"])
      return Effect.gen(function*() {
        const plan = yield* Agenda.plan(itemsOf(3), { start: hour, over: "1 hour" })
        const write = Agenda.Agenda.use((agenda) => agenda.write(plan, { atomic: true }))
        const error = yield* Effect.flip(write)
        assert(error._tag === "ScatterRejected")
        assert.deepStrictEqual(error.rejected.map(({ slot }) => slot), plan.slots)
        assert.match(error.message, /^the store did not confirm the batch; writing the same plan again is safe/)
        assert.deepStrictEqual((yield* write).existing, plan.slots)
        assert.strictEqual(stored.size, 3)
      }).pipe(Effect.provide(layer))
    })
  })

  describe("resume", () => {
    it.effect("completes a plan after an outage", () => {
      const { calls, layer, stored } = bundle(["ok", "unavailable"])
      return Effect.gen(function*() {
        const plan = yield* Agenda.plan(itemsOf(600), { start: hour, over: "1 hour" })
        const partial = yield* Effect.flip(Agenda.resume(plan))
        // the third chunk is not tried
        assert.deepStrictEqual(calls.map(({ size }) => size), [250, 250])
        assert.deepStrictEqual(partial.scheduled, plan.slots.slice(0, 250))
        assert.deepStrictEqual(partial.failed.map(({ slot }) => slot), plan.slots.slice(250))
        assert(partial.failed.every(({ reason }) => reason._tag === "StoreUnavailable"))
        assert.deepStrictEqual(partial.rest.slots, plan.slots.slice(250))
        assert.include(partial.message, "`Agenda.resume(error.rest)` writes 350 of them")
        const report = yield* Agenda.resume(partial.rest)
        assert.deepStrictEqual(report, { scheduled: partial.rest.slots, existing: [], struck: [], limited: [] })
        assert.deepStrictEqual([...stored.keys()], keysOf(plan.slots))
        assert.deepStrictEqual(Array.from(stored.values(), ({ due }) => due), timesOf(plan.slots).map((at) => ({ at })))
      }).pipe(Effect.provide(layer))
    })

    it.effect("finds existing what was written before the reply was lost", () => {
      const { layer, stored } = bundle(["ok", "lost"])
      return Effect.gen(function*() {
        const partial = yield* Effect.flip(Agenda.scatter(itemsOf(600), { start: hour, over: "1 hour" }))
        assert.deepStrictEqual([partial.scheduled.length, partial.rest.length], [250, 350])
        const report = yield* Agenda.resume(partial.rest)
        assert.deepStrictEqual([report.scheduled.length, report.existing.length], [100, 250])
        assert.strictEqual(stored.size, 600)
      }).pipe(Effect.provide(layer))
    })

    it.effect("finds existing what was written before the reply was lost, and has run since", () => {
      const { done, layer, run, stored } = bundle(["lost"])
      return Effect.gen(function*() {
        const partial = yield* Effect.flip(
          Agenda.scatter(Agenda.concat(itemsOf(3), keyedOf(2)), { start: hour, over: "1 hour" })
        )
        run()
        const report = yield* Agenda.resume(partial.rest)
        assert.deepStrictEqual(report, { scheduled: [], existing: partial.rest.slots, struck: [], limited: [] })
        assert.deepStrictEqual([stored.size, done.size], [0, 5])
      }).pipe(Effect.provide(layer))
    })

    it.effect("schedules what has run under a key that others use as well, at another time", () => {
      const { layer, run, stored } = bundle(["ok", "unavailable"])
      return Effect.gen(function*() {
        yield* Agenda.scatter(keyedOf(3), { start: hour, over: "1 hour" })
        run()
        const partial = yield* Effect.flip(Agenda.scatter(keyedOf(3), { start: 9 * hour, over: "1 hour" }))
        const report = yield* Agenda.resume(partial.rest)
        assert.deepStrictEqual([report.scheduled.length, stored.size], [3, 3])
      }).pipe(Effect.provide(layer))
    })

    it.effect("looks up only what is in doubt", () => {
      const { layer, lookups, run } = bundle(["full", "ok", "ok", "unavailable"])
      return Effect.gen(function*() {
        const refused = yield* Effect.flip(Agenda.scatter(keyedOf(3), { start: hour, over: "1 hour" }))
        yield* Agenda.resume(refused.rest)
        run()
        const plan = yield* Agenda.plan(keyedOf(600), { start: hour, over: "1 hour" })
        const partial = yield* Effect.flip(Agenda.resume(plan))
        assert.deepStrictEqual([partial.scheduled.length, lookups], [250, []])
        yield* Agenda.resume(partial.rest)
        assert.deepStrictEqual(lookups, keysOf(plan.slots.slice(250, 500)))
      }).pipe(Effect.provide(layer))
    })

    it.effect("goes on after a refusal, which may be about one chunk", () => {
      const { calls, layer } = bundle(["full"])
      return Effect.gen(function*() {
        const partial = yield* Effect.flip(Agenda.scatter(keyedOf(300), { over: "1 hour" }))
        assert.deepStrictEqual(calls.map(({ size }) => size), [250, 50])
        assert.deepStrictEqual([partial.scheduled.length, partial.failed.length, partial.rest.length], [50, 250, 250])
        assert.strictEqual(partial.failed[0]?.reason._tag, "LimitExceeded")
      }).pipe(Effect.provide(layer))
    })

    it.effect("carries invalid payloads and outages in one error, in order", () => {
      const { layer } = bundle(["unavailable"])
      return Effect.gen(function*() {
        const batch = Agenda.fromIterable(Named, ["a", "", "c"])
        const partial = yield* Effect.flip(Agenda.scatter(batch, { over: "1 hour" }))
        assert.deepStrictEqual(partial.failed.map(({ reason }) => reason._tag), [
          "StoreUnavailable",
          "InvalidPayload",
          "StoreUnavailable"
        ])
        assert.deepStrictEqual(partial.rest.slots.map(({ index }) => index), [0, 2])
      }).pipe(Effect.provide(layer))
    })

    it.effect("gives times that have passed the present, by the clock of the store", () => {
      const { layer, stored } = bundle()
      return Effect.gen(function*() {
        const plan = yield* Agenda.plan(itemsOf(3), { start: hour, over: "2 hours" })
        yield* TestClock.setTime(2 * hour)
        const report = yield* Agenda.resume(plan)
        assert.deepStrictEqual(timesOf(report.scheduled).map((time) => time / hour), [2, 2, 3])
        assert.deepStrictEqual(Array.from(stored.values(), ({ due }) => due), [{ after: 0 }, { after: 0 }, {
          at: 3 * hour
        }])
      }).pipe(Effect.provide(layer))
    })

    it.effect("writes without a permission, too, if an agenda is asked itself", () => {
      const { agenda, stored } = bundle()
      return Effect.gen(function*() {
        const plan = yield* Agenda.plan(itemsOf(1), { over: "1 hour" })
        yield* Agenda.Agenda.use((agenda) => agenda.write(plan, { atomic: false }))
        assert.deepStrictEqual(Array.from(stored.values(), ({ lane }) => lane), ["default"])
      }).pipe(Effect.provide(agenda))
    })
  })

  it("has the types it declares", () => {
    type Requires<E> = E extends Effect.Effect<infer _A, infer _E, infer R> ? R : never
    const loose = Agenda.scatter(Agenda.add(itemsOf(1), Tick), { over: "1 hour" })
    const needs: Requires<typeof loose> extends Agenda.Agenda | Docket.Enqueue<"Item"> | Docket.Enqueue<"Tick"> ? true
      : false = true
    // each of a plan's tasks is one of the batch it is
    const plan = Agenda.plan(Agenda.add(itemsOf(1), Tick), { over: "1 hour" })
    const again = Effect.flatMap(plan, Agenda.plan({ over: "1 hour" }))
    const strict = itemsOf(1).pipe(Agenda.scatter({ over: "1 hour", atomic: true }))
    const programs = [
      again,
      Effect.catchTag(loose, "ScatterPartial", (partial) => Agenda.resume(partial.rest)),
      // @ts-expect-error an atomic scatter has no partial failure
      Effect.catchTag(strict, "ScatterPartial", () => Effect.void)
    ]
    assert.isTrue(needs && programs.every(Effect.isEffect))
  })
})
