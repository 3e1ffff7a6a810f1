/**
 * All transitions of a run, as one table. A store moves runs through `check`, so that code and table cannot part.
 *
 * `Held` is a run that waits for a gate. A due run that is paused, or that no attached worker has a handler for, is ready
 * and shown as held: nothing moves when it is resumed, so it keeps its place before later arrivals.
 */
import type { Execution } from "@effect-docket/dsl"

/** A stored state; `None`: nothing is known of the key. */
export type Stored = Execution.State | "None"

const settled = ["Completed", "Failed", "Cancelled", "Skipped"] as const

/** Whether a run has ended. */
export const isSettled = (state: Stored): boolean =>
  state === "Completed" || state === "Failed" || state === "Cancelled" || state === "Skipped"

/** What happens, from where, to where. */
export const transitions = {
  /** An addition under a free key. */
  add: { from: ["None", ...settled], to: ["Scheduled", "Ready"] },
  /** A flow goes on: with its next step, or it waits for others. */
  continue: { from: ["Running"], to: ["Scheduled", "Ready", "Held"] },
  /** Enough of those that a flow waits for have ended. */
  gather: { from: ["Held"], to: ["Ready"] },
  /** A flow that was cancelled, or whose deadline has passed, waits for its interpreter. */
  interpret: { from: ["Scheduled", "Ready", "Held", "Running"], to: ["Ready"] },
  /** Its time has come, by the clock of the store. */
  due: { from: ["Scheduled"], to: ["Ready"] },
  /** Another payload and time under the same key; of a running run the new generation takes the key. */
  replace: { from: ["Scheduled", "Ready", "Held", "Running"], to: ["Scheduled", "Ready"] },
  /** Another addition joins a debounced run. */
  join: { from: ["Scheduled"], to: ["Scheduled", "Ready"] },
  /** The same of one that is due already: it keeps its place. */
  joinDue: { from: ["Ready", "Held"], to: ["Ready"] },
  cancel: { from: ["Scheduled", "Ready", "Held"], to: ["Cancelled"] },
  clear: { from: ["Scheduled", "Ready", "Held"], to: ["None"] },
  /** One of its gates lets nothing through now. */
  hold: { from: ["Ready"], to: ["Held"] },
  /** The gate that holds it has room again. */
  admit: { from: ["Held"], to: ["Ready"] },
  claim: { from: ["Ready"], to: ["Running"] },
  /** A claim of a struck run. */
  skip: { from: ["Ready"], to: ["Skipped"] },
  complete: { from: ["Running"], to: ["Completed"] },
  fail: { from: ["Running"], to: ["Failed"] },
  /** A claim that a gate drops. */
  drop: { from: ["Running"], to: ["Skipped"] },
  /** The next run of a perpetual task, in the same write as the outcome of this one. */
  perpetuate: { from: ["Completed", "Failed"], to: ["Scheduled", "Ready"] },
  retry: { from: ["Running"], to: ["Scheduled", "Ready"] },
  snooze: { from: ["Running"], to: ["Scheduled", "Ready"] },
  release: { from: ["Running"], to: ["Ready"] },
  /** The body of a run that somebody cancelled has ended. */
  abort: { from: ["Running"], to: ["Cancelled"] },
  /** The lease is over: another worker may take it, unless it was to be cancelled. */
  takeOver: { from: ["Running"], to: ["Ready", "Cancelled"] },
  /** Its retention is over. */
  forget: { from: settled, to: ["None"] }
} as const satisfies Readonly<
  Record<string, { readonly from: ReadonlyArray<Stored>; readonly to: ReadonlyArray<Stored> }>
>

/** Something that happens to a run. */
export type Transition = keyof typeof transitions

/** Whether the table has this step. */
export const isAllowed = (transition: Transition, from: Stored, to: Stored): boolean => {
  const step: { readonly from: ReadonlyArray<Stored>; readonly to: ReadonlyArray<Stored> } = transitions[transition]
  return step.from.includes(from) && step.to.includes(to)
}
