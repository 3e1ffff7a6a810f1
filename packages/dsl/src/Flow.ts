/**
 * Static, typed graphs of tasks. Wherever a next step is expected, a task or a flow will do.
 *
 * A flow is immutable data: it describes an order and runs nothing. Functions given to a flow (`map`, `items`, ...) are
 * pure: workers and producers evaluate them, possibly more than once. A combinator throws a `DocketError` with reason
 * `InvalidOption` for an option that can never work, `make` for a graph that can never work.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import { dual } from "effect/Function"
import type * as Option from "effect/Option"
import type { Pipeable } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import type * as Gather from "./Gather.ts"
import * as ast from "./internal/flow.ts"
import * as mermaid from "./internal/flowMermaid.ts"
import type {
  Branches,
  BranchOutcomes,
  BranchSuccesses,
  Case,
  Cases,
  CasesFit,
  Catchable,
  DeadlineFor,
  Early,
  EarlyBranches,
  Fits,
  GatherError,
  GatherSuccess,
  Handlers,
  HandlersFit,
  ItemsFit,
  Late,
  LateBranches,
  Out,
  Restart,
  RestartFits,
  Tagged
} from "./internal/flowTypes.ts"
import * as options_ from "./internal/options.ts"
import type { Any as AnyTask } from "./Task.ts"
import type { TaskFailure } from "./TaskFailure.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What tasks and flows have in common: an input, an output, declared errors, the tags of the tasks they run, and
 * services for their schemas.
 *
 * @category models
 * @since 0.1.0
 */
export interface Node<out In, out A, out E, out Tags extends string, out R> extends Pipeable {
  readonly "~@effect-docket/dsl/Flow/Node": {
    readonly in: In
    readonly out: A
    readonly error: E
    readonly tags: Tags
    readonly services: R
  }
}

/**
 * The bound of everything that can be a step.
 *
 * @category models
 * @since 0.1.0
 */
export type Any = Node<unknown, unknown, unknown, string, unknown>

/**
 * Type identifier of `Flow`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = ast.TypeId

/**
 * Type identifier of `Flow`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~@effect-docket/dsl/Flow"

/**
 * A graph that takes `In`, ends with `A` or a declared error `E`, and runs the tasks `Tags`. `R` are services of their
 * schemas.
 *
 * @category models
 * @since 0.1.0
 */
export interface Flow<in out In, out A, out E = never, out Tags extends string = never, out R = never>
  extends Node<In, A, E, Tags, R>
{
  readonly [TypeId]: TypeId
  readonly "~in": (_: In) => void
}

/**
 * A flow with a name: it can be started, given to a worker, and used as a step of other flows.
 *
 * @category models
 * @since 0.1.0
 */
export interface Named<
  in out Name extends string,
  in out In,
  out A,
  out E = never,
  out Tags extends string = never,
  out R = never
> extends Flow<In, A, E, Tags, R> {
  new(_: never): {}
  readonly _tag: Name
  readonly annotations: Context.Context<never>
}

/**
 * The bound of named flows.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnyNamed extends Any {
  readonly [TypeId]: TypeId
  readonly _tag: string
}

/**
 * What a step takes: the constructor input of a task, the input of a flow.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Input<N extends Any> = N["~@effect-docket/dsl/Flow/Node"]["in"]

/**
 * What a step ends with.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Success<N extends Any> = N["~@effect-docket/dsl/Flow/Node"]["out"]

/**
 * The declared errors of a step.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Error<N extends Any> = N["~@effect-docket/dsl/Flow/Node"]["error"]

/**
 * The tags of the tasks a step runs.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Tags<N extends Any> = N["~@effect-docket/dsl/Flow/Node"]["tags"]

/**
 * The services the schemas of a step need.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Services<N extends Any> = N["~@effect-docket/dsl/Flow/Node"]["services"]

/**
 * Progress of a flow: a step of it, or of a member of one of its fan-outs, started or ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  /** The path of its node. */
  readonly step: string
  /** The key of the run that it is a step of: that of the flow, or of a member. */
  readonly key: string
  readonly state: "Started" | "Ended"
}

// ---------------------------------------------------------------------------------------------------------------------
// checks
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What the compiler checks where steps meet.
 *
 * @category utility types
 * @since 0.1.0
 */
export type {
  Branches,
  BranchOutcomes,
  BranchSuccesses,
  Case,
  Cases,
  CasesFit,
  Catchable,
  DeadlineFor,
  Early,
  EarlyBranches,
  Fits,
  GatherError,
  GatherSuccess,
  Handlers,
  HandlersFit,
  Late,
  LateBranches,
  Out,
  Restart,
  Shared
} from "./internal/flowTypes.ts"

// ---------------------------------------------------------------------------------------------------------------------
// constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A flow of one task. Tasks are accepted wherever steps are, so this is only needed to name the type.
 *
 * @category constructors
 * @since 0.1.0
 */
export const task = <T extends AnyTask>(task: T): Flow<Input<T>, Success<T>, Error<T>, Tags<T>, Services<T>> =>
  ast.make(ast.node("Flow.task", "task", task))

/**
 * A flow that passes its input on: the start of a flow that begins with a fan-out or a decision.
 *
 * @category constructors
 * @since 0.1.0
 */
export const input = <S extends Schema.Top>(
  schema: S
): Flow<S["~type.make.in"], S["Type"], never, never, S["DecodingServices"] | S["EncodingServices"]> =>
  ast.make({ _tag: "Input", schema })

/**
 * Options of `make`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<In> {
  /** Increase it when the graph changes; running flows end with the version they began with. Default 1. */
  readonly version?: number | undefined
  /** Idempotency key: at most one run per key. Default: the key of the first task, or a random one. */
  readonly key?: ((input: In) => string) | undefined
}

/**
 * Gives a flow a name. `class Onboard extends Flow.make("Onboard", ...) {}` keeps the type readable.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <const Name extends string, N extends Any>(
  name: Name,
  flow: N & RestartFits<N>,
  options?: Options<NoInfer<Input<N>>>
): Named<Name, Input<N>, Success<N>, Exclude<Error<N>, Restart<unknown>>, Tags<N>, Services<N>> => {
  options_.name("Flow.make", "name", name)
  const operation = `flow ${JSON.stringify(name)}`
  const { key, version } = options ?? {}
  if (version !== undefined) options_.integer(operation, "version", version, 1)
  const node: ast.NamedNode = {
    _tag: "Named",
    name,
    annotations: options_.toAnnotations({ key, version }),
    flow: ast.node(operation, "flow", flow)
  }
  ast.validate(operation, node)
  return ast.makeNamed(node)
}

/**
 * Runs the whole named flow again later, under the same key: with its first input, or with the one `input` computes.
 * The execution stays open until a run ends without `again`. It cannot stand in a branch of `all`, `outcomes` or
 * `forEach`, nor in an `undo`, unless a named flow in there is what it runs again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const again: {
  (options: { readonly after: Duration.Input; readonly input?: undefined }): Flow<unknown, never>
  <A, In>(
    options: { readonly after: Duration.Input | ((value: A) => Duration.Input); readonly input: (value: A) => In }
  ): Flow<A, never, Restart<In>>
} = <A>(options: {
  readonly after: Duration.Input | ((value: A) => Duration.Input)
  readonly input?: ((value: A) => unknown) | undefined
}): Flow<A, never> =>
  ast.make({ _tag: "Again", after: ast.wait("Flow.again", "after", options.after), input: options.input })

// ---------------------------------------------------------------------------------------------------------------------
// sequencing
// ---------------------------------------------------------------------------------------------------------------------

// `(self, next, map?)` or `(next, map?)`: a second argument that is a function and not a step is `map`
const isStepFirst = (args: IArguments): boolean =>
  args.length > 2 || (args.length === 2 && (typeof args[1] !== "function" || ast.isStep(args[1])))

/**
 * Runs `next` with the previous output, or with what `map` makes of it.
 *
 * @category sequencing
 * @since 0.1.0
 */
export const andThen: {
  <A, B extends Any>(next: B & Early<NoInfer<A>, Input<B>>): <In, A2, E, T extends string, R>(
    self: Node<In, A, E, T, R> & Out<A2> & Late<A, A2, Input<B>>
  ) => Flow<In, Success<B>, E | Error<B>, T | Tags<B>, R | Services<B>>
  <Self extends Any, B extends Any>(
    self: Self,
    next: B & Fits<Success<Self>, Input<B>>
  ): Flow<Input<Self>, Success<B>, Error<Self> | Error<B>, Tags<Self> | Tags<B>, Services<Self> | Services<B>>
  <Self extends Any, B extends Any>(
    self: Self,
    next: B,
    map: (value: Success<Self>) => Input<B>
  ): Flow<Input<Self>, Success<B>, Error<Self> | Error<B>, Tags<Self> | Tags<B>, Services<Self> | Services<B>>
  <A, B extends Any>(next: B, map: (value: A) => Input<B>): <In, E, T extends string, R>(
    self: Node<In, A, E, T, R>
  ) => Flow<In, Success<B>, E | Error<B>, T | Tags<B>, R | Services<B>>
} = dual(isStepFirst, (self: Any, next: Any, map?: ast.Fn) =>
  ast.make({
    _tag: "AndThen",
    self: ast.node("Flow.andThen", "self", self),
    next: ast.mapped("Flow.andThen", "next", next, map)
  }))

/**
 * Transforms the output.
 *
 * @category sequencing
 * @since 0.1.0
 */
export const map: {
  <A, B>(f: (value: A) => B): <In, E, T extends string, R>(self: Node<In, A, E, T, R>) => Flow<In, B, E, T, R>
  <In, A, E, T extends string, R, B>(self: Node<In, A, E, T, R>, f: (value: A) => B): Flow<In, B, E, T, R>
} = dual(2, (self: Any, f: ast.Fn) => ast.make({ _tag: "Map", self: ast.node("Flow.map", "self", self), f }))

/**
 * Transforms the input: adapts a step to what comes before it.
 *
 * @category sequencing
 * @since 0.1.0
 */
export const mapInput: {
  <N extends Any, In>(self: N, f: (input: In) => Input<N>): Flow<In, Success<N>, Error<N>, Tags<N>, Services<N>>
  <N extends Any, In>(f: (input: In) => Input<N>): (self: N) => Flow<In, Success<N>, Error<N>, Tags<N>, Services<N>>
} = dual(2, (self: Any, f: ast.Fn) => ast.make(ast.mapped("Flow.mapInput", "self", self, f)))

/**
 * Waits, durably, and passes the output on.
 *
 * @category sequencing
 * @since 0.1.0
 */
export const sleep: {
  (duration: Duration.Input): <In, A, E, T extends string, R>(self: Node<In, A, E, T, R>) => Flow<In, A, E, T, R>
  <In, A, E, T extends string, R>(
    self: Node<In, A, E, T, R>,
    duration: Duration.Input | ((value: A) => Duration.Input)
  ): Flow<In, A, E, T, R>
  <A>(
    duration: (value: A) => Duration.Input
  ): <In, E, T extends string, R>(self: Node<In, A, E, T, R>) => Flow<In, A, E, T, R>
} = dual(2, (self: Any, duration: Duration.Input | ((value: never) => Duration.Input)) =>
  ast.make({
    _tag: "Sleep",
    self: ast.node("Flow.sleep", "self", self),
    duration: ast.wait("Flow.sleep", "duration", duration)
  }))

// ---------------------------------------------------------------------------------------------------------------------
// decisions
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Chooses the next step by the `_tag` of the output. The cases have to be exhaustive.
 *
 * @category decisions
 * @since 0.1.0
 */
export const match: {
  <A, const B extends Cases<A>>(cases: B & CasesFit<A, B>): <In, E, T extends string, R>(
    self: Node<In, A, E, T, R>
  ) => Flow<In, Success<Case<B>>, E | Error<Case<B>>, T | Tags<Case<B>>, R | Services<Case<B>>>
  <In, A, E, T extends string, R, const B extends Cases<A>>(
    self: Node<In, A, E, T, R>,
    cases: B & CasesFit<A, B>
  ): Flow<In, Success<Case<B>>, E | Error<Case<B>>, T | Tags<Case<B>>, R | Services<Case<B>>>
} = dual(2, (self: Any, cases: Branches) => {
  if (Object.keys(cases).length === 0) options_.invalid("Flow.match", "cases", "must not be empty")
  return ast.make({
    _tag: "Match",
    self: ast.node("Flow.match", "self", self),
    cases: ast.nodes("Flow.match", "cases", cases)
  })
})

/**
 * Runs `next` only if the predicate holds; `None` otherwise.
 *
 * @category decisions
 * @since 0.1.0
 */
export const when: {
  <In, A, E, T extends string, R, B extends Any>(
    self: Node<In, A, E, T, R>,
    predicate: (value: A) => boolean,
    next: B & Fits<A, Input<B>>
  ): Flow<In, Option.Option<Success<B>>, E | Error<B>, T | Tags<B>, R | Services<B>>
  <A, B extends Any>(
    predicate: (value: A) => boolean,
    next: B & Early<NoInfer<A>, Input<B>>
  ): <In, A2, E, T extends string, R>(
    self: Node<In, A, E, T, R> & Out<A2> & Late<A, A2, Input<B>>
  ) => Flow<In, Option.Option<Success<B>>, E | Error<B>, T | Tags<B>, R | Services<B>>
} = dual(3, (self: Any, predicate: (value: never) => boolean, next: Any) =>
  ast.make({
    _tag: "When",
    self: ast.node("Flow.when", "self", self),
    predicate,
    next: ast.node("Flow.when", "next", next)
  }))

// ---------------------------------------------------------------------------------------------------------------------
// fan-out / fan-in
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs every branch with the previous output. The first failure fails the flow: the other branches are cancelled, and when
 * they have ended, what they and the steps before have done is undone.
 *
 * @category fan-out
 * @since 0.1.0
 */
export const all: {
  <A, const B extends Branches>(branches: B & EarlyBranches<A, B>): <In, A2, E, T extends string, R>(
    self: Node<In, A, E, T, R> & Out<A2> & LateBranches<A, A2, B>
  ) => Flow<In, BranchSuccesses<B>, E | Error<B[keyof B]>, T | Tags<B[keyof B]>, R | Services<B[keyof B]>>
  <In, A, E, T extends string, R, const B extends Branches>(
    self: Node<In, A, E, T, R>,
    branches: B & EarlyBranches<A, B>
  ): Flow<In, BranchSuccesses<B>, E | Error<B[keyof B]>, T | Tags<B[keyof B]>, R | Services<B[keyof B]>>
} = dual(2, (self: Any, branches: Branches) =>
  ast.make({
    _tag: "All",
    self: ast.node("Flow.all", "self", self),
    branches: ast.nodes("Flow.all", "branches", branches)
  }))

/**
 * Runs every branch with the previous output and hands on how each one ended.
 *
 * @category fan-out
 * @since 0.1.0
 */
export const outcomes: {
  <A, const B extends Branches>(branches: B & EarlyBranches<A, B>): <In, A2, E, T extends string, R>(
    self: Node<In, A, E, T, R> & Out<A2> & LateBranches<A, A2, B>
  ) => Flow<In, BranchOutcomes<B>, E, T | Tags<B[keyof B]>, R | Services<B[keyof B]>>
  <In, A, E, T extends string, R, const B extends Branches>(
    self: Node<In, A, E, T, R>,
    branches: B & EarlyBranches<A, B>
  ): Flow<In, BranchOutcomes<B>, E, T | Tags<B[keyof B]>, R | Services<B[keyof B]>>
} = dual(2, (self: Any, branches: Branches) =>
  ast.make({
    _tag: "Outcomes",
    self: ast.node("Flow.outcomes", "self", self),
    branches: ast.nodes("Flow.outcomes", "branches", branches)
  }))

/**
 * Options of `forEach`. `policy` decides the type of the result; all but `allSucceed` need a deadline.
 *
 * @category models
 * @since 0.1.0
 */
export type ForEachOptions<P extends Gather.Policy, Items> =
  & {
    /** When to go on. Default `Gather.allSucceed`. */
    readonly policy?: P
    /** The payloads, if the previous output is not a list of them. */
    readonly items?: Items
    /** Scatters the children over this period. */
    readonly over?: Duration.Input | undefined
    /** Moves each scattered child by a random amount of at most this much. */
    readonly jitter?: Duration.Input | undefined
    /** How many children run at once. Default: as many as the workers can. */
    readonly concurrency?: number | undefined
    /** What to do with children that have not ended at release. Default "letRun". */
    readonly onRelease?: "cancelRest" | "letRun" | undefined
  }
  & DeadlineFor<P>

/**
 * Runs `next` once per item and gathers the children by `policy`. No items: released at once.
 *
 * @category fan-out
 * @since 0.1.0
 */
export const forEach: {
  <In, A, E, T extends string, R, B extends Any, P extends Gather.Policy = Gather.AllSucceed, Items = unknown>(
    self: Node<In, A, E, T, R> & ItemsFit<A, B, NoInfer<Items>>,
    next: B,
    options?: ForEachOptions<P, Items & ((value: A) => ReadonlyArray<Input<B>>)>
  ): Flow<In, GatherSuccess<B, P>, E | GatherError<B, P>, T | Tags<B>, R | Services<B>>
  <A, B extends Any, P extends Gather.Policy = Gather.AllSucceed, Items = unknown>(
    next: B,
    options?: ForEachOptions<P, Items & ((value: A) => ReadonlyArray<Input<B>>)>
  ): <In, A2, E, T extends string, R>(
    self: Node<In, A, E, T, R> & Out<A2> & ItemsFit<A2, B, NoInfer<Items>>
  ) => Flow<In, GatherSuccess<B, P>, E | GatherError<B, P>, T | Tags<B>, R | Services<B>>
} = dual(
  (args) => ast.isStep(args[1]),
  (self: Any, next: Any, options: ast.ForEachOptions = {}) => ast.make(ast.forEach(self, next, options))
)

// ---------------------------------------------------------------------------------------------------------------------
// failures
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs `next` with the error instead, or with what `map` makes of it.
 *
 * @category failures
 * @since 0.1.0
 */
export const catchTag: {
  <E, const Tag extends Catchable<E>, B extends Any>(
    tag: Tag,
    next: B & Fits<Tagged<E | TaskFailure, Tag>, Input<B>>
  ): <In, A, T extends string, R>(
    self: Node<In, A, E, T, R>
  ) => Flow<In, A | Success<B>, Exclude<E, { readonly _tag: Tag }> | Error<B>, T | Tags<B>, R | Services<B>>
  <In, A, E, T extends string, R, const Tag extends Catchable<E>, B extends Any>(
    self: Node<In, A, E, T, R>,
    tag: Tag,
    next: B & Fits<Tagged<E | TaskFailure, Tag>, Input<B>>
  ): Flow<In, A | Success<B>, Exclude<E, { readonly _tag: Tag }> | Error<B>, T | Tags<B>, R | Services<B>>
  <In, A, E, T extends string, R, const Tag extends Catchable<E>, B extends Any>(
    self: Node<In, A, E, T, R>,
    tag: Tag,
    next: B,
    map: (error: Tagged<E | TaskFailure, Tag>) => Input<B>
  ): Flow<In, A | Success<B>, Exclude<E, { readonly _tag: Tag }> | Error<B>, T | Tags<B>, R | Services<B>>
  <E, const Tag extends Catchable<E>, B extends Any>(
    tag: Tag,
    next: B,
    map: (error: Tagged<E | TaskFailure, Tag>) => Input<B>
  ): <In, A, T extends string, R>(
    self: Node<In, A, E, T, R>
  ) => Flow<In, A | Success<B>, Exclude<E, { readonly _tag: Tag }> | Error<B>, T | Tags<B>, R | Services<B>>
} = dual(
  (args) => typeof args[0] !== "string",
  (self: Any, tag: string, next: Any, map?: ast.Fn) =>
    ast.make({
      _tag: "CatchTags",
      self: ast.node("Flow.catchTag", "self", self),
      handlers: ast.nodes("Flow.catchTag", "handlers", {
        [tag]: ast.make(ast.mapped("Flow.catchTag", "next", next, map))
      })
    })
)

/**
 * Runs one of the steps with the error instead.
 *
 * @category failures
 * @since 0.1.0
 */
export const catchTags: {
  <E, const B extends Handlers<E>>(handlers: B & HandlersFit<E, B>): <In, A, T extends string, R>(
    self: Node<In, A, E, T, R>
  ) => Flow<
    In,
    A | Success<Case<B>>,
    Exclude<E, { readonly _tag: keyof B }> | Error<Case<B>>,
    T | Tags<Case<B>>,
    R | Services<Case<B>>
  >
  <In, A, E, T extends string, R, const B extends Handlers<E>>(
    self: Node<In, A, E, T, R>,
    handlers: B & HandlersFit<E, B>
  ): Flow<
    In,
    A | Success<Case<B>>,
    Exclude<E, { readonly _tag: keyof B }> | Error<Case<B>>,
    T | Tags<Case<B>>,
    R | Services<Case<B>>
  >
} = dual(2, (self: Any, handlers: Branches) =>
  ast.make({
    _tag: "CatchTags",
    self: ast.node("Flow.catchTags", "self", self),
    handlers: ast.nodes("Flow.catchTags", "handlers", handlers)
  }))

/**
 * If the flow fails later, or is cancelled, `undo` runs with the output of this step; compensations run in reverse order,
 * and a failure that is caught undoes nothing. A failing `undo` becomes a dead letter.
 *
 * @category failures
 * @since 0.1.0
 */
export const compensate: {
  <A, B extends Any>(undo: B & Early<NoInfer<A>, Input<B>>): <In, A2, E, T extends string, R>(
    self: Node<In, A, E, T, R> & Out<A2> & Late<A, A2, Input<B>>
  ) => Flow<In, A2, E, T | Tags<B>, R | Services<B>>
  <Self extends Any, B extends Any>(
    self: Self,
    undo: B & Fits<Success<Self>, Input<B>>
  ): Flow<Input<Self>, Success<Self>, Error<Self>, Tags<Self> | Tags<B>, Services<Self> | Services<B>>
  <Self extends Any, B extends Any>(
    self: Self,
    undo: B,
    map: (value: Success<Self>) => Input<B>
  ): Flow<Input<Self>, Success<Self>, Error<Self>, Tags<Self> | Tags<B>, Services<Self> | Services<B>>
  <A, B extends Any>(undo: B, map: (value: A) => Input<B>): <In, E, T extends string, R>(
    self: Node<In, A, E, T, R>
  ) => Flow<In, A, E, T | Tags<B>, R | Services<B>>
} = dual(isStepFirst, (self: Any, undo: Any, map?: ast.Fn) =>
  ast.make({
    _tag: "Compensate",
    self: ast.node("Flow.compensate", "self", self),
    undo: ast.mapped("Flow.compensate", "undo", undo, map)
  }))

/**
 * Limit of everything so far in this chain, waiting included; it counts from when the chain begins. After it the flow fails
 * with `TaskFailure`, reason `Timeout`, which a later `catchTag` may catch.
 *
 * @category failures
 * @since 0.1.0
 */
export const deadline: {
  (duration: Duration.Input): <In, A, E, T extends string, R>(self: Node<In, A, E, T, R>) => Flow<In, A, E, T, R>
  <In, A, E, T extends string, R>(self: Node<In, A, E, T, R>, duration: Duration.Input): Flow<In, A, E, T, R>
} = dual(2, (self: Any, duration: Duration.Input) =>
  ast.make({
    _tag: "Deadline",
    self: ast.node("Flow.deadline", "self", self),
    limit: ast.millis("Flow.deadline", "duration", duration, 1)
  }))

// ---------------------------------------------------------------------------------------------------------------------
// inspection
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How a step of a started flow is. `Skipped`: the flow went another way.
 *
 * @category models
 * @since 0.1.0
 */
export type StepState = "Waiting" | "Active" | "Done" | "Failed" | "Cancelled" | "Skipped"

/**
 * The graph as a Mermaid flowchart, coloured by the states of its steps if they are given: see `Docket.steps`.
 *
 * @category inspection
 * @since 0.1.0
 */
export const toMermaid = (flow: Any, steps?: ReadonlyMap<string, StepState>): string =>
  mermaid.render(ast.node("Flow.toMermaid", "flow", flow), steps)

/**
 * Tests whether a value is a flow.
 *
 * @category guards
 * @since 0.1.0
 */
export const isFlow: (u: unknown) => u is Flow<never, unknown, unknown, string, unknown> = ast.isFlow
