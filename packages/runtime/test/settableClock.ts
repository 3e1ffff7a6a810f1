/**
 * The clock of a machine that somebody sets. What measures time is not touched by that, and nobody who sleeps either.
 */
import { Clock, Duration, Effect } from "effect"

/** A clock that shows what the one of the test shows, until it is set. */
export const make = Effect.map(Clock.Clock, (clock) => {
  let error = 0
  return {
    clock: {
      ...clock,
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + error,
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + error)
    },
    set: (by: Duration.Input) => {
      error += Duration.toMillis(by)
    }
  }
})
