/**
 * Runs flows on the store in memory and tells what happened. The clock goes from one moment at which something happens to the
 * next; nothing waits for real time.
 */
import { Docket } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Effect, Exit, Fiber, Layer, Logger, Option, Random, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as testClock from "../../src/internal/testClock.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import { type Bodies, bodyText, defectRetryPolicy, flowOf, handlers, Tasks, textOf } from "./definition.ts"
import { chance, evaluate } from "./FlowModel.ts"
import { type Spec, undoingIn } from "./spec.ts"

const settle: Effect.Effect<void> = Effect.forEach(Array.from({ length: 20 }), () => Effect.yieldNow, { discard: true })

/** Moves the clock from one sleeper to the next until a fiber has ended; `false` if nobody sleeps, and it has not. */
export const drive = Effect.fnUntraced(function*(fiber: Fiber.Fiber<unknown, unknown>) {
  const clock = yield* Clock.Clock
  while (true) {
    yield* settle
    if (fiber.pollUnsafe() !== undefined) return true
    const next = testClock.nextWake(clock, false)
    if (next === Infinity) return false
    yield* TestClock.setTime(next)
  }
})

const constant: Random.Random = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => chance }

/** What is left in the store, but for what is kept for readers. */
export const left = Effect.gen(function*() {
  const { store } = yield* DocketEngine.DocketEngine
  const open = yield* Stream.runCollect(store.snapshot)
  const { held, kept, leased, ready, runs, scheduled } = MemoryStore.sizes(store)
  return [
    ...open.map(({ key, state, thread }) => `${key} is ${state}: ${thread?.state ?? ""}`),
    ...leased + ready + scheduled + held + runs - kept === 0
      ? []
      : [`leased ${leased}, ready ${ready}, scheduled ${scheduled}, held ${held}, not settled ${runs - kept}`]
  ]
})

/** What the bodies of a flow do. */
export const bodiesOf = ({ bad, chain, instant }: Spec, steady = false): Bodies => ({
  bad,
  instant,
  steady,
  undoing: new Set(undoingIn(chain))
})

/** What is seen of a flow from outside. */
export interface Seen {
  readonly end: string
  readonly bodies: ReadonlyArray<string>
}

export const endText = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit)
    ? `value ${textOf(exit.value)}`
    : Option.match(Exit.findErrorOption(exit), {
      onNone: () => `defect ${String(exit.cause)}`,
      onSome: (error) => `error ${textOf(error)}`
    })

/** What the direct evaluation says of flows that all start at this time. */
export const expected = (specs: ReadonlyArray<Spec>, at: number) => {
  const evaluated = specs.map((spec) => evaluate(spec, bodiesOf(spec), at))
  const sum = (count: "succeeded" | "failed" | "retried") => evaluated.reduce((sum, { log }) => sum + log[count], 0)
  return {
    flows: evaluated.map(({ at, log, outcome }): Seen => ({
      end: `${at} ${
        outcome._tag === "Done"
          ? `value ${textOf(outcome.value)}`
          : `error ${outcome._tag === "Failed" ? textOf(outcome.error) : "\"Cancelled\""}`
      }`,
      bodies: log.bodies.toSorted()
    })),
    report: { succeeded: sum("succeeded"), failed: sum("failed"), retried: sum("retried") },
    left: []
  }
}

const now = Clock.currentTimeMillis

/** Runs flows that all start now, with one worker that has as many slots as they need. */
const running = (specs: ReadonlyArray<Spec>, bodies: Map<string, Array<string>>) =>
  Effect.gen(function*() {
    const flows = specs.map(flowOf)
    const started = yield* Effect.forEach(specs, (spec, i) =>
      Effect.gen(function*() {
        const execution = yield* Docket.start(flows[i]!, { ...spec.input, id: spec.base }, { key: spec.name })
        const { cancelAt } = spec
        if (cancelAt !== undefined) {
          yield* Effect.forkChild(Effect.andThen(Effect.sleep(cancelAt), Docket.cancel(spec.name)))
        }
        return yield* Effect.forkChild(
          Effect.exit(execution.await).pipe(Effect.flatMap((exit) => Effect.map(now, (at) => `${at} ${endText(exit)}`)))
        )
      }))
    const worker = yield* Effect.forkChild(
      Worker.runUntilIdle(Tasks, { flows, concurrency: 1000, lease: "30000 days", defectRetryPolicy })
    )
    const isDone = yield* drive(worker)
    const rest = yield* left
    const report = isDone ? yield* Fiber.join(worker) : "the worker waits for ever"
    if (!isDone) yield* Fiber.interrupt(worker)
    const ends = yield* Effect.forEach(started, (fiber) =>
      Effect.flatMap(settle, () =>
        fiber.pollUnsafe() === undefined ? Effect.succeed("never") : Fiber.join(fiber)))
    return {
      flows: specs.map(({ name }, i): Seen => ({ end: ends[i]!, bodies: (bodies.get(name) ?? []).toSorted() })),
      report,
      left: rest
    }
  })

/** Runs flows, and evaluates them. */
export const play = (specs: ReadonlyArray<Spec>) => {
  const bodies = new Map<string, Array<string>>()
  const byBase = new Map(specs.map((spec) => [spec.base, bodiesOf(spec)]))
  const live = handlers(
    (id) => byBase.get(Math.floor(id / 10_000) * 10_000)!,
    (flow, task, value, attempt) =>
      Effect.map(now, (at) => {
        bodies.set(flow, [...bodies.get(flow) ?? [], bodyText(at, task, value, attempt)])
      })
  )
  return running(specs, bodies).pipe(
    Effect.map((actual) => ({ actual, expected: expected(specs, 0) })),
    Effect.provide(Layer.merge(live, Tasks.client).pipe(Layer.provideMerge(DocketTest.layer))),
    Effect.provideService(Random.Random, constant),
    Effect.provide(Logger.layer([]))
  )
}
