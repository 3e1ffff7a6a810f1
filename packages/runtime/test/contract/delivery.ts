/**
 * Delivery, leases, workers.
 */
import { Docket, type DocketError, Execution, Task, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Clock, DateTime, Deferred, Effect, Fiber, Layer, Random, Schema, Scope } from "effect"
import type { StoredDocket } from "../../src/DocketStore.ts"
import * as Worker from "../../src/Worker.ts"
import {
  type Kit,
  leasesOf,
  live,
  logged,
  longLease,
  noting,
  now,
  shortLease,
  signal,
  start,
  stateOf,
  stored,
  Work,
  Works,
  wrapped
} from "./kit.ts"
import { add, addition, attach, failure } from "./seam.ts"

class Elsewhere extends Task.make("Elsewhere", { payload: { n: Schema.Int }, success: Schema.Int }) {}

const range = (n: number) => Array.from({ length: n }, (_, i) => i)

/** Handlers that wait until so many of them run at once. */
const rendezvous = (size: number) => {
  let waiting = Deferred.makeUnsafe<void>()
  let here = 0
  return Effect.suspend(() => {
    const meeting = waiting
    if (++here < size) return Deferred.await(meeting)
    here = 0
    waiting = Deferred.makeUnsafe<void>()
    return Deferred.succeed(meeting, undefined)
  })
}

/** A store that calls back after each renewal of a worker that held something. */
const renewing = (told: Effect.Effect<void>) => (store: StoredDocket): StoredDocket => ({
  ...store,
  attach: (options) =>
    Effect.map(store.attach(options), (session) => ({
      ...session,
      renew: (claims) => Effect.tap(session.renew(claims), told)
    }))
})

/** A clock that is wrong by so much. */
const wrong = (clock: Clock.Clock, millis: number): Clock.Clock =>
  Object.assign(Object.create(clock) as Clock.Clock, {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + millis,
    currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe() + millis)
  })

/** The tests of this part. */
export const delivery = ({ drain, eventually, pass, passing, test }: Kit): void => {
  test("50 runs, two workers → each body once; no worker is idle while the other has a backlog", () => {
    const seen: Array<number> = []
    const meet = rendezvous(10)
    return Effect.gen(function*() {
      yield* start(Works, { name: "one", concurrency: 5 })
      yield* start(Works, { name: "two", concurrency: 5 })
      const runs = yield* Docket.addAll(range(50).map((n) => [Work, { n }] as const))
      // ten at once is more than one of them can do
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), range(50))
      assert.deepStrictEqual(seen.toSorted((a, b) => a - b), range(50))
    }).pipe(Effect.provide(live(Work, ({ n }) => {
      seen.push(n)
      return Effect.as(meet, n)
    })))
  })

  test("concurrency 5 → more than 1 and never more than 5 at a time", () => {
    let active = 0
    let most = 0
    const meet = rendezvous(5)
    return Effect.gen(function*() {
      yield* Docket.addAll(range(20).map((n) => [Work, { n }] as const))
      yield* drain(Works, { concurrency: 5 })
      assert.strictEqual(most, 5)
    }).pipe(Effect.provide(live(Work, ({ n }) =>
      Effect.gen(function*() {
        most = Math.max(most, ++active)
        yield* meet
        active--
        return n
      }))))
  })

  for (const draining of [false, true]) {
    test(`a body longer than the lease${draining ? ", while its worker drains" : ""} → once: leases are renewed`, () => {
      const lease = 2400
      const leases = leasesOf(lease)
      let renewals = 0
      const seen: Array<number> = []
      const started = signal()
      const renewed = signal()
      return Effect.gen(function*() {
        const worker = yield* start(Works, { lease })
        const run = yield* Docket.add(Work, { n: 1 })
        yield* started.await
        const before = yield* now
        const stopping = draining ? yield* Effect.forkChild(worker.stop) : undefined
        const rival = yield* attach({ worker: "rival", tasks: new Map([["Work", 1]]) })
        yield* passing(stopping === undefined ? Effect.asVoid(run.await) : Fiber.join(stopping))
        const claims = yield* rival.claim()
        for (const claim of claims) yield* rival.complete(claim)
        if (!(yield* leases.kept)) return
        assert.isAbove((yield* now) - before, lease)
        assert.deepStrictEqual([claims, seen, yield* run.await], [[], [1], 1])
      }).pipe(Effect.provide(
        live(Work, ({ n }) => {
          seen.push(n)
          return Effect.as(Effect.andThen(started.open, renewed.await), n)
        }).pipe(
          Layer.provideMerge(
            wrapped((store) =>
              renewing(Effect.suspend(() => ++renewals < 4 ? Effect.void : renewed.open))(leases.watch(store))
            )
          )
        )
      ))
    })
  }

  test("worker stops without a word → after the lease another takes the run; a late settlement is Lost, changes nothing", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const { generation } = yield* add("k", { payload: "1" })
      const silent = yield* attach({ worker: "silent", lease: shortLease })
      const first = (yield* silent.claim(1))[0]!
      const other = yield* attach({ worker: "other" })
      const second = yield* passing(other.next)
      assert.isAtLeast(second.startedAt, first.startedAt + shortLease)
      assert.deepStrictEqual([second.attempt, second.lost, second.payload], [2, 1, "1"])
      assert.notStrictEqual(second.token, first.token)
      for (
        const change of [
          { _tag: "Completed", exit: "{}" },
          { _tag: "Failed", exit: failure },
          { _tag: "Cancelled" },
          { _tag: "Retry", after: 0, exit: "{}", failures: "1" },
          { _tag: "Snooze", after: 0 },
          { _tag: "Released" }
        ] as const
      ) {
        assert.strictEqual(yield* silent.settle(first, change), "Lost")
      }
      assert.strictEqual(yield* silent.renew(first), "Lost")
      assert.strictEqual(yield* store.progress(first, "1"), false)
      const run = yield* store.get("k")
      assert.deepStrictEqual([run!.state, run!.worker, run!.attempt], ["Running", "other", 2])
      assert.strictEqual(yield* store.outcome("k", generation), undefined)
      assert.strictEqual(yield* other.complete(second), "Applied")
      assert.strictEqual(yield* other.complete(second), "Duplicate")
    }))

  test("a renewed lease counts from its renewal", () =>
    Effect.gen(function*() {
      yield* add("k")
      const long = yield* attach({ worker: "long", lease: longLease })
      const short = yield* attach({ worker: "short", lease: shortLease })
      const claim = yield* long.claimOne
      assert.strictEqual(yield* short.renew(claim), "Renewed")
      const again = yield* passing(long.next)
      assert.isAtLeast(again.startedAt, claim.startedAt + shortLease)
      assert.strictEqual(yield* long.complete(claim), "Lost")
      assert.strictEqual(yield* short.renew(again), "Renewed")
      assert.strictEqual(yield* long.renew(again), "Renewed")
      yield* pass(2 * shortLease)
      assert.strictEqual(yield* long.complete(again), "Applied")
    }))

  test(
    "what was given back is ready again before later arrivals, its attempt not counted",
    () =>
      Effect.gen(function*() {
        yield* add("first")
        const worker = yield* attach()
        const claim = yield* worker.claimOne
        yield* add("second")
        yield* worker.settle(claim, { _tag: "Released" })
        assert.deepStrictEqual(
          (yield* worker.claim()).map(({ attempt, key, lost }) => [key, attempt, lost]),
          [["first", 1, 0], ["second", 1, 0]]
        )
      }),
    { running: 2 }
  )

  test(
    "25 live runs ahead of 5 abandoned ones, one free slot → all 5 are taken over soon",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* store.add(range(30).map((n) => addition(`k${n}`)), { atomic: true })
        const alive = yield* attach({ worker: "alive" })
        assert.strictEqual((yield* alive.claim(25)).length, 25)
        const dead = yield* attach({ worker: "dead", lease: shortLease })
        const abandoned = yield* dead.claim(5)
        yield* pass(shortLease)
        const free = yield* attach({ worker: "free" })
        const taken: Array<string> = []
        for (let i = 0; i < 5; i++) {
          const [claim] = yield* free.claim(1)
          taken.push(claim!.key)
          yield* free.complete(claim!)
        }
        assert.deepStrictEqual(taken.toSorted(), abandoned.map((claim) => claim.key).toSorted())
        assert.deepStrictEqual(yield* free.claim(1), [])
      }),
    { running: 25 }
  )

  test("50,000 runs due at one instant → all run once, in bounded turns, and others are served meanwhile", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const due = { at: (yield* now) + 200 }
      const chunk = 5000
      for (let from = 0; from < 50_000; from += chunk) {
        yield* store.add(range(chunk).map((n) => addition(`k${from + n}`, { due })), { atomic: false })
      }
      yield* pass(200)
      const worker = yield* attach()
      const keys = new Set<string>()
      while (keys.size < 50_000) {
        const claims = yield* worker.claim(1000)
        assert.isAtMost(claims.length, 1000)
        for (const { key } of claims) keys.add(key)
        const settle = claims.map(({ generation, key, token }) => ({
          key,
          generation,
          token,
          change: { _tag: "Completed", exit: "" } as const,
          successor: undefined
        }))
        const { settled } = yield* worker.turn({ settle })
        assert.isTrue(settled.every((one) => one === "Applied"))
        assert.strictEqual((yield* store.get("k0"))!.key, "k0")
        yield* Effect.yieldNow
      }
      assert.deepStrictEqual(yield* worker.claim(), [])
    }))

  test("a slot frees → the next ready run starts at once, without waiting for anything", () => {
    const seen: Array<number> = []
    const gates = [signal(), signal(), signal()]
    const started = [signal(), signal(), signal()]
    return Effect.gen(function*() {
      yield* start(Works, { concurrency: 1 })
      const runs = yield* Docket.addAll(range(3).map((n) => [Work, { n }] as const))
      for (const n of range(3)) {
        yield* started[n]!.await
        assert.deepStrictEqual(seen, range(n + 1))
        yield* gates[n]!.open
      }
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), [0, 1, 2])
    }).pipe(Effect.provide(live(Work, ({ n }) => {
      seen.push(n)
      return Effect.as(Effect.andThen(started[n]!.open, gates[n]!.await), n)
    })))
  })

  test("new work wakes an idle worker; one run wakes one worker", () =>
    Effect.gen(function*() {
      const one = yield* attach({ worker: "one" })
      const two = yield* attach({ worker: "two" })
      for (const worker of [one, two]) yield* worker.turn({ capacity: 1 })
      yield* add("k1")
      const [winner, other] = yield* Effect.raceFirst(
        Effect.as(one.woken, [one, two] as const),
        Effect.as(two.woken, [two, one] as const)
      )
      assert.strictEqual((yield* winner.claim(1)).length, 1)
      yield* add("k2")
      yield* other.woken
      assert.deepStrictEqual((yield* other.claim(1)).map((claim) => claim.key), ["k2"])
    }), { running: 2 })

  test("a run that is due later wakes an idle worker when its time has come", () =>
    Effect.gen(function*() {
      const worker = yield* attach()
      yield* worker.turn({ capacity: 1 })
      yield* add("later", { due: { after: 5 * longLease } })
      const { due } = yield* add("soon", { due: { after: 100 } })
      yield* passing(worker.woken)
      const claim = yield* worker.claimOne
      assert.strictEqual(claim.key, "soon")
      assert.isAtLeast(claim.startedAt, due)
    }), { running: 1, pending: 1 })

  test(
    "runs that were given back, by a lease or by their worker → before later arrivals, in their own order",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        const keys = ["a", "b", "c", "d"]
        yield* store.add(keys.map((key) => addition(key)), { atomic: true })
        const worker = yield* attach()
        const claims = yield* worker.claim(4)
        yield* add("later")
        for (const index of [2, 0, 3, 1]) yield* worker.settle(claims[index]!, { _tag: "Released" })
        const silent = yield* attach({ worker: "silent", lease: shortLease })
        assert.deepStrictEqual((yield* silent.claim(4)).map((claim) => claim.key), keys)
        yield* add("latest")
        yield* pass(shortLease)
        const again = yield* worker.claim()
        assert.deepStrictEqual(again.map((claim) => claim.key), [...keys, "later", "latest"])
        assert.deepStrictEqual(again.map((claim) => claim.lost), [1, 1, 1, 1, 0, 0])
        // an attempt that settles ends the count
        yield* worker.settle(again[0]!, { _tag: "Retry", after: 0, exit: failure, failures: "1" })
        yield* worker.settle(again[1]!, { _tag: "Snooze", after: 0 })
        assert.deepStrictEqual((yield* worker.claim()).map((claim) => [claim.key, claim.lost]), [["a", 0], ["b", 0]])
      }),
    { running: 6 }
  )

  const ends: ReadonlyArray<
    readonly [string, (store: StoredDocket) => Effect.Effect<unknown, DocketError.DocketError>]
  > = [
    ["cleared", (store) => store.clear],
    ["cancelled", (store) => store.cancel("k")],
    [
      "moved to a lane of others",
      (store) =>
        store.add([addition("k", { task: "Work", lane: "other", onExisting: "replace", due: { after: longLease } })], {
          atomic: true
        })
    ]
  ]
  for (const [name, end] of ends) {
    test(`a worker that runs until it is idle → ends when the last run is ${name}`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* Docket.add(Work, { n: 1 }, { key: "k", after: longLease })
        const working = yield* Effect.forkChild(Worker.runUntilIdle(Works), { startImmediately: true })
        yield* pass(20)
        assert.isUndefined(working.pollUnsafe())
        yield* end(store)
        assert.deepStrictEqual(yield* passing(Fiber.join(working)), { succeeded: 0, failed: 0, retried: 0 })
        yield* store.clear
      }).pipe(Effect.provide(noting([]))))
  }

  test("a worker that leaves hands on what it was woken for", () =>
    Effect.gen(function*() {
      const outer = yield* Effect.scope
      const stays = yield* Effect.scoped(Effect.gen(function*() {
        const leaves = yield* attach({ worker: "leaves" })
        yield* leaves.turn({ capacity: 1 })
        const stays = yield* Effect.provideService(attach({ worker: "stays" }), Scope.Scope, outer)
        yield* stays.turn({ capacity: 1 })
        yield* add("k")
        return stays
      }))
      yield* stays.woken
      assert.strictEqual((yield* stays.claimOne).key, "k")
    }), { running: 1 })

  test("only a future run → stopping the worker takes no time, the run stays scheduled", () =>
    Effect.gen(function*() {
      const worker = yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 }, { after: longLease })
      yield* worker.stop
      assert.strictEqual(yield* stateOf(run.key), "Scheduled")
    }).pipe(Effect.provide(noting([]))), { pending: 1 })

  test("a worker stops with bodies running → no new claims, they get the drain time, then are released, attempt not counted", () => {
    const attempts: Array<readonly [n: number, attempt: number]> = []
    const started = signal()
    const interrupted: Array<number> = []
    return Effect.gen(function*() {
      const worker = yield* start(Works, { concurrency: 1, drainTimeout: 100 })
      const [first, second] = yield* Docket.addAll([[Work, { n: 1 }], [Work, { n: 2 }]])
      yield* started.await
      const before = yield* now
      yield* passing(worker.stop)
      assert.isAtLeast((yield* now) - before, 99) // timers may be early by one
      assert.deepStrictEqual([attempts, interrupted], [[[1, 1]], [1]])
      assert.deepStrictEqual([yield* stateOf(first.key), yield* stateOf(second.key)], ["Ready", "Ready"])
      // elsewhere, at once
      yield* start(Works, { concurrency: 1 })
      assert.deepStrictEqual([yield* first.await, yield* second.await], [1, 2])
      assert.deepStrictEqual(attempts, [[1, 1], [1, 1], [2, 1]])
    }).pipe(Effect.provide(live(Work, ({ n }) =>
      Effect.gen(function*() {
        attempts.push([n, yield* Execution.CurrentExecution.useSync((current) => current.attempt)])
        if (attempts.length > 1) return n
        yield* started.open
        return yield* Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted.push(n)))
      }))))
  })

  test("a body that ends while its worker drains → settled, not run again", () => {
    const gate = signal()
    const started = signal()
    return Effect.gen(function*() {
      const worker = yield* start(Works)
      const run = yield* Docket.add(Work, { n: 1 })
      yield* started.await
      const stopping = yield* Effect.forkChild(worker.stop, { startImmediately: true })
      yield* gate.open
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* stateOf(run.key), "Completed")
      assert.strictEqual(yield* run.await, 1)
    }).pipe(Effect.provide(live(Work, ({ n }) => Effect.as(Effect.andThen(started.open, gate.await), n))))
  })

  for (const minutes of [5, -5]) {
    test(`worker clock ${minutes} minutes off → nothing is early or late`, () => {
      const error = minutes * 60_000
      const starts: Array<readonly [at: number, due: number]> = []
      let clock: Clock.Clock
      return Effect.gen(function*() {
        clock = yield* Clock.Clock
        yield* Effect.provideService(start(Works), Clock.Clock, wrong(clock, error))
        const before = clock.currentTimeMillisUnsafe()
        const ready = yield* Docket.add(Work, { n: 0 })
        assert.strictEqual(yield* ready.await, 0, "what is due now runs now")
        const later = yield* Docket.add(Work, { n: 1 }, { after: 100 })
        assert.strictEqual(yield* passing(later.await), 1)
        const [first, second] = starts
        for (const [at, due] of [first!, second!]) assert.isAtLeast(at, due)
        assert.isAtLeast(second![0], before + 100)
        assert.isBelow(second![0], before + 100 + Math.abs(error))
      }).pipe(Effect.provide(live(Work, ({ n }) =>
        Effect.gen(function*() {
          const current = yield* Execution.CurrentExecution
          starts.push([clock.currentTimeMillisUnsafe(), DateTime.toEpochMillis(current.scheduledAt)])
          return n
        }))))
    })
  }

  test("a worker without the handler leaves the run for one that has; nobody has it → held and visible, with one warning", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      yield* start(Works, { name: "without" })
      const runs = yield* Docket.addAll([[Elsewhere, { n: 1 }], [Elsewhere, { n: 2 }]])
      // whoever takes a turn sees that nobody serves it
      yield* Effect.flatMap(Docket.add(Work, { n: 0 }), (run) => run.await)
      yield* Effect.flatMap(Docket.add(Work, { n: 0 }), (run) => run.await)
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => stateOf(run.key)), ["Held", "Held"])
      assert.deepStrictEqual(yield* Docket.explain(runs[0].key), { _tag: "NoWorker", lane: "default" })
      const counts = yield* Docket.counts
      assert.deepStrictEqual(counts, [
        { task: "Elsewhere", lane: "default", scheduled: 0, ready: 0, held: 2, running: 0 }
      ])
      yield* eventually(Effect.map(logged("Warn", "no worker has a handler"), (count) => count > 0))
      assert.strictEqual(yield* logged("Warn", "no worker has a handler"), 1)
      yield* start(TaskGroup.make(Elsewhere), { name: "with" })
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), [1, 2])
      assert.deepStrictEqual(seen, [0, 0])
    }).pipe(Effect.provide(Layer.merge(
      noting(seen),
      live(Elsewhere, ({ n }) => Effect.succeed(n))
    )))
  })

  test("a lane is served by those who name it only, with so many slots", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* store.add(range(3).flatMap((n) => [addition(`a${n}`, { lane: "a" }), addition(`b${n}`, { lane: "b" })]), {
        atomic: true
      })
      const both = yield* attach({ worker: "both", lanes: ["a", "b"] })
      const one = yield* attach({ worker: "one", lanes: ["b"] })
      const { claimed } = yield* both.turn({ capacity: 5, lanes: new Map([["a", 2], ["b", 1]]) })
      assert.deepStrictEqual(claimed.map((claim) => claim.key), ["a0", "b0", "a1"])
      assert.deepStrictEqual((yield* one.claim()).map((claim) => claim.key), ["b1", "b2"])
      assert.deepStrictEqual((yield* both.turn({ capacity: 5, except: new Set(["T"]) })).claimed, [])
    }), { running: 5, pending: 1 })

  test("start and stop ten times at random moments → no hang, every run ends", () => {
    const seen = new Set<number>()
    return Effect.gen(function*() {
      const runs = yield* Docket.addAll(range(100).map((n) => [Work, { n }, { after: n }] as const))
      for (let i = 0; i < 10; i++) {
        const worker = yield* start(Works, { concurrency: 3, drainTimeout: yield* Random.nextIntBetween(0, 5) })
        yield* pass(yield* Random.nextIntBetween(0, 12))
        yield* passing(worker.stop)
      }
      yield* drain(Works)
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), range(100))
      assert.strictEqual(seen.size, 100)
    }).pipe(
      Random.withSeed("ten times"),
      Effect.provide(live(Work, ({ n }) =>
        Effect.andThen(
          Effect.sleep(n % 4),
          Effect.sync(() => {
            seen.add(n)
            return n
          })
        )))
    )
  })
}
