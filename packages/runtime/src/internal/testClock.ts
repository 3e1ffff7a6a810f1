/**
 * A `TestClock` that knows when its sleepers wake, so that a test kit can move it to the next of them.
 */
import { Execution } from "@effect-docket/dsl"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { TestClock } from "effect/testing"

/** Somebody who sleeps. */
interface Sleeper {
  readonly until: number
  /** The handler of a task, not the machinery around it. */
  readonly isHandler: boolean
}

const sleepersOf = new WeakMap<Clock.Clock, Set<Sleeper>>()

const isTestClock = (clock: Clock.Clock): clock is TestClock.TestClock => Predicate.hasProperty(clock, "adjust")

const observe = (clock: TestClock.TestClock): TestClock.TestClock => {
  const sleepers = new Set<Sleeper>()
  const observed: TestClock.TestClock = {
    ...clock,
    sleep: (duration) =>
      Effect.withFiber((fiber) => {
        const sleeper = {
          until: clock.currentTimeMillisUnsafe() + Duration.toMillis(duration),
          isHandler: fiber.context.mapUnsafe.has(Execution.CurrentExecution.key)
        }
        sleepers.add(sleeper)
        return Effect.ensuring(clock.sleep(duration), Effect.sync(() => sleepers.delete(sleeper)))
      })
  }
  sleepersOf.set(observed, sleepers)
  return observed
}

/** The clock of the test if there is one, a new `TestClock` otherwise. */
export const layer: Layer.Layer<TestClock.TestClock> = Layer.effectContext(Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const context: Context.Context<TestClock.TestClock> = isTestClock(clock)
    ? Context.empty() as Context.Context<never> as Context.Context<TestClock.TestClock> // the clock is added below
    : yield* Layer.build(TestClock.layer())
  return Context.add(
    context,
    Clock.Clock,
    observe(isTestClock(clock) ? clock : Context.get(context, Clock.Clock) as TestClock.TestClock)
  ) // made by `TestClock.layer`
}))

/** When the first sleeper wakes: a handler, or anybody. */
export const nextWake = (clock: Clock.Clock, handlersOnly: boolean): number => {
  const sleepers = sleepersOf.get(clock)
  let next = Infinity
  for (const { isHandler, until } of sleepers ?? []) {
    if ((isHandler || !handlersOnly) && until < next) next = until
  }
  return next
}
