/**
 * Keeps the run of a perpetual task known for as long as its layer or its worker lives.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { DocketError } from "../DocketError.ts"
import type { EncodedRun } from "./wire.ts"

/** How often it is looked for, unless somebody says otherwise: a chain that was severed is back within that time. */
export const interval = Duration.seconds(30)

/**
 * Seeds a run whenever nothing is known of it. One that has settled was ended by its handler or by an operator, and stays
 * ended, also when its record is gone.
 */
export const keep = (options: {
  readonly task: string
  readonly key: string
  readonly every: Duration.Input
  readonly get: (key: string) => Effect.Effect<EncodedRun | undefined, DocketError>
  readonly seed: Effect.Effect<unknown, DocketError>
}): Effect.Effect<never> =>
  Effect.suspend(() => {
    let ended = false
    return Effect.flatMap(options.get(options.key), (run) => {
      if (run === undefined) return ended ? Effect.void : Effect.asVoid(options.seed)
      ended = run.state === "Completed" || run.state === "Failed" || run.state === "Cancelled" ||
        run.state === "Skipped"
      return Effect.void
    }).pipe(
      Effect.catch((error) => Effect.logWarning(`perpetual task "${options.task}" could not be checked`, error)),
      Effect.delay(options.every),
      Effect.forever
    )
  })
