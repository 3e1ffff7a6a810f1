/**
 * `@effect-docket/dsl`: definitions only. Producers, handlers and workers import it; it contains no store and no worker.
 *
 * @since 0.1.0
 */

/**
 * A typed unit of work: tag, schemas and options.
 *
 * @since 0.1.0
 */
export * as Task from "./Task.ts"

/**
 * A set of tasks that is implemented, enqueued and run together.
 *
 * @since 0.1.0
 */
export * as TaskGroup from "./TaskGroup.ts"

/**
 * Retry rules, per error tag.
 *
 * @since 0.1.0
 */
export * as Retry from "./Retry.ts"

/**
 * The producer side: add, replace, cancel, strike, inspect.
 *
 * @since 0.1.0
 */
export * as Docket from "./Docket.ts"

/**
 * Handle of one scheduled run, and what a handler knows about its own run.
 *
 * @since 0.1.0
 */
export * as Execution from "./Execution.ts"

/**
 * Typed progress reports of a running handler.
 *
 * @since 0.1.0
 */
export * as Progress from "./Progress.ts"

/**
 * Tasks that schedule their own next run.
 *
 * @since 0.1.0
 */
export * as Perpetual from "./Perpetual.ts"

/**
 * Conditions for striking executions by payload field.
 *
 * @since 0.1.0
 */
export * as Strike from "./Strike.ts"

/**
 * A list of tasks scattered over a window of time.
 *
 * @since 0.1.0
 */
export * as Agenda from "./Agenda.ts"

/**
 * Static, typed graphs of tasks.
 *
 * @since 0.1.0
 */
export * as Flow from "./Flow.ts"

/**
 * Fan-in policies and results.
 *
 * @since 0.1.0
 */
export * as Gather from "./Gather.ts"

/**
 * Fields that are encrypted wherever they are stored.
 *
 * @since 0.1.0
 */
export * as Encrypted from "./Encrypted.ts"

/**
 * How a run ended when it did not end with a declared error.
 *
 * @since 0.1.0
 */
export * as TaskFailure from "./TaskFailure.ts"

/**
 * Failures of the infrastructure.
 *
 * @since 0.1.0
 */
export * as DocketError from "./DocketError.ts"
