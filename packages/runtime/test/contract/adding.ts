/**
 * Adding, keys, time.
 */
import { Docket, DocketError, Task, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Clock, DateTime, Deferred, Effect, Exit, Layer, Option, Schema, Stream } from "effect"
import { DocketStore } from "../../src/DocketStore.ts"
import { type Kit, live, longLease, noting, now, signal, start, stateOf, stored, Work, Works, wrapped } from "./kit.ts"
import { add, addition, attach, attachTo, listen, pendingStates, settledStates } from "./seam.ts"

class Customer extends Schema.Class<Customer>("contract/Customer")({ name: Schema.String, since: Schema.Date }) {}

class Rich extends Task.make("Rich", {
  payload: {
    customer: Customer,
    at: Schema.DateTimeUtc,
    amount: Schema.BigInt,
    note: Schema.Option(Schema.String),
    none: Schema.Option(Schema.String),
    text: Schema.NonEmptyString
  }
}) {}

const rich = {
  customer: new Customer({ name: "Ada\0\u{1f600}\u2028", since: new Date("1815-12-10T00:00:00.123Z") }),
  at: DateTime.makeUnsafe("2026-03-29T00:59:59.999Z"),
  amount: 2n ** 80n,
  note: Option.some(""),
  none: Option.none(),
  text: "\ud7ff"
}

const oddKeys = [
  "runs",
  "ready",
  "schedule",
  "leases",
  "docket",
  "__proto__",
  "constructor",
  "a:b",
  "{x}",
  "{}",
  "}{",
  "*",
  "?",
  "%",
  "'\"`",
  "\\",
  "\n\r\t",
  "\0",
  " ",
  "\u{1f600}",
  "e\u0301",
  "\u00e9",
  "a/b",
  "-1",
  "NaN",
  "null",
  "x".repeat(4096)
]

/** The tests of this part. */
export const adding = ({ drain, pass, passing, test }: Kit): void => {
  test("added without a time → drain → ran once, with exactly the payload", () => {
    const seen: Array<unknown> = []
    return Effect.gen(function*() {
      const run = yield* Docket.add(Rich, rich)
      assert.strictEqual(run.disposition, "Added")
      yield* drain(TaskGroup.make(Rich))
      assert.deepStrictEqual(seen, [rich])
    }).pipe(Effect.provide(live(Rich, (payload) =>
      Effect.sync(() => {
        seen.push(payload)
      }))))
  })

  test("due in 100 ms → drain → ran, and not before it was due", () => {
    let startedAt = 0
    return Effect.gen(function*() {
      const before = yield* now
      const run = yield* Docket.add(Work, { n: 1 }, { after: 100 })
      const state = yield* stateOf(run.key)
      // a machine that took longer than that has seen it ready
      if ((yield* now) < before + 100) assert.strictEqual(state, "Scheduled")
      yield* drain(Works)
      assert.isAtLeast(startedAt, before + 100)
      assert.isAtLeast(startedAt, DateTime.toEpochMillis(run.scheduledAt))
    }).pipe(Effect.provide(live(Work, ({ n }) =>
      Effect.map(Clock.currentTimeMillis, (at) => {
        startedAt = at
        return n
      }))))
  })

  test("due at a time of the past → runs now, and keeps its time", () =>
    Effect.gen(function*() {
      yield* add("k", { due: { at: 5 } })
      assert.strictEqual((yield* (yield* attach()).claimOne).due, 5)
    }), { running: 1 })

  for (const [name, arrange] of Object.entries(pendingStates)) {
    test(
      `K pending (${name}) → add K with another payload and time → Existing, the first stays untouched`,
      () =>
        Effect.gen(function*() {
          const store = yield* stored
          yield* arrange
          const first = yield* store.get("k")
          const added = yield* add("k", { payload: "{\"n\":2}", due: { after: 5 }, priority: 3 })
          assert.deepStrictEqual(added, { disposition: "Existing", generation: first!.generation, due: first!.due })
          assert.deepStrictEqual(yield* store.get("k"), first)
        }),
      { pending: 1 }
    )
  }

  test(
    "K pending → add K that says fail → KeyExists, and of the batch nothing is written",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* add("k")
        const batch = [addition("new"), addition("k", { onExisting: "fail" })]
        const error = yield* Effect.flip(store.add(batch, { atomic: true }))
        assert.deepStrictEqual(error.reason, new DocketError.KeyExists({ key: "k" }))
        assert.strictEqual(yield* store.get("new"), undefined)
      }),
    { pending: 1 }
  )

  test(
    "one batch with a key twice → the second is Existing, or KeyExists and nothing is written if it says fail",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        const twice = yield* store.add([addition("a"), addition("a", { payload: "2" })], { atomic: true })
        assert.deepStrictEqual(twice.map((one) => one.disposition), ["Added", "Existing"])
        const batch = [addition("b"), addition("b", { onExisting: "fail" })]
        assert.deepStrictEqual(
          (yield* Effect.flip(store.add(batch, { atomic: true }))).reason,
          new DocketError.KeyExists({ key: "b" })
        )
        assert.strictEqual(yield* store.get("b"), undefined)
      }),
    { pending: 1 }
  )

  for (const retention of [0, longLease]) {
    test(`K running, retention ${retention} → add K → Existing, one run in total`, () =>
      Effect.gen(function*() {
        const kept = { retention: { success: retention, failure: retention } }
        yield* add("k", kept)
        const worker = yield* attach()
        const claim = yield* worker.claimOne
        const added = yield* add("k", { ...kept, payload: "2" })
        assert.deepStrictEqual([added.disposition, added.generation], ["Existing", claim.generation])
        assert.strictEqual(yield* worker.complete(claim), "Applied")
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))
  }

  for (const [name, arrange] of Object.entries(settledStates)) {
    test(
      `K settled (${name}) → add K → Added, runs again, also when it is due long after the retention of the earlier run`,
      () =>
        Effect.gen(function*() {
          const store = yield* stored
          yield* arrange
          const before = yield* store.get("k")
          const again = yield* add("k", { payload: "2", due: { after: 100 }, retention: { success: 20, failure: 20 } })
          assert.strictEqual(again.disposition, "Added")
          assert.isAbove(again.generation, before!.generation)
          yield* pass(100)
          const worker = yield* attach()
          const second = yield* worker.claimOne
          assert.deepStrictEqual([second.payload, second.attempt, second.lost], ["2", 1, 0])
          yield* worker.complete(second)
          yield* add("k", { payload: "3", due: { after: 100 } })
          yield* pass(100)
          assert.strictEqual((yield* worker.claimOne).payload, "3")
        }),
      { running: 1 }
    )
  }

  for (const [name, arrange] of Object.entries(pendingStates)) {
    for (const [when, after, state] of [["now", 0, "Ready"], ["later", longLease * 2, "Scheduled"]] as const) {
      test(
        `K pending (${name}) → replace K for ${when} → only the replacement is there, with an event`,
        () =>
          Effect.gen(function*() {
            const store = yield* stored
            yield* arrange
            yield* store.resume({ task: undefined, lane: undefined })
            const first = yield* store.get("k")
            const next = yield* listen("k")
            const replaced = yield* add("k", { payload: "2", due: { after }, onExisting: "replace" })
            assert.strictEqual(replaced.disposition, "Replaced")
            assert.isAbove(replaced.generation, first!.generation)
            const { event } = yield* next("Replaced")
            assert.strictEqual(event._tag === "Replaced" && event.due, replaced.due)
            const run = yield* store.get("k")
            assert.deepStrictEqual(
              [run!.state, run!.payload, run!.attempt, run!.generation],
              [state, "2", 0, replaced.generation]
            )
            assert.strictEqual(yield* store.outcome("k", first!.generation), undefined)
          }),
        { pending: 1 }
      )
    }
  }

  test("K in the ready lane → replace K for later → runs once, at its time, with the new payload", () =>
    Effect.gen(function*() {
      const worker = yield* attach()
      yield* add("k")
      const { due } = yield* add("k", { payload: "2", due: { after: 100 }, onExisting: "replace" })
      const claim = yield* passing(worker.next)
      assert.strictEqual(claim.payload, "2")
      assert.isAtLeast(claim.startedAt, due)
      yield* worker.complete(claim)
      assert.deepStrictEqual(yield* worker.claim(), [])
    }))

  test("nothing under K, or a settled run → replace K → behaves as add", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* add("k", { onExisting: "replace" })).disposition, "Added")
      const worker = yield* attach()
      yield* worker.complete(yield* worker.claimOne)
      assert.strictEqual((yield* add("k", { onExisting: "replace" })).disposition, "Added")
    }), { pending: 1 })

  test("five quick replaces → only the last runs", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const runs = yield* Effect.forEach(
        [1, 2, 3, 4, 5],
        (n) => Docket.replace(Work, { n }, { key: "k", after: 20 * n })
      )
      assert.deepStrictEqual(runs.map((run) => run.disposition), [
        "Added",
        "Replaced",
        "Replaced",
        "Replaced",
        "Replaced"
      ])
      yield* drain(Works)
      assert.deepStrictEqual(seen, [5])
      assert.deepStrictEqual(
        yield* Effect.forEach(runs, (run) => run.await),
        [5, 5, 5, 5, 5],
        "handles follow their key"
      )
    }).pipe(Effect.provide(noting(seen)))
  })

  test("K running → replace K → the old body finishes, its late settlement is Lost, the replacement runs", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* add("k", { payload: "1" })
      const worker = yield* attach()
      const old = yield* worker.claimOne
      const replacement = yield* add("k", { payload: "2", onExisting: "replace" })
      assert.strictEqual(replacement.disposition, "Replaced")
      assert.strictEqual(yield* worker.renew(old), "Replaced")
      const claim = yield* worker.claimOne
      assert.strictEqual(claim.payload, "2")
      assert.strictEqual(yield* worker.complete(old), "Lost")
      assert.strictEqual(yield* store.progress(old, "1"), false)
      assert.strictEqual((yield* store.get("k"))!.state, "Running")
      assert.strictEqual(yield* store.outcome("k", replacement.generation), undefined)
      assert.strictEqual(yield* worker.complete(claim), "Applied")
    }))

  test("K running in a worker → replace K → both bodies end, the handle has the value of the replacement", () => {
    const seen: Array<number> = []
    const started = signal()
    const gate = signal()
    return Effect.gen(function*() {
      yield* start(Works)
      const first = yield* Docket.add(Work, { n: 1 }, { key: "k" })
      yield* started.await
      const second = yield* Docket.replace(Work, { n: 2 }, { key: "k" })
      assert.strictEqual(yield* second.await, 2)
      assert.deepStrictEqual(seen, [2])
      yield* gate.open
      assert.strictEqual(yield* first.await, 2)
    }).pipe(
      // the worker drains, so the first body has ended
      Effect.scoped,
      Effect.andThen(Effect.sync(() => assert.deepStrictEqual(seen, [2, 1]))),
      Effect.provide(live(Work, ({ n }) =>
        Effect.gen(function*() {
          if (n === 1) {
            yield* started.open
            yield* gate.await
          }
          seen.push(n)
          return n
        })))
    )
  })

  test("a handler replaces its own key at once, three times → 4 runs with advancing payloads", () => {
    const seen: Array<number> = []
    const handler = live(
      Work,
      Effect.fnUntraced(function*({ n }) {
        seen.push(n)
        if (n < 3) yield* Effect.orDie(Docket.replace(Work, { n: n + 1 }, { key: "k" }))
        return n
      })
    )
    return Effect.gen(function*() {
      const run = yield* Docket.add(Work, { n: 0 }, { key: "k" })
      yield* drain(Works)
      assert.deepStrictEqual(seen, [0, 1, 2, 3])
      assert.strictEqual(yield* run.await, 3)
    }).pipe(Effect.provide(handler.pipe(Layer.provide(Work.client))))
  })

  test("no key given → 1,000 adds → unique keys, ascending in time", () =>
    Effect.gen(function*() {
      const keys: Array<string> = []
      for (let n = 0; n < 1000; n++) {
        if (n === 500) yield* pass(5)
        keys.push((yield* Docket.add(Work, { n })).key)
      }
      assert.strictEqual(new Set(keys).size, 1000)
      assert.deepStrictEqual(keys.toSorted(), keys)
      assert.strictEqual(yield* Docket.clear, 1000)
    }).pipe(Effect.provide(Work.client)))

  test("odd keys → work, and never touch each other", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const runs = yield* Effect.forEach(oddKeys, (key, n) => Docket.add(Work, { n }, { key }))
      yield* drain(Works, { concurrency: 1 })
      assert.deepStrictEqual(seen, oddKeys.map((_, n) => n))
      for (const [n, run] of runs.entries()) {
        assert.strictEqual(run.key, oddKeys[n])
        assert.strictEqual(yield* run.await, n)
      }
    }).pipe(Effect.provide(noting(seen)))
  })

  test("an empty or too long key → typed error, nothing written", () =>
    Effect.gen(function*() {
      for (const [key, tag] of [["", "InvalidOption"], ["\u00e9".repeat(2049), "LimitExceeded"]] as const) {
        const error = yield* Effect.flip(Docket.add(Work, { n: 1 }, { key }))
        assert.strictEqual(error.reason._tag, tag)
      }
      assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
    }).pipe(Effect.provide(Work.client)))

  test("payload that does not fit its schema → typed error at the caller, nothing written", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Docket.addAll([[Rich, rich], [Rich, { ...rich, text: "" }]]))
      assert.strictEqual(error.reason._tag, "InvalidPayload")
      assert.include(error.message, "\"Rich\"")
      assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
    }).pipe(Effect.provide(Rich.client)))

  test(
    "two dockets in one store, same key → never see each other's runs, events, strikes, pauses",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        const docketStore = yield* DocketStore
        const other = yield* docketStore.docket({ name: `${store.name} (other)`, prefix: "docket" })
        const prefixed = yield* docketStore.docket({ name: store.name, prefix: "other" })
        const next = yield* listen()
        for (const stranger of [other, prefixed]) {
          yield* stranger.strike({ task: "T", where: [], reason: "", until: undefined })
          yield* stranger.pause({ task: undefined, lane: undefined }, "")
          yield* stranger.restore({ task: "T", where: [] })
          yield* stranger.add([addition("k", { payload: "theirs" })], { atomic: true })
          yield* stranger.strike({ task: "T", where: [], reason: "", until: undefined })
        }
        assert.strictEqual(yield* store.get("k"), undefined)
        yield* add("k", { payload: "ours" })
        const worker = yield* attach()
        assert.strictEqual((yield* worker.claimOne).payload, "ours")
        assert.strictEqual((yield* next("Ready")).event._tag, "Ready")
        const started = yield* next("Started")
        assert.strictEqual(started.event._tag === "Started" && started.event.worker, "w")
        yield* prefixed.restore({ task: "T", where: [] })
        yield* prefixed.resume({ task: undefined, lane: undefined })
        const theirs = yield* attachTo(prefixed)
        assert.strictEqual((yield* theirs.claimOne).payload, "theirs")
        assert.strictEqual(yield* other.clear, 1)
      }),
    { running: 1 }
  )

  test("bulk add of 10,000 → dispositions in order, mixed tasks and times", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const one = (i: number, onExisting: "keep" | "replace") =>
        addition(`k${i}`, {
          task: i % 2 === 0 ? "T" : "U",
          due: { after: i % 3 === 0 ? 0 : longLease + i },
          onExisting
        })
      yield* store.add(Array.from({ length: 100 }, (_, i) => one(i * 7, "keep")), { atomic: false })
      const additions = Array.from({ length: 10_000 }, (_, i) => one(i, i % 2 === 0 ? "keep" : "replace"))
      const added = yield* store.add(additions, { atomic: false })
      assert.deepStrictEqual(
        added.map((one) => one.disposition),
        additions.map((_, i) => i % 7 === 0 && i < 700 ? (i % 2 === 0 ? "Existing" : "Replaced") : "Added")
      )
      const last = yield* store.get("k9998")
      assert.deepStrictEqual([last!.task, last!.state, last!.generation], ["T", "Scheduled", added[9998]!.generation])
      assert.strictEqual(yield* store.clear, 10_000)
    }))

  test("a batch wakes a worker → it finds the whole batch, and not a part of it", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const found = yield* Deferred.make<Docket.EncodedRun | undefined, DocketError.DocketError>()
      const fork = Effect.runForkWith(yield* Effect.context<never>())
      const onWake = () => {
        fork(Deferred.into(store.get("last"), found))
      }
      const worker = yield* attach({ onWake })
      yield* worker.turn({ capacity: 1 })
      yield* store.add([addition("first"), addition("last")], { atomic: true })
      assert.strictEqual((yield* Deferred.await(found))?.key, "last")
      assert.strictEqual(yield* store.clear, 2)
    }))

  test("an add whose reply was lost → repeated with the same key → Existing, one run", () => {
    const seen: Array<number> = []
    let replies = 0
    return Effect.gen(function*() {
      const again = Docket.add(Work, { n: 1 }, { key: "k" })
      const first = yield* Effect.exit(again)
      assert.isTrue(Exit.isFailure(first))
      assert.strictEqual((yield* again).disposition, "Existing")
      yield* drain(Works)
      assert.deepStrictEqual(seen, [1])
    }).pipe(Effect.provide(
      noting(seen).pipe(Layer.provideMerge(wrapped((store) => ({
        ...store,
        add: (additions, options) =>
          Effect.tap(store.add(additions, options), () =>
            replies++ > 0 ? Effect.void : new DocketError.DocketError({
              operation: "add",
              reason: new DocketError.StoreUnavailable({ cause: new Error("reply lost") })
            }))
      }))))
    ))
  })

  test(
    "runs of one instant → claimed in the order in which they were added; higher priorities first",
    () =>
      Effect.gen(function*() {
        const keys = ["c", "a", "d", "b"]
        for (const key of keys) yield* add(key, { due: { at: 5 } })
        yield* add("high", { priority: 2 })
        yield* add("low", { priority: -1, due: { at: 1 } })
        const worker = yield* attach()
        assert.deepStrictEqual((yield* worker.claim()).map((claim) => claim.key), ["high", ...keys, "low"])
      }),
    { running: 6 }
  )
}
