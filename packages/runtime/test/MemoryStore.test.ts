import { assert, describe, it, vi } from "@effect/vitest"
import { Clock, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { DocketStore, type Settlement, type StoredDocket } from "../src/DocketStore.ts"
import { MemoryDocket } from "../src/internal/memory/docket.ts"
import { Heap } from "../src/internal/memory/heap.ts"
import * as testClock from "../src/internal/testClock.ts"
import * as MemoryStore from "../src/MemoryStore.ts"
import { addition, attachTo } from "./contract/seam.ts"
import * as StoreContract from "./StoreContract.ts"

/** Nobody waits or listens, and each run is in exactly one place; the sizes, for more. */
const inspect = (store: StoredDocket) => {
  const { held, kept, leased, ready, replaced, runs, scheduled, sessions, subscribers, waiters } = MemoryStore.sizes(
    store
  )
  const leaks = Object.entries({
    sessions,
    subscribers,
    waiters,
    "runs out of place": runs - scheduled - ready - held - (leased - replaced) - kept
  })
  return leaks.filter(([, size]) => size !== 0).map(([name, size]) => `${name}: ${size}`)
}

/** What is still there when everything has been cleared and every retention is over. */
const leftOver = Effect.fnUntraced(function*(store: StoredDocket) {
  const leaks = inspect(store)
  yield* TestClock.adjust("10 minutes") // every lease is over
  yield* store.clear
  yield* TestClock.adjust("15 days")
  // the store forgets a batch at a time, and a slow machine may not be through when the clock has arrived
  yield* Effect.repeat(Effect.yieldNow, { until: () => MemoryStore.sizes(store).runs === 0, times: 1000 })
  const { gates, held, ready, runs, wakeAt } = MemoryStore.sizes(store)
  if (runs > 0 || ready > 0 || held > 0) leaks.push(`runs: ${runs}, ready: ${ready}, held: ${held}`)
  if (gates > 0) leaks.push(`gates: ${gates}`)
  if (wakeAt !== Infinity) leaks.push(`a timer at ${wakeAt}`)
  return leaks
})

StoreContract.suite("memory", MemoryStore.layer, { time: "test", leaks: leftOver })
StoreContract.suite("memory, real time", MemoryStore.layer, { leaks: (store) => Effect.sync(() => inspect(store)) })

const named = (name: string) => DocketStore.use((store) => store.docket({ name, prefix: "docket" }))

const provided = Effect.provide(MemoryStore.layer.pipe(Layer.provideMerge(testClock.layer)))

describe("memory store", () => {
  it.effect("wakes one worker for a run, and nobody for its end", () =>
    Effect.gen(function*() {
      const store = yield* named("wakes")
      let wakes = 0
      const workers = yield* Effect.forEach(Array.from({ length: 20 }, (_, n) => `w${n}`), (worker) =>
        attachTo(store, { worker, onWake: () => wakes++ }))
      yield* Effect.forEach(workers, (worker) =>
        worker.turn({ capacity: 1 }))
      for (let n = 0; n < 10; n++) {
        yield* store.add([addition(`k${n}`)], { atomic: true })
        yield* workers[0]!.complete((yield* workers[0]!.claim(1))[0]!)
      }
      assert.isAtMost(wakes, 10)
    }).pipe(Effect.scoped, provided))

  it.effect("wakes a worker once for all the runs that one write gives it", () =>
    Effect.gen(function*() {
      const store = yield* named("once")
      let wakes = 0
      const rateLimit = { limit: 50, window: 1000, drops: false }
      const gates = new Map([["T", { rateLimit }]])
      const worker = yield* attachTo(store, { gates, onWake: () => wakes++ })
      const additions = Array.from({ length: 100 }, (_, n) => addition(`k${n}`, { gates: { rateLimit: "all" } }))
      yield* worker.turn({ capacity: 100 })
      yield* store.add(additions, { atomic: true })
      assert.strictEqual(wakes, 1, "added")
      for (const claim of yield* worker.claim(100)) yield* worker.complete(claim)
      yield* worker.turn({ capacity: 100 })
      wakes = 0
      yield* TestClock.adjust(1000)
      assert.strictEqual(wakes, 1, "let through by a gate")
      assert.strictEqual((yield* worker.claim(100)).length, 50)
      yield* store.clear
    }).pipe(Effect.scoped, provided))

  it.effect("has a timer for the earliest of what is scheduled, leased and kept, and none otherwise", () =>
    Effect.gen(function*() {
      const store = yield* named("timers")
      const clock = yield* Clock.Clock
      const next = Effect.suspend(() => {
        const start = clock.currentTimeMillisUnsafe()
        return Effect.as(Effect.yieldNow, 0).pipe(Effect.map(() => testClock.nextWake(clock, false) - start))
      })
      const kept = { retention: { success: 30, failure: 30 } }
      yield* Effect.yieldNow
      assert.strictEqual(yield* next, Infinity)
      yield* store.add([addition("later", { due: { after: 100 } })], { atomic: true })
      assert.strictEqual(yield* next, 100)
      yield* store.add([addition("sooner", { due: { after: 50 }, ...kept })], { atomic: true })
      assert.strictEqual(yield* next, 50)
      yield* TestClock.adjust(50)
      assert.strictEqual(yield* next, 50, "the later one")
      const worker = yield* attachTo(store, { lease: 20 })
      const claim = yield* worker.claimOne
      assert.strictEqual(yield* next, 20, "the lease")
      yield* worker.complete(claim)
      yield* TestClock.adjust(20)
      assert.strictEqual(yield* next, 10, "the retention")
      yield* TestClock.adjust(10)
      yield* store.clear
      yield* TestClock.adjust(20)
      assert.strictEqual(yield* next, Infinity)
      yield* store.add([addition("cancelled", kept)], { atomic: true })
      yield* store.cancel("cancelled")
      assert.strictEqual(yield* next, 30, "the retention of what never ran")
      yield* TestClock.adjust(30)
      assert.strictEqual(yield* next, Infinity)
    }).pipe(Effect.scoped, provided))

  it.effect("gives nobody a run a millisecond before it is due", () =>
    Effect.gen(function*() {
      const store = yield* named("early")
      const worker = yield* attachTo(store)
      yield* store.add([addition("k", { due: { after: 100 } })], { atomic: true })
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(yield* worker.claim(), [])
      yield* TestClock.adjust(1)
      yield* worker.complete(yield* worker.claimOne)
    }).pipe(Effect.scoped, provided))

  it.effect("forgets a gate whose last run took longer than its window", () =>
    Effect.gen(function*() {
      const store = yield* named("gates")
      const rateLimit = { limit: 1, window: 50, drops: false }
      const worker = yield* attachTo(store, { gates: new Map([["T", { rateLimit }]]) })
      yield* store.add([addition("k", { gates: { rateLimit: "v" } })], { atomic: true })
      const claim = yield* worker.claimOne
      assert.strictEqual(MemoryStore.sizes(store).gates, 1)
      yield* TestClock.adjust(100)
      assert.strictEqual(MemoryStore.sizes(store).gates, 0, "the window is over")
      yield* worker.complete(claim)
      assert.strictEqual(MemoryStore.sizes(store).gates, 0, "the run is over")
    }).pipe(Effect.scoped, provided))

  it.effect("wakes as many workers as there is work for, and nobody otherwise", () =>
    Effect.gen(function*() {
      const store = yield* named("wakes")
      let wakes = 0
      const idle = { lease: 1000, onWake: () => void wakes++ }
      const workers = yield* Effect.forEach(["one", "two", "three"], (worker) => attachTo(store, { ...idle, worker }))
      for (const worker of workers) yield* worker.turn({ capacity: 1 })
      const adds = (...keys: ReadonlyArray<string>) =>
        Effect.suspend(() => {
          wakes = 0
          return Effect.map(store.add(keys.map((key) => addition(key)), { atomic: true }), () => wakes)
        })
      assert.strictEqual(yield* adds("k1"), 1)
      assert.strictEqual(yield* adds("k2", "k3"), 2)
      assert.strictEqual(yield* adds("k4"), 0, "all of them are on their way")
      assert.strictEqual(yield* Effect.map(store.cancel("k4"), () => wakes), 0)
      for (const worker of workers) assert.strictEqual((yield* worker.claim(1)).length, 1)
      assert.strictEqual(yield* adds("k5"), 0, "no slot is free")
      yield* store.clear
      for (const worker of workers) yield* worker.turn({ capacity: 1 })
      yield* store.pause({ task: undefined, lane: undefined }, "")
      assert.strictEqual(yield* adds("k6"), 0, "paused")
      yield* store.add([addition("lane", { lane: "other" }), addition("task", { task: "U" })], { atomic: true })
      wakes = 0
      yield* TestClock.adjust("1 day")
      assert.strictEqual(wakes, 0, "nothing polls, and what is paused wakes nobody")
      yield* store.resume({ task: undefined, lane: undefined })
      assert.strictEqual(wakes, 3, "one for k6, two of the three that were taken over")
    }).pipe(Effect.scoped, provided))

  it("moves a bounded number of runs per step: 50,000 due at one instant never hold the process", () => {
    let now = 0
    const clock: Clock.Clock = Object.assign(Object.create(null) as Clock.Clock, { currentTimeMillisUnsafe: () => now })
    const docket = new MemoryDocket("bounded", clock)
    const size = 50_000
    docket.add(Array.from({ length: size }, (_, i) => addition(`k${i}`, { due: { at: 10 } })))
    assert.strictEqual(docket.tick(), 10)
    now = 10
    let steps = 0
    while (docket.sizes.scheduled > 0) {
      const before = docket.sizes.ready
      const next = docket.tick()
      const moved = docket.sizes.ready - before
      assert.isTrue(moved > 0 && moved <= 1000, `${moved} in a step`)
      assert.strictEqual(next, docket.sizes.scheduled > 0 ? 10 : Infinity)
      steps++
    }
    assert.strictEqual(docket.sizes.ready, size)
    assert.isAtLeast(steps, 50)
  })

  it("two gates that take turns → as many steps per run whether 2,000 are held or 20,000", () => {
    const stepsPerRun = (held: number) => {
      let now = 0
      const clock: Clock.Clock = Object.assign(Object.create(null) as Clock.Clock, {
        currentTimeMillisUnsafe: () => now
      })
      const docket = new MemoryDocket("gates", clock)
      const session = docket.attach({
        worker: "w",
        tasks: new Map([["T", 1]]),
        lanes: ["default"],
        lease: 1_000_000,
        gates: new Map([["T", { concurrency: 1, rateLimit: { limit: 10, window: 100, drops: false } }]]),
        onWake: () => {}
      })
      const gates = { concurrency: "v", rateLimit: "r" }
      docket.add(Array.from({ length: held }, (_, i) => addition(`k${i}`, { gates })))
      const steps = vi.spyOn(Heap.prototype, "add")
      let settle: ReadonlyArray<Settlement> = []
      const seen: Array<string> = []
      while (seen.length < 500) {
        const { claimed } = docket.turn(session, { settle, capacity: 10, lanes: undefined, except: undefined })
        assert.isAtMost(claimed.length, 1)
        // the slot is free, the window is full
        if (claimed.length === 0) now += 100
        seen.push(...claimed.map(({ key }) => key))
        settle = claimed.map(({ generation, key, token }) => ({
          key,
          generation,
          token,
          change: { _tag: "Completed", exit: "1" },
          successor: undefined
        }))
      }
      const count = steps.mock.calls.length
      steps.mockRestore()
      assert.deepStrictEqual(seen, Array.from({ length: 500 }, (_, i) => `k${i}`))
      return count / seen.length
    }
    const few = stepsPerRun(2000)
    assert.isAtMost(few, 3)
    assert.strictEqual(stepsPerRun(20_000), few)
  })

  it.effect("one name in one store is one docket; two stores share nothing", () =>
    Effect.gen(function*() {
      const store = yield* named("one")
      yield* store.add([addition("k")], { atomic: true })
      assert.strictEqual((yield* (yield* named("one")).get("k"))?.key, "k")
      assert.strictEqual(yield* (yield* named("two")).get("k"), undefined)
      const other = Layer.fresh(MemoryStore.layer)
      assert.strictEqual(
        yield* Effect.flatMap(named("one"), (store) => store.get("k")).pipe(Effect.provide(other)),
        undefined
      )
    }).pipe(Effect.scoped, provided))

  it.live("a run that is due in 60 days waits in real time, too: longer than a timer of the host can", () =>
    Effect.gen(function*() {
      const store = yield* named("far")
      const days = 24 * 60 * 60 * 1000
      yield* store.add([addition("k", { due: { after: 60 * days } })], { atomic: true })
      yield* Effect.sleep(20)
      assert.strictEqual((yield* store.get("k"))?.state, "Scheduled")
      yield* store.clear
    }).pipe(Effect.scoped, Effect.provide(MemoryStore.layer)))
})
