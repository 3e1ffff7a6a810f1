/**
 * Operating: snapshot, counts, explain, clear.
 */
import { Docket } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { DateTime, Effect, Fiber, Option, Stream } from "effect"
import { type Kit, longLease, stateOf, stored, Work } from "./kit.ts"
import { add, addition, attach, exit, failure } from "./seam.ts"

const everything = { task: undefined, lane: undefined }

/** The tests of this part. */
export const operating = ({ pass, test }: Kit): void => {
  test(
    "snapshot with 100,000 runs → every run once, by time; counts per state and per task are exact",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        const size = 100_000
        const chunk = 5000
        const one = (i: number) =>
          addition(`k${i}`, {
            task: i % 4 === 0 ? "U" : "T",
            payload: String(i),
            due: i % 2 === 0 ? { after: 0 } : { after: longLease * 10 + i }
          })
        for (let from = 0; from < size; from += chunk) {
          yield* store.add(Array.from({ length: chunk }, (_, i) => one(from + i)), { atomic: false })
        }
        const worker = yield* attach()
        assert.strictEqual((yield* worker.claim(10)).length, 10)
        const keys = new Set<string>()
        let previous = 0
        let running = 0
        yield* Stream.runForEach(store.snapshot, (run) =>
          Effect.sync(() => {
            if (run.due < previous) assert.fail(`${run.key} comes too late`)
            previous = run.due
            keys.add(run.key)
            if (run.state === "Running") running++
          }))
        assert.deepStrictEqual([keys.size, running], [size, 10])
        assert.deepStrictEqual((yield* store.counts).toSorted((a, b) => a.task.localeCompare(b.task)), [
          { task: "T", lane: "default", scheduled: 50_000, ready: 24_990, held: 0, running: 10 },
          { task: "U", lane: "default", scheduled: 0, ready: 0, held: 25_000, running: 0 }
        ])
        assert.strictEqual(yield* store.clear, size - 10)
      }),
    { running: 10 }
  )

  test(
    "a snapshot shows pending and running runs, each with its state, attempt, worker and payload",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* add("done")
        const worker = yield* attach({ worker: "w1" })
        yield* worker.complete(yield* worker.claimOne)
        yield* add("running", { payload: "{\"n\":1}", due: { at: 3 } })
        yield* worker.claimOne
        yield* add("ready", { due: { at: 1 } })
        yield* add("held", { task: "U", due: { at: 2 } })
        yield* add("scheduled", { due: { after: longLease } })
        const runs = yield* Stream.runCollect(Docket.snapshot)
        assert.deepStrictEqual(runs.map(({ key, state, task }) => [key, state, task]), [
          ["ready", "Ready", "T"],
          ["held", "Held", "U"],
          ["running", "Running", "T"],
          ["scheduled", "Scheduled", "T"]
        ])
        const { attempt, payload, scheduledAt, worker: name } = runs[2]!
        assert.deepStrictEqual([attempt, payload, DateTime.toEpochMillis(scheduledAt), name], [
          1,
          { n: 1 },
          3,
          Option.some("w1")
        ])
        assert.strictEqual(yield* store.clear, 3)
      }),
    { running: 1 }
  )

  test("explain K → why it is not running", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const explain = Effect.suspend(() => store.explain("k"))
      assert.deepStrictEqual(yield* explain, { _tag: "Unknown" })
      const { due, generation } = yield* add("k", { due: { after: longLease }, payload: "{\"n\":1}" })
      assert.deepStrictEqual(yield* explain, { _tag: "NotDue", at: DateTime.makeUnsafe(due) })
      const where = [{ field: "n", operator: "equals", values: [1], bigint: false }] as const
      yield* store.strike({ task: "T", where, reason: "broken", until: undefined })
      assert.deepStrictEqual(yield* explain, {
        _tag: "Struck",
        reason: "broken",
        author: Option.none(),
        until: Option.none()
      })
      yield* store.restore({ task: "T", where })
      yield* add("before")
      yield* add("k", { onExisting: "replace" })
      assert.deepStrictEqual(yield* explain, { _tag: "NoWorker", lane: "default" })
      yield* store.pause(everything, "lunch")
      assert.deepStrictEqual(yield* explain, { _tag: "Paused", reason: "lunch" })
      yield* store.resume(everything)
      const worker = yield* attach({ worker: "w1" })
      assert.deepStrictEqual(yield* explain, { _tag: "Waiting", lane: "default", ready: 2 })
      const [first, claim] = yield* worker.claim()
      yield* worker.complete(first!)
      assert.deepStrictEqual(yield* explain, {
        _tag: "Running",
        worker: "w1",
        since: DateTime.makeUnsafe(claim!.startedAt)
      })
      yield* worker.settle(claim!, { _tag: "Retry", after: longLease, exit: failure, failures: "1" })
      const next = (yield* store.get("k"))!.due
      assert.isAtLeast(next, claim!.startedAt + longLease)
      assert.deepStrictEqual(yield* explain, { _tag: "Retrying", attempt: 1, next: DateTime.makeUnsafe(next) })
      yield* store.cancel("k")
      const ended = yield* explain
      assert.strictEqual(ended._tag, "Finished")
      assert.isAtLeast(ended._tag === "Finished" ? DateTime.toEpochMillis(ended.at) : 0, claim!.startedAt)
      assert.deepStrictEqual(yield* store.outcome("k", generation), { _tag: "Cancelled" })
    }))

  test("due, and nobody has its handler → held and counted as such, and explain says why", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach()
      yield* add("later", { task: "U", due: { after: longLease } })
      yield* add("k", { task: "U", due: { after: 20 } })
      yield* pass(20)
      yield* worker.turn({})
      assert.deepStrictEqual([yield* stateOf("later"), yield* stateOf("k")], ["Scheduled", "Held"])
      assert.deepStrictEqual(yield* store.explain("k"), { _tag: "NoWorker", lane: "default" })
      const [counts] = yield* store.counts
      assert.deepStrictEqual([counts!.scheduled, counts!.held], [1, 1])
      const runs = yield* Stream.runCollect(store.snapshot)
      assert.strictEqual(runs.find(({ key }) => key === "k")!.state, "Held")
      assert.strictEqual(yield* store.clear, 2)
    }))

  test("clear → pending runs gone, keys free again, running bodies untouched, strikes kept; returns the count", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach()
      yield* add("done")
      yield* worker.complete(yield* worker.claimOne)
      yield* add("running")
      const claim = yield* worker.claimOne
      const { generation } = yield* add("k", { due: { after: longLease } })
      yield* add("ready")
      yield* add("held", { task: "U" })
      yield* store.strike({ task: "Struck", where: [], reason: "", until: undefined })
      const waiter = yield* Effect.forkChild(store.awaitOutcome("k", generation), { startImmediately: true })
      assert.strictEqual(yield* Docket.clear, 3)
      assert.strictEqual(yield* Docket.clear, 0)
      assert.deepStrictEqual(yield* Fiber.join(waiter), { _tag: "Gone" })
      assert.deepStrictEqual(
        yield* Effect.forEach(["done", "running", "k", "ready", "held"], stateOf),
        ["Completed", "Running", undefined, undefined, undefined]
      )
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.strictEqual(yield* worker.complete(claim), "Applied")
      assert.strictEqual((yield* add("k")).disposition, "Added")
      assert.strictEqual((yield* add("struck", { task: "Struck" })).disposition, "Struck")
      assert.strictEqual(yield* store.clear, 1)
    }))

  test("clear of a perpetual run → nothing is known of an earlier cycle of its key either", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach()
      yield* add("k")
      yield* worker.settle(yield* worker.claimOne, { _tag: "Completed", exit: exit(null) }, {
        due: { after: longLease },
        payload: "{}",
        version: 1
      })
      assert.strictEqual(yield* store.clear, 1)
      assert.isUndefined(yield* store.get("k"))
      // one that is not pending is left alone
      yield* add("ended")
      yield* worker.complete(yield* worker.claimOne)
      assert.strictEqual(yield* store.clear, 0)
      assert.strictEqual((yield* store.get("ended"))?.state, "Completed")
    }))

  test("a handle of a cleared run → Gone, and its key is free", () =>
    Effect.gen(function*() {
      const first = yield* Docket.add(Work, { n: 1 }, { key: "k" })
      const changes = yield* Effect.forkChild(Stream.runCollect(first.changes), { startImmediately: true })
      yield* Docket.clear
      // however early it was cleared: the stream ends, with the same answer as the handle
      const last = (yield* Fiber.join(changes)).at(-1)
      assert.strictEqual(last?._tag, "Finished")
      assert.deepStrictEqual(last?._tag === "Finished" && last.exit, yield* Effect.exit(first.await))
      const again = yield* Docket.add(Work, { n: 2 }, { key: "k", after: longLease })
      assert.strictEqual(again.disposition, "Added")
      assert.isAtLeast(DateTime.toEpochMillis(again.scheduledAt), DateTime.toEpochMillis(first.scheduledAt) + longLease)
      yield* again.cancel
    }).pipe(Effect.provide(Work.client)))
}
