/**
 * The checks behind the combinators of `Flow`: whether the output of a step fits the input of the next one, and what
 * branches, cases and handlers add to the type of a flow. `Flow` exports those with a `@category`.
 */
import type * as Duration from "effect/Duration"
import type * as Result from "effect/Result"
import type * as Types from "effect/Types"
import type { Any, Error, Input, Success } from "../Flow.ts"
import type * as Gather from "../Gather.ts"
import type { Mismatch } from "../Task.ts"
import type { TaskFailure } from "../TaskFailure.ts"

/**
 * `Given` has to fit the input of the next step. A step without payload fits after everything.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Fits<Given, Wanted> = [void] extends [Wanted] ? unknown
  : [Given] extends [Wanted] ? unknown
  : Mismatch<"the output of the previous step does not fit the input of the next step", Given, Wanted>

/**
 * Inference site of the output, next to `Node`.
 *
 * @category utility types
 * @since 0.1.0
 */
export interface Out<out A> {
  readonly "~@effect-docket/dsl/Flow/Node": { readonly out: A }
}

/**
 * `Fits`, where the step is named: inside a `pipe` the previous output is known there.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Early<A, Wanted> = [unknown] extends [A] ? unknown : Fits<A, Wanted>

/**
 * `Fits`, where the step is applied: outside a `pipe` the previous output is not known before.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Late<A, A2, Wanted> = [unknown] extends [A] ? Fits<A2, Wanted> : unknown

/**
 * One next step per branch or tag.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Branches = { readonly [name: string]: Any }

/**
 * `Early` for every branch.
 *
 * @category utility types
 * @since 0.1.0
 */
export type EarlyBranches<A, B extends Branches> = { readonly [K in keyof B]: Early<A, Input<B[K]>> }

/**
 * `Late` for the input all branches share.
 *
 * @category utility types
 * @since 0.1.0
 */
export type LateBranches<A, A2, B extends Branches> = [unknown] extends [A] ? Fits<A2, Shared<B>> : unknown

/**
 * The intersection of the inputs of all branches.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Shared<B extends Branches> = { readonly [K in keyof B]: (_: Input<B[K]>) => void }[keyof B] extends
  (_: infer I) => void ? I : never

/** The member of a union with this tag. */
export type Tagged<A, Tag> = Extract<A, { readonly _tag: Tag }>

/**
 * One next step per tag of `A`.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Cases<A> = { readonly [Tag in Types.Tags<A>]: Any }

/**
 * Every case names a tag of `A` and accepts its member.
 *
 * @category utility types
 * @since 0.1.0
 */
export type CasesFit<A, B> = {
  readonly [K in keyof B]: [A] extends [{ readonly _tag: string }]
    ? K extends Types.Tags<A> ? B[K] extends Any ? Fits<Tagged<A, K>, Input<B[K]>> : never
    : Mismatch<"this case is not a tag of the previous output", K, Types.Tags<A>>
    : Mismatch<"the previous output is not a union tagged by `_tag`", A, { readonly _tag: string }>
}

/**
 * Restart request of `again`, until `make` checks it against the input of the flow.
 *
 * @category utility types
 * @since 0.1.0
 */
export interface Restart<out In> {
  readonly "~@effect-docket/dsl/Flow/Restart": In
}

/** The restart request in the errors of `N` has to fit its input. */
export type RestartFits<N extends Any> = Extract<Error<N>, Restart<unknown>> extends infer R
  ? [R] extends [never] ? unknown
  : R extends Restart<infer X> ? [X] extends [Input<N>] ? unknown
    : Mismatch<"the input given to `Flow.again` does not fit the input of this flow", X, Input<N>>
  : never
  : never

/**
 * The steps of a record of cases.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Case<B> = Extract<B[keyof B], Any>

/**
 * Outputs by branch.
 *
 * @category utility types
 * @since 0.1.0
 */
export type BranchSuccesses<B extends Branches> = { readonly [K in keyof B]: Success<B[K]> }

/**
 * Outcomes by branch.
 *
 * @category utility types
 * @since 0.1.0
 */
export type BranchOutcomes<B extends Branches> = {
  readonly [K in keyof B]: Result.Result<Success<B[K]>, Error<B[K]> | TaskFailure>
}

/**
 * A barrier that does not fail with its children needs an end.
 *
 * @category utility types
 * @since 0.1.0
 */
export type DeadlineFor<P extends Gather.Policy> = [P] extends [Gather.AllSucceed] ?
  { readonly deadline?: Duration.Input | undefined }
  : { readonly deadline: Duration.Input }

/** Without `items`, the previous output has to be a list of inputs. */
export type ItemsFit<A, B extends Any, Items> = [unknown] extends [Items]
  ? [A] extends [ReadonlyArray<Input<B>>] ? unknown
  : Mismatch<
    "the output of the previous step is not a list of inputs of the next step; pass `items`",
    A,
    ReadonlyArray<Input<B>>
  >
  : unknown

/**
 * What a gather of `B` hands on.
 *
 * @category utility types
 * @since 0.1.0
 */
export type GatherSuccess<B extends Any, P extends Gather.Policy> = [P] extends [Gather.AllSucceed]
  ? ReadonlyArray<Success<B>>
  : Gather.Gathered<B>

/**
 * With what a gather of `B` fails.
 *
 * @category utility types
 * @since 0.1.0
 */
export type GatherError<B extends Any, P extends Gather.Policy> = [P] extends [Gather.AllSucceed] ? Error<B> : never

/**
 * Tags that can be caught: the declared ones, and `TaskFailure`.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Catchable<E> = Types.Tags<E> | "TaskFailure"

/**
 * One step per error to handle.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Handlers<E> = { readonly [Tag in Catchable<E>]?: Any }

/**
 * Every handler names an error and accepts it.
 *
 * @category utility types
 * @since 0.1.0
 */
export type HandlersFit<E, B> = {
  readonly [K in keyof B]: K extends Catchable<E> ? Fits<Tagged<E | TaskFailure, K>, Input<Extract<B[K], Any>>>
    : Mismatch<"this tag is not an error of the previous steps", K, Catchable<E>>
}
