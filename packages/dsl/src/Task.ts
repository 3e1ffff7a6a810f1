/**
 * A task is a typed unit of work: a tag, schemas for payload, success, error and progress, and options.
 *
 * `class ProcessOrder extends Task.make("ProcessOrder", { ... }) {}` gives it a readable name in hovers and errors.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { NoInfer } from "effect/Types"
import type * as Docket from "./Docket.ts"
import type { CurrentExecution } from "./Execution.ts"
import type * as Flow from "./Flow.ts"
import * as client from "./internal/client.ts"
import * as handler from "./internal/handler.ts"
import * as options_ from "./internal/options.ts"
import type * as Perpetual from "./Perpetual.ts"
import * as Progress_ from "./Progress.ts"
import type * as Retry_ from "./Retry.ts"
import { TaskFailure } from "./TaskFailure.ts"

/**
 * Type identifier of `Task`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~@effect-docket/dsl/Task"
/**
 * Type identifier of `Task`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~@effect-docket/dsl/Task"

/**
 * A task definition. `Provides` are the services the worker adds to its handler, beyond the usual ones.
 *
 * @category models
 * @since 0.1.0
 */
export interface Task<
  in out Tag extends string,
  out Payload extends Schema.Top = Schema.Void,
  out Success extends Schema.Top = Schema.Void,
  out Error extends Schema.Top = Schema.Never,
  out Progress extends Schema.Top = typeof Progress_.Counter,
  out Provides = never
> extends
  Flow.Node<
    Payload["~type.make.in"],
    Success["Type"],
    Error["Type"],
    Tag,
    | Payload["DecodingServices"]
    | Payload["EncodingServices"]
    | Success["DecodingServices"]
    | Success["EncodingServices"]
    | Error["DecodingServices"]
    | Error["EncodingServices"]
  >
{
  new(_: never): {}

  readonly [TypeId]: TypeId
  readonly _tag: Tag
  readonly payloadSchema: Payload
  readonly successSchema: Success
  readonly errorSchema: Error
  readonly progressSchema: Progress
  readonly annotations: Context.Context<never>
  readonly "~provides": Provides

  /** Layer that grants `Docket.Enqueue<Tag>`: programs below it may add this task. */
  readonly client: Layer.Layer<Docket.Enqueue<Tag>, never, Docket.Docket>

  /** Implements the task. Services of the handler become requirements of the layer, except those the worker provides. */
  toLayer<R, EX = never, RX = never>(
    build:
      | ((payload: Payload["Type"]) => Effect.Effect<Success["Type"], Error["Type"], R>)
      | Effect.Effect<(payload: Payload["Type"]) => Effect.Effect<Success["Type"], Error["Type"], R>, EX, RX>
  ): Layer.Layer<Handler<Tag>, EX, Exclude<RX, Scope> | Exclude<R, HandlerServices | Provides>>

  /** Returns the task with one option set, overriding group and worker defaults. */
  annotate<I, S>(key: Context.Key<I, S>, value: NoInfer<S>): Task<Tag, Payload, Success, Error, Progress, Provides>

  /** Returns the task with several options set. */
  annotateMerge<I>(annotations: Context.Context<I>): Task<Tag, Payload, Success, Error, Progress, Provides>
}

/**
 * The minimal bound for generic code over tasks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Any extends Flow.Any {
  readonly [TypeId]: TypeId
  readonly _tag: string
  readonly payloadSchema: Schema.Top
  readonly successSchema: Schema.Top
  readonly errorSchema: Schema.Top
  readonly progressSchema: Schema.Top
  readonly annotations: Context.Context<never>
  readonly "~provides": unknown
}

/**
 * The service that stands for the implementation of a task; `Worker.layer` requires it.
 *
 * @category services
 * @since 0.1.0
 */
export interface Handler<Tag extends string> {
  readonly _: unique symbol
  readonly tag: Tag
}

/**
 * Services every handler may use without declaring them: the worker provides them.
 *
 * @category utility types
 * @since 0.1.0
 */
export type HandlerServices = CurrentExecution | Progress_.Progress | Scope

/**
 * The decoded payload: what handlers and key functions receive.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Payload<T extends Any> = T["payloadSchema"]["Type"]
/**
 * What a producer passes: constructor defaults may be left out.
 *
 * @category utility types
 * @since 0.1.0
 */
export type PayloadInput<T extends Any> = T["payloadSchema"]["~type.make.in"]
/**
 * The value a handler succeeds with.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Success<T extends Any> = T["successSchema"]["Type"]
/**
 * The declared errors.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Error<T extends Any> = T["errorSchema"]["Type"]
/**
 * The value of a progress report.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Progress<T extends Any> = T["progressSchema"]["Type"]
/**
 * `Handler<Tag>` of each tag.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ToHandler<Tag extends string> = Tag extends string ? Handler<Tag> : never
/**
 * Services needed to encode payloads and decode results.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ServicesClient<T extends Any> =
  | T["payloadSchema"]["EncodingServices"]
  | T["successSchema"]["DecodingServices"]
  | T["errorSchema"]["DecodingServices"]
  | T["progressSchema"]["DecodingServices"]
/**
 * Services needed to decode payloads and encode results.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ServicesServer<T extends Any> =
  | T["payloadSchema"]["DecodingServices"]
  | T["successSchema"]["EncodingServices"]
  | T["errorSchema"]["EncodingServices"]
  | T["progressSchema"]["EncodingServices"]
/**
 * The handler function of a task.
 *
 * @category utility types
 * @since 0.1.0
 */
export type HandlerFn<T extends Any, R> = (payload: Payload<T>) => Effect.Effect<Success<T>, Error<T>, R>
/**
 * Arguments after the task: the payload may be left out when it can be built from nothing.
 *
 * @category utility types
 * @since 0.1.0
 */
export type PayloadArgs<T extends Any, Options> = [void] extends [PayloadInput<T>] ?
  [payload?: PayloadInput<T>, options?: Options]
  : {} extends PayloadInput<T> ? [payload?: PayloadInput<T>, options?: Options]
  : [payload: PayloadInput<T>, options?: Options]

/**
 * A readable compile error.
 *
 * @category utility types
 * @since 0.1.0
 */
export interface Mismatch<Message extends string, Given, Wanted> {
  readonly "~message": Message
  readonly "~given": Given
  readonly "~wanted": Wanted
}

/**
 * A property that must not be given next to another one; the message says which.
 *
 * @category utility types
 * @since 0.1.0
 */
export interface Excluded<Message extends string> {
  readonly "~message": Message
}

// ---------------------------------------------------------------------------------------------------------------------
// options
// ---------------------------------------------------------------------------------------------------------------------

type Scalar = string | number | bigint | boolean | null | undefined
/**
 * Names of the payload fields that may be part of a key.
 *
 * @category utility types
 * @since 0.1.0
 */
export type KeyField<P> = { readonly [K in keyof P]-?: P[K] extends Scalar ? K : never }[keyof P]
/**
 * A key: computed from the decoded payload and used as it is, or the names of the fields it is made of: `["customerId",
 * "day"]` gives `Tag/c-1/2026-01-01`, each part URI-encoded. Keys are unique within a docket.
 *
 * @category utility types
 * @since 0.1.0
 */
export type KeyOf<P> = ((payload: P) => string) | readonly [KeyField<P>, ...ReadonlyArray<KeyField<P>>]

type PayloadSchema<P extends Schema.Top | Schema.Struct.Fields> = P extends Schema.Struct.Fields ? Schema.Struct<P> : P

/**
 * Options of `Task.make`, apart from the schemas. `P` is the decoded payload, `I` its constructor input, `E` the declared error.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<P, I, E> {
  /** Idempotency key: at most one pending or running execution per key. Default: a random key per execution. */
  readonly key?: KeyOf<P> | undefined
  /** What to do after a declared error: a schedule, or one rule per error tag. Default: never retry. */
  readonly retry?: Retry_.Policy<E> | undefined
  /** What to do after a defect, a timeout or a lost worker. Default: the policy of the worker. */
  readonly defectRetryPolicy?: Schedule.Schedule<unknown, TaskFailure> | undefined
  /** Limit of one attempt. */
  readonly timeout?: Duration.Input | undefined
  /**
   * How many executions may run at once in the whole system: of the task, or per `key`. Tasks that name the same `scope`
   * share what they name.
   */
  readonly concurrency?:
    | number
    | { readonly max: number; readonly key?: KeyOf<P> | undefined; readonly scope?: string | undefined }
    | undefined
  /**
   * How many executions may start within any `window`: of the task, or per `key`; at most 10,000. What comes too much waits
   * until the window has moved on, or is dropped: it ends as `Skipped`. Tasks that name the same `scope` share what they
   * name; their windows should be the same. A retry is a start like any other.
   */
  readonly rateLimit?:
    | {
      readonly limit: number
      readonly window: Duration.Input
      readonly key?: KeyOf<P> | undefined
      readonly scope?: string | undefined
      /** Default "wait". */
      readonly excess?: "wait" | "drop" | undefined
    }
    | undefined
  /** Ignore additions for this long after a run started: of the task, or per `key`. Its own retries are none. */
  readonly cooldown?:
    | Duration.Input
    | {
      readonly for: Duration.Input
      readonly key?: KeyOf<P> | undefined
      readonly scope?: string | undefined
    }
    | undefined
  /**
   * Start only when no addition came for this long, of the task, or with the same `key`; at most `max` after the first. They
   * are one run, with the payload of the last, or of the first.
   */
  readonly debounce?: Duration.Input | {
    readonly for: Duration.Input
    readonly max?: Duration.Input | undefined
    readonly key?: KeyOf<P> | undefined
    /** Default "last". */
    readonly payload?: "first" | "last" | undefined
  } | undefined
  /** Higher runs first among the executions that are due. Default 0. */
  readonly priority?: number | ((payload: P) => number) | undefined
  /** Queue of its own; a worker serves the lanes it names. Default "default". */
  readonly lane?: string | undefined
  /** How long outcomes are kept. Default: 1 day for successes, 14 days for failures. */
  readonly retention?: Duration.Input | {
    readonly success?: Duration.Input | undefined
    readonly failure?: Duration.Input | undefined
  } | undefined
  /** How many bytes a payload, a success, an error or a progress report may have, as JSON in UTF-8. Default 1 MiB. */
  readonly maxBytes?: number | undefined
  /** Version of the payload schema. Default 1. */
  readonly version?: number | undefined
  /** Rewrites the stored JSON of an older version before decoding; the result is the constructor input. */
  readonly migrate?: ((stored: unknown, version: number) => I) | undefined
}

/** What a handler is provided with; see `internal/handler.ts`. */
const Proto = {
  [TypeId]: TypeId,
  pipe() {
    return pipeArguments(this, arguments)
  },
  get client() {
    const self = this as unknown as Any // `makeProto` is the only user of the prototype
    return client.layer(self, [self])
  },
  toLayer(this: Any, build: unknown) {
    return Layer.effectContext(handler.handlers([this._tag], (built) => ({ [this._tag]: built }), build))
  },
  annotate(this: Any, key: Context.Key<unknown, unknown>, value: unknown) {
    return makeProto({ ...fields(this), annotations: Context.add(this.annotations, key, value) })
  },
  annotateMerge(this: Any, annotations: Context.Context<never>) {
    return makeProto({ ...fields(this), annotations: Context.merge(this.annotations, annotations) })
  }
}

interface Fields {
  readonly _tag: string
  readonly payloadSchema: Schema.Top
  readonly successSchema: Schema.Top
  readonly errorSchema: Schema.Top
  readonly progressSchema: Schema.Top
  readonly annotations: Context.Context<never>
}

const fields = ({ _tag, annotations, errorSchema, payloadSchema, progressSchema, successSchema }: Any): Fields => ({
  _tag,
  payloadSchema,
  successSchema,
  errorSchema,
  progressSchema,
  annotations
})

const makeProto = (fields: Fields): Any => {
  function Task() {}
  Object.setPrototypeOf(Task, Proto)
  const task = Object.assign(Task, fields) as unknown as Any // a function with the prototype and the fields of a task
  options_.resolved(task) // throws where an option makes no sense
  return task
}

/**
 * Creates a task. The payload is a schema or the fields of a struct; success defaults to `void`, error to `never`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const Tag extends string,
  Payload extends Schema.Top | Schema.Struct.Fields = Schema.Void,
  Success extends Schema.Top = Schema.Void,
  Error extends Schema.Top = Schema.Never,
  Progress extends Schema.Top = typeof Progress_.Counter,
  const P extends Perpetual.Options = never
>(
  tag: Tag,
  options?:
    & {
      readonly payload?: Payload
      readonly success?: Success
      readonly error?: Error
      readonly progress?: Progress
      /** Schedules its own next run. `automatic` tasks are seeded by the workers and need a payload that can be built from nothing. */
      readonly perpetual?: P & Perpetual.Check<P, NoInfer<PayloadSchema<Payload>["~type.make.in"]>>
    }
    & Options<
      NoInfer<PayloadSchema<Payload>["Type"]>,
      NoInfer<PayloadSchema<Payload>["~type.make.in"]>,
      NoInfer<Error["Type"]>
    >
): Task<Tag, PayloadSchema<Payload>, Success, Error, Progress, [P] extends [never] ? never : Perpetual.Perpetual> => {
  options_.name("Task.make", "tag", tag)
  const payload = options?.payload
  const task = makeProto({
    _tag: tag,
    payloadSchema: payload === undefined ? Schema.Void : Schema.isSchema(payload) ? payload : Schema.Struct(payload),
    successSchema: options?.success ?? Schema.Void,
    errorSchema: options?.error ?? Schema.Never,
    progressSchema: options?.progress ?? Progress_.Counter,
    annotations: options === undefined ? Context.empty() : options_.toAnnotations(options)
  })
  // the fields are those the options name; `makeProto` works for every schema
  return task as unknown as ReturnType<typeof make<Tag, Payload, Success, Error, Progress, P>>
}

/**
 * Schema of the outcome of one task, for the payload of a task that joins others (see `Flow.outcomes`).
 *
 * @category schemas
 * @since 0.1.0
 */
export const outcome = <T extends Any>(
  task: T
): Schema.Result<T["successSchema"], Schema.Union<readonly [T["errorSchema"], typeof TaskFailure]>> =>
  Schema.Result<T["successSchema"], Schema.Union<readonly [T["errorSchema"], typeof TaskFailure]>>(
    task.successSchema,
    Schema.Union([task.errorSchema, TaskFailure])
  )

/**
 * Tests whether a value is a task.
 *
 * @category guards
 * @since 0.1.0
 */
export const isTask = (u: unknown): u is Any => Predicate.hasProperty(u, TypeId)

// ---------------------------------------------------------------------------------------------------------------------
// annotations: defaults for `TaskGroup.annotateTasks`
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Retry schedule for declared errors of any type.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Retry: Context.Reference<Schedule.Schedule<unknown, unknown> | undefined> = options_.Retry_
/**
 * Retry schedule for defects, timeouts and lost workers.
 *
 * @category annotations
 * @since 0.1.0
 */
export const DefectRetryPolicy: Context.Reference<Schedule.Schedule<unknown, TaskFailure> | undefined> =
  options_.DefectRetryPolicy
/**
 * Limit of one attempt.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Timeout: Context.Reference<Duration.Input | undefined> = options_.Timeout
/**
 * How many executions of the task may run at once in the whole system.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Concurrency: Context.Reference<number | undefined> = options_.Concurrency
/**
 * How many executions of the task may start per window.
 *
 * @category annotations
 * @since 0.1.0
 */
export const RateLimit: Context.Reference<{ readonly limit: number; readonly window: Duration.Input } | undefined> =
  options_.RateLimit
/**
 * Ignore additions for this long after a run started.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Cooldown: Context.Reference<Duration.Input | undefined> = options_.Cooldown
/**
 * Higher runs first among the executions that are due.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Priority: Context.Reference<number> = options_.Priority
/**
 * Queue of its own.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Lane: Context.Reference<string> = options_.Lane
/**
 * How long outcomes are kept.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Retention: Context.Reference<{ readonly success: Duration.Input; readonly failure: Duration.Input }> =
  options_.Retention
/**
 * How many bytes a payload, a success, an error or a progress report may have.
 *
 * @category annotations
 * @since 0.1.0
 */
export const MaxBytes: Context.Reference<number> = options_.MaxBytes
