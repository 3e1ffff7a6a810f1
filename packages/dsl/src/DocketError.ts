/**
 * Failures of the infrastructure between a program and the store, and of what it was asked for.
 *
 * What a task does wrong is never in here: that is a declared error or a `TaskFailure`.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const Id = "@effect-docket/dsl/DocketError"

/**
 * The store cannot be reached. The operation may or may not have been applied; repeating it with the same key is safe.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreUnavailable
  extends Schema.TaggedError<StoreUnavailable>(`${Id}/StoreUnavailable`)("StoreUnavailable", {
    cause: Schema.Defect()
  })
{
  override get message(): string {
    const cause = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `the store cannot be reached (${cause}); it may or may not have been applied, repeating it with the same key is safe`
  }
}

/**
 * The payload violates a check of its schema, or does not encode. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidPayload extends Schema.TaggedError<InvalidPayload>(`${Id}/InvalidPayload`)("InvalidPayload", {
  task: Schema.String,
  message: Schema.String
}) {}

/**
 * `onExisting: "fail"` met an execution with the same key. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyExists extends Schema.TaggedError<KeyExists>(`${Id}/KeyExists`)("KeyExists", {
  key: Schema.String
}) {
  override get message(): string {
    return `a pending or running execution has the key ${JSON.stringify(this.key)}; nothing was written`
  }
}

/**
 * A strike stops an addition where all or nothing was asked for. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class Struck extends Schema.TaggedError<Struck>(`${Id}/Struck`)("Struck", {
  key: Schema.String,
  reason: Schema.String,
  author: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    const by = this.author === undefined ? "" : ` by ${this.author}`
    return `key ${JSON.stringify(this.key)} is struck${by}: ${this.reason}; nothing was written`
  }
}

/**
 * The cooldown of its task ignores an addition where all or nothing was asked for. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class Limited extends Schema.TaggedError<Limited>(`${Id}/Limited`)("Limited", {
  key: Schema.String,
  by: Schema.Literals(["cooldown"])
}) {
  override get message(): string {
    return `key ${JSON.stringify(this.key)} comes within the ${this.by} of its task; nothing was written`
  }
}

/**
 * The store refuses: too many items in one atomic write, a key that is too long, or a full queue. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>(`${Id}/LimitExceeded`)("LimitExceeded", {
  limit: Schema.Int,
  option: Schema.String
}) {
  override get message(): string {
    return `more than the limit of ${this.limit} for ${this.option}; nothing was written`
  }
}

/**
 * The store was written by an incompatible version of the library.
 *
 * @category errors
 * @since 0.1.0
 */
export class IncompatibleStore
  extends Schema.TaggedError<IncompatibleStore>(`${Id}/IncompatibleStore`)("IncompatibleStore", {
    found: Schema.String,
    expected: Schema.String
  })
{
  override get message(): string {
    return `the store was written in format ${this.found}, this version of the library expects ${this.expected}`
  }
}

/**
 * An option has a value that makes no sense, such as a negative concurrency or an empty name.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidOption extends Schema.TaggedError<InvalidOption>(`${Id}/InvalidOption`)("InvalidOption", {
  option: Schema.String,
  message: Schema.String
}) {}

/**
 * Every reason for a `DocketError`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  StoreUnavailable,
  InvalidPayload,
  KeyExists,
  Struck,
  Limited,
  LimitExceeded,
  IncompatibleStore,
  InvalidOption
])
/**
 * Every reason for a `DocketError`.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The one infrastructure error. Handle single reasons with `Effect.catchReason("DocketError", "KeyExists", ...)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class DocketError extends Schema.TaggedError<DocketError>(Id)("DocketError", {
  operation: Schema.String,
  reason: Reason
}) {
  override get message(): string {
    return `${this.operation}: ${this.reason.message}`
  }
}
