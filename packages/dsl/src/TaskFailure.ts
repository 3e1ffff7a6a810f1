/**
 * How a run ended when it ended with neither a success nor a declared error.
 *
 * Causes are kept apart: a defect, a timeout, a cancel and a lost worker are different reasons, stored as such and read
 * back as such in every process. Shutting a worker down is none of them: it releases its runs.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

const Id = "@effect-docket/dsl/TaskFailure"

/**
 * The handler died: a bug, an error outside the declared ones, or a value that its schema refuses.
 *
 * @category errors
 * @since 0.1.0
 */
export class Defect extends Schema.TaggedError<Defect>(`${Id}/Defect`)("Defect", {
  defect: Schema.Defect()
}) {
  override get message(): string {
    return `the handler died: ${this.defect instanceof Error ? this.defect.message : String(this.defect)}`
  }
}

/**
 * An attempt, or the whole flow, ran longer than its `timeout` or `deadline`.
 *
 * @category errors
 * @since 0.1.0
 */
export class Timeout extends Schema.TaggedError<Timeout>(`${Id}/Timeout`)("Timeout", {
  limit: Schema.Duration
}) {
  override get message(): string {
    return `it ran longer than its timeout of ${Duration.format(this.limit)}`
  }
}

/**
 * Somebody called `cancel`.
 *
 * @category errors
 * @since 0.1.0
 */
export class Cancelled extends Schema.TaggedError<Cancelled>(`${Id}/Cancelled`)("Cancelled", {}) {
  override get message(): string {
    return "it was cancelled"
  }
}

/**
 * The task, or this payload of it, is struck.
 *
 * @category errors
 * @since 0.1.0
 */
export class Struck extends Schema.TaggedError<Struck>(`${Id}/Struck`)("Struck", {
  reason: Schema.String,
  author: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `it is struck${this.author === undefined ? "" : ` by ${this.author}`}: ${this.reason}`
  }
}

/**
 * A gate of its task dropped it: too many had started within the window of its rate limit, or it was added during the
 * cooldown of another one.
 *
 * @category errors
 * @since 0.1.0
 */
export class Limited extends Schema.TaggedError<Limited>(`${Id}/Limited`)("Limited", {
  by: Schema.Literals(["rateLimit", "cooldown"])
}) {
  override get message(): string {
    return `it was dropped by the option \`${this.by}\` of its task`
  }
}

/**
 * The run became due too late to be useful (`catchUp: "skip"`, or a passed deadline).
 *
 * @category errors
 * @since 0.1.0
 */
export class Expired extends Schema.TaggedError<Expired>(`${Id}/Expired`)("Expired", {
  dueAt: Schema.DateTimeUtc
}) {
  override get message(): string {
    return `it was due at ${this.dueAt.toString()} and came too late to be useful`
  }
}

/**
 * The workers that ran it disappeared more often than its retry policy for defects allows.
 *
 * @category errors
 * @since 0.1.0
 */
export class Lost extends Schema.TaggedError<Lost>(`${Id}/Lost`)("Lost", {
  attempts: Schema.Int
}) {
  override get message(): string {
    return `its worker disappeared in each of ${this.attempts} attempts; check whether the handler kills its process`
  }
}

/**
 * The stored payload or result does not decode with the schema of this process.
 *
 * @category errors
 * @since 0.1.0
 */
export class Undecodable extends Schema.TaggedError<Undecodable>(`${Id}/Undecodable`)("Undecodable", {
  message: Schema.String
}) {}

/**
 * Nothing is known of the run any more: its retention is over, or it was cleared.
 *
 * @category errors
 * @since 0.1.0
 */
export class Gone extends Schema.TaggedError<Gone>(`${Id}/Gone`)("Gone", {}) {
  override get message(): string {
    return "nothing is known of it any more: its retention is over, or the docket was cleared"
  }
}

/**
 * Every reason for a `TaskFailure`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Reason = Schema.Union([Defect, Timeout, Cancelled, Struck, Limited, Expired, Lost, Undecodable, Gone])
/**
 * Every reason for a `TaskFailure`.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The error of `execution.await` next to the declared errors. Handle single reasons with
 * `Effect.catchReason("TaskFailure", "Timeout", ...)`.
 *
 * @category errors
 * @since 0.1.0
 */
export class TaskFailure extends Schema.TaggedError<TaskFailure>(Id)("TaskFailure", {
  task: Schema.String,
  key: Schema.String,
  reason: Reason
}) {
  override get message(): string {
    return `task "${this.task}", key ${JSON.stringify(this.key)}: ${this.reason.message}`
  }
}
