/**
 * The store in memory and the model, by thousands of sequences; the contract of each store compares it by some hundreds.
 */
import { MemoryStore } from "@effect-docket/runtime"
import { assert, describe, it, vi } from "@effect/vitest"
import { Arbitrary, Effect, Layer } from "effect"
import { check, comparison } from "./contract/comparison.ts"
import { wrappedStore } from "./contract/kit.ts"

// they work for half a minute, side by side
vi.setConfig({ testTimeout: 1_800_000 })

describe("memory in simulated time", () => {
  for (const seed of ["one", "two", "three"]) comparison("memory", MemoryStore.layer, undefined, { runs: 2000, seed })
})

/** A store that cancels, and says that there was nothing to cancel. */
const silent = wrappedStore((store) => ({ ...store, cancel: (key) => Effect.as(store.cancel(key), false) })).pipe(
  Layer.provide(MemoryStore.layer)
)

describe("the comparison", () => {
  it.effect("a store that answers wrongly → found, shrunk to the two commands that show it, and replayed by what is printed", () =>
    Effect.gen(function*() {
      const { result } = yield* check(silent, { runs: 300, seed: "docket" })
      if (result._tag !== "Falsified") return assert.fail(`it was not noticed: ${result._tag}`)
      assert.isAbove(result.initialInput.length, 2)
      assert.strictEqual(result.shrunkInput.length, 2)
      for (const command of ["Add", "Cancel"]) assert.include(JSON.stringify(result.shrunkInput), command)
      const printed = /^Replay: (.*)$/m.exec(Arbitrary.formatCheckFailure(result) ?? "")?.[1]
      const replayed = yield* check(silent, { runs: 300, seed: "another", replay: printed })
      if (replayed.result._tag !== "Falsified") return assert.fail(`it was not replayed: ${replayed.result._tag}`)
      assert.strictEqual(replayed.result.runs, 1)
      assert.deepStrictEqual(replayed.result.shrunkInput, result.shrunkInput)
      // the same seed finds the same
      const again = yield* check(silent, { runs: 300, seed: "docket" })
      assert.deepStrictEqual(again.result, result)
    }))
})
