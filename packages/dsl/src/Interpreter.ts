/**
 * What whatever runs tasks has to know of them: their options, codecs and handlers. `@effect-docket/runtime` is built on
 * it; applications do not need it, and it may change with any release.
 *
 * @since 0.1.0
 */

/**
 * The wire form of a task.
 *
 * @category codecs
 * @since 0.1.0
 */
export { type Codec, codec } from "./internal/codec.ts"

/**
 * Reads outcomes and events with the schemas of a task.
 *
 * @category codecs
 * @since 0.1.0
 */
export { decodeEvent, decodeOutcome, errorOf } from "./internal/execution.ts"

/**
 * The options of a task, read once, and checks of options.
 *
 * @category options
 * @since 0.1.0
 */
export { type AnyRetry, integer, invalid, millis, name, type Resolved, resolved } from "./internal/options.ts"

/**
 * Whether a text has more bytes than it may.
 *
 * @category codecs
 * @since 0.1.0
 */
export { isLonger } from "./internal/key.ts"

/**
 * The gates of a task, and those that a run has to pass.
 *
 * @category options
 * @since 0.1.0
 */
export { type Gates, gatesOf } from "./internal/gates.ts"

/**
 * How `toLayer` hands an implementation to the worker.
 *
 * @category handlers
 * @since 0.1.0
 */
export { type Implementation, key as handlerKey } from "./internal/handler.ts"

/**
 * Encodes additions on behalf of a worker.
 *
 * @category codecs
 * @since 0.1.0
 */
export { type Client, due, encode, encodeSeed } from "./internal/client.ts"

/**
 * Why an addition is refused, as the reason of an error.
 *
 * @category errors
 * @since 0.1.0
 */
export { reasonOf as refusalReason } from "./internal/refusal.ts"

/**
 * Keeps the run of a perpetual task known.
 *
 * @category perpetual tasks
 * @since 0.1.0
 */
export { interval as seedInterval, make as keepSeeded } from "./internal/seed.ts"

/**
 * When a perpetual task runs.
 *
 * @category perpetual tasks
 * @since 0.1.0
 */
export * as recurrence from "./internal/recurrence.ts"

/**
 * The graphs of flows.
 *
 * @category flows
 * @since 0.1.0
 */
export * as graph from "./internal/flowGraph.ts"

/**
 * Values and ends of flows.
 *
 * @category flows
 * @since 0.1.0
 */
export * as values from "./internal/flowValue.ts"

/**
 * Runs of flows.
 *
 * @category flows
 * @since 0.1.0
 */
export * as threads from "./internal/flowRun.ts"
