/**
 * Random flows on the store in memory, held against a direct evaluation of the same flows (`FlowModel.ts`): how each ends and
 * when, which bodies begin, when, with what and in which attempt, the order of compensations, the counts of the worker, and
 * that nothing is left in the store.
 *
 * `DOCKET_FLOW_RUNS` (how many lists of one to three flows, default 200), `DOCKET_FLOW_SEED` and `DOCKET_FLOW_REPLAY` (what a
 * failure prints) choose other ones; a nightly run takes 20,000 with a seed of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Config, Effect, Option, Schema } from "effect"
import { isDeepStrictEqual } from "node:util"
import type { Fault } from "./flow/crash.ts"
import { isTimeless, playWith } from "./flow/deaths.ts"
import { play } from "./flow/kit.ts"
import { hash, type Spec, specsOf } from "./flow/spec.ts"

const Choice = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 }))

const flows = Arbitrary.array(Arbitrary.array(Arbitrary.schema(Choice), { maxLength: 200 }), {
  minLength: 1,
  maxLength: 3
})

interface Difference {
  readonly specs: ReadonlyArray<Spec>
  readonly actual: unknown
  readonly expected: unknown
}

const check = Effect.fnUntraced(function*(lists: ReadonlyArray<ReadonlyArray<number>>) {
  const specs = specsOf(lists)
  const { actual, expected } = yield* play(specs)
  const difference: Difference = { specs, actual, expected }
  return isDeepStrictEqual(actual, expected) || (yield* Effect.fail(difference))
})

describe("random flows", () => {
  it.live(
    "end as a direct evaluation of them says, with the same bodies at the same times",
    () =>
      Effect.gen(function*() {
        const replay = yield* Config.option(Config.String("DOCKET_FLOW_REPLAY"))
        const result = yield* Arbitrary.checkEffect(flows, check, {
          runs: yield* Config.withDefault(Config.Int("DOCKET_FLOW_RUNS"), 200),
          seed: yield* Config.withDefault(Config.String("DOCKET_FLOW_SEED"), "flows"),
          replay: Option.getOrUndefined(replay),
          size: 150,
          maxShrinks: 2000
        })
        if (result._tag === "Passed") return
        if (result._tag !== "Falsified" || result.failure._tag !== "PropertyError") {
          return assert.fail(Arbitrary.formatCheckFailure(result))
        }
        const { error } = result.failure
        const flow = "specs" in error ? JSON.stringify(error.specs) : error.message
        const message = `DOCKET_FLOW_REPLAY='${result.replay}' repeats this: ${flow}`
        return "specs" in error ? assert.deepStrictEqual(error.actual, error.expected, message) : assert.fail(message)
      }),
    36_000_000
  )

  const faults: ReadonlyArray<Fault> = ["before", "after", "lostReply", "repeat"]

  it.live(
    "end, whatever write goes wrong or meets a cancel, as a direct evaluation of them says, or cancelled",
    () =>
      Effect.gen(function*() {
        const runs = yield* Config.withDefault(Config.Int("DOCKET_FLOW_RUNS"), 200)
        const seed = yield* Config.withDefault(Config.String("DOCKET_FLOW_SEED"), "flows")
        const all = yield* Arbitrary.sampleEffect(flows, { count: runs * 5, size: 150, seed })
        // one in ten is left: see `isTimeless`
        for (const spec of all.flatMap(specsOf).filter(isTimeless).slice(0, runs / 2)) {
          const { writes } = yield* playWith(spec, undefined, 0)
          for (const fault of faults) {
            const n = 1 + hash(seed, fault, JSON.stringify(spec)) % writes
            const { actual, expected } = yield* playWith(spec, fault, n)
            assert.deepStrictEqual(actual, expected, `${fault} write ${n} of ${writes} of ${JSON.stringify(spec)}`)
          }
          for (const fault of ["cancel", "cancelAndDie"] as const) {
            const n = 3 + hash(seed, fault, JSON.stringify(spec)) % Math.max(1, writes - 2)
            const { actual: { end, left }, expected } = yield* playWith(spec, fault, n)
            const message = `${fault} at write ${n} of ${writes} of ${JSON.stringify(spec)}`
            assert.deepStrictEqual(left, [], message)
            assert.include([expected.end, "error \"Cancelled\""], end, message)
          }
        }
      }),
    36_000_000
  )
})
