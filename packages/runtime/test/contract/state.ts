/**
 * State, results, progress, events.
 */
import { Docket, Execution, Progress, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Ref, Schedule, Schema, Stream } from "effect"
import * as DocketEngine from "../../src/DocketEngine.ts"
import type { StoredDocket } from "../../src/DocketStore.ts"
import {
  Boom,
  type Kit,
  live,
  longLease,
  noting,
  shortLease,
  signal,
  start,
  stateOf,
  stored,
  telling,
  Work,
  Works,
  wrapped
} from "./kit.ts"
import { add, attach, exit, failure, listen } from "./seam.ts"

class Loading extends Task.make("Loading", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Boom,
  progress: Schema.Struct({ loaded: Schema.BigInt, of: Schema.Int }),
  retry: Schedule.recurs(1)
}) {}

class Fleeting extends Task.make("Fleeting", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Boom,
  retention: 0
}) {}

const goneOf = (error: unknown): string => error instanceof TaskFailure.TaskFailure ? error.reason._tag : String(error)

const states = Stream.map((event: { readonly _tag: string }) => event._tag)

/** The tests of this part. */
export const state = ({ drain, eventually, isLive, pass, passing, test }: Kit): void => {
  test("handle of an add → poll and await give the typed exit, from any process that knows the task", () => {
    const gate = signal()
    return Effect.gen(function*() {
      yield* start(Works)
      const added = yield* Docket.add(Work, { n: 7 }, { key: "k" })
      assert.deepStrictEqual(yield* added.poll, Option.none())
      const elsewhere = Layer.fresh(DocketEngine.layer({ name: (yield* stored).name }))
      yield* Effect.gen(function*() {
        const found = yield* Effect.flatMap(Docket.get(Work, "k"), Effect.fromOption)
        const waiter = yield* Effect.forkChild(found.await)
        yield* gate.open
        assert.strictEqual(yield* Fiber.join(waiter), 7)
        assert.deepStrictEqual(yield* found.poll, Option.some(Exit.succeed(7)))
        assert.isTrue(Option.isNone(yield* Docket.get(Loading, "k")), "a key of another task")
      }).pipe(Effect.provide(elsewhere))
      assert.deepStrictEqual(yield* added.poll, Option.some(Exit.succeed(7)))
    }).pipe(Effect.provide(live(Work, ({ n }) => Effect.as(gate.await, n))))
  })

  test("waiting before, during and after completion → the value; three waiters → all", () => {
    const started = signal()
    const gate = signal()
    return Effect.gen(function*() {
      const run = yield* Docket.add(Work, { n: 1 })
      const before = yield* Effect.forkChild(run.await, { startImmediately: true })
      yield* start(Works)
      yield* started.await
      const during = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(run.await, { startImmediately: true }))
      yield* gate.open
      assert.deepStrictEqual(yield* Effect.forEach([before, ...during], Fiber.join), [1, 1, 1, 1])
      assert.strictEqual(yield* run.await, 1)
    }).pipe(Effect.provide(live(Work, ({ n }) => Effect.as(Effect.andThen(started.open, gate.await), n))))
  })

  test("an end between subscribe and read, or before both → changes end with it, nothing is missed", () => {
    const complete = Effect.gen(function*() {
      const worker = yield* attach({ tasks: new Map([["Work", 1]]) })
      yield* worker.settle(yield* worker.claimOne, { _tag: "Completed", exit: exit(5) })
    }).pipe(Effect.scoped, Effect.orDie)
    return Effect.gen(function*() {
      const original = yield* DocketEngine.DocketEngine
      const racing = wrapped((store): StoredDocket => ({
        ...store,
        subscribe: (key) =>
          Effect.tap(store.subscribe(key), () => Effect.provideService(complete, DocketEngine.DocketEngine, original))
      }))
      yield* Effect.gen(function*() {
        const run = yield* Docket.add(Work, { n: 1 })
        const events = yield* Stream.runCollect(run.changes)
        assert.deepStrictEqual(events.map((event) => event._tag), ["Finished"])
        const [last] = events
        assert.deepStrictEqual(last?._tag === "Finished" ? last.exit : undefined, Exit.succeed(5))
      }).pipe(Effect.provide(Work.client.pipe(Layer.provideMerge(racing))))
      const run = yield* Docket.add(Work, { n: 2 }, { key: "k" }).pipe(Effect.provide(Work.client))
      yield* complete
      assert.deepStrictEqual((yield* Stream.runCollect(run.changes)).map((event) => event._tag), ["Finished"])
    })
  })

  test("waiting with a time limit on a run that hangs → the timeout of the caller; the run is untouched", () => {
    const started = signal()
    const gate = signal()
    return Effect.gen(function*() {
      yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 })
      yield* started.await
      const waited = yield* passing(Effect.exit(Effect.timeout(run.await, 20)))
      assert.isTrue(Exit.isFailure(waited))
      assert.strictEqual(yield* stateOf(run.key), "Running")
      yield* gate.open
      assert.strictEqual(yield* run.await, 1)
    }).pipe(Effect.provide(live(Work, ({ n }) => Effect.as(Effect.andThen(started.open, gate.await), n))))
  })

  test("unknown or expired run → a typed answer of its own", () =>
    Effect.gen(function*() {
      const store = yield* stored
      assert.deepStrictEqual(yield* store.outcome("k", 1), { _tag: "Gone" })
      assert.deepStrictEqual(yield* store.awaitOutcome("k", 1), { _tag: "Gone" })
      assert.deepStrictEqual(yield* store.explain("k"), { _tag: "Unknown" })
      assert.strictEqual(yield* store.get("k"), undefined)
      assert.isTrue(Option.isNone(yield* Docket.get(Work, "k")))
      const run = yield* Docket.add(Work, { n: 1 })
      assert.strictEqual(yield* Docket.clear, 1)
      assert.strictEqual(goneOf(yield* Effect.flip(run.await)), "Gone")
      const polled = Option.getOrThrow(yield* run.poll)
      assert.isTrue(Exit.isFailure(polled))
      assert.deepStrictEqual((yield* Stream.runCollect(run.changes)).map((event) => event._tag), ["Finished"])
    }).pipe(Effect.provide(Work.client)))

  test("retention zero with a live waiter → the real value or the real error; afterwards no key is left", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const [good, bad] = yield* Docket.addAll([[Fleeting, { n: 1 }, { key: "good" }], [Fleeting, { n: 0 }, {
        key: "bad"
      }]])
      const waiters = yield* Effect.forEach(
        [good, bad],
        (run) => Effect.forkChild(Effect.result(run.await), { startImmediately: true })
      )
      // whoever is heard now comes after them
      yield* listen()
      yield* drain(TaskGroup.make(Fleeting))
      const [value, error] = yield* Effect.forEach(waiters, Fiber.join)
      assert.isTrue(value?._tag === "Success" && value.success === 1)
      assert.deepStrictEqual(error?._tag === "Failure" && error.failure, new Boom({ n: 0 }))
      for (const key of ["good", "bad"]) {
        assert.strictEqual(yield* store.get(key), undefined)
        assert.deepStrictEqual(yield* store.explain(key), { _tag: "Unknown" })
      }
      assert.deepStrictEqual(yield* Stream.runCollect(store.deadLetters("Fleeting")), [])
      assert.strictEqual(goneOf(yield* Effect.flip(good.await)), "Gone")
    }).pipe(Effect.provide(live(Fleeting, ({ n }) => n === 0 ? Effect.fail(new Boom({ n })) : Effect.succeed(n)))))

  for (const retention of [0, longLease]) {
    test(`a waiter adds the key again the moment it is told (retention ${retention}) → the new run is there, and stays`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        const kept = { retention: { success: retention, failure: retention } }
        const { generation } = yield* add("k", kept)
        const again = yield* Effect.forkChild(
          Effect.andThen(store.awaitOutcome("k", generation), add("k", { ...kept, payload: "2" })),
          { startImmediately: true }
        )
        const worker = yield* attach()
        yield* worker.complete(yield* worker.claimOne)
        const second = yield* Fiber.join(again)
        assert.strictEqual(second.disposition, "Added")
        assert.strictEqual((yield* store.get("k"))?.generation, second.generation)
        const claim = yield* worker.claimOne
        assert.strictEqual(claim.payload, "2")
        assert.strictEqual(yield* worker.complete(claim), "Applied")
      }))
  }

  test("events of a future run: scheduled, ready, started, finished, in that order, each once", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const events = yield* Effect.forkChild(
        Stream.runCollect(
          Stream.takeUntil(
            Stream.fromQueue(yield* store.subscribe(undefined)),
            ({ event }) => event._tag === "Finished"
          )
        )
      )
      const run = yield* Docket.add(Work, { n: 1 }, { after: 50 })
      yield* drain(Works)
      const seen = yield* Fiber.join(events)
      assert.deepStrictEqual(seen.map(({ event, key, task }) => [event._tag, key, task]), [
        ["Scheduled", run.key, "Work"],
        ["Ready", run.key, "Work"],
        ["Started", run.key, "Work"],
        ["Finished", run.key, "Work"]
      ])
      const times = seen.map(({ event }) => event.at)
      assert.deepStrictEqual(times.toSorted((a, b) => a - b), times)
    }).pipe(Effect.provide(noting([]))))

  test("subscriber of a run gets its state and its typed progress in order, and ends with it; so does everybody's", () => {
    const subscribed = signal()
    return Effect.gen(function*() {
      const run = yield* Docket.add(Loading, { n: 1 }, { key: "k", after: longLease })
      yield* Docket.add(Loading, { n: 2 }, { key: "other" })
      const own = yield* Effect.forkChild(Stream.runCollect(run.changes))
      yield* subscribed.await
      yield* Docket.replace(Loading, { n: 1 }, { key: "k" })
      yield* drain(TaskGroup.make(Loading))
      const seen = yield* Fiber.join(own)
      assert.deepStrictEqual(
        seen.map((event) => event._tag === "Progress" ? event.value : event._tag),
        ["Replaced", "Ready", "Started", { loaded: 1n, of: 1 }, { loaded: 2n, of: 1 }, "Finished"]
      )
    }).pipe(Effect.provide(
      live(Loading, ({ n }) =>
        Effect.gen(function*() {
          yield* Progress.report(Loading, { loaded: 1n, of: n })
          yield* Progress.report(Loading, { loaded: 2n, of: n })
          return n
        })).pipe(Layer.provideMerge(telling(subscribed)))
    ))
  })

  test("events of the whole docket, without the schemas of its tasks", () => {
    const subscribed = signal()
    return Effect.gen(function*() {
      const all = yield* Effect.forkChild(
        Stream.runCollect(Stream.takeUntil(Docket.events, ({ event }) => event._tag === "Finished"))
      )
      yield* subscribed.await
      const run = yield* Docket.add(Work, { n: 1 })
      yield* drain(Works)
      const seen = yield* Fiber.join(all)
      assert.deepStrictEqual(seen.map(({ event }) => event._tag), ["Ready", "Started", "Finished"])
      assert.isTrue(seen.every(({ key, task }) => key === run.key && task === "Work"))
    }).pipe(Effect.provide(noting([]).pipe(Layer.provideMerge(telling(subscribed)))))
  })

  test("progress from parallel fibers adds up; each of two runs sees its own; reset on the next attempt; gone after the end", () => {
    const halfway = [signal(), signal()]
    const gates = [signal(), signal()]
    const second = signal()
    const end = signal()
    return Effect.gen(function*() {
      const store = yield* stored
      yield* start(TaskGroup.make(Loading))
      const runs = yield* Docket.addAll([[Loading, { n: 0 }], [Loading, { n: 1 }]])
      const progress = (i: 0 | 1) =>
        Effect.map(
          store.get(runs[i].key),
          (run) => run!.progress === undefined ? undefined : JSON.parse(run!.progress) as unknown
        )
      for (const i of [0, 1] as const) {
        yield* halfway[i]!.await
        assert.deepStrictEqual(yield* progress(i), { loaded: "10", of: i })
      }
      yield* gates[0]!.open
      yield* second.await
      assert.strictEqual(yield* progress(0), undefined)
      assert.deepStrictEqual(yield* progress(1), { loaded: "10", of: 1 })
      yield* Effect.andThen(end.open, gates[1]!.open)
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), [0, 1])
      assert.deepStrictEqual([yield* progress(0), yield* progress(1)], [undefined, undefined])
    }).pipe(Effect.provide(live(Loading, ({ n }) =>
      Effect.gen(function*() {
        const { attempt } = yield* Execution.CurrentExecution
        if (attempt === 2) {
          yield* Effect.andThen(second.open, end.await)
          return n
        }
        const loaded = yield* Ref.make(0n)
        yield* Effect.forEach(Array.from({ length: 10 }), () =>
          Effect.flatMap(
            Ref.updateAndGet(loaded, (before) => before + 1n),
            (loaded) => Progress.report(Loading, { loaded, of: n })
          ), { concurrency: 10, discard: true })
        yield* Effect.andThen(halfway[n]!.open, gates[n]!.await)
        return n === 0 ? yield* new Boom({ n }) : n
      }))))
  })

  test("settled runs expire after their retention; nothing else does", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach()
      const kept = { retention: { success: 100, failure: 2 * longLease } }
      for (const key of ["completed", "failed", "cancelled", "pending", "running"]) {
        yield* add(key, key === "pending" ? { ...kept, due: { after: 2 * longLease } } : kept)
      }
      const claims = yield* worker.claim(4)
      assert.deepStrictEqual(claims.map((claim) => claim.key), ["completed", "failed", "cancelled", "running"])
      yield* worker.complete(claims[0]!)
      yield* worker.settle(claims[1]!, { _tag: "Failed", exit: failure })
      yield* worker.settle(claims[2]!, { _tag: "Cancelled" })
      if (!isLive) {
        yield* pass(99)
        assert.deepStrictEqual(yield* Effect.forEach(["completed", "cancelled"], stateOf), ["Completed", "Cancelled"])
      }
      for (const key of ["completed", "cancelled"]) {
        yield* eventually(Effect.map(stateOf(key), (state) => state === undefined))
      }
      assert.deepStrictEqual(
        yield* Effect.forEach(["completed", "failed", "cancelled", "pending", "running"], stateOf),
        [undefined, "Failed", undefined, "Scheduled", "Running"]
      )
      assert.deepStrictEqual((yield* Stream.runCollect(store.deadLetters("T"))).map((letter) => letter.key), ["failed"])
    }), { running: 1, pending: 1 })

  test("a run settles after its lease ran out and before anybody took it over → one of the two counts", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const { generation } = yield* add("k")
      const slow = yield* attach({ worker: "slow", lease: shortLease })
      const claim = yield* slow.claimOne
      yield* pass(shortLease)
      const settled = yield* slow.complete(claim)
      const outcome = yield* store.outcome("k", generation)
      assert.strictEqual(settled, outcome === undefined ? "Lost" : "Applied")
      const again = yield* slow.claim()
      assert.strictEqual(again.length, outcome === undefined ? 1 : 0)
      for (const second of again) assert.strictEqual(yield* slow.complete(second), "Applied")
    }))

  test("a perpetual run settles → its outcome and its successor are one write; a waiter gets the value of this cycle", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const { generation } = yield* add("k", { payload: "1" })
      const worker = yield* attach()
      const claim = yield* worker.claimOne
      const waiter = yield* Effect.forkChild(store.awaitOutcome("k", generation), { startImmediately: true })
      const successor = { due: { after: longLease }, payload: "2", version: 1 }
      assert.strictEqual(yield* worker.settle(claim, { _tag: "Completed", exit: "first" }, successor), "Applied")
      assert.deepStrictEqual(yield* Fiber.join(waiter), { _tag: "Exit", exit: "first" })
      assert.strictEqual(yield* worker.settle(claim, { _tag: "Completed", exit: "first" }, successor), "Duplicate")
      const next = (yield* store.get("k"))!
      assert.deepStrictEqual([next.state, next.payload, next.attempt], ["Scheduled", "2", 0])
      assert.isAbove(next.generation, generation)
      assert.deepStrictEqual(yield* store.outcome("k", generation), { _tag: "Exit", exit: "first" })
      assert.strictEqual(yield* store.outcome("k", next.generation), undefined)
      const later = yield* Effect.forkChild(store.awaitOutcome("k", next.generation), { startImmediately: true })
      yield* store.cancel("k")
      assert.deepStrictEqual(yield* Fiber.join(later), { _tag: "Cancelled" })
    }))

  test("handle changes of a replaced run → it follows its key to the end", () => {
    const subscribed = signal()
    return Effect.gen(function*() {
      const run = yield* Docket.add(Work, { n: 1 }, { key: "k", after: longLease })
      const events = yield* Effect.forkChild(Stream.runCollect(states(run.changes)))
      yield* subscribed.await
      yield* Docket.replace(Work, { n: 2 }, { key: "k" })
      yield* drain(Works)
      assert.deepStrictEqual(yield* Fiber.join(events), ["Replaced", "Ready", "Started", "Finished"])
    }).pipe(Effect.provide(noting([]).pipe(Layer.provideMerge(telling(subscribed)))))
  })

  test("somebody who listens to one key does not hear of others", () =>
    Effect.gen(function*() {
      const next = yield* listen("k")
      yield* add("other")
      yield* add("k")
      assert.strictEqual((yield* next("Ready")).key, "k")
      yield* Docket.clear
    }))
}
