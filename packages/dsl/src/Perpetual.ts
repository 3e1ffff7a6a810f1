/**
 * Perpetual tasks schedule their own next run: after an interval, or by cron.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Cron from "effect/Cron"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Docket from "./Docket.ts"
import type { DocketError } from "./DocketError.ts"
import * as client from "./internal/client.ts"
import * as readOptions from "./internal/options.ts"
import * as ticks from "./internal/recurrence.ts"
import * as seeds from "./internal/seed.ts"
import type * as Task from "./Task.ts"

interface Common {
  /**
   * Workers seed the task on start and re-seed it when it is missing, unless it was ended by its handler or cancelled.
   * Needs a payload that can be built from nothing.
   */
  readonly automatic?: boolean | undefined
  /**
   * What to do with ticks that come while the previous run is still running. Default "skip": they are left out. "queue":
   * one run follows at once, for the last of them. "allow": each has a run at once, under the key of the task with the
   * tick (`key@2026-01-01T00:15:00.000Z`); what such a run asks of `Perpetual` is not heard. Not with `catchUp: "all"`.
   */
  readonly overlap?: "skip" | "queue" | "allow" | undefined
  /**
   * What to do with ticks that came while nothing ran: no worker was up, or the task was paused. Default "latest": one
   * late run stands for all of them. "skip": a run that is late by a minute, or whose next tick has come as well, is left
   * out. "all": each has its own run, one after the other, without a limit on their number.
   */
  readonly catchUp?: "skip" | "latest" | "all" | undefined
  /**
   * Each run is due up to that much later than its tick, never before it: by chance, and the same in every process. It
   * does not add up from run to run, and has to be shorter than the time from one tick to the next.
   */
  readonly jitter?: Duration.Input | undefined
}

/**
 * The interval is counted from the start of a run to the start of the next; a run that takes longer is followed at once,
 * or, with `overlap: "allow"`, is not waited for. With `catchUp: "all"` it is counted from tick to tick.
 *
 * @category models
 * @since 0.1.0
 */
export interface Every extends Common {
  readonly every: Duration.Input
  readonly cron?: Task.Excluded<"`every` and `cron` exclude each other">
  readonly timeZone?: Task.Excluded<"`timeZone` belongs to `cron`">
}

/**
 * The ticks of a cron expression (5 or 6 fields, or `@daily` and the like), in `timeZone` (default UTC).
 *
 * A local time that does not exist because clocks go forward stands for the instant that it would have been. One that
 * comes twice because they go back counts once, the first time; but an expression with `*` for the hour ticks in every
 * hour that passes. A `Cron` value keeps its own `onDstOverlap`, and its own zone unless
 * `timeZone` is given.
 *
 * @category models
 * @since 0.1.0
 */
export interface ByCron extends Common {
  readonly cron: string | Cron.Cron
  readonly timeZone?: string | undefined
  readonly every?: Task.Excluded<"`every` and `cron` exclude each other">
}

/**
 * The `perpetual` option of a task: `every` or `cron`.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = Every | ByCron

/**
 * Compile-time checks of the `perpetual` option: no unknown names, and `automatic` only if the payload can be built from nothing.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Check<P, Input> =
  & {
    readonly [K in Exclude<keyof P, keyof Every | keyof ByCron>]: Task.Mismatch<
      "not an option of `perpetual`",
      K,
      keyof ByCron
    >
  }
  & (P extends { readonly automatic: true } ? [void] extends [Input] ? unknown
    : {} extends Input ? unknown
    : Task.Mismatch<
      "an automatic perpetual task needs a payload that can be built from nothing: give every field a default",
      Input,
      {}
    >
    : unknown)

/**
 * Controls the next run, from inside the handler of a perpetual task. Without a call the task follows its options.
 * Handlers of other tasks keep it as an unsatisfied requirement.
 *
 * @category services
 * @since 0.1.0
 */
export class Perpetual extends Context.Service<Perpetual, {
  /** This run is the last one. */
  readonly cancel: Effect.Effect<void>
  /** Run again this long from now. */
  readonly after: (duration: Duration.Input) => Effect.Effect<void>
  /** Run again at this time. */
  readonly at: (time: DateTime.DateTime.Input) => Effect.Effect<void>
  /** Give the next run another payload. `task` has to be the task that runs; another one is a defect. */
  readonly next: <T extends Task.Any>(task: T & IsPerpetual<T>, payload: Task.PayloadInput<T>) => Effect.Effect<void>
}>()("@effect-docket/dsl/Perpetual") {}

/**
 * Accepts perpetual tasks only.
 *
 * @category utility types
 * @since 0.1.0
 */
export type IsPerpetual<T extends Task.Any> = [Perpetual] extends [T["~provides"]] ? unknown
  : Task.Mismatch<"this task has no `perpetual` option", T["_tag"], "perpetual: { every } | { cron }">

/**
 * Layer that keeps one perpetual run of `task` with this payload scheduled for as long as it lives: seeded on start,
 * re-seeded when it is missing, unless its handler called `cancel` or somebody cancelled it. By cron the first run is at
 * the next tick. The key defaults to the key of the task.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <T extends Task.Any>(
  task: T & IsPerpetual<T>,
  ...args: Task.PayloadArgs<T, { readonly key?: string | undefined; readonly checkEvery?: Duration.Input | undefined }>
): Layer.Layer<never, DocketError, Docket.Enqueue<T["_tag"]> | Task.ServicesClient<T>> => {
  const [payload, options] = args
  return Layer.effectDiscard(Effect.gen(function*() {
    const granted = yield* client.key<T["_tag"]>(task._tag)
    const { docket } = granted
    const operation = "Perpetual.layer"
    const every = yield* Effect.try({
      try: () => readOptions.millis(operation, "checkEvery", options?.checkEvery ?? seeds.interval, 1),
      catch: (error) => error as DocketError // thrown by `millis`
    })
    const seed = yield* client.encodeSeed(operation, granted, task, payload, options?.key)
    const kept = seeds.checks * every
    const retention = {
      success: Math.max(seed.retention.success, kept),
      failure: Math.max(seed.retention.failure, kept)
    }
    const recurrence = readOptions.resolved(task).perpetual! // accepted by `IsPerpetual`
    const add = Effect.flatMap(Clock.currentTimeMillis, (now) => {
      // the store's clock decides when it is now
      const first = ticks.first(recurrence, ticks.identity(seed.task, seed.key), now)
      const due = first === undefined || first.due === now ? seed.due : { at: first.due }
      return docket.addEncoded([{ ...seed, due, retention }], { atomic: false })
    })
    const chain = seeds.make({ task: task._tag, key: seed.key, every, get: docket.get, seed: add })
    yield* chain.check
    yield* Effect.forkScoped(chain.keep)
  }))
}
