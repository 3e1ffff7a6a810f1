/**
 * Known failures of this field that no other part of the contract is about.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Claim } from "../../src/DocketStore.ts"
import { type Kit, live, shortLease, start, stored } from "./kit.ts"
import { addition, attach } from "./seam.ts"

const range = (n: number) => Array.from({ length: n }, (_, index) => index)

// more than a store takes over in one turn
const many = 1200

/** The tests of this part. */
export const known = ({ eventually, pass, test }: Kit): void => {
  // what is abandoned and must not run yet comes first, by its lease
  const obstacles = [
    ["of a paused task", { task: "P" }, 0],
    ["of a value that its limit holds", { gates: { concurrency: "value" } }, 1]
  ] as const
  for (const [name, options, running] of obstacles) {
    test(
      `${many} abandoned runs ${name} ahead of 5 others, one free slot → all 5 are taken over soon`,
      () =>
        Effect.gen(function*() {
          const store = yield* stored
          const tasks = new Map([["T", 1], ["P", 1]])
          const dead = yield* attach({ worker: "dead", tasks, lease: shortLease })
          const abandoned = new Set<string>()
          // what it loses meanwhile it is given again
          const abandon = Effect.fnUntraced(function*(count: number) {
            while (abandoned.size < count) for (const { key } of yield* dead.claim()) abandoned.add(key)
          })
          yield* store.add(range(many).map((n) => addition(`k${n}`, options)), { atomic: false })
          yield* abandon(many)
          yield* store.add(range(5).map((n) => addition(`other${n}`)), { atomic: true })
          yield* abandon(many + 5)
          yield* store.pause({ task: "P", lane: undefined }, "maintenance")
          yield* pass(shortLease)
          const free = yield* attach({ worker: "free", tasks, gates: new Map([["T", { concurrency: 1 }]]) })
          const taken = new Map<string, Claim>()
          // some turns to take over what is in front, and one for each run
          for (let turn = 0; turn < 12 && taken.size < 5 + running; turn++) {
            for (const claim of yield* free.claim(1)) {
              taken.set(claim.key, claim)
              if (claim.key.startsWith("other")) yield* free.complete(claim)
            }
          }
          assert.deepStrictEqual(range(5).filter((n) => !taken.has(`other${n}`)), [])
          assert.strictEqual(taken.size, 5 + running, "and nothing that has to wait")
          for (const claim of taken.values()) if (!claim.key.startsWith("other")) yield* free.complete(claim)
        }),
      { pending: many - running }
    )
  }

  test("a perpetual run is cancelled → no tick comes any more; added again → ticks again, one run each", () => {
    class Tick extends Task.make("Tick", { perpetual: { every: 50 } }) {}
    class Ticks extends TaskGroup.make(Tick) {}
    let ticks = 0
    let running = 0
    let most = 0
    const handler = live(Tick, () =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          ticks++
          most = Math.max(most, ++running)
        }),
        () => Effect.yieldNow,
        () => Effect.sync(() => running--)
      ))
    const isEmpty = Effect.map(Docket.counts, (counts) => counts.length === 0)
    return Effect.gen(function*() {
      const worker = yield* start(Ticks)
      for (const again of range(3)) {
        const before = ticks
        const { disposition } = yield* Docket.add(Tick, undefined, { key: "Tick" })
        assert.strictEqual(disposition, "Added", `time ${again}`)
        yield* eventually(Effect.sync(() => ticks >= before + 2))
        yield* Docket.cancel("Tick")
        yield* eventually(isEmpty)
        const after = ticks
        yield* pass(200)
        assert.strictEqual(ticks, after, "cancelled")
      }
      assert.strictEqual(most, 1)
      yield* worker.stop
    }).pipe(Effect.provide(handler))
  })
}
