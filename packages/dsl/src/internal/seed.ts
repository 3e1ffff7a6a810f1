/**
 * Keeps the run of a perpetual task known for as long as its layer or its worker lives.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { DocketError } from "../DocketError.ts"
import type { EncodedRun } from "./wire.ts"

/** How often it is looked for, unless somebody says otherwise: a chain that was severed is back within that time. */
export const interval = Duration.seconds(30)

/** How often it is looked for at least while the outcome of an ended chain is kept; a look that fails does no harm. */
export const checks = 4

/** A chain to keep. */
export interface Chain {
  readonly task: string
  readonly key: string
  readonly every: Duration.Input
  readonly get: (key: string) => Effect.Effect<EncodedRun | undefined, DocketError>
  /** Adds a run, unless there is one; a struck task is refused by it. */
  readonly seed: Effect.Effect<unknown, DocketError>
}

/**
 * Seeds a run when nothing is known of it, now and whenever that is the case later. One that was completed, failed or
 * cancelled without a successor was ended by its handler or by an operator, and stays ended: as long as its outcome is
 * kept, and then for those who saw it. One that was skipped because of a strike comes back when the strike is over.
 */
export const make = ({ every, get, key, seed, task }: Chain): {
  readonly check: Effect.Effect<void, DocketError>
  readonly keep: Effect.Effect<never>
} => {
  let ended = false
  let newest = 0
  const check = Effect.flatMap(get(key), (run) => {
    if (run === undefined) return ended ? Effect.void : Effect.asVoid(seed)
    // an outcome of a cycle before one that was seen is no end: what came after it was removed
    const isNewest = run.generation >= newest
    newest = Math.max(newest, run.generation)
    ended = isNewest && (run.state === "Completed" || run.state === "Failed" || run.state === "Cancelled")
    return run.state === "Skipped" || !isNewest ? Effect.asVoid(seed) : Effect.void
  })
  return {
    check,
    keep: check.pipe(
      Effect.catch((error) => Effect.logWarning(`perpetual task "${task}" could not be checked`, error)),
      Effect.delay(every),
      Effect.forever
    )
  }
}
