import { DocketTest } from "@effect-docket/runtime/testing"
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Chaos from "./fuzz/Chaos.ts"
import * as Stored from "./fuzz/Stored.ts"
import * as Kit from "./Kit.ts"

const drain = DocketTest.drain(Stored.Jobs, { flows: [Stored.Steps] })

describe("Arbitrary bytes in a store", () => {
  it.effect(
    "stop no worker and break no reader",
    () =>
      Effect.forEach(
        Array.from({ length: Chaos.cases }, (_, n) => Chaos.seed + n),
        (seed) =>
          Effect.flatMap(Chaos.make(seed), (chaos) => Stored.survive(chaos, () => drain)).pipe(
            Effect.provide(Kit.live(Stored.Jobs, Stored.JobsLive), { local: true }),
            Effect.catchDefect((defect) => Effect.die(new Error(`FUZZ_CASES=1 FUZZ_SEED=${seed}`, { cause: defect })))
          ),
        { discard: true }
      ).pipe(Effect.provide(Kit.logs().layer)),
    60_000
  )
})
