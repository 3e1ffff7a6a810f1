/**
 * Runs flows on the store in memory and tells what happened. The clock goes from one moment at which something happens to the
 * next; nothing waits for real time.
 */
import { Docket, type DocketError, type Flow } from "@effect-docket/dsl"
import { DocketEngine } from "@effect-docket/runtime"
import { Clock, Context, Effect, type Fiber, Random, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as MemoryStore from "../../src/MemoryStore.ts"
import * as testClock from "../../src/internal/testClock.ts"
import type { Bodies } from "./definition.ts"
import type { Chain, Spec, Step } from "./spec.ts"

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

/** Chance that says the same each time: the direct evaluation says it as well. */
export const constant = (chance: number) => {
  const random: Random.Random = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => chance } as never
  return Effect.provideService(Random.Random, random)
}

/** What is left in the store: nothing but what is kept for readers. */
export const left = Effect.gen(function*() {
  const { store } = yield* DocketEngine.DocketEngine
  const open = yield* Stream.runCollect(store.snapshot)
  const { leased, ready, runs, scheduled, held, kept } = MemoryStore.sizes(store)
  return {
    open: open.map(({ key, state, thread }) => `${key} ${state} ${thread?.state ?? ""}`),
    counts: { leased, ready, scheduled, held, unkept: runs - kept }
  }
})
