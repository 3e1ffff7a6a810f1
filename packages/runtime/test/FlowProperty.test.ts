import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { isDeepStrictEqual } from "node:util"
import { play } from "./flow/kit.ts"
import { specsOf } from "./flow/spec.ts"

const choices = Arbitrary.array(
  Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 }))), { maxLength: 120 }),
  { minLength: 1, maxLength: 3 }
)

const diff = (a: any, e: any) => JSON.stringify({ actual: a, expected: e }, null, 1)

describe("random flows", () => {
  it.live("do what a direct evaluation says", () =>
    Effect.gen(function*() {
      const result = yield* Arbitrary.checkEffect(choices, (lists) =>
        Effect.gen(function*() {
          const specs = specsOf(lists)
          const { actual, expected } = yield* play(specs)
          if (isDeepStrictEqual(actual, expected)) return true
          return yield* Effect.fail({ specs, actual, expected })
        }), { runs: Number(process.env.RUNS ?? 20), size: 60, seed: process.env.SEED ?? "flows", maxShrinks: 2000 })
      if (result._tag === "Passed") return
      if (result._tag === "Falsified") {
        const error = (result.failure as any).error
        console.log(JSON.stringify(error.specs), "\n", error.actual ? diff(error.actual, error.expected) : error, result.replay)
      } else console.log(JSON.stringify(result, null, 1))
      assert.fail(result._tag)
    }), 600_000)
})
