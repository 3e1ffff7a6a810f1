/**
 * Retry rules of a task: what happens after a declared error.
 *
 * A rule is data or a `Schedule`; nothing of its state is stored. The worker replays a schedule over the stored failures
 * and their times, so that every process comes to the same answer.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type * as Schedule from "effect/Schedule"

/**
 * Never retry: the run ends with this error.
 *
 * @category models
 * @since 0.1.0
 */
export interface Never {
  readonly _tag: "Never"
}

/**
 * Run again after `delay` without counting an attempt.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snooze {
  readonly _tag: "Snooze"
  readonly delay: Duration.Duration
}

/**
 * Run again after `delay`; counts as an attempt.
 *
 * @category models
 * @since 0.1.0
 */
export interface After {
  readonly _tag: "After"
  readonly delay: Duration.Duration
}

/**
 * What to do about one occurrence of an error.
 *
 * @category models
 * @since 0.1.0
 */
export type Decision = Never | Snooze | After

/**
 * What to do about an error: a schedule, a decision, or a decision that depends on the error.
 *
 * @category models
 * @since 0.1.0
 */
export type Rule<E> = Schedule.Schedule<unknown, E> | Decision | ((error: E) => Decision)

/**
 * One rule per error tag; a missing tag does not compile.
 *
 * @category models
 * @since 0.1.0
 */
export type Rules<E extends { readonly _tag: string }> = {
  readonly [Tag in E["_tag"]]: Rule<Extract<E, { readonly _tag: Tag }>>
}

/**
 * A schedule that sees every declared error, or one rule per error tag (only if all errors are tagged).
 *
 * @category models
 * @since 0.1.0
 */
export type Policy<E> =
  | Schedule.Schedule<unknown, E>
  | ([E] extends [never] ? never : [E] extends [{ readonly _tag: string }] ? Rules<E> : never)

/**
 * Never retry: the run ends with this error.
 *
 * @category constructors
 * @since 0.1.0
 */
export const never: Never = { _tag: "Never" }

/**
 * Run again after `delay` without counting an attempt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const snooze = (delay: Duration.Input): Snooze => ({ _tag: "Snooze", delay: Duration.fromInputUnsafe(delay) })

/**
 * Run again after `delay`; counts as an attempt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const after = (delay: Duration.Input): After => ({ _tag: "After", delay: Duration.fromInputUnsafe(delay) })
