/**
 * Whether a failed run is retried, and when.
 *
 * The state of a schedule is not stored. It is replayed over the failures of the run with their times, with chance seeded
 * by the run's identity: each process comes to the same answer, jitter included, and limits on the duration hold across
 * processes.
 */
import { TaskFailure } from "@effect-docket/dsl"
import type { Retry } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Failure } from "./history.ts"

/** What to do about a failure; delays in milliseconds. */
export type Verdict =
  | { readonly _tag: "Fail" }
  | { readonly _tag: "Retry"; readonly after: number }
  | { readonly _tag: "Snooze"; readonly after: number }

const fail: Verdict = { _tag: "Fail" }

/** The policies of a task in a worker. */
export interface Policies {
  readonly retry: Interpreter.AnyRetry | undefined
  /** After defects, timeouts and lost workers. */
  readonly defects: Schedule.Schedule<unknown, TaskFailure.TaskFailure>
}

/** Stores count in whole milliseconds, and nothing is early. */
const whole = (millis: number): number => Math.max(0, Math.ceil(millis))

/** The delay that a schedule asks for after these failures; `None` when it has ended. */
export const replay = Effect.fnUntraced(function*(
  schedule: Schedule.Schedule<unknown, unknown>,
  _seed: string,
  failures: ReadonlyArray<Failure>
): Effect.fn.Return<Option.Option<number>> {
  const step = yield* Schedule.toStep(schedule)
  let delay = 0
  for (const { at, error } of failures) {
    const next = yield* Pull.catchDone(step(at, error), () => Effect.undefined)
    if (next === undefined) return Option.none()
    delay = Duration.toMillis(next[1])
  }
  return Option.some(whole(delay))
}, (effect, _, seed) => Random.withSeed(effect, seed))

const bySchedule = (
  schedule: Schedule.Schedule<unknown, unknown>,
  seed: string,
  failures: ReadonlyArray<Failure>
): Effect.Effect<Verdict> =>
  Effect.map(
    replay(schedule, seed, failures),
    (delay): Verdict =>
      Option.isSome(delay) && Number.isFinite(delay.value) ? { _tag: "Retry", after: delay.value } : fail
  )

const byDecision = (decision: Retry.Decision): Verdict => {
  switch (decision._tag) {
    case "Never":
      return fail
    case "After":
      return delayed("Retry", decision.delay)
    case "Snooze":
      return delayed("Snooze", decision.delay)
    default:
      return Interpreter.invalid("Retry", "retry", "a rule has to give `Retry.never`, `Retry.after` or `Retry.snooze`")
  }
}

/** A wait without an end is none: as with a schedule, the run ends. */
const delayed = (tag: "Retry" | "Snooze", delay: Duration.Duration): Verdict => {
  const after = whole(Duration.toMillis(delay))
  return Number.isFinite(after) ? { _tag: tag, after } : fail
}

const isTaskFailure = (error: unknown): boolean => error instanceof TaskFailure.TaskFailure

const tagOf = (error: unknown): unknown => Predicate.hasProperty(error, "_tag") ? error._tag : undefined

/**
 * The verdict on the last of these failures. A schedule sees the failures that it is responsible for: those with the tag
 * of its rule, all declared errors, or all defects, timeouts and lost workers.
 */
export const decide = (
  { defects, retry }: Policies,
  seed: string,
  failures: ReadonlyArray<Failure>
): Effect.Effect<Verdict> =>
  Effect.suspend(() => {
    const { error } = failures.at(-1)!
    if (isTaskFailure(error)) {
      const schedule = defects as Schedule.Schedule<unknown, unknown> // it is given nothing but task failures
      return bySchedule(schedule, seed, failures.filter((failure) => isTaskFailure(failure.error)))
    }
    if (retry === undefined) return Effect.succeed(fail)
    if (Schedule.isSchedule(retry)) {
      // the errors that it is given are those it was declared for
      const schedule = retry as Schedule.Schedule<unknown, unknown>
      return bySchedule(schedule, seed, failures.filter((failure) => !isTaskFailure(failure.error)))
    }
    const tag = tagOf(error)
    const rule = typeof tag === "string" && Object.hasOwn(retry, tag) ? retry[tag] : undefined
    if (rule === undefined) return Effect.succeed(fail)
    if (Schedule.isSchedule(rule)) {
      const schedule = rule as Schedule.Schedule<unknown, unknown> // as above
      return bySchedule(schedule, seed, failures.filter((failure) => tagOf(failure.error) === tag))
    }
    return Effect.succeed(byDecision(typeof rule === "function" ? rule(error as never) : rule)) // the rule of its tag
  })
