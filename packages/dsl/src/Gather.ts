/**
 * Fan-in: when a gather is released, and what it hands to the next step.
 *
 * A gather always ends with one entry per child, in the order of the items; a child that is not done is an entry as
 * well, never a gap and never a hang.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import type * as Flow from "./Flow.ts"
import * as options from "./internal/options.ts"
import type * as Task from "./Task.ts"
import { TaskFailure } from "./TaskFailure.ts"

/**
 * Released when every child succeeded; the first failure fails the flow.
 *
 * @category models
 * @since 0.1.0
 */
export interface AllSucceed {
  readonly _tag: "AllSucceed"
}

/**
 * Released when every child ended, or at the deadline.
 *
 * @category models
 * @since 0.1.0
 */
export interface AllSettled {
  readonly _tag: "AllSettled"
}

/**
 * Released when `atLeast` children succeeded, when that became impossible, or at the deadline.
 *
 * @category models
 * @since 0.1.0
 */
export interface Quorum {
  readonly _tag: "Quorum"
  readonly atLeast: number
}

/**
 * When to release a gather.
 *
 * @category models
 * @since 0.1.0
 */
export type Policy = AllSucceed | AllSettled | Quorum

/**
 * Every child has to succeed. The result is `ReadonlyArray<Success>`; errors of a child are errors of the flow.
 *
 * @category policies
 * @since 0.1.0
 */
export const allSucceed: AllSucceed = { _tag: "AllSucceed" }

/**
 * Every child has to end. The result is `Gathered`; errors of children are values.
 *
 * @category policies
 * @since 0.1.0
 */
export const allSettled: AllSettled = { _tag: "AllSettled" }

/**
 * At least `atLeast` children have to succeed. The result is `Gathered`; errors of children are values.
 *
 * @category policies
 * @since 0.1.0
 */
export const quorum = (atLeast: number): Quorum => ({
  _tag: "Quorum",
  atLeast: options.integer("Gather.quorum", "atLeast", atLeast, 1)
})

/**
 * How one child ended. A child waiting for a retry is `Pending`.
 *
 * @category models
 * @since 0.1.0
 */
export type Child<A, E> =
  | { readonly _tag: "Done"; readonly index: number; readonly key: string; readonly value: A }
  | { readonly _tag: "Failed"; readonly index: number; readonly key: string; readonly error: E }
  | { readonly _tag: "Died"; readonly index: number; readonly key: string; readonly failure: TaskFailure }
  | { readonly _tag: "Cancelled"; readonly index: number; readonly key: string }
  | { readonly _tag: "Pending"; readonly index: number; readonly key: string }

/**
 * What a gather hands on: why it was released, and one entry per child in the order of the items.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcomes<A, E> {
  readonly reason: "AllSettled" | "QuorumMet" | "QuorumImpossible" | "DeadlinePassed"
  readonly releasedAt: DateTime.Utc
  readonly children: ReadonlyArray<Child<A, E>>
}

/**
 * `Outcomes` of the task or flow `N`.
 *
 * @category models
 * @since 0.1.0
 */
export type Gathered<N extends Flow.Any> = Outcomes<Flow.Success<N>, Flow.Error<N>>

const Index = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const child = { index: Index, key: Schema.String }

/**
 * Schema of `Gathered`, for the payload of the task that joins.
 *
 * @category schemas
 * @since 0.1.0
 */
export const schema = <T extends Task.Any>(task: T): Schema.Codec<
  Gathered<T>,
  unknown,
  T["successSchema"]["DecodingServices"] | T["errorSchema"]["DecodingServices"],
  T["successSchema"]["EncodingServices"] | T["errorSchema"]["EncodingServices"]
> =>
  Schema.Struct({
    reason: Schema.Literals(["AllSettled", "QuorumMet", "QuorumImpossible", "DeadlinePassed"]),
    releasedAt: Schema.DateTimeUtc,
    children: Schema.Array(Schema.Union([
      Schema.TaggedStruct("Done", { ...child, value: task.successSchema }),
      Schema.TaggedStruct("Failed", { ...child, error: task.errorSchema }),
      Schema.TaggedStruct("Died", { ...child, failure: TaskFailure }),
      Schema.TaggedStruct("Cancelled", child),
      Schema.TaggedStruct("Pending", child)
    ]))
  }) as unknown as ReturnType<typeof schema<T>> // `task` has its schemas as `Schema.Top`, which forgets their types

/**
 * The values of the children that succeeded.
 *
 * @category getters
 * @since 0.1.0
 */
export const successes = <A, E>(gathered: Outcomes<A, E>): ReadonlyArray<A> =>
  gathered.children.flatMap((child) => child._tag === "Done" ? [child.value] : [])

/**
 * The declared errors of the children that failed.
 *
 * @category getters
 * @since 0.1.0
 */
export const failures = <A, E>(gathered: Outcomes<A, E>): ReadonlyArray<E> =>
  gathered.children.flatMap((child) => child._tag === "Failed" ? [child.error] : [])

/**
 * The children that had not succeeded at release, to try again.
 *
 * @category getters
 * @since 0.1.0
 */
export const unfinished = <A, E>(
  gathered: Outcomes<A, E>
): ReadonlyArray<Exclude<Child<A, E>, { readonly _tag: "Done" }>> =>
  gathered.children.filter((child) => child._tag !== "Done")
