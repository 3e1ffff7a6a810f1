/**
 * Strikes and pauses.
 */
import { Docket, DocketError, Strike, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { DateTime, Effect, Option, Schema } from "effect"
import { type Kit, live, longLease, noting, now, start, stateOf, stored, Work, Works, wrapped } from "./kit.ts"
import { add, addition, attach, listen } from "./seam.ts"

class Order extends Task.make("Order", {
  payload: {
    region: Schema.String,
    amount: Schema.Int,
    cents: Schema.BigInt,
    urgent: Schema.Boolean,
    coupon: Schema.NullOr(Schema.String)
  },
  success: Schema.Int
}) {}

const order = { region: "eu", amount: 5, cents: 10n, urgent: false, coupon: null }

// each condition with payloads that it stops, and payloads that it lets pass
const conditions: ReadonlyArray<{
  readonly name: string
  readonly where: Strike.Where<Task.Payload<typeof Order>>
  readonly struck: ReadonlyArray<Partial<typeof order>>
  readonly free: ReadonlyArray<Partial<typeof order>>
}> = [
  { name: "==", where: { region: "eu" }, struck: [{}], free: [{ region: "us" }, { region: "EU" }, { region: "" }] },
  { name: "== boolean", where: { urgent: true }, struck: [{ urgent: true }], free: [{}] },
  { name: "== null", where: { coupon: null }, struck: [{}], free: [{ coupon: "null" } as never] },
  {
    name: "== bigint",
    where: { cents: 2n ** 70n },
    struck: [{ cents: 2n ** 70n }],
    free: [{}, { cents: 2n ** 70n + 1n }]
  },
  { name: "!=", where: { region: Strike.not("eu") }, struck: [{ region: "us" }], free: [{}] },
  {
    name: "<",
    where: { amount: Strike.lessThan(5) },
    struck: [{ amount: 4 }, { amount: -10 }],
    free: [{}, { amount: 10 }]
  },
  {
    name: ">",
    where: { amount: Strike.greaterThan(5) },
    struck: [{ amount: 6 }, { amount: 10 }],
    free: [{}, { amount: -6 }]
  },
  {
    name: "<=",
    where: { amount: Strike.lessThanOrEqualTo(5) },
    struck: [{}, { amount: -10 }],
    free: [{ amount: 6 }, { amount: 10 }]
  },
  {
    name: ">=",
    where: { amount: Strike.greaterThanOrEqualTo(5) },
    struck: [{}, { amount: 10 }],
    free: [{ amount: 4 }, { amount: -6 }]
  },
  {
    name: "<= bigint",
    where: { cents: Strike.lessThanOrEqualTo(10n) },
    struck: [{}, { cents: 9n }],
    free: [{ cents: 11n }, { cents: 100n }]
  },
  {
    name: ">= text",
    where: { region: Strike.greaterThanOrEqualTo("eu") },
    struck: [{}, { region: "us" }],
    free: [{ region: "asia" }, { region: "EU" }]
  },
  { name: "< text", where: { region: Strike.lessThan("f") }, struck: [{}, { region: "F" }], free: [{ region: "f" }] },
  {
    name: "< bigint",
    where: { cents: Strike.lessThan(9n) },
    struck: [{ cents: -10n }, { cents: 8n }],
    free: [{}, { cents: 9n }]
  },
  { name: "> bigint", where: { cents: Strike.greaterThan(9n) }, struck: [{}, { cents: 100n }], free: [{ cents: 9n }] },
  {
    name: "in",
    where: { region: Strike.oneOf(["eu", "us"]) },
    struck: [{}, { region: "us" }],
    free: [{ region: "asia" }]
  },
  { name: "in nothing", where: { region: Strike.oneOf([]) }, struck: [], free: [{}] },
  {
    name: "between",
    where: { amount: Strike.between(5, 7) },
    struck: [{}, { amount: 6 }, { amount: 7 }],
    free: [{ amount: 4 }, { amount: 8 }]
  },
  {
    name: "between bigints",
    where: { cents: Strike.between(9n, 11n) },
    struck: [{}, { cents: 11n }],
    free: [{ cents: 8n }, { cents: 100n }]
  },
  {
    name: "two fields",
    where: { region: "eu", amount: Strike.greaterThan(5) },
    struck: [{ amount: 6 }],
    free: [{}, { region: "us", amount: 6 }]
  }
]

const struckOf = (error: unknown): string =>
  error instanceof TaskFailure.TaskFailure && error.reason._tag === "Struck" ? error.reason.reason : String(error)

/** The tests of this part. */
export const strikes = ({ drain, isLive, pass, test }: Kit): void => {
  test("task struck → ready runs do not start, adds answer Struck; restored → new adds run", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const ready = yield* Docket.add(Work, { n: 1 }, { key: "ready" })
      yield* Docket.strike(Work, { reason: "broken" })
      const struck = yield* Docket.add(Work, { n: 2 }, { key: "struck" })
      assert.strictEqual(struck.disposition, "Struck")
      assert.strictEqual(struckOf(yield* Effect.flip(struck.await)), "broken")
      assert.strictEqual(yield* stateOf("struck"), undefined, "nothing was written")
      yield* drain(Works)
      assert.strictEqual(struckOf(yield* Effect.flip(ready.await)), "broken")
      assert.strictEqual(yield* stateOf("ready"), "Skipped")
      yield* Docket.restore(Work)
      const again = yield* Docket.add(Work, { n: 3 }, { key: "struck" })
      yield* drain(Works)
      assert.strictEqual(yield* again.await, 3)
      assert.deepStrictEqual(seen, [3])
    }).pipe(Effect.provide(live(Work, ({ n }) =>
      Effect.sync(() => {
        seen.push(n)
        return n
      }))))
  })

  for (const { free, name, struck, where } of conditions) {
    test(`struck by payload fields (${name}) → only the matching, when added and when claimed`, () => {
      const started: Array<unknown> = []
      const payloads = (parts: ReadonlyArray<Partial<typeof order>>) => parts.map((part) => ({ ...order, ...part }))
      return Effect.gen(function*() {
        const before = yield* Effect.forEach(payloads([...struck, ...free]), (payload) => Docket.add(Order, payload))
        yield* Docket.strike(Order, { where, reason: name })
        const after = yield* Effect.forEach(payloads([...struck, ...free]), (payload) => Docket.add(Order, payload))
        const expected = [...struck.map(() => "Struck"), ...free.map(() => "Added")]
        assert.deepStrictEqual(after.map((run) => run.disposition), expected)
        yield* drain(TaskGroup.make(Order), { concurrency: 1 })
        assert.deepStrictEqual(started, payloads([...free, ...free]))
        const states = yield* Effect.forEach(before, (run) => stateOf(run.key))
        assert.deepStrictEqual<ReadonlyArray<unknown>>(states, [
          ...struck.map(() => "Skipped"),
          ...free.map(() => "Completed")
        ])
        yield* Docket.restore(Order, { where })
        const restored = yield* Effect.forEach(payloads(struck), (payload) => Docket.add(Order, payload))
        assert.isTrue(restored.every((run) => run.disposition === "Added"))
        yield* Docket.clear
      }).pipe(Effect.provide(live(Order, (payload) => Effect.sync(() => started.push(payload)))))
    })
  }

  test("a bigint strike and a text that an older version stored → it matches nothing, and nobody stops", () =>
    Effect.gen(function*() {
      const store = yield* stored
      for (
        const [operator, values] of [
          ["greaterThan", ["9"]],
          ["greaterThanOrEqualTo", ["9"]],
          ["lessThan", ["99"]],
          ["lessThanOrEqualTo", ["99"]],
          ["between", ["9", "99"]]
        ] as const
      ) {
        const where = [{ field: "cents", operator, values, bigint: true }]
        yield* store.strike({ task: "T", where, reason: "", until: undefined })
      }
      assert.strictEqual((yield* add("k", { payload: "{\"cents\":\"12.50\"}" })).disposition, "Added")
      assert.strictEqual((yield* add("struck", { payload: "{\"cents\":\"12\"}" })).disposition, "Struck")
      assert.strictEqual((yield* store.explain("k"))._tag, "NoWorker")
      const worker = yield* attach()
      yield* worker.complete(yield* worker.claimOne)
    }))

  test("whole task struck, then one value struck and restored → still wholly struck", () =>
    Effect.gen(function*() {
      yield* Docket.strike(Work)
      yield* Docket.strike(Work, { where: { n: 1 } })
      yield* Docket.restore(Work, { where: { n: 1 } })
      for (const n of [1, 2]) assert.strictEqual((yield* Docket.add(Work, { n })).disposition, "Struck")
      yield* Docket.restore(Work)
      assert.strictEqual((yield* Docket.add(Work, { n: 1 })).disposition, "Added")
      yield* Docket.clear
    }).pipe(Effect.provide(Work.client)))

  test("struck twice, restored once → free; the last reason counts", () =>
    Effect.gen(function*() {
      yield* Docket.strike(Work, { where: { n: 1 }, reason: "first" })
      yield* Docket.strike(Work, { where: { n: 1 }, reason: "second" })
      const run = yield* Docket.add(Work, { n: 1 })
      assert.strictEqual(struckOf(yield* Effect.flip(run.await)), "second")
      yield* Docket.restore(Work, { where: { n: 1 } })
      assert.strictEqual((yield* Docket.add(Work, { n: 1 })).disposition, "Added")
      yield* Docket.clear
    }).pipe(Effect.provide(Work.client)))

  test("reason and author are kept, and shown to whoever meets the strike", () => {
    const handed = { reason: "broken", author: "grace" }
    const failureOf = (error: unknown) =>
      error instanceof TaskFailure.TaskFailure && error.reason._tag === "Struck"
        ? { reason: error.reason.reason, author: error.reason.author }
        : error
    return Effect.gen(function*() {
      const store = yield* stored
      const ready = yield* Docket.add(Work, { n: 1 }, { key: "ready" })
      yield* Docket.add(Work, { n: 2 }, { key: "later", after: longLease })
      const finished = yield* listen("ready")
      yield* Docket.strike(Work, handed)
      // when it is added, and in the answer of the seam
      const struck = yield* Docket.add(Work, { n: 3 })
      assert.strictEqual(struck.disposition, "Struck")
      const failure = yield* Effect.flip(struck.await)
      assert.deepStrictEqual<unknown>(failureOf(failure), handed)
      assert.include(String(failure), "it is struck by grace: broken")
      const [answer] = yield* store.add([addition("seam", { task: "Work", payload: "{\"n\":1}" })], { atomic: true })
      assert.deepStrictEqual({ reason: answer!.reason, author: answer!.author }, handed)
      // when it is claimed: the event, who waits, who looks later
      assert.deepStrictEqual(yield* (yield* attach({ tasks: new Map([["Work", 1]]) })).claim(), [])
      const { event } = yield* finished("Finished")
      assert.deepStrictEqual<unknown>(event._tag === "Finished" && event.outcome, { _tag: "Struck", ...handed })
      assert.deepStrictEqual<unknown>(failureOf(yield* Effect.flip(ready.await)), handed)
      assert.strictEqual((yield* store.get("ready"))!.payload, "", "it is not told as a payload")
      // a process that opens the docket now
      assert.deepStrictEqual<unknown>(
        yield* Effect.provide(Docket.explain("later"), wrapped((store) => store)),
        { _tag: "Struck", reason: "broken", author: Option.some("grace"), until: Option.none() }
      )
      yield* Docket.clear
    }).pipe(Effect.provide(noting([])))
  })

  test("struck by nobody in particular → no author, also of a strike that was stored before there were any", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* add("k", { due: { after: longLease } })
      for (const author of [undefined, ""]) {
        yield* Docket.strike(Work, { reason: "r", author })
        const failure = yield* Effect.flip((yield* Docket.add(Work, { n: 1 })).await)
        assert.include(String(failure), "it is struck: r")
      }
      yield* store.strike({ task: "T", where: [], reason: "r", until: undefined })
      const due = (yield* now) + longLease
      assert.deepStrictEqual(yield* add("new", { due: { at: due } }), {
        disposition: "Struck",
        generation: 0,
        due,
        reason: "r"
      })
      assert.deepStrictEqual(yield* store.explain("k"), {
        _tag: "Struck",
        reason: "r",
        author: Option.none(),
        until: Option.none()
      })
      yield* Docket.clear
    }).pipe(Effect.provide(Work.client)))

  test("what would be refused → told without a write; a key that is taken is not; all or nothing fails with the first", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const of = (n: number, key = `k${n}`) => addition(key, { payload: `{"n":${n}}` })
      assert.deepStrictEqual(yield* store.refused([]), [])
      assert.deepStrictEqual(yield* store.refused([of(1), of(2)]), [undefined, undefined])
      yield* store.add([of(1, "taken")], { atomic: true })
      const where = [{ field: "n", operator: "equals", values: [1], bigint: false }] as const
      yield* store.strike({ task: "T", where, reason: "r", author: "a", until: undefined })
      const refusal = { _tag: "Struck", reason: "r", author: "a" } as const
      assert.deepStrictEqual(
        yield* store.refused([of(0), of(1), of(1, "taken"), { ...of(1, "taken"), onExisting: "replace" }, of(2)]),
        [undefined, refusal, undefined, refusal, undefined]
      )
      const many = Array.from({ length: 1001 }, (_, i) => of(i % 2, `many${i}`))
      assert.strictEqual((yield* store.refused(many)).filter((one) => one !== undefined).length, 500)
      for (const additions of [[of(0), of(1), of(1, "other")], [of(1)]]) {
        const { reason } = yield* Effect.flip(store.add(additions, { atomic: true, onRefused: "fail" }))
        assert.deepStrictEqual({ ...reason }, { ...new DocketError.Struck({ key: "k1", reason: "r", author: "a" }) })
      }
      assert.strictEqual(yield* stateOf("k0"), undefined, "nothing was written")
      const added = yield* store.add([of(0), of(2), of(1, "taken")], { atomic: true, onRefused: "fail" })
      assert.deepStrictEqual(added.map(({ disposition }) => disposition), ["Added", "Added", "Existing"])
      assert.strictEqual(yield* Docket.clear, 3)
    }))

  test("strike with an end → ends by itself; its reason and end are shown", () =>
    Effect.gen(function*() {
      yield* Docket.add(Work, { n: 1 }, { key: "k", after: longLease })
      const until = DateTime.makeUnsafe((yield* now) + 200)
      yield* Docket.strike(Work, { reason: "until soon", until })
      if (!isLive) {
        assert.deepStrictEqual(yield* Docket.explain("k"), {
          _tag: "Struck",
          reason: "until soon",
          author: Option.none(),
          until: Option.some(until)
        })
      }
      const early = yield* Docket.add(Work, { n: 2 }, { key: "early" })
      yield* pass(200)
      // a machine that took longer than that has seen the end already
      if (!isLive) assert.strictEqual(early.disposition, "Struck")
      assert.strictEqual((yield* Docket.add(Work, { n: 2 }, { key: "late" })).disposition, "Added")
      assert.strictEqual((yield* Docket.explain("k"))._tag, "NotDue")
      yield* Docket.clear
    }).pipe(Effect.provide(Work.client)))

  test("a worker that starts later sees every strike before its first claim", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* store.add(["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"].map((payload, i) => addition(`k${i}`, { payload })), {
        atomic: true
      })
      for (const n of [1, 3]) {
        yield* store.strike({
          task: "T",
          where: [{ field: "n", operator: "equals", values: [n], bigint: false }],
          reason: "",
          until: undefined
        })
      }
      const claims = yield* (yield* attach()).claim()
      assert.deepStrictEqual(claims.map((claim) => claim.key), ["k1"])
      assert.deepStrictEqual([yield* stateOf("k0"), yield* stateOf("k2")], ["Skipped", "Skipped"])
    }), { running: 1 })

  test("a worker that was there, and heard nothing of the strike, sees it before its next claim", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach()
      yield* add("first")
      yield* worker.complete(yield* worker.claimOne)
      yield* add("second")
      yield* Effect.provide(
        Effect.flatMap(stored, (other) => other.strike({ task: "T", where: [], reason: "r", until: undefined })),
        wrapped((store) => store)
      )
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.strictEqual(yield* stateOf("second"), "Skipped")
      yield* store.restore({ task: "T", where: [] })
      yield* add("third")
      yield* worker.complete(yield* worker.claimOne)
    }))

  test("a running run is not touched by a strike; its retry is skipped", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* add("k")
      const worker = yield* attach()
      const claim = yield* worker.claimOne
      yield* store.strike({ task: "T", where: [], reason: "r", until: undefined })
      assert.strictEqual(yield* worker.renew(claim), "Renewed")
      yield* worker.settle(claim, { _tag: "Retry", after: 0, exit: "{}", failures: "1" })
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.deepStrictEqual(yield* store.outcome("k", claim.generation), { _tag: "Struck", reason: "r" })
    }))

  test("a payload that is no object, or no JSON, is struck with its whole task only", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const where = [{ field: "length", operator: "not", values: [0], bigint: false }] as const
      yield* store.strike({ task: "T", where, reason: "", until: undefined })
      for (const payload of ["\"text\"", "1", "null", "{"]) {
        assert.strictEqual((yield* add(payload, { payload })).disposition, "Added")
      }
      yield* store.strike({ task: "T", where: [], reason: "", until: undefined })
      assert.strictEqual((yield* add("k", { payload: "null" })).disposition, "Struck")
      assert.strictEqual(yield* Docket.clear, 4)
    }))

  for (
    const [name, pause] of [
      ["task", { task: "T", lane: undefined }],
      ["lane", { task: undefined, lane: "slow" }],
      ["docket", { task: undefined, lane: undefined }],
      ["task in a lane", { task: "T", lane: "slow" }]
    ] as const
  ) {
    test(
      `paused ${name} → runs wait, nothing is dropped; resumed → they run in their order`,
      () =>
        Effect.gen(function*() {
          const store = yield* stored
          const slow = { lane: "slow" }
          yield* add("first", slow)
          yield* store.pause(pause, "lunch")
          yield* add("second", slow)
          yield* add("third", { ...slow, due: { after: 50 } })
          yield* add("other", { task: "U", lane: "fast" })
          yield* pass(50)
          const worker = yield* attach({ tasks: new Map([["T", 1], ["U", 1]]), lanes: ["slow", "fast"] })
          const free = yield* worker.claim()
          assert.deepStrictEqual(free.map((claim) => claim.key), name === "docket" ? [] : ["other"])
          for (const key of ["first", "second", "third"]) {
            assert.strictEqual(yield* stateOf(key), "Held")
            assert.deepStrictEqual(yield* store.explain(key), { _tag: "Paused", reason: "lunch" })
          }
          yield* worker.turn({ capacity: 4 })
          yield* store.resume(pause)
          yield* worker.woken
          assert.deepStrictEqual(
            (yield* worker.claim()).map((claim) => claim.key).filter((key) => key !== "other"),
            ["first", "second", "third"]
          )
        }),
      { running: 4 }
    )
  }

  test(
    "paused twice by different names → both have to be resumed; resuming what is not paused does nothing",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* add("k")
        const worker = yield* attach()
        yield* store.resume({ task: "T", lane: undefined })
        yield* store.pause({ task: "T", lane: undefined }, "one")
        yield* store.pause({ task: "T", lane: undefined }, "two")
        yield* store.pause({ task: undefined, lane: undefined }, "all")
        yield* store.resume({ task: "T", lane: undefined })
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* store.resume({ task: undefined, lane: undefined })
        assert.strictEqual((yield* worker.claimOne).key, "k")
      }),
    { running: 1 }
  )

  test("pause while a body runs → it finishes; the next waits for the resume", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      yield* start(Works, { concurrency: 1 })
      const first = yield* Docket.add(Work, { n: 1 })
      assert.strictEqual(yield* first.await, 1)
      yield* Docket.pause({ task: Work, reason: "deploy" })
      const second = yield* Docket.add(Work, { n: 2 })
      assert.deepStrictEqual(yield* Docket.explain(second.key), { _tag: "Paused", reason: "deploy" })
      yield* Docket.resume({ task: Work })
      assert.strictEqual(yield* second.await, 2)
      assert.deepStrictEqual(seen, [1, 2])
    }).pipe(Effect.provide(live(Work, ({ n }) =>
      Effect.sync(() => {
        seen.push(n)
        return n
      }))))
  })
}
