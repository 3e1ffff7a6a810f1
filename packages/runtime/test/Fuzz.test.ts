import { Docket, Flow } from "@effect-docket/dsl"
import { DocketEngine } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Stream } from "effect"
import { attachTo } from "./contract/seam.ts"
import * as Chaos from "./fuzz/Chaos.ts"
import * as Stored from "./fuzz/Stored.ts"
import * as Kit from "./Kit.ts"

const parse = Option.liftThrowable((text: string): unknown => JSON.parse(text))

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

describe("Arbitrary input of a producer", () => {
  const throwing = () => {
    throw new Error("thrown")
  }
  const cycle: Record<string, unknown> = { n: 1 }
  cycle["more"] = cycle
  const odd: ReadonlyArray<unknown> = [
    undefined,
    null,
    () => 1,
    Symbol("s"),
    1n,
    Number.NaN,
    cycle,
    Object.defineProperty({}, "n", { get: throwing, enumerable: true }),
    new Proxy({}, { get: throwing, ownKeys: throwing }),
    { n: 1, more: { toJSON: throwing } },
    { n: 1, more: new Map([[1, 2]]) },
    Object.create(null)
  ]

  it.effect("is added, or a typed error; nothing dies", () =>
    Effect.gen(function*() {
      const chaos = yield* Chaos.make(Chaos.seed)
      const parsed = Array.from({ length: Chaos.cases }, () => Option.getOrUndefined(parse(chaos.json())))
      const keys = [...odd, ...Array.from({ length: Chaos.cases }, chaos.text)]
      for (const input of [...odd, ...parsed]) {
        yield* Stored.orderly("adding", Docket.add(Stored.Job, input as never)) // what the compiler refuses
        yield* Stored.orderly("starting", Docket.start(Stored.Steps, input as never))
      }
      for (const key of keys) {
        const options = { key: key as string } // as above
        yield* Stored.orderly("adding", Docket.add(Stored.Beside, { n: 1 }, options))
        yield* Stored.orderly("starting", Docket.start(Stored.Steps, { n: 1 }, options))
        yield* Stored.orderly("getting", Docket.get(Stored.Beside, options.key))
        yield* Stored.orderly("cancelling", Docket.cancel(options.key))
      }
      yield* drain
    }).pipe(Effect.provide(Layer.provideMerge(Kit.live(Stored.Jobs, Stored.JobsLive), Kit.logs().layer))))
})

// What these tests have found.
describe("What nobody wrote", () => {
  const bundle = Kit.live(Stored.Jobs, Stored.JobsLive)

  it.effect("is in a snapshot as it is stored", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      yield* docket.addEncoded([Kit.encoded({ task: "Job", key: "k", payload: "{\"n" })], { atomic: true })
      const [run] = yield* Stream.runCollect(Docket.snapshot)
      assert.strictEqual(run?.payload, "{\"n")
    }).pipe(Effect.provide(bundle)))

  it.effect("as the state of a flow is a failure; it has no steps, cannot be redriven, and keeps no other from it", () => {
    const logs = Kit.logs()
    return Effect.gen(function*() {
      const docket = yield* Docket.Docket
      const thread = {
        flow: "Steps",
        version: 1,
        step: undefined,
        state: "{",
        deadline: undefined,
        onCancel: "end"
      } as const
      const addition = Kit.encoded({ task: "Steps", key: "bad", lane: "", thread })
      yield* docket.addEncoded([addition], { atomic: true })
      yield* Docket.start(Stored.Steps, { n: -1 }, { key: "good" })
      yield* drain
      const flow = Option.getOrThrow(yield* Docket.get(Stored.Steps, "bad"))
      assert.include(Kit.defectOf(yield* Effect.flip(flow.await)), "JSON")
      assert.isTrue(Option.isNone(yield* Docket.steps(Stored.Steps, "bad")))
      const letters = yield* Stream.runCollect(Docket.deadLetters(Stored.Steps))
      assert.deepStrictEqual(letters.map(({ key }) => key).toSorted(), ["bad", "good"])
      assert.strictEqual(yield* Docket.redrive(Stored.Steps), 1)
      assert.strictEqual(logs.at("Warn").filter(({ message }) => message.includes("cannot be redriven")).length, 1)
    }).pipe(Effect.provide(Layer.provideMerge(bundle, logs.layer)))
  })

  it.effect("ends when its interpreter says so, whatever was to happen at a cancel", () =>
    Effect.scoped(Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      const state = "{\"x\":{\"t\":\"restart\"}}"
      const thread = {
        flow: "Steps",
        version: 1,
        step: undefined,
        state,
        deadline: undefined,
        onCancel: "interpret"
      } as const
      yield* store.add([Kit.encoded({ task: "Steps", key: "k", lane: "", thread })], { atomic: true })
      const worker = yield* attachTo(store, { flows: new Map([["Steps", new Set([1])]]) })
      const { claimed: [claim] } = yield* worker.turn({ capacity: 1, between: 1 })
      assert.strictEqual(yield* worker.settle(claim!, { _tag: "Cancelled" }), "Applied")
      assert.strictEqual((yield* store.get("k"))?.state, "Cancelled")
    })).pipe(Effect.provide(bundle)))

  it.effect("leaves no deadline behind: a flow that something else replaces", () => {
    class Slow extends Flow.make("Slow", Stored.Beside.pipe(Flow.deadline("1 minute"))) {}
    return Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      yield* Docket.start(Slow, { n: 1 }, { key: "k", after: "1 second" })
      const run = yield* Docket.replace(Stored.Beside, { n: 2 }, { key: "k", after: "1 hour" })
      yield* DocketTest.drain(Stored.Jobs, { flows: [Slow], for: "10 minutes" })
      assert.strictEqual((yield* store.get("k"))?.state, "Scheduled")
      assert.isTrue((yield* store.counts).every(({ ready, scheduled }) => ready === 0 && scheduled >= 0))
      yield* DocketTest.drain(Stored.Jobs, { flows: [Slow] })
      assert.strictEqual(yield* run.await, 2)
    }).pipe(Effect.provide(bundle))
  })
})
