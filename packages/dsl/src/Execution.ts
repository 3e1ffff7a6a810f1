/**
 * One scheduled run: the producer's handle, its events, and what the handler knows about it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Stream from "effect/Stream"
import type { Explanation } from "./Docket.ts"
import type { DocketError } from "./DocketError.ts"
import type * as Task from "./Task.ts"
import type { TaskFailure } from "./TaskFailure.ts"

/**
 * Type identifier of `Execution`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~@effect-docket/dsl/Execution"
/**
 * Type identifier of `Execution`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~@effect-docket/dsl/Execution"

/**
 * What an addition did: stored, found the key taken, replaced what was there, was struck, or came within a cooldown. One that
 * joins a debounced run is `Existing` if the payload of the first counts, and `Replaced` otherwise; its handle is that of
 * the run that it joined. One that was struck or limited is not stored.
 *
 * @category models
 * @since 0.1.0
 */
export type Disposition = "Added" | "Existing" | "Replaced" | "Struck" | "Limited"

/**
 * Where an execution is. `Held` is due, and waits for a gate, for a resume, or for a worker that has its handler.
 *
 * @category models
 * @since 0.1.0
 */
export type State = "Scheduled" | "Ready" | "Held" | "Running" | "Completed" | "Failed" | "Cancelled" | "Skipped"

/**
 * Handle of one execution with success `A`, declared error `E` and progress `P`. It follows its key: when the run is
 * replaced, the handle waits for the replacement.
 *
 * @category models
 * @since 0.1.0
 */
export interface Execution<out A, out E = never, out P = never, out R = never> extends Pipeable {
  readonly [TypeId]: TypeId
  readonly task: string
  readonly key: string
  readonly scheduledAt: DateTime.Utc
  readonly disposition: Disposition
  /** Waits for the outcome, riding out interruptions of the store. */
  readonly await: Effect.Effect<A, E | TaskFailure, R>
  /** The outcome if there is one. */
  readonly poll: Effect.Effect<Option.Option<Exit.Exit<A, E | TaskFailure>>, DocketError, R>
  /** Cancels a pending run, interrupts a running one. `false` if it had already ended. */
  readonly cancel: Effect.Effect<boolean, DocketError>
  /** Why it does not run right now. */
  readonly explain: Effect.Effect<Explanation, DocketError>
  /** Everything that happens to this execution from now on; ends after `Finished`, at once if it has ended before. */
  readonly changes: Stream.Stream<Event<A, E, P>, DocketError, R>
}

/**
 * Handle of an execution of the task `T`.
 *
 * @category models
 * @since 0.1.0
 */
export type For<T extends Task.Any> = Execution<
  Task.Success<T>,
  Task.Error<T>,
  Task.Progress<T>,
  Task.ServicesClient<T>
>

/**
 * What happens to an execution. `at` is the time it happened, but for `Scheduled` and `Replaced`: there it is the time
 * the run is due.
 *
 * @category models
 * @since 0.1.0
 */
export type Event<A, E, P> =
  | { readonly _tag: "Scheduled"; readonly at: DateTime.Utc }
  | { readonly _tag: "Replaced"; readonly at: DateTime.Utc }
  | { readonly _tag: "Ready"; readonly at: DateTime.Utc }
  | { readonly _tag: "Started"; readonly attempt: number; readonly worker: string; readonly at: DateTime.Utc }
  | { readonly _tag: "Progress"; readonly value: P; readonly at: DateTime.Utc }
  | {
    readonly _tag: "Retrying"
    readonly attempt: number
    readonly error: E | TaskFailure
    readonly next: DateTime.Utc
  }
  | { readonly _tag: "Finished"; readonly exit: Exit.Exit<A, E | TaskFailure>; readonly at: DateTime.Utc }

/**
 * The run a handler belongs to; the worker provides it to every handler.
 *
 * @category services
 * @since 0.1.0
 */
export class CurrentExecution extends Context.Service<CurrentExecution, {
  readonly docket: string
  readonly task: string
  readonly key: string
  /** 1 for the first attempt. */
  readonly attempt: number
  readonly scheduledAt: DateTime.Utc
  readonly startedAt: DateTime.Utc
  /** The flow this run is a part of. */
  readonly flow: Option.Option<{ readonly name: string; readonly key: string }>
  /** Gives this attempt that long from now, in place of what is left of its timeout. */
  readonly extendTimeout: (duration: Duration.Input) => Effect.Effect<void>
}>()("@effect-docket/dsl/Execution/CurrentExecution") {}

/**
 * Tests whether a value is an execution handle.
 *
 * @category guards
 * @since 0.1.0
 */
export const isExecution = (u: unknown): u is Execution<unknown, unknown, unknown, unknown> =>
  Predicate.hasProperty(u, TypeId)
