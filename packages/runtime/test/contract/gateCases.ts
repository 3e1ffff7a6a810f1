/**
 * Gates when something goes on around them: who comes first, limits that change, workers that are gone.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect, Exit, Layer, Schema, Scope } from "effect"
import type { Claim, GateLimits, WorkerOptions } from "../../src/DocketStore.ts"
import { type Kit, leasesOf, live, longLease, now, shortLease, signal, start, stateOf, stored, wrapped } from "./kit.ts"
import { add, addition, attach, failure } from "./seam.ts"

/** Limits of the task "T". */
const limits = (limits: GateLimits, task = "T") => ({ gates: new Map([[task, limits]]) })
const slots = (concurrency: number) => limits({ concurrency })
const rate = (limit: number, window: number) => limits({ rateLimit: { limit, window, drops: false } })

const slot = (key: string, options?: Partial<Docket.EncodedAddition>) =>
  add(key, { gates: { concurrency: "v" }, ...options })

const keysOf = (claims: ReadonlyArray<Claim>) => claims.map(({ key }) => key)

/** A worker that can leave. */
const guest = Effect.fnUntraced(function*(options: Partial<WorkerOptions>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const worker = yield* Effect.provideService(attach(options), Scope.Scope, scope)
  return { worker, leave: Scope.close(scope, Exit.void) }
})

/** The tests of this part. */
export const gateCases = ({ pass, passing, test }: Kit): void => {
  // -------------------------------------------------------------------------------------------------------------------
  // order
  // -------------------------------------------------------------------------------------------------------------------

  test("who was refused comes before who came later and was not looked at", () =>
    Effect.gen(function*() {
      yield* slot("holder")
      yield* slot("first")
      yield* add("other")
      yield* slot("second")
      const worker = yield* attach(slots(1))
      // the slot is taken, the first is refused, and then there is no capacity left
      const claims = yield* worker.claim(2)
      assert.deepStrictEqual(keysOf(claims), ["holder", "other"])
      for (const claim of claims) yield* worker.complete(claim)
      for (const key of ["first", "second"]) {
        const claim = yield* worker.next
        assert.strictEqual(claim.key, key)
        yield* worker.complete(claim)
      }
    }))

  test("what is taken over comes before what would have taken its place within the rate", () =>
    Effect.gen(function*() {
      const rated = (key: string) => add(key, { gates: { rateLimit: "v" } })
      const crashed = yield* attach({ worker: "crashed", lease: shortLease, ...rate(1, shortLease / 2) })
      yield* rated("k1")
      yield* crashed.claim(1)
      yield* rated("k2")
      yield* pass(shortLease)
      const worker = yield* attach({ worker: "worker", ...rate(1, shortLease / 2) })
      const again = yield* worker.next
      assert.deepStrictEqual([again.key, again.lost], ["k1", 1])
      yield* worker.complete(again)
      const next = yield* passing(worker.next)
      assert.strictEqual(next.key, "k2")
      yield* worker.complete(next)
    }))

  test("a debounced run that an addition makes due → behind those that were due before", () =>
    Effect.gen(function*() {
      const gates = { debounce: { about: "v", for: 10, max: 10, keepsFirst: false } }
      yield* add("settling", { gates, due: { after: longLease } })
      yield* pass(10)
      yield* add("before")
      const joined = yield* add("joins", { gates })
      assert.strictEqual(joined.key, "settling")
      const worker = yield* attach()
      const claims = yield* worker.claim()
      assert.deepStrictEqual(keysOf(claims), ["before", "settling"])
      for (const claim of claims) yield* worker.complete(claim)
    }))

  test("debounced, the last of a newer version, in another lane → it runs as that", () =>
    Effect.gen(function*() {
      const gates = { debounce: { about: "v", for: 10, max: undefined, keepsFirst: false } }
      yield* add("k", { gates, payload: "1" })
      yield* add("newer", { gates, payload: "2", version: 2, lane: "other", priority: 3 })
      yield* pass(10)
      const old = yield* attach({ worker: "old" })
      assert.deepStrictEqual(yield* old.claim(), [])
      const worker = yield* attach({ worker: "new", tasks: new Map([["T", 2]]), lanes: ["other"] })
      const claim = yield* worker.claimOne
      assert.deepInclude(claim, { key: "k", payload: "2", version: 2 })
      yield* worker.complete(claim)
    }))

  test("a debounced run that is ready changes its priority or its gates → claimed once, in its place", () =>
    Effect.gen(function*() {
      const debounce = { about: "v", for: 10, max: undefined, keepsFirst: false }
      const worker = yield* attach({ worker: "w" })
      for (const [priority, gates] of [[1, { debounce }], [0, { debounce, rateLimit: "r" }]] as const) {
        yield* add("before", { priority })
        yield* add("k", { gates: { debounce }, payload: "1" })
        yield* pass(10)
        yield* worker.claim(0)
        assert.strictEqual(yield* stateOf("k"), "Ready")
        yield* add("after", { priority })
        // twice: the second time it comes from where the first one has put it
        for (const payload of ["2", "3"]) {
          const joined = yield* add("joins", { gates, priority, payload })
          assert.deepInclude(joined, { disposition: "Replaced", key: "k" })
          yield* add("joins", { gates: { debounce }, payload: "4" })
        }
        yield* add("joins", { gates, priority, payload: "5" })
        const claims = yield* worker.claim()
        assert.deepStrictEqual(keysOf(claims), ["before", "k", "after"])
        assert.strictEqual(claims[1]!.payload, "5")
        for (const claim of claims) assert.strictEqual(yield* worker.complete(claim), "Applied")
      }
    }))

  test("a debounced run that is ready becomes one of a newer version, in another lane → only who serves it gets it", () =>
    Effect.gen(function*() {
      const gates = { debounce: { about: "v", for: 10, max: undefined, keepsFirst: false } }
      const old = yield* attach({ worker: "old" })
      yield* add("k", { gates, payload: "1" })
      yield* pass(10)
      yield* old.claim(0)
      assert.strictEqual(yield* stateOf("k"), "Ready")
      yield* add("k2")
      yield* add("newer", { gates, payload: "2", version: 2, lane: "other" })
      for (const key of ["k2", "k3"]) {
        // the first is there already
        yield* add(key)
        const claim = yield* old.claimOne
        assert.strictEqual(claim.key, key)
        yield* old.complete(claim)
      }
      const worker = yield* attach({ worker: "new", tasks: new Map([["T", 2]]), lanes: ["other"] })
      const newer = yield* worker.claimOne
      assert.deepInclude(newer, { key: "k", payload: "2", version: 2 })
      yield* worker.complete(newer)
    }))

  test("explain a debounced run → the debounce, unless it is for later anyway", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const settling = (about: string) => ({
        gates: { debounce: { about, for: longLease, max: undefined, keepsFirst: false } }
      })
      const later = { due: { after: 2 * longLease } }
      yield* add("soon", settling("v"))
      yield* add("later", { ...settling("w"), ...later })
      const debounced = { _tag: "Limited", by: "debounce", position: 0 } as const
      assert.deepStrictEqual(yield* store.explain("soon"), debounced)
      assert.strictEqual((yield* store.explain("later"))._tag, "NotDue")
      yield* add("joins", { ...settling("v"), ...later })
      assert.strictEqual((yield* store.explain("soon"))._tag, "NotDue")
      yield* add("joins", settling("v"))
      assert.deepStrictEqual(yield* store.explain("soon"), debounced)
      assert.strictEqual(yield* store.clear, 2)
    }))

  // -------------------------------------------------------------------------------------------------------------------
  // two gates
  // -------------------------------------------------------------------------------------------------------------------

  const window = 200
  const both = (key: string, concurrency: string, options?: Partial<Docket.EncodedAddition>) =>
    add(key, { gates: { concurrency, rateLimit: "r" }, ...options })
  const limitedBy = (by: "concurrency" | "rateLimit", position: number) => ({ _tag: "Limited", by, position } as const)

  test("two gates take turns → what waits is where its first is, and runs in the order of arrival", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits({ concurrency: 1, rateLimit: { limit: 2, window, drops: false } }))
      for (const key of ["a0", "a1", "b0", "a2", "b1", "a3", "b2", "a4"]) yield* both(key, key[0]!)
      const claims = [yield* worker.next, yield* worker.next]
      assert.deepStrictEqual(keysOf(claims), ["a0", "b0"])
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.deepStrictEqual(yield* store.explain("a4"), limitedBy("concurrency", 3))
      assert.deepStrictEqual(yield* store.explain("b2"), limitedBy("concurrency", 1))
      for (const claim of claims) yield* worker.complete(claim)
      const seen: Array<string> = []
      const waiting = yield* Effect.forEach(["a1", "b1", "a4"], store.explain)
      // the slots are free, and the window is full, unless the machine took longer than that
      if ((yield* now) < claims[0]!.startedAt + window) {
        assert.deepStrictEqual(waiting, [0, 1, 4].map((position) => limitedBy("rateLimit", position)))
      }
      while (seen.length < 6) {
        const claim = yield* passing(worker.next)
        seen.push(claim.key)
        yield* worker.complete(claim)
      }
      assert.deepStrictEqual(seen, ["a1", "a2", "b1", "a3", "b2", "a4"])
    }))

  test("the first behind two gates leaves, or one comes back before it → the order of arrival holds", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits({ concurrency: 1, rateLimit: { limit: 2, window: longLease, drops: false } }))
      for (const n of [0, 1, 2, 3, 4, 5]) yield* both(`a${n}`, "a")
      const first = yield* worker.claimOne
      assert.deepStrictEqual(yield* worker.claim(), [])
      // out of the middle, the first, and the first for later
      assert.isTrue(yield* store.cancel("a3"))
      assert.isTrue(yield* store.cancel("a1"))
      yield* both("a2", "a", { onExisting: "replace", due: { after: longLease } })
      assert.deepStrictEqual(yield* store.explain("a4"), limitedBy("concurrency", 0))
      assert.deepStrictEqual(yield* store.explain("a5"), limitedBy("concurrency", 1))
      yield* worker.settle(first, { _tag: "Released" })
      const again = yield* worker.claimOne
      assert.strictEqual(again.key, "a0")
      // the window is full with the two starts of it
      yield* worker.settle(again, { _tag: "Released" })
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.deepStrictEqual(yield* store.explain("a0"), limitedBy("rateLimit", 0))
      assert.deepStrictEqual(yield* store.explain("a5"), limitedBy("rateLimit", 2))
      const roomy = yield* attach({ worker: "roomy", ...limits({ concurrency: 1, rateLimit: undefined }) })
      for (const key of ["a0", "a4", "a5"]) {
        const claim = yield* roomy.next
        assert.strictEqual(claim.key, key)
        yield* roomy.complete(claim)
      }
      assert.strictEqual(yield* store.clear, 1)
    }))

  test("2,000 held runs of one value at two gates → another value runs at once, clear removes them all", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits({ concurrency: 1, rateLimit: { limit: 3, window: longLease, drops: false } }))
      const many = Array.from(
        { length: 2000 },
        (_, n) => addition(`a${n}`, { gates: { concurrency: "a", rateLimit: "r" } })
      )
      yield* store.add(many, { atomic: false })
      const first = yield* worker.claimOne
      yield* both("b0", "b")
      const other = yield* worker.next
      assert.strictEqual(other.key, "b0")
      yield* worker.complete(first)
      // the last of the window
      const last = yield* worker.next
      assert.strictEqual(last.key, "a1")
      yield* worker.complete(last)
      assert.deepStrictEqual(yield* worker.claim(), [])
      yield* both("b1", "b")
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.strictEqual((yield* store.counts)[0]!.held, 1999)
      yield* worker.complete(other)
      assert.strictEqual(yield* store.clear, 1999)
      yield* add("again", { gates: { concurrency: "a", rateLimit: "other" } })
      yield* worker.complete(yield* worker.claimOne)
    }))

  // -------------------------------------------------------------------------------------------------------------------
  // limits that change
  // -------------------------------------------------------------------------------------------------------------------

  test("a deploy raises the limit → it applies at once, though the slot stays taken", () =>
    Effect.gen(function*() {
      const old = yield* guest({ worker: "old", ...slots(1) })
      for (const key of ["k1", "k2", "k3", "k4"]) yield* slot(key)
      const first = yield* old.worker.claim(1)
      assert.deepStrictEqual(yield* old.worker.claim(), [])
      yield* old.leave
      const worker = yield* attach({ worker: "new", ...slots(3) })
      const claims = [yield* worker.next, yield* worker.next]
      assert.deepStrictEqual(keysOf(claims), ["k2", "k3"])
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.strictEqual(yield* stateOf("k4"), "Held")
      for (const claim of claims) yield* worker.complete(claim)
      yield* worker.complete(yield* worker.next)
      // a claim is settled by whoever has its token
      yield* worker.complete(first[0]!)
    }))

  test("what comes while a window is full waits, though nobody waited before it", () =>
    Effect.gen(function*() {
      const worker = yield* attach(rate(1, longLease))
      for (const key of ["first", "second"]) {
        yield* add(key, { gates: { rateLimit: "v" } })
        const claims = yield* worker.claim()
        assert.deepStrictEqual(keysOf(claims), key === "first" ? [key] : [])
        for (const claim of claims) yield* worker.complete(claim)
      }
      assert.strictEqual(yield* stateOf("second"), "Held")
    }), { pending: 1 })

  test("a deploy shortens the window → what waits goes by the new one", () =>
    Effect.gen(function*() {
      const old = yield* guest({ worker: "old", ...rate(1, longLease) })
      for (const key of ["k1", "k2", "k3"]) yield* add(key, { gates: { rateLimit: "v" } })
      const first = yield* old.worker.claimOne
      yield* old.worker.complete(first)
      assert.deepStrictEqual(yield* old.worker.claim(), [])
      yield* old.leave
      const worker = yield* attach({ worker: "new", ...rate(1, 50) })
      for (const key of ["k2", "k3"]) {
        const claim = yield* passing(worker.next)
        assert.strictEqual(claim.key, key)
        assert.isBelow(claim.startedAt, first.startedAt + longLease)
        yield* worker.complete(claim)
      }
    }))

  test("a worker with a smaller limit has come and gone → the others go by theirs", () =>
    Effect.gen(function*() {
      const worker = yield* attach({ worker: "stays", ...slots(3) })
      const canary = yield* guest({ worker: "canary", ...slots(1) })
      for (const key of ["k1", "k2", "k3", "k4"]) yield* slot(key)
      assert.deepStrictEqual(yield* canary.worker.claim(0), [])
      yield* canary.leave
      const claims = [yield* worker.next, yield* worker.next, yield* worker.next]
      assert.deepStrictEqual(keysOf(claims), ["k1", "k2", "k3"])
      assert.deepStrictEqual(yield* worker.claim(), [])
      for (const claim of claims) yield* worker.complete(claim)
      yield* worker.complete(yield* worker.next)
    }))

  test("two workers with different limits → none is woken again and again for what it refuses", () =>
    Effect.gen(function*() {
      let wakes = 0
      const small = yield* attach({ worker: "small", ...slots(1), onWake: () => void wakes++ })
      const large = yield* attach({ worker: "large", ...slots(2) })
      yield* slot("k1")
      yield* slot("k2")
      const claims = Array.from(yield* large.claim(1))
      let turns = 0
      do {
        wakes = 0
        claims.push(...yield* small.claim())
      } while (wakes > 0 && ++turns < 10)
      assert.isBelow(turns, 10)
      yield* large.complete(claims[0]!)
      if (claims.length === 1) claims.push(yield* large.next)
      assert.strictEqual(yield* large.complete(claims[1]!), "Applied")
    }))

  // -------------------------------------------------------------------------------------------------------------------
  // who holds a slot
  // -------------------------------------------------------------------------------------------------------------------

  test("a replaced run whose worker goes on renewing it keeps its slot for longer than a lease", () => {
    const lease = 2000
    const leases = leasesOf(lease)
    return Effect.gen(function*() {
      const worker = yield* attach(slots(1))
      const brief = yield* attach({ worker: "brief", lease, ...slots(1) })
      yield* slot("k")
      const old = yield* worker.claimOne
      yield* slot("next")
      yield* slot("k", { onExisting: "replace", gates: { concurrency: "elsewhere" } })
      yield* worker.complete(yield* worker.claimOne)
      assert.strictEqual(yield* brief.renew(old), "Replaced")
      let claims: ReadonlyArray<Claim> = []
      for (let n = 0; n < 3 && claims.length === 0; n++) {
        yield* pass(800)
        assert.strictEqual(yield* brief.renew(old), "Replaced")
        claims = yield* worker.claim()
        if (yield* leases.kept) assert.deepStrictEqual(claims, [], "its body still runs")
      }
      assert.strictEqual(yield* worker.complete(old), "Lost")
      yield* worker.complete(claims[0] ?? (yield* worker.next))
    }).pipe(Effect.provide(wrapped(leases.watch)))
  })

  test("a body that was replaced runs for longer than a lease → never two at once", () => {
    class Long extends Task.make("Long", { payload: { n: Schema.Int }, concurrency: 1 }) {}
    class Longs extends TaskGroup.make(Long) {}
    const seen: Array<number> = []
    let most = 0
    let running = 0
    const begun = signal()
    const end = signal()
    const leases = leasesOf(2000)
    return Effect.gen(function*() {
      yield* start(Longs, { lease: 2000, concurrency: 2 })
      yield* Docket.add(Long, { n: 1 }, { key: "k" })
      yield* begun.await
      const next = yield* Docket.replace(Long, { n: 2 }, { key: "k" })
      for (let n = 0; n < 12; n++) yield* pass(200)
      const before = seen.slice()
      const kept = yield* leases.kept
      yield* end.open
      yield* passing(next.await)
      if (kept) assert.deepStrictEqual([before, seen, most], [[1], [1, 2], 1])
    }).pipe(Effect.provide(
      live(Long, ({ n }) =>
        Effect.gen(function*() {
          seen.push(n)
          most = Math.max(most, ++running)
          yield* begun.open
          yield* end.await
          running--
        })).pipe(Layer.provideMerge(wrapped(leases.watch)))
    ))
  })

  test("all workers of one task are gone → its slot of a scope is free after the lease, for the other task", () =>
    Effect.gen(function*() {
      const gone = yield* guest({ worker: "gone", lease: shortLease, ...slots(1) })
      yield* slot("t")
      yield* gone.worker.claimOne
      yield* slot("u", { task: "U" })
      const worker = yield* attach({ tasks: new Map([["U", 1]]), ...limits({ concurrency: 1 }, "U") })
      assert.deepStrictEqual(yield* worker.claim(), [])
      yield* gone.leave
      const claim = yield* passing(worker.next)
      assert.strictEqual(claim.key, "u")
      yield* worker.complete(claim)
      // the other waits for a worker of its own
      assert.strictEqual(yield* stateOf("t"), "Held")
      assert.isTrue(yield* (yield* stored).cancel("t"))
    }))

  test("clear, cancel and redrive → no slot stays taken", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(slots(1))
      yield* slot("failed")
      const failing = yield* worker.claimOne
      yield* slot("held")
      yield* worker.settle(failing, { _tag: "Failed", exit: failure })
      // the place of the one that is ready, and those that are held
      yield* slot("more")
      assert.strictEqual(yield* store.clear, 2)
      yield* slot("failed", { redrive: failing.generation })
      const again = yield* worker.claimOne
      assert.strictEqual(again.key, "failed")
      yield* slot("next")
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.isTrue(yield* store.cancel("failed"))
      yield* worker.settle(again, { _tag: "Cancelled" })
      yield* worker.complete(yield* worker.next)
    }))

  test("a retry does not begin the cooldown of its run anew", () =>
    Effect.gen(function*() {
      const worker = yield* attach(limits({ cooldown: 300 }))
      yield* add("k", { gates: { cooldown: "v" } })
      yield* worker.settle(yield* worker.claimOne, { _tag: "Retry", after: 0, exit: failure, failures: "[]" })
      yield* pass(200)
      yield* worker.complete(yield* worker.claimOne)
      yield* pass(150)
      assert.strictEqual((yield* add("other", { gates: { cooldown: "v" } })).disposition, "Added")
      yield* worker.complete(yield* worker.claimOne)
    }))

  test("a paused task with held runs → resumed, they run in their order, one after the other", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(slots(1))
      for (const key of ["k1", "k2", "k3"]) yield* slot(key)
      const first = yield* worker.claim(1)
      yield* store.pause({ task: "T", lane: undefined }, "")
      yield* worker.complete(first[0]!)
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.deepStrictEqual([yield* stateOf("k2"), yield* stateOf("k3")], ["Held", "Held"])
      yield* store.resume({ task: "T", lane: undefined })
      for (const key of ["k2", "k3"]) {
        const claim = yield* worker.next
        assert.strictEqual(claim.key, key)
        yield* worker.complete(claim)
      }
    }))
}
