/**
 * What crosses the `Docket` service and the store: plain data, values as JSON text, times in milliseconds of the epoch.
 */
import type * as Execution from "../Execution.ts"

/**
 * When to run: at a time, or that long from now by the clock of the store (`after: 0` is now).
 *
 * @category models
 * @since 0.1.0
 */
export type Due = { readonly at: number } | { readonly after: number }

/**
 * The gates that a run has to pass, each by the text that it is about: runs with the same text share a gate. How much a gate
 * lets through is said by the workers.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedGates {
  readonly concurrency?: string | undefined
  readonly rateLimit?: string | undefined
  /** An addition is ignored while the start of a run with this text is not long enough ago. */
  readonly cooldown?: string | undefined
  readonly debounce?: EncodedDebounce | undefined
}

/**
 * An addition that joins a pending run about the same text: the run is due when none came for `for` milliseconds, at most
 * `max` after the first, with the payload of the last, or of the first.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedDebounce {
  readonly about: string
  readonly for: number
  readonly max: number | undefined
  readonly keepsFirst: boolean
}

/**
 * An addition as it is stored: the payload as JSON text, the options of the task read.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedAddition {
  readonly task: string
  readonly version: number
  readonly key: string
  readonly payload: string
  readonly due: Due
  readonly onExisting: "keep" | "replace" | "fail"
  readonly lane: string
  readonly priority: number
  /** How long the outcome is kept, in milliseconds. */
  readonly retention: { readonly success: number; readonly failure: number }
  /** Absent if it has to pass none. */
  readonly gates?: EncodedGates | undefined
  /** Add only if the latest generation under the key is this one, and has settled; `Existing` otherwise. */
  readonly redrive?: number | undefined
  /** The span that added it, for the link from the run to its producer. */
  readonly trace?: Trace | undefined
}

/**
 * A span, as much of it as crosses a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Trace {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}

/**
 * What an addition did, and where the execution under its key is now.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedAdded {
  readonly disposition: Execution.Disposition
  readonly generation: number
  readonly due: number
  /** Why the addition was struck. */
  readonly reason?: string | undefined
  /** The key of the run that it joined. */
  readonly key?: string | undefined
}

/**
 * How a run ended. `Exit` holds the JSON text of an `Exit` of success, and error or `TaskFailure`; the others were
 * decided by the store.
 *
 * @category models
 * @since 0.1.0
 */
export type EncodedOutcome =
  | { readonly _tag: "Exit"; readonly exit: string }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Struck"; readonly reason: string }
  | { readonly _tag: "Limited"; readonly by: "rateLimit" | "cooldown" }
  | { readonly _tag: "Gone" }

/**
 * An event as it is published. `at` is the time of the event.
 *
 * @category models
 * @since 0.1.0
 */
export type EncodedEvent =
  | { readonly _tag: "Scheduled"; readonly at: number; readonly due: number }
  | { readonly _tag: "Replaced"; readonly at: number; readonly due: number }
  | { readonly _tag: "Ready"; readonly at: number }
  | { readonly _tag: "Started"; readonly at: number; readonly attempt: number; readonly worker: string }
  | { readonly _tag: "Progress"; readonly at: number; readonly value: string }
  | {
    readonly _tag: "Retrying"
    readonly at: number
    readonly attempt: number
    readonly exit: string
    readonly next: number
  }
  | { readonly _tag: "Finished"; readonly at: number; readonly outcome: EncodedOutcome }

/**
 * A stored run.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedRun {
  readonly task: string
  readonly version: number
  readonly key: string
  readonly generation: number
  readonly state: Execution.State
  readonly due: number
  readonly attempt: number
  readonly worker: string | undefined
  readonly payload: string
  readonly progress: string | undefined
}

/**
 * A run that failed for good.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedDeadLetter extends EncodedRun {
  readonly exit: string
  readonly failedAt: number
}

/**
 * A condition on the JSON form of a payload field.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedCondition {
  readonly field: string
  readonly operator: "equals" | "not" | "oneOf" | "greaterThan" | "lessThan" | "between"
  readonly values: ReadonlyArray<unknown>
  /** The values are bigints, whose JSON form is text: compared as numbers. */
  readonly bigint: boolean
}

/**
 * A strike as it is stored. Its identity is the task with the conditions: `restore` names those.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedStrike {
  readonly task: string
  readonly where: ReadonlyArray<EncodedCondition>
  readonly reason: string
  readonly until: number | undefined
}
