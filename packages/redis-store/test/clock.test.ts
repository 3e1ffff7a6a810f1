/**
 * The clock of the server goes back: it was wrong and is set, or a replica takes over whose clock is behind. The clock of a
 * worker is set while it waits.
 */
import { DocketStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { addition, attachTo } from "../../runtime/test/contract/seam.ts"
import * as Kit from "../../runtime/test/Kit.ts"
import * as settableClock from "../../runtime/test/settableClock.ts"
import { uniqueName } from "./kit.ts"
import * as servers from "./server.ts"
import * as simulated from "./simulated.ts"

const server = servers.shared(servers.start({ config: ["appendonly yes", "appendfsync no"] }))
const pass = (millis: number) => simulated.advance(server, millis)
const hour = 3_600_000

/** A docket in simulated time. */
const docket = Effect.gen(function*() {
  const context = yield* Layer.build(simulated.storeIn(server))
  return yield* Effect.provide(
    DocketStore.DocketStore.use((store) => store.docket({ name: uniqueName(), prefix: "docket" })),
    context
  )
})

describe("the clock of the server goes back by an hour", () => {
  it.live("→ what is added runs at once, claims go on, and nothing scheduled is early or lost", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const worker = yield* attachTo(store, { lease: 60_000 })
      yield* store.add([addition("running"), addition("abandoned")], { atomic: true })
      const [running, abandoned] = yield* worker.claim()
      yield* store.add([addition("later", { due: { after: 10_000 } })], { atomic: true })

      yield* pass(-hour)
      yield* store.add([addition("new"), addition("soon", { due: { after: 5000 } })], { atomic: true })
      const fresh = yield* worker.claimOne
      assert.strictEqual(fresh.key, "new")
      assert.deepStrictEqual([yield* worker.renew(running!), yield* worker.complete(running!)], ["Renewed", "Applied"])
      assert.strictEqual(yield* worker.complete(fresh), "Applied")
      yield* pass(5000)
      const soon = yield* worker.claimOne
      assert.strictEqual(soon.key, "soon")
      yield* worker.complete(soon)

      // a time that was said before the clock went back is still that time
      yield* pass(hour - 5000)
      assert.deepStrictEqual(yield* worker.claim(), [])
      yield* pass(10_000)
      const later = yield* worker.claimOne
      assert.strictEqual(later.key, "later")
      yield* worker.complete(later)
      yield* pass(60_000)
      const again = yield* worker.claimOne
      assert.deepStrictEqual([again.key, again.lost], [abandoned!.key, 1])
      assert.strictEqual(yield* worker.complete(abandoned!), "Lost")
      assert.strictEqual(yield* worker.complete(again), "Applied")
      assert.deepStrictEqual(yield* store.counts, [])
    }).pipe(Effect.scoped))

  it.live("→ a rate limit counts the starts that it knows until time has caught up, and then everything runs", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const gates = new Map([["T", { rateLimit: { limit: 2, window: 1000, drops: false } }]])
      const worker = yield* attachTo(store, { gates })
      const add = (...keys: ReadonlyArray<string>) =>
        store.add(keys.map((key) => addition(key, { gates: { rateLimit: "T" } })), { atomic: true })
      const run = Effect.gen(function*() {
        const claims = yield* worker.claim()
        for (const claim of claims) yield* worker.complete(claim)
        return claims.map(({ key }) => key)
      })
      yield* add("a", "b")
      assert.deepStrictEqual(yield* run, ["a", "b"])
      yield* pass(-hour)
      yield* add("c", "d", "e")
      assert.deepStrictEqual(yield* run, [])
      yield* pass(hour + 1000)
      assert.deepStrictEqual(yield* run, ["c", "d"])
      yield* pass(1000)
      assert.deepStrictEqual(yield* run, ["e"])
    }).pipe(Effect.scoped))
})

/** Waits until so many clients wait for a token. */
const waiting = (clients: number) =>
  Effect.flatMap(server, ({ admin }) =>
    Effect.repeat(Effect.promise(() => admin.info("clients")), {
      until: (text) => text.includes(`blocked_clients:${clients}\r`)
    }))

for (const [name, by] of [["back", -hour], ["forward", hour]] as const) {
  describe(`the clock of a worker goes ${name} by an hour`, () => {
    /** A worker at an empty docket whose clock can be set, and when it was woken, by what measures time. */
    const machine = Effect.gen(function*() {
      const store = yield* docket
      yield* waiting(0)
      const measure = yield* TestClock.testClockWith(Effect.succeed)
      const { clock, set } = yield* settableClock.make
      const wakes: Array<number> = []
      const worker = yield* attachTo(store, { onWake: () => void wakes.push(measure.currentTimeMillisUnsafe()) }).pipe(
        Effect.provideService(Clock.Clock, clock)
      )
      return { store, worker, wakes, set: Effect.sync(() => set(by)) }
    })
    const later = addition("k", { due: { after: 2000 } })

    it.effect("→ while it sleeps: it is woken when the run is due that it waits for", () =>
      Effect.gen(function*() {
        const { set, store, wakes, worker } = yield* machine
        yield* store.add([later], { atomic: true })
        // without a free slot nothing else wakes it
        yield* worker.turn()
        yield* Kit.settle
        yield* set
        yield* pass(2000)
        yield* Kit.advance(2000)
        assert.deepStrictEqual(wakes, [2000])
        yield* worker.complete(yield* worker.claimOne)
      }).pipe(Effect.scoped))

    it.effect("→ before it hears of a run: it is woken when that is due, and not before", () =>
      Effect.gen(function*() {
        const { set, store, wakes, worker } = yield* machine
        assert.deepStrictEqual(yield* worker.claim(1), [])
        yield* waiting(1)
        yield* set
        yield* store.add([later], { atomic: true })
        // it has taken the token, and waits for the next one
        yield* waiting(1)
        yield* Kit.settle
        yield* pass(2000)
        yield* Kit.advance(2000)
        assert.deepStrictEqual(wakes, [2000])
        yield* worker.complete(yield* worker.claimOne)
      }).pipe(Effect.scoped))
  })
}
