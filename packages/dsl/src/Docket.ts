/**
 * The producer side: adding, replacing, cancelling, striking and inspecting executions.
 *
 * Typed operations need `Enqueue<Tag>`, which only `group.client` or `task.client` grants; untyped ones need `Docket`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { DocketError, InvalidOption } from "./DocketError.ts"
import type * as Execution from "./Execution.ts"
import type * as Flow from "./Flow.ts"
import { conditions } from "./internal/conditions.ts"
import * as execution from "./internal/execution.ts"
import * as flows from "./internal/flowStart.ts"
import * as letters from "./internal/letters.ts"
import type {
  EncodedAdded,
  EncodedAddition,
  EncodedAddOptions,
  EncodedDeadLetter,
  EncodedEvent,
  EncodedMember,
  EncodedOutcome,
  EncodedRefusal,
  EncodedRun,
  EncodedStrike
} from "./internal/wire.ts"
import { type Entry, write } from "./internal/write.ts"
import type * as Strike from "./Strike.ts"
import * as Task from "./Task.ts"
import type { TaskFailure } from "./TaskFailure.ts"

/**
 * What crosses the `Docket` service and the store.
 *
 * @category models
 * @since 0.1.0
 */
export type {
  Due,
  EncodedAdded,
  EncodedAddition,
  EncodedAddOptions,
  EncodedCondition,
  EncodedDeadLetter,
  EncodedDebounce,
  EncodedEvent,
  EncodedFlow,
  EncodedGates,
  EncodedGather,
  EncodedMember,
  EncodedOutcome,
  EncodedParent,
  EncodedRefusal,
  EncodedRun,
  EncodedStrike,
  EncodedThread,
  Trace
} from "./internal/wire.ts"

/**
 * Permission to add executions of the task `Tag`. `group.client` grants it for the tasks of a group, and for no others.
 *
 * @category services
 * @since 0.1.0
 */
export interface Enqueue<Tag extends string> {
  readonly _: unique symbol
  readonly tag: Tag
}

/**
 * `Enqueue<Tag>` of each tag.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ToEnqueue<Tag extends string> = Tag extends string ? Enqueue<Tag> : never

/**
 * When to run: `at` a time, or `after` a duration; now if neither is given.
 *
 * @category models
 * @since 0.1.0
 */
export type When =
  | {
    readonly at?: DateTime.DateTime.Input | undefined
    readonly after?: Task.Excluded<"`at` and `after` exclude each other"> | undefined
  }
  | {
    readonly after?: Duration.Input | undefined
    readonly at?: Task.Excluded<"`at` and `after` exclude each other"> | undefined
  }

/**
 * Options of `add`.
 *
 * @category models
 * @since 0.1.0
 */
export type AddOptions = When & {
  /** Overrides the key of the task. */
  readonly key?: string | undefined
  /** What to do when the key is taken by a pending or running execution. Default "keep"; "fail" fails with reason `KeyExists`. */
  readonly onExisting?: "keep" | "replace" | "fail" | undefined
}

/**
 * Options of `replace`.
 *
 * @category models
 * @since 0.1.0
 */
export type ReplaceOptions = When & { readonly key?: string | undefined }

/**
 * One execution, without its types.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly task: string
  readonly key: string
  readonly state: Execution.State
  readonly scheduledAt: DateTime.Utc
  readonly attempt: number
  readonly worker: Option.Option<string>
  readonly payload: unknown
}

/**
 * How many pending and running executions of a task there are in a lane.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counts {
  readonly task: string
  readonly lane: string
  readonly scheduled: number
  /** Due, and waiting for a free slot of a worker. */
  readonly ready: number
  /** Due, and waiting for a gate, paused, or without a worker that has the handler. */
  readonly held: number
  readonly running: number
}

/**
 * Why an execution does not run right now. `Limited` says which gate holds it, and how many wait there before it.
 *
 * @category models
 * @since 0.1.0
 */
export type Explanation =
  | { readonly _tag: "Unknown" }
  | { readonly _tag: "NotDue"; readonly at: DateTime.Utc }
  | { readonly _tag: "Paused"; readonly reason: string }
  | {
    readonly _tag: "Struck"
    readonly reason: string
    readonly author: Option.Option<string>
    readonly until: Option.Option<DateTime.Utc>
  }
  | {
    readonly _tag: "Limited"
    readonly by: "concurrency" | "rateLimit" | "debounce" | "cooldown"
    readonly position: number
  }
  | { readonly _tag: "NoWorker"; readonly lane: string }
  /** A flow is between two steps, and no worker can interpret this version of it. */
  | { readonly _tag: "NoInterpreter"; readonly flow: string; readonly version: number }
  /** A flow waits at a fan-in: so many of its members have ended. */
  | {
    readonly _tag: "Gathering"
    readonly step: string
    readonly succeeded: number
    readonly failed: number
    readonly until: Option.Option<DateTime.Utc>
  }
  | { readonly _tag: "Waiting"; readonly lane: string; readonly ready: number }
  | { readonly _tag: "Retrying"; readonly attempt: number; readonly next: DateTime.Utc }
  | { readonly _tag: "Running"; readonly worker: string; readonly since: DateTime.Utc }
  | { readonly _tag: "Finished"; readonly at: DateTime.Utc }

/**
 * An event of any execution, with the JSON form of its values.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnyEvent {
  readonly task: string
  readonly key: string
  readonly event: Execution.Event<unknown, unknown, unknown>
}

/**
 * A run that ended in failure and will not be retried.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeadLetter<T extends Task.Any> {
  readonly key: string
  readonly payload: Task.Payload<T>
  readonly error: Task.Error<T> | TaskFailure
  readonly attempts: number
  readonly failedAt: DateTime.Utc
}

/**
 * A docket: a named set of executions in a store. `DocketEngine.layer` of the runtime package provides it.
 *
 * @category services
 * @since 0.1.0
 */
export class Docket extends Context.Service<Docket, {
  readonly name: string
  /** Writes additions in their JSON form; what `add` and `Agenda.scatter` are made of. */
  readonly addEncoded: (
    additions: ReadonlyArray<EncodedAddition>,
    options: EncodedAddOptions
  ) => Effect.Effect<ReadonlyArray<EncodedAdded>, DocketError>
  /** Which of these additions a strike or a cooldown would refuse now, and why; nothing is written. One answer each. */
  readonly refused: (
    additions: ReadonlyArray<EncodedAddition>
  ) => Effect.Effect<ReadonlyArray<EncodedRefusal | undefined>, DocketError>
  /** The run under a key, if one is known. */
  readonly get: (key: string) => Effect.Effect<EncodedRun | undefined, DocketError>
  /** The outcome of this generation of a key, or of a later one; `undefined` while there is none. */
  readonly outcome: (key: string, generation: number) => Effect.Effect<EncodedOutcome | undefined, DocketError>
  /** How the members of a gather ended, by index; those that have not are `undefined`. */
  readonly members: (
    key: string,
    gather: string,
    from: number,
    to: number
  ) => Effect.Effect<ReadonlyArray<EncodedMember | undefined>, DocketError>
  /** Waits for the outcome, riding out interruptions of the store. */
  readonly awaitOutcome: (key: string, generation: number) => Effect.Effect<EncodedOutcome>
  /** What happens to a key from now on, until this generation or a later one has finished. */
  readonly changes: (key: string, generation: number) => Stream.Stream<EncodedEvent, DocketError>
  readonly strike: (strike: EncodedStrike) => Effect.Effect<void, DocketError>
  readonly restore: (strike: Pick<EncodedStrike, "task" | "where">) => Effect.Effect<void, DocketError>
  /** The failed runs of a task that are still kept, oldest first. */
  readonly deadLetters: (task: string) => Stream.Stream<EncodedDeadLetter, DocketError>
  readonly cancel: (key: string) => Effect.Effect<boolean, DocketError>
  readonly explain: (key: string) => Effect.Effect<Explanation, DocketError>
  readonly pause: (options?: PauseOptions) => Effect.Effect<void, DocketError>
  readonly resume: (options?: PauseOptions) => Effect.Effect<void, DocketError>
  readonly snapshot: Stream.Stream<Snapshot, DocketError>
  readonly counts: Effect.Effect<ReadonlyArray<Counts>, DocketError>
  readonly events: Stream.Stream<AnyEvent, DocketError>
  readonly clear: Effect.Effect<number, DocketError>
}>()("@effect-docket/dsl/Docket") {}

/**
 * What to pause: one task, one lane, or everything.
 *
 * @category models
 * @since 0.1.0
 */
export interface PauseOptions {
  readonly task?: Task.Any | undefined
  readonly lane?: string | undefined
  readonly reason?: string | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// typed operations
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Schedules one execution. Fails with `DocketError` if the payload is invalid or the store cannot be reached; repeating
 * it with the same key is safe.
 *
 * @category accessors
 * @since 0.1.0
 */
export const add = <T extends Task.Any>(
  task: T,
  ...args: Task.PayloadArgs<T, AddOptions>
): Effect.Effect<Execution.For<T>, DocketError, Enqueue<T["_tag"]> | Task.ServicesClient<T>> =>
  Effect.map(write("Docket.add", [[task, ...args]]), (executions) => executions[0] as Execution.For<T>) // one entry, one handle of its task

/**
 * Schedules many executions in one round trip: `[task, payload, options?]`, of different tasks if you like. Every
 * payload is checked before anything is written; use `Agenda.scatter` to spread them over time or to accept a part.
 *
 * @category accessors
 * @since 0.1.0
 */
export const addAll = <const Tasks extends ReadonlyArray<Task.Any>>(
  entries: {
    readonly [K in keyof Tasks]: readonly [task: Tasks[K], payload: Task.PayloadInput<Tasks[K]>, options?: AddOptions]
  }
): Effect.Effect<
  { readonly [K in keyof Tasks]: Execution.For<Tasks[K]> },
  DocketError,
  ToEnqueue<Tasks[number]["_tag"]> | Task.ServicesClient<Tasks[number]>
> => write("Docket.addAll", entries as ReadonlyArray<Entry>) as Effect.Effect<never, DocketError> // one handle per entry, in their order

/**
 * Schedules an execution in the place of a pending one with the same key: new payload, new time. A running one finishes
 * beside it, and its outcome does not count.
 *
 * @category accessors
 * @since 0.1.0
 */
export const replace = <T extends Task.Any>(
  task: T,
  ...args: Task.PayloadArgs<T, ReplaceOptions>
): Effect.Effect<Execution.For<T>, DocketError, Enqueue<T["_tag"]> | Task.ServicesClient<T>> =>
  Effect.map(write("Docket.replace", [[task, ...args]], "replace"), (executions) => executions[0] as Execution.For<T>) // as in `add`

/**
 * The handle of a known execution, of a task or a flow; `None` if nothing is known about the key, or if it belongs to
 * something else.
 *
 * @category accessors
 * @since 0.1.0
 */
export const get: {
  <T extends Task.Any>(
    task: T,
    key: string
  ): Effect.Effect<Option.Option<Execution.For<T>>, DocketError, Docket | Task.ServicesClient<T>>
  <Name extends string, In, A, E, Tags extends string, R>(
    flow: Flow.Named<Name, In, A, E, Tags, R>,
    key: string
  ): Effect.Effect<Option.Option<Execution.Execution<A, E, Flow.Progress, R>>, DocketError, Docket | R>
} = (what: Task.Any | Flow.AnyNamed, key: string): Effect.Effect<Option.Option<never>, DocketError, Docket> =>
  Docket.use((docket) =>
    Effect.map(docket.get(key), (run) => {
      if (run === undefined) return Option.none()
      const added: EncodedAdded = { disposition: "Existing", generation: run.generation, due: run.due }
      const handle = !Task.isTask(what)
        ? flows.handle(docket, what, key, run, added)
        : run.task === what._tag && run.thread === undefined
        ? execution.make(docket, what, key, added)
        : undefined
      return Option.fromUndefinedOr(handle as never) // of the types that the overloads say
    })
  )

/**
 * Starts a flow. `await` of the handle gives the value of its last step, or the error that nothing in the flow caught; a
 * cancel ends all of it. At most one run per key: the key of the flow, or else that of its first task.
 *
 * @category accessors
 * @since 0.1.0
 */
export const start = <Name extends string, In, A, E, Tags extends string, R>(
  flow: Flow.Named<Name, In, A, E, Tags, R>,
  ...args: [void] extends [In] ? [input?: In, options?: AddOptions] : [input: NoInfer<In>, options?: AddOptions]
): Effect.Effect<Execution.Execution<A, E, Flow.Progress, R>, DocketError, ToEnqueue<Tags> | R> =>
  flows.start(flow, ...args) as Effect.Effect<never, DocketError> // decoded with the schemas of its steps

/**
 * How the steps of a started flow are, by the path of their node: what `Flow.toMermaid` colours. `None` if nothing is known
 * about the key, or if it belongs to something else.
 *
 * @category accessors
 * @since 0.1.0
 */
export const steps = (
  flow: Flow.AnyNamed,
  key: string
): Effect.Effect<Option.Option<ReadonlyMap<string, Flow.StepState>>, DocketError, Docket> =>
  Docket.use((docket) => Effect.map(docket.get(key), (run) => Option.fromUndefinedOr(flows.steps(flow, run))))

/**
 * Stops running a task, or its executions whose payload matches `where`, until `restore` or `until`. Struck executions
 * end with reason `Struck`; running ones finish.
 *
 * @category accessors
 * @since 0.1.0
 */
export const strike = <T extends Task.Any>(
  task: T,
  options?: {
    readonly where?: Strike.Where<NoInfer<Task.Payload<T>>> | undefined
    readonly reason?: string | undefined
    /** Who strikes it; shown wherever the reason is. */
    readonly author?: string | undefined
    readonly until?: DateTime.DateTime.Input | undefined
  }
): Effect.Effect<void, DocketError, Docket> =>
  Effect.gen(function*() {
    const where = yield* conditions(
      "Docket.strike",
      task,
      options?.where as Readonly<Record<string, unknown>> | undefined
    ) // an object: `Where`
    const until = options?.until === undefined ? undefined : Option.getOrUndefined(DateTime.make(options.until))
    if (options?.until !== undefined && until === undefined) {
      return yield* new DocketError({
        operation: "Docket.strike",
        reason: new InvalidOption({ option: "until", message: "`until` is not a time" })
      })
    }
    yield* (yield* Docket).strike({
      task: task._tag,
      where,
      reason: options?.reason ?? "",
      ...options?.author && { author: options.author },
      until: until === undefined ? undefined : DateTime.toEpochMillis(until)
    })
  })

/**
 * Undoes a strike with the same `where`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const restore = <T extends Task.Any>(
  task: T,
  options?: { readonly where?: Strike.Where<NoInfer<Task.Payload<T>>> | undefined }
): Effect.Effect<void, DocketError, Docket> =>
  Effect.gen(function*() {
    const where = yield* conditions(
      "Docket.restore",
      task,
      options?.where as Readonly<Record<string, unknown>> | undefined
    ) // an object: `Where`
    yield* (yield* Docket).restore({ task: task._tag, where })
  })

type LetterServices<T extends Task.Any> = Task.ServicesClient<T> | Task.ServicesServer<T>

/**
 * A flow that failed for good.
 *
 * @category models
 * @since 0.1.0
 */
export interface FlowLetter<out E> {
  readonly key: string
  readonly error: E | TaskFailure
  /** The path of the step that it failed at; `None` if it had ended its compensations, or failed between two steps. */
  readonly step: Option.Option<string>
  readonly failedAt: DateTime.Utc
}

/**
 * The failed runs of a task, or the failed runs of a flow, that are still kept, oldest first. A payload that does not decode
 * is given as its JSON text. What failed as a step of a flow is among those of its task.
 *
 * @category accessors
 * @since 0.1.0
 */
export const deadLetters: {
  <T extends Task.Any>(task: T): Stream.Stream<DeadLetter<T>, DocketError, Docket | LetterServices<T>>
  <Name extends string, In, A, E, Tags extends string, R>(
    flow: Flow.Named<Name, In, A, E, Tags, R>
  ): Stream.Stream<FlowLetter<E>, DocketError, Docket | R>
} = (what: Task.Any | Flow.AnyNamed): Stream.Stream<never, DocketError, Docket> =>
  Stream.unwrap(Effect.map(Docket, (docket) =>
    // decoded with the schemas that the overloads name
    (Task.isTask(what) ? letters.ofTask(docket, what) : letters.ofFlow(docket, what)) as Stream.Stream<
      never,
      DocketError
    >))

/**
 * Schedules failed runs again, all or those that match, with a repaired payload if `map` is given; the number of runs
 * scheduled. A run that was scheduled again meanwhile is left alone. Without `map` the stored payload is kept as it is.
 *
 * A flow goes on where it failed, and keeps what has succeeded: with its failed step, or with the failed members of its
 * gather and no others. One whose compensations have run begins from its first step.
 *
 * @category accessors
 * @since 0.1.0
 */
export const redrive: {
  <T extends Task.Any>(
    task: T,
    options?: {
      readonly filter?: ((letter: DeadLetter<NoInfer<T>>) => boolean) | undefined
      readonly map?: ((letter: DeadLetter<NoInfer<T>>) => Task.PayloadInput<NoInfer<T>>) | undefined
      readonly limit?: number | undefined
    }
  ): Effect.Effect<number, DocketError, Docket | Enqueue<T["_tag"]> | LetterServices<T>>
  <Name extends string, In, A, E, Tags extends string, R>(
    flow: Flow.Named<Name, In, A, E, Tags, R>,
    options?: {
      readonly filter?: ((letter: FlowLetter<NoInfer<E>>) => boolean) | undefined
      readonly limit?: number | undefined
    }
  ): Effect.Effect<number, DocketError, Docket | ToEnqueue<Tags> | R>
} = (what: Task.Any | Flow.AnyNamed, options?: letters.Options) => letters.redrive(what, options ?? {})

// ---------------------------------------------------------------------------------------------------------------------
// untyped operations
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Cancels a pending execution or interrupts a running one. `false` if there is none, or if it had already ended.
 *
 * @category accessors
 * @since 0.1.0
 */
export const cancel = (key: string): Effect.Effect<boolean, DocketError, Docket> =>
  Docket.use((docket) => docket.cancel(key))
/**
 * Says why an execution does not run right now.
 *
 * @category accessors
 * @since 0.1.0
 */
export const explain = (key: string): Effect.Effect<Explanation, DocketError, Docket> =>
  Docket.use((docket) => docket.explain(key))
/**
 * Stops starting executions of a task, of a lane, or of everything. Running ones finish, nothing is dropped.
 *
 * @category accessors
 * @since 0.1.0
 */
export const pause = (options?: PauseOptions): Effect.Effect<void, DocketError, Docket> =>
  Docket.use((docket) => docket.pause(options))
/**
 * Undoes `pause`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const resume = (options?: PauseOptions): Effect.Effect<void, DocketError, Docket> =>
  Docket.use((docket) => docket.resume(options))
/**
 * Every pending and running execution, by time.
 *
 * @category accessors
 * @since 0.1.0
 */
export const snapshot: Stream.Stream<Snapshot, DocketError, Docket> = Stream.unwrap(
  Docket.use((docket) => Effect.succeed(docket.snapshot))
)
/**
 * How many executions are pending and running, per task and lane.
 *
 * @category accessors
 * @since 0.1.0
 */
export const counts: Effect.Effect<ReadonlyArray<Counts>, DocketError, Docket> = Docket.use((docket) => docket.counts)
/**
 * Everything that happens from now on.
 *
 * @category accessors
 * @since 0.1.0
 */
export const events: Stream.Stream<AnyEvent, DocketError, Docket> = Stream.unwrap(
  Docket.use((docket) => Effect.succeed(docket.events))
)
/**
 * Removes every pending execution; the number removed. Running ones finish, strikes and pauses stay.
 *
 * @category accessors
 * @since 0.1.0
 */
export const clear: Effect.Effect<number, DocketError, Docket> = Docket.use((docket) => docket.clear)
