/**
 * Perpetual tasks schedule their own next run: after an interval, or by cron.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Cron from "effect/Cron"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Docket from "./Docket.ts"
import type { DocketError } from "./DocketError.ts"
import * as client from "./internal/client.ts"
import * as seeds from "./internal/seed.ts"
import type * as Task from "./Task.ts"

interface Common {
  /** Workers seed the task on start and re-seed it when it is missing. Needs a payload that can be built from nothing. */
  readonly automatic?: boolean | undefined
  /** What to do when the next run is due while the previous one still runs. Default "skip". */
  readonly overlap?: "skip" | "queue" | "allow" | undefined
  /** What to do with runs missed while no worker was up. Default "latest". */
  readonly catchUp?: "skip" | "latest" | "all" | undefined
}

/**
 * The interval is counted from the start of a run to the start of the next; a run that takes longer is followed at once.
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
 * The next tick of a cron expression (5 or 6 fields), in `timeZone` (default UTC).
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
 * re-seeded when it is missing, unless its handler called `cancel`. The key defaults to the key of the task.
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
    const seed = yield* client.encodeSeed("Perpetual.layer", granted, task, payload, options?.key)
    const add = docket.addEncoded([seed], { atomic: false })
    yield* add
    const every = options?.checkEvery ?? seeds.interval
    yield* Effect.forkScoped(seeds.keep({ task: task._tag, key: seed.key, every, get: docket.get, seed: add }))
  }))
}
