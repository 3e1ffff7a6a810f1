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
  /**
   * Add only if the latest generation under the key is this one, and has settled; `Existing` otherwise. A part of a flow is
   * kept as long as before, and its gathers are still known.
   */
  readonly redrive?: number | undefined
  /** The span that added it, for the link from the run to its producer. */
  readonly trace?: Trace | undefined
  /** The part of a flow that it is. */
  readonly thread?: (EncodedThread & { readonly parent?: EncodedParent | undefined }) | undefined
}

/**
 * Where a run of a flow stands. A flow is one run that goes from step to step under its key; each branch of a fan-out is a
 * run of its own. Between steps its lane is `""` and its task the name of the flow: what it waits for then is an interpreter.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedThread {
  readonly flow: string
  readonly version: number
  /** The step that it is at: a path of the graph. `undefined` between steps. */
  readonly step: string | undefined
  /** What the interpreter has to know, as text that a store does not read. */
  readonly state: string
  /**
   * When its patience is over, in milliseconds of the epoch; in an addition, how many milliseconds after it is due. Whatever
   * it waits for then, an interpreter gets it.
   */
  readonly deadline: number | undefined
  /** What a cancel does while it is pending: it ends here, an interpreter gets it, or nothing, because it is ending already. */
  readonly onCancel: "end" | "interpret" | "ignore"
}

/**
 * A run of a flow.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedFlow {
  readonly key: string
  readonly generation: number
}

/**
 * The gather that is told how a run has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedParent extends EncodedFlow {
  readonly gather: string
  readonly index: number
  /** The flow at the top, which is told of steps. Absent if that is the parent. */
  readonly flow?: EncodedFlow | undefined
}

/**
 * What a run waits for, when it waits for others: it goes on when so many have succeeded, or failed, or ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedGather {
  readonly id: string
  readonly succeeded: number
  readonly failed: number
  readonly ended: number
}

/**
 * How a member of a gather has ended: its outcome, and what an interpreter wrote beside it.
 *
 * @category models
 * @since 0.1.0
 */
export type EncodedMember =
  | { readonly _tag: "Done"; readonly text: string }
  | { readonly _tag: "Failed"; readonly text: string }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Gone" }

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
  /** Why the addition was struck, and by whom if that is known. */
  readonly reason?: string | undefined
  readonly author?: string | undefined
  /** The key of the run that it joined. */
  readonly key?: string | undefined
}

/**
 * Why an addition is refused.
 *
 * @category models
 * @since 0.1.0
 */
export type EncodedRefusal =
  | { readonly _tag: "Struck"; readonly reason: string; readonly author?: string | undefined }
  | { readonly _tag: "Limited"; readonly by: "cooldown" }

/**
 * How to write additions.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedAddOptions {
  readonly atomic: boolean
  /** Fail if a strike or a cooldown refuses one of them, with nothing written. Default: say so of that one, write the others. */
  readonly onRefused?: "fail" | undefined
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
  | { readonly _tag: "Struck"; readonly reason: string; readonly author?: string | undefined }
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
  /** A step of a flow has begun or ended: the path of its node. */
  | {
    readonly _tag: "Step"
    /** The member of the flow whose step it is. Absent: the execution. */
    readonly key?: string | undefined
    readonly at: number
    readonly step: string
    readonly state: "Started" | "Ended"
  }
  | {
    readonly _tag: "Retrying"
    /** Absent: that of the execution. */
    readonly task?: string | undefined
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
  readonly thread?: EncodedThread | undefined
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
  readonly operator:
    | "equals"
    | "not"
    | "oneOf"
    | "greaterThan"
    | "greaterThanOrEqualTo"
    | "lessThan"
    | "lessThanOrEqualTo"
    | "between"
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
  /** Not empty; absent if nobody said who it was. */
  readonly author?: string | undefined
  readonly until: number | undefined
}
