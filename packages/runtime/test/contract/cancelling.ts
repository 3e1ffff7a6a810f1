/**
 * Cancelling.
 */
import { Docket, Perpetual, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Schedule, Schema } from "effect"
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
  Work,
  Works,
  wrapped
} from "./kit.ts"
import { add, attach, exit, failure, listen, pendingStates, settledStates } from "./seam.ts"

class Stubborn extends Task.make("Stubborn", {
  payload: { n: Schema.Int },
  error: Boom,
  retry: Schedule.recurs(5),
  defectRetryPolicy: Schedule.recurs(5),
  timeout: "1 hour",
  perpetual: { every: "1 minute" }
}) {}

const reasonOf = (error: unknown): string =>
  error instanceof TaskFailure.TaskFailure ? error.reason._tag : String(error)

/** The tests of this part. */
export const cancelling = ({ drain, pass, test }: Kit): void => {
  for (const [name, arrange] of Object.entries(pendingStates)) {
    test(`K pending (${name}) → cancel → never runs, waiters are told at once, the state and an event say so`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* arrange
        const { generation } = (yield* store.get("k"))!
        const next = yield* listen("k")
        const waiter = yield* Effect.forkChild(store.awaitOutcome("k", generation), { startImmediately: true })
        assert.strictEqual(yield* store.cancel("k"), true)
        assert.deepStrictEqual(yield* Fiber.join(waiter), { _tag: "Cancelled" })
        const { event } = yield* next("Finished")
        assert.deepStrictEqual(event._tag === "Finished" && event.outcome, { _tag: "Cancelled" })
        assert.strictEqual((yield* store.get("k"))!.state, "Cancelled")
        const explained = yield* store.explain("k")
        assert.strictEqual(explained._tag, "Finished")
        yield* store.resume({ task: undefined, lane: undefined })
        assert.deepStrictEqual(yield* (yield* attach()).claim(), [])
      }))
  }

  test("K's worker died → cancel → the redelivery never runs the body", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const { generation } = yield* add("k")
      const silent = yield* attach({ worker: "silent", lease: shortLease })
      const claim = yield* silent.claimOne
      assert.strictEqual(yield* store.cancel("k"), true)
      yield* pass(shortLease)
      const other = yield* attach({ worker: "other" })
      assert.deepStrictEqual(yield* other.claim(), [])
      assert.deepStrictEqual(yield* store.outcome("k", generation), { _tag: "Cancelled" })
      assert.strictEqual(yield* silent.complete(claim), "Lost")
    }))

  test("running K → cancel → its worker is woken and told, by its turn and by its renewal", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* add("k")
      const worker = yield* attach({ worker: "one" })
      const other = yield* attach({ worker: "other" })
      const claim = yield* worker.claimOne
      assert.strictEqual(yield* store.cancel("k"), true)
      yield* worker.woken
      assert.deepStrictEqual((yield* other.turn()).cancelled, [])
      assert.deepStrictEqual((yield* worker.turn()).cancelled, [claim.token])
      assert.deepStrictEqual((yield* worker.turn()).cancelled, [], "told once")
      assert.strictEqual(yield* worker.renew(claim), "Cancelled")
      assert.strictEqual((yield* store.get("k"))!.state, "Running")
      assert.strictEqual(yield* worker.settle(claim, { _tag: "Cancelled" }), "Applied")
      assert.strictEqual((yield* store.get("k"))!.state, "Cancelled")
    }))

  for (
    const change of [
      { _tag: "Retry", after: 0, exit: "{}", failures: "1" },
      { _tag: "Snooze", after: 0 },
      { _tag: "Released" }
    ] as const
  ) {
    test(`running K → cancel → it ends otherwise (${change._tag}) → cancelled, it does not run again`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* add("k")
        const worker = yield* attach()
        const claim = yield* worker.claimOne
        yield* store.cancel("k")
        assert.strictEqual(yield* worker.settle(claim, change), "Applied")
        assert.strictEqual((yield* store.get("k"))!.state, "Cancelled")
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))
  }

  test("running K → cancel → the body is interrupted, its finalizers run, state cancelled", () => {
    const started = signal()
    const finalized: Array<string> = []
    return Effect.gen(function*() {
      yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 })
      yield* started.await
      assert.strictEqual(yield* run.cancel, true)
      assert.strictEqual(reasonOf(yield* Effect.flip(run.await)), "Cancelled")
      assert.deepStrictEqual(finalized, ["interrupted", "scope closed"])
      assert.strictEqual(yield* stateOf(run.key), "Cancelled")
      assert.strictEqual(yield* run.cancel, false)
    }).pipe(Effect.provide(live(Work, () =>
      Effect.gen(function*() {
        yield* Effect.addFinalizer(() => Effect.sync(() => finalized.push("scope closed")))
        yield* started.open
        return yield* Effect.onInterrupt(Effect.never, () => Effect.sync(() => finalized.push("interrupted")))
      }))))
  })

  for (
    const [change, state] of [
      [{ _tag: "Completed", exit: exit(1) }, "Completed"],
      [{ _tag: "Failed", exit: failure }, "Failed"]
    ] as const
  ) {
    test(`running K → cancel → it ends all the same (${state}) → that counts, without a successor`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        const { generation } = yield* add("k")
        const worker = yield* attach()
        const claim = yield* worker.claimOne
        yield* store.cancel("k")
        const successor = { due: { after: 0 }, payload: "2", version: 1 }
        assert.strictEqual(yield* worker.settle(claim, change, successor), "Applied")
        assert.strictEqual((yield* store.get("k"))!.state, state)
        assert.deepStrictEqual(yield* store.outcome("k", generation), { _tag: "Exit", exit: change.exit })
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))
  }

  test("a body that cannot be interrupted → it goes on to its end, and then the run is cancelled", () => {
    const started = signal()
    const heard = signal()
    const gate = signal()
    return Effect.gen(function*() {
      yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 })
      yield* started.await
      yield* run.cancel
      yield* heard.await
      assert.strictEqual(yield* stateOf(run.key), "Running")
      yield* gate.open
      assert.strictEqual(reasonOf(yield* Effect.flip(run.await)), "Cancelled")
    }).pipe(
      Effect.provide(
        live(Work, ({ n }) =>
          Effect.uninterruptibleMask((restore) =>
            started.open.pipe(
              Effect.andThen(Effect.exit(restore(Effect.never))),
              Effect.andThen(heard.open),
              Effect.andThen(gate.await),
              Effect.as(n)
            )
          ))
      )
    )
  })

  test("running K with retries, perpetual, with a timeout → cancel → one start, cancelled, no retry, no successor", () => {
    const started = signal()
    let starts = 0
    return Effect.gen(function*() {
      const worker = yield* start(TaskGroup.make(Stubborn))
      const run = yield* Docket.add(Stubborn, { n: 1 }, { key: "k" })
      yield* started.await
      yield* run.cancel
      assert.strictEqual(reasonOf(yield* Effect.flip(run.await)), "Cancelled")
      yield* worker.stop
      assert.strictEqual(starts, 1)
      assert.strictEqual(yield* stateOf("k"), "Cancelled")
    }).pipe(Effect.provide(live(Stubborn, () =>
      Effect.gen(function*() {
        starts++
        yield* Perpetual.Perpetual.use((perpetual) => perpetual.after(0))
        yield* started.open
        return yield* Effect.never
      }))))
  })

  for (const [name, arrange] of Object.entries(settledStates)) {
    test(`settled K (${name}) → cancel → unchanged`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* arrange
        const before = yield* store.get("k")
        assert.strictEqual(yield* store.cancel("k"), false)
        assert.deepStrictEqual(yield* store.get("k"), before)
      }))
  }

  test("unknown K → cancel → a value that says so, no error", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Docket.cancel("nobody"), false)
    }))

  test("cancel between claim and start → the body does not start, the worker goes on", () => {
    const seen: Array<number> = []
    const started = signal()
    const gate = signal()
    // a worker that is given one run more than it has slots for, as it would claim ahead of a fast handler
    const ahead = wrapped((store) => ({
      ...store,
      attach: (options) =>
        Effect.map(store.attach(options), (session) => ({
          ...session,
          turn: (request) =>
            session.turn({ ...request, capacity: request.capacity === 0 || seen.length > 0 ? request.capacity : 2 })
        }))
    }))
    return Effect.gen(function*() {
      const [, second] = yield* Docket.addAll([[Work, { n: 1 }], [Work, { n: 2 }]])
      yield* start(Works, { concurrency: 1 })
      yield* started.await
      assert.strictEqual(yield* second.cancel, true)
      assert.strictEqual(reasonOf(yield* Effect.flip(second.await)), "Cancelled")
      yield* gate.open
      const third = yield* Docket.add(Work, { n: 3 })
      assert.strictEqual(yield* third.await, 3)
      assert.deepStrictEqual(seen, [1, 3])
    }).pipe(Effect.provide(
      live(Work, ({ n }) => {
        seen.push(n)
        return n === 1 ? Effect.as(Effect.andThen(started.open, gate.await), n) : Effect.succeed(n)
      }).pipe(Layer.provideMerge(ahead))
    ))
  })

  test("cancel during a graceful drain → the body is interrupted, the worker ends", () => {
    const started = signal()
    return Effect.gen(function*() {
      const worker = yield* start(Works, { drainTimeout: "1 hour" })
      const run = yield* Docket.add(Work, { n: 1 })
      yield* started.await
      const stopping = yield* Effect.forkChild(worker.stop, { startImmediately: true })
      assert.strictEqual(yield* run.cancel, true)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(stopping)))
      assert.strictEqual(yield* stateOf(run.key), "Cancelled")
    }).pipe(Effect.provide(live(Work, () => Effect.andThen(started.open, Effect.never))))
  })

  test("cancelled K → add K → accepted, runs", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const first = yield* Docket.add(Work, { n: 1 }, { key: "k", after: longLease })
      yield* first.cancel
      const second = yield* Docket.add(Work, { n: 2 }, { key: "k" })
      assert.strictEqual(second.disposition, "Added")
      yield* drain(Works)
      assert.deepStrictEqual(seen, [2])
      assert.strictEqual(
        reasonOf(yield* Effect.flip(Effect.andThen(first.await, Effect.fail("it follows its key")))),
        "it follows its key"
      )
    }).pipe(Effect.provide(noting(seen)))
  })
}
