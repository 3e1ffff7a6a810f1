/**
 * When a perpetual task runs next.
 */
import type { Docket } from "@effect-docket/dsl"
import type * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Cron from "effect/Cron"

/** The first run of an automatic task: at once, or at the next tick. */
export const first = (recurrence: Interpreter.Recurrence, now: number): Docket.Due =>
  recurrence.next._tag === "Every" ? { after: 0 } : { at: Cron.next(recurrence.next.cron, now).getTime() }

/**
 * The run after one that began at `startedAt`. An interval counts from start to start; a run that took longer is followed
 * at once, and what was missed is not made up for. Times are those of the store.
 */
export const following = (recurrence: Interpreter.Recurrence, startedAt: number, now: number): Docket.Due =>
  recurrence.next._tag === "Every"
    ? { at: startedAt + recurrence.next.millis }
    : { at: Cron.next(recurrence.next.cron, now).getTime() }
