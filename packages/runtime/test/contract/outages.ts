/**
 * What a worker does when its store is away, or answers and nobody hears it.
 */
import { Docket, DocketError } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import type { StoredDocket, TurnReply, TurnRequest } from "../../src/DocketStore.ts"
import {
  type Kit,
  leasesOf,
  live,
  logged,
  noting,
  now,
  shortLease,
  signal,
  start,
  Work,
  Works,
  wrapped
} from "./kit.ts"
import { attach, exit } from "./seam.ts"

const away = new DocketError.DocketError({
  operation: "turn",
  reason: new DocketError.StoreUnavailable({ cause: new Error("connection refused") })
})

type Turn = Effect.Effect<TurnReply, DocketError.DocketError>

/** A store whose turns go through somebody. */
const turning = (through: (turn: Turn, request: TurnRequest) => Turn) => (store: StoredDocket): StoredDocket => ({
  ...store,
  attach: (options) =>
    Effect.map(store.attach(options), (session) => ({
      ...session,
      turn: (request) => through(session.turn(request), request)
    }))
})

/** The tests of this part. */
export const outages = ({ eventually, isLive, pass, passing, test }: Kit): void => {
  test("the first renewal fails → warning, retried, body once", () => {
    const lease = 2400
    const leases = leasesOf(lease)
    const answers: Array<string> = []
    const seen: Array<number> = []
    const renewed = signal()
    const engine = wrapped((store) => ({
      ...store,
      attach: (options) =>
        Effect.map(leases.watch(store).attach(options), (session) => ({
          ...session,
          renew: (claims) => {
            if (answers.length === 0) {
              answers.push("fails")
              return away
            }
            return Effect.tap(session.renew(claims), (replies) => {
              answers.push(...replies)
              return answers.length < 4 ? Effect.void : renewed.open
            })
          }
        }))
    }))
    return Effect.gen(function*() {
      yield* start(Works, { lease })
      const run = yield* Docket.add(Work, { n: 1 })
      const before = yield* now
      const rival = yield* attach({ worker: "rival", tasks: new Map([["Work", 1]]) })
      assert.strictEqual(yield* passing(run.await), 1)
      const claims = yield* rival.claim()
      assert.strictEqual(yield* logged("Warn", "could not be renewed"), 1)
      assert.isAbove((yield* now) - before, lease)
      if (!(yield* leases.kept)) return
      assert.deepStrictEqual(answers, ["fails", "Renewed", "Renewed", "Renewed"])
      assert.deepStrictEqual([claims, seen], [[], [1]])
    }).pipe(Effect.provide(
      live(Work, ({ n }) => {
        seen.push(n)
        return Effect.as(renewed.await, n)
      }).pipe(Layer.provideMerge(engine))
    ))
  })

  test("a claim is lost while its body runs → the body is interrupted, its slot free: the run is taken over, another starts", () => {
    const started: Array<number> = []
    let lost = false
    const engine = wrapped((store) => ({
      ...store,
      attach: (options) =>
        Effect.map(store.attach(options), (session) => ({
          ...session,
          renew: (claims) => {
            if (lost) return session.renew(claims)
            lost = true
            return Effect.succeed(claims.map(() => "Lost" as const))
          }
        }))
    }))
    return Effect.gen(function*() {
      yield* start(Works, { lease: 300, lanes: { default: 1 } })
      const runs = yield* Docket.addAll([[Work, { n: 1 }], [Work, { n: 2 }, { after: 400 }]])
      assert.deepStrictEqual(yield* passing(Effect.forEach(runs, (run) => run.await)), [1, 2])
      assert.deepStrictEqual(started.toSorted(), [1, 1, 2])
      assert.strictEqual(yield* logged("Warn", "whatever the body did does not count"), 1)
    }).pipe(Effect.provide(
      live(Work, ({ n }) => {
        started.push(n)
        return n === 1 && started.length === 1 ? Effect.never : Effect.succeed(n)
      }).pipe(Layer.provideMerge(engine))
    ))
  })

  test("turns fail for a while → the worker says so once, goes on when the store is back; nothing lost or doubled", () => {
    const seen: Array<number> = []
    let failures = 0
    let working = true
    const engine = wrapped(turning((turn) =>
      Effect.suspend(() => {
        if (working) return turn
        if (++failures === 3) working = true
        return away
      })
    ))
    return Effect.gen(function*() {
      const worker = yield* start(Works)
      for (const n of [1, 2]) {
        working = false
        failures = 0
        const run = yield* Docket.add(Work, { n })
        assert.strictEqual(yield* passing(run.await), n)
        assert.strictEqual(failures, 3)
      }
      yield* worker.stop
      assert.deepStrictEqual(seen, [1, 2])
      assert.strictEqual(yield* logged("Warn", "connection refused"), 2)
      assert.strictEqual(yield* logged("Info", "the store is back"), 2)
    }).pipe(Effect.provide(noting(seen).pipe(Layer.provideMerge(engine))))
  })

  test("many short runs, and replies of turns that overlap are lost → two turns at most, each run settled once", () => {
    const size = 1000
    const concurrency = 100
    const seen: Array<number> = []
    let completed = 0
    let under = 0
    let most = 0
    let turns = 0
    const engine = wrapped(turning((turn, request) =>
      Effect.suspend(() => {
        most = Math.max(most, ++under)
        const isLost = ++turns % 3 === 0
        // a store that answers at once has nothing to overlap
        return Effect.andThen(Effect.yieldNow, turn).pipe(
          Effect.tap(({ settled }) =>
            Effect.sync(() => {
              completed += request.settle.filter(({ change }, index) =>
                change._tag === "Completed" && settled[index] === "Applied"
              )
                .length
            })
          ),
          Effect.filterOrFail(() => !isLost, () => away),
          Effect.ensuring(Effect.sync(() => under--))
        )
      })
    ))
    return Effect.gen(function*() {
      const runs = yield* Docket.addAll(Array.from({ length: size }, (_, n) => [Work, { n }] as const))
      // what was claimed in a reply that was lost has lost its worker, however often
      const defectRetryPolicy = Schedule.recurs(size)
      const worker = yield* start(Works, { concurrency, lease: shortLease, defectRetryPolicy })
      yield* passing(Effect.forEach(runs, (run) => run.await, { concurrency: 50 }))
      // the last turn may have to be sent again
      yield* passing(worker.stop)
      // in real time a busy machine may lose a lease, and then a body runs again; it is settled once all the same
      const ran = isLive ? Array.from(new Set(seen)) : seen
      assert.deepStrictEqual(ran.toSorted((a, b) => a - b), runs.map((_, n) => n))
      assert.strictEqual(completed, size)
      // with real time it depends on how fast the bodies are
      assert.isAtMost(most, 2)
      if (!isLive) assert.strictEqual(most, 2)
    }).pipe(Effect.provide(noting(seen).pipe(Layer.provideMerge(engine))))
  })

  test("settlements meet a store that is away → sent again, settled once, no body runs twice", () => {
    const seen: Array<number> = []
    let refused = 0
    const engine = wrapped(
      turning((turn, request) => Effect.suspend(() => request.settle.length > 0 && refused++ < 2 ? away : turn))
    )
    return Effect.gen(function*() {
      yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 })
      assert.strictEqual(yield* passing(run.await), 1)
      assert.deepStrictEqual(seen, [1])
    }).pipe(Effect.provide(noting(seen).pipe(Layer.provideMerge(engine))))
  })

  test("the reply to a settlement is lost after it was applied → Duplicate, nothing lost or doubled", () => {
    const seen: Array<number> = []
    const settled: Array<string> = []
    const engine = wrapped(turning((turn, request) =>
      Effect.flatMap(turn, (reply) => {
        settled.push(...reply.settled)
        return request.settle.length > 0 && settled.length === 1 ? away : Effect.succeed(reply)
      })
    ))
    return Effect.gen(function*() {
      yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 })
      assert.strictEqual(yield* run.await, 1)
      const next = yield* Docket.add(Work, { n: 2 })
      assert.strictEqual(yield* passing(next.await), 2)
      assert.deepStrictEqual(settled.slice(0, 2), ["Applied", "Duplicate"])
      assert.deepStrictEqual(seen, [1, 2])
      assert.strictEqual(yield* logged("Warn", "came too late"), 0)
    }).pipe(Effect.provide(noting(seen).pipe(Layer.provideMerge(engine))))
  })

  test("the reply with claims is lost → after the lease they run, once", () => {
    const seen: Array<number> = []
    let lost = 0
    const engine = wrapped(
      turning((turn) => Effect.filterOrElse(turn, ({ claimed }) => claimed.length === 0 || lost++ > 0, () => away))
    )
    return Effect.gen(function*() {
      yield* start(Works, { lease: 1000 })
      const run = yield* Docket.add(Work, { n: 1 })
      assert.strictEqual(yield* passing(run.await), 1)
      assert.deepStrictEqual(seen, [1])
    }).pipe(Effect.provide(noting(seen).pipe(Layer.provideMerge(engine))))
  })

  test("the reply with claims comes when the lease is over → its worker does not begin what another has", () => {
    const seen: Array<number> = []
    const late = signal()
    let held = 0
    const engine = wrapped(
      turning((turn) =>
        Effect.tap(turn, ({ claimed }) => claimed.length > 0 && held++ === 0 ? late.await : Effect.void)
      )
    )
    return Effect.gen(function*() {
      const rival = yield* attach({ worker: "rival", tasks: new Map([["Work", 1]]) })
      const run = yield* Docket.add(Work, { n: 1 })
      yield* start(Works, { lease: 1000 })
      yield* eventually(Effect.sync(() => held > 0))
      const claim = yield* passing(rival.next)
      assert.deepStrictEqual([claim.attempt, claim.lost], [2, 1])
      // both clocks count whole milliseconds
      yield* pass(2)
      yield* late.open
      yield* eventually(Effect.map(logged("Warn", "came too late"), (count) => count === 1))
      assert.strictEqual(yield* rival.settle(claim, { _tag: "Completed", exit: exit(1) }), "Applied")
      assert.strictEqual(yield* run.await, 1)
      assert.deepStrictEqual(seen, [])
    }).pipe(Effect.provide(noting(seen).pipe(Layer.provideMerge(engine))))
  })
}
