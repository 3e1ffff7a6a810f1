/**
 * The seam between the engine and its stores. Applications do not use it.
 *
 * A store is a state machine: each operation is one atomic write, and times are those of the store. Values are JSON text
 * that it neither reads nor makes, but for the payload fields that a strike names. A change of a running run carries the
 * token of its claim; a token that is no longer current changes nothing.
 *
 * @since 0.1.0
 */
import type { Docket, DocketError } from "@effect-docket/dsl"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/**
 * Which claim of which run: what every change of a running run carries.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fence {
  readonly key: string
  readonly generation: number
  readonly token: string
}

/**
 * A run claimed by a worker.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim extends Fence {
  readonly task: string
  readonly version: number
  readonly payload: string
  /** Which attempt this is, from 1. */
  readonly attempt: number
  /** How many claims ended because their lease ran out, since an attempt of this run settled. */
  readonly lost: number
  /** What `Change.failures` said last. */
  readonly failures: string | undefined
  readonly due: number
  readonly startedAt: number
  readonly trace: Docket.Trace | undefined
  /** The gate that drops it: it is not to run, but to be settled as `Skipped` or to be snoozed. */
  readonly droppedBy?: "rateLimit" | undefined
  /** The part of a flow that it is, if it is one. */
  readonly thread?: ClaimedThread | undefined
}

/**
 * A claimed run of a flow. `task` of the claim is the task of its step, or the name of the flow if it is `between` steps.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimedThread extends Docket.EncodedThread {
  readonly parent: Docket.EncodedParent | undefined
  /** It is claimed to be interpreted and not to be run. */
  readonly between: boolean
  /** How many members of the gather that it waited for last have ended. */
  readonly gathered: { readonly succeeded: number; readonly failed: number } | undefined
  /** How its step ended, if a worker without the flow ran it. */
  readonly exit: string | undefined
  /** Why it is not to go on as it was: `Struck` concerns its step alone. */
  readonly stopped:
    | { readonly _tag: "Cancelled" }
    | { readonly _tag: "Expired" }
    | { readonly _tag: "Struck"; readonly reason: string; readonly author?: string | undefined }
    | undefined
}

/**
 * What becomes of a running run.
 *
 * @category models
 * @since 0.1.0
 */
export type Change =
  | { readonly _tag: "Completed"; readonly exit: string }
  | { readonly _tag: "Failed"; readonly exit: string }
  | { readonly _tag: "Cancelled" }
  /** Run again after that many milliseconds; `failures` is handed to the next claim. */
  | { readonly _tag: "Retry"; readonly after: number; readonly exit: string; readonly failures: string }
  /** Run again after that many milliseconds, attempt not counted. */
  | { readonly _tag: "Snooze"; readonly after: number }
  /** What `Claim.droppedBy` asks for. */
  | { readonly _tag: "Skipped"; readonly by: "rateLimit" }
  /** Given back: ready again before later arrivals, attempt not counted. */
  | { readonly _tag: "Released" }
  /** A flow goes on: the same run with another step, or waiting. */
  | {
    readonly _tag: "Continue"
    readonly thread: Docket.EncodedThread
    readonly to: Destination
    /** Gathers that are not needed any more: those in this chain, or all (`""`). */
    readonly forget?: string | undefined
  }
  /** A step has ended in a worker that does not have its flow: one that has interprets it. */
  | { readonly _tag: "HandOver"; readonly exit: string | undefined; readonly expired: boolean }

/**
 * Where a run of a flow goes from here.
 *
 * @category models
 * @since 0.1.0
 */
export type Destination =
  | {
    readonly _tag: "Step"
    readonly task: string
    readonly version: number
    readonly lane: string
    readonly priority: number
    readonly payload: string
    readonly gates: Docket.EncodedGates | undefined
    readonly due: Docket.Due
  }
  /** To an interpreter. */
  | { readonly _tag: "Between"; readonly due: Docket.Due }
  /** To an interpreter, once enough members have ended. */
  | { readonly _tag: "Gather"; readonly gather: Docket.EncodedGather }

/**
 * A change of a running run, with what is written in the same atomic step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settlement extends Fence {
  readonly change: Change
  /** The next run under the same key, if the change is `Completed` or `Failed` and nobody asked to cancel. */
  readonly successor: Successor | undefined
  /** Members of a gather that are added, if the change is `Continue`. One whose end is known already is left out. */
  readonly members?: ReadonlyArray<Docket.EncodedAddition> | undefined
}

/**
 * The next run under a key.
 *
 * @category models
 * @since 0.1.0
 */
export interface Successor {
  readonly due: Docket.Due
  readonly payload: string
  readonly version: number
  /** Absent if they are those of the run before. */
  readonly gates?: Docket.EncodedGates | undefined
}

/**
 * `Lost`: the token is not current (any more), nothing was changed. `Duplicate`: this change was applied before.
 *
 * @category models
 * @since 0.1.0
 */
export type Settled = "Applied" | "Lost" | "Duplicate"

/**
 * What a claim is told when it asks to go on. `Replaced`: the key has a newer generation, whatever this one does no
 * longer counts, and it may finish in peace.
 *
 * @category models
 * @since 0.1.0
 */
export type Renewed = "Renewed" | "Cancelled" | "Lost" | "Replaced"

/**
 * How much the gates of a task let through. It is decided when a run is claimed: all of its gates let it through, or it is
 * held by the one that does not, and none is charged.
 *
 * @category models
 * @since 0.1.0
 */
export interface GateLimits {
  /** How many run at once. A claim has its slot until it is settled or its lease is over. */
  readonly concurrency?: number | undefined
  /** How many are claimed within any window, in milliseconds; `drops`: what comes too much is not held. */
  readonly rateLimit?: { readonly limit: number; readonly window: number; readonly drops: boolean } | undefined
  /** How long after a start additions are ignored, in milliseconds. */
  readonly cooldown?: number | undefined
}

/**
 * A worker as the store sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerOptions {
  readonly worker: string
  /** The tasks it has handlers for, with the newest version of each that it knows. */
  readonly tasks: ReadonlyMap<string, number>
  readonly lanes: ReadonlyArray<string>
  /** The flows that it can interpret, with their versions. */
  readonly flows?: ReadonlyMap<string, ReadonlySet<number>> | undefined
  /** How long a claim lasts without renewal, in milliseconds. */
  readonly lease: number
  /** How much the gates of its tasks let through. A gate that is not in it lets everything through. */
  readonly gates?: ReadonlyMap<string, GateLimits> | undefined
  /**
   * Called when it should take a turn: new work for slots that its last turn left free, or a run of its own was
   * cancelled. It must not block and not throw.
   */
  readonly onWake: () => void
}

/**
 * What a turn of a worker asks for.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnRequest {
  readonly settle: ReadonlyArray<Settlement>
  /** How many runs to claim in all, and at most how many of a lane. */
  readonly capacity: number
  readonly lanes: ReadonlyMap<string, number> | undefined
  /** How many runs of flows that are between two steps to claim besides: a worker whose slots are all taken goes on with them. */
  readonly between?: number | undefined
  /** Tasks to leave alone. */
  readonly except: ReadonlySet<string> | undefined
}

/**
 * What a turn of a worker did.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnReply {
  /** The time of the store. */
  readonly now: number
  /** One per settlement, in their order. */
  readonly settled: ReadonlyArray<Settled>
  readonly claimed: ReadonlyArray<Claim>
  /** Tokens of this worker whose runs somebody asked to cancel since its last turn. */
  readonly cancelled: ReadonlyArray<string>
  /** Due runs that no attached worker has a handler for. */
  readonly unserved: ReadonlyArray<Unserved>
}

/**
 * Due runs that no attached worker has a handler for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unserved {
  readonly task: string
  readonly version: number
  readonly lane: string
  readonly count: number
}

/**
 * What is left to do for a worker, whoever does it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outlook {
  readonly pending: number
  readonly running: number
  /** When the next scheduled run of the docket is due. */
  readonly nextDue: number | undefined
}

/**
 * The turns of one worker. It ends with its scope; what it holds then is taken over when the leases run out.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerSession {
  /**
   * Settles what has finished, promotes what is due, takes over what is abandoned, and claims; each part is bounded, and
   * the worker is woken when something was left.
   */
  readonly turn: (request: TurnRequest) => Effect.Effect<TurnReply, DocketError.DocketError>
  /** Extends claims by the lease; one answer per claim, in their order. */
  readonly renew: (claims: ReadonlyArray<Fence>) => Effect.Effect<ReadonlyArray<Renewed>, DocketError.DocketError>
  readonly outlook: (except?: ReadonlySet<string>) => Effect.Effect<Outlook, DocketError.DocketError>
}

/**
 * An event of a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredEvent {
  readonly task: string
  readonly key: string
  readonly generation: number
  readonly event: Docket.EncodedEvent
  /** The flow at the top, if it is about a step of a member. */
  readonly flow?: Docket.EncodedFlow | undefined
}

/**
 * What to pause: a task, a lane, or everything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pause {
  readonly task: string | undefined
  readonly lane: string | undefined
}

/**
 * One docket in a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredDocket {
  readonly name: string
  /**
   * Writes additions, all at once where `atomic` asks for it (`KeyExists`, and what `onRefused` asks for, then mean that
   * nothing was written), with one answer each, in their order.
   */
  readonly add: (
    additions: ReadonlyArray<Docket.EncodedAddition>,
    options: Docket.EncodedAddOptions
  ) => Effect.Effect<ReadonlyArray<Docket.EncodedAdded>, DocketError.DocketError>
  /** What would refuse these additions now, one answer each, in their order. A key that is taken is not refused. */
  readonly refused: (
    additions: ReadonlyArray<Docket.EncodedAddition>
  ) => Effect.Effect<ReadonlyArray<Docket.EncodedRefusal | undefined>, DocketError.DocketError>
  /**
   * Cancels a pending run, asks the worker of a running one to stop it; `false` for any other key, and for one that is no
   * member of the flow or member `of`, if that is given.
   */
  readonly cancel: (key: string, of?: Docket.EncodedFlow) => Effect.Effect<boolean, DocketError.DocketError>
  readonly get: (key: string) => Effect.Effect<Docket.EncodedRun | undefined, DocketError.DocketError>
  /** The outcome of this generation of a key or a later one, `undefined` while there is none, `Gone` if nothing is known. */
  readonly outcome: (
    key: string,
    generation: number
  ) => Effect.Effect<Docket.EncodedOutcome | undefined, DocketError.DocketError>
  /** How the members of a gather have ended, by index, from one index to another. */
  readonly members: (
    key: string,
    gather: string,
    from: number,
    to: number
  ) => Effect.Effect<ReadonlyArray<Docket.EncodedMember | undefined>, DocketError.DocketError>
  /** Waits for `outcome`; told by the settlement itself, so that it holds with a retention of zero. */
  readonly awaitOutcome: (
    key: string,
    generation: number
  ) => Effect.Effect<Docket.EncodedOutcome, DocketError.DocketError>
  /**
   * Events from now on, of all keys or of one, with those of the steps of members of a flow under that key, in their order.
   * Subscribed when the effect returns.
   */
  readonly subscribe: (
    key: string | undefined
  ) => Effect.Effect<Queue.Dequeue<StoredEvent>, DocketError.DocketError, Scope.Scope>
  /** Stores and publishes progress of a running run. `false` if the token is not current. */
  readonly progress: (fence: Fence, value: string) => Effect.Effect<boolean, DocketError.DocketError>
  readonly explain: (key: string) => Effect.Effect<Docket.Explanation, DocketError.DocketError>
  /** Pending and running runs by due time, in pages. */
  readonly snapshot: Stream.Stream<Docket.EncodedRun, DocketError.DocketError>
  readonly counts: Effect.Effect<ReadonlyArray<Docket.Counts>, DocketError.DocketError>
  readonly deadLetters: (task: string) => Stream.Stream<Docket.EncodedDeadLetter, DocketError.DocketError>
  readonly strike: (strike: Docket.EncodedStrike) => Effect.Effect<void, DocketError.DocketError>
  readonly restore: (
    strike: Pick<Docket.EncodedStrike, "task" | "where">
  ) => Effect.Effect<void, DocketError.DocketError>
  readonly pause: (pause: Pause, reason: string) => Effect.Effect<void, DocketError.DocketError>
  readonly resume: (pause: Pause) => Effect.Effect<void, DocketError.DocketError>
  /** Removes pending runs; the number removed. */
  readonly clear: Effect.Effect<number, DocketError.DocketError>
  readonly attach: (options: WorkerOptions) => Effect.Effect<WorkerSession, DocketError.DocketError, Scope.Scope>
}

/**
 * A store for one or more dockets, which share nothing.
 *
 * @category services
 * @since 0.1.0
 */
export class DocketStore extends Context.Service<DocketStore, {
  readonly docket: (options: {
    readonly name: string
    readonly prefix: string
  }) => Effect.Effect<StoredDocket, DocketError.DocketError, Scope.Scope>
}>()("@effect-docket/runtime/DocketStore") {}
