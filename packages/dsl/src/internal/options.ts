/**
 * The options of a task as annotations, and their one reading: defaults filled in, durations in milliseconds.
 *
 * Options are validated where the task is made, so that a worker never meets a bad one.
 */
import * as Context from "effect/Context"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schedule from "effect/Schedule"
import type * as Perpetual from "../Perpetual.ts"
import type * as Retry from "../Retry.ts"
import type * as Task from "../Task.ts"
import type { TaskFailure } from "../TaskFailure.ts"
import { integer, invalid, isPart, millis, name as checkName } from "./checks.ts"
import { type Gates, gates } from "./gates.ts"
import type { AnyKey } from "./keyOf.ts"
import type { Recurrence } from "./recurrence.ts"
import * as ticks from "./recurrence.ts"
import { checks, interval as checkInterval } from "./seed.ts"

export { integer, invalid, millis, name } from "./checks.ts"
export { type AnyKey, keyOf } from "./keyOf.ts"

const Id = "@effect-docket/dsl/Task"

/** A retry policy without its error type: what `Task.Retry` holds, which a group default may only set to a schedule. */
export type AnyRetry = Schedule.Schedule<unknown, unknown> | Readonly<Record<string, Retry.Rule<never>>>

const undefinedReference = <A>(name: string) =>
  Context.Reference<A | undefined>(`${Id}/${name}`, { defaultValue: () => undefined })

export const Retry_ = undefinedReference<Schedule.Schedule<unknown, unknown>>("Retry")
export const DefectRetryPolicy = undefinedReference<Schedule.Schedule<unknown, TaskFailure>>("DefectRetryPolicy")
export const Timeout = undefinedReference<Duration.Input>("Timeout")
export const Concurrency = undefinedReference<number>("Concurrency")
export const RateLimit = undefinedReference<{ readonly limit: number; readonly window: Duration.Input }>("RateLimit")
export const Cooldown = undefinedReference<Duration.Input>("Cooldown")
export const Debounce = undefinedReference<Duration.Input>("Debounce")
export const Priority = Context.Reference<number>(`${Id}/Priority`, { defaultValue: () => 0 })
export const Lane = Context.Reference<string>(`${Id}/Lane`, { defaultValue: () => "default" })
export const Retention = Context.Reference<{ readonly success: Duration.Input; readonly failure: Duration.Input }>(
  `${Id}/Retention`,
  { defaultValue: () => ({ success: "1 day", failure: "14 days" }) }
)
export const MaxBytes = Context.Reference<number>(`${Id}/MaxBytes`, { defaultValue: () => 2 ** 20 })
export const Key = undefinedReference<AnyKey>("Key")
export const Version = Context.Reference<number>(`${Id}/Version`, { defaultValue: () => 1 })
export const Migrate = undefinedReference<(stored: unknown, version: number) => unknown>("Migrate")
export const PerpetualOptions = undefinedReference<Perpetual.Options>("Perpetual")

/** Which annotation holds which option of `Task.make`. */
const references: Readonly<Record<string, { readonly key: string }>> = {
  key: Key,
  retry: Retry_,
  defectRetryPolicy: DefectRetryPolicy,
  timeout: Timeout,
  concurrency: Concurrency,
  rateLimit: RateLimit,
  cooldown: Cooldown,
  debounce: Debounce,
  priority: Priority,
  lane: Lane,
  retention: Retention,
  maxBytes: MaxBytes,
  version: Version,
  migrate: Migrate,
  perpetual: PerpetualOptions
}

/** The annotations of a task with these options. */
export const toAnnotations = (options: object): Context.Context<never> => {
  const annotations = new Map<string, unknown>()
  for (const [name, value] of Object.entries(options)) {
    const reference = references[name]
    if (reference !== undefined && value !== undefined) annotations.set(reference.key, value)
  }
  return Context.makeUnsafe(annotations)
}

/** The options of a task, read. Durations are milliseconds. */
export interface Resolved {
  readonly key: AnyKey | undefined
  readonly retry: AnyRetry | undefined
  readonly defectRetryPolicy: Schedule.Schedule<unknown, TaskFailure> | undefined
  readonly timeout: number | undefined
  readonly priority: number | ((payload: never) => number)
  readonly lane: string
  readonly retention: { readonly success: number; readonly failure: number }
  readonly maxBytes: number
  readonly version: number
  readonly migrate: ((stored: unknown, version: number) => unknown) | undefined
  readonly perpetual: Recurrence | undefined
  readonly gates: Gates | undefined
}

const nicknames: Readonly<Record<string, string>> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *"
}

/** The time zone of an expression; `undefined` if the name is not one. */
const zoneOf = (timeZone: string | undefined): DateTime.TimeZone | undefined =>
  timeZone === undefined
    ? DateTime.zoneMakeNamedUnsafe("UTC")
    : Option.getOrUndefined(DateTime.zoneFromString(timeZone))

const cronOf = (operation: string, given: string | Cron.Cron, timeZone: string | undefined): Cron.Cron => {
  const zone = zoneOf(timeZone)
  if (zone === undefined) {
    return invalid(operation, "perpetual.timeZone", `${JSON.stringify(timeZone)} is not a time zone`)
  }
  // a value without a zone would follow that of the machine
  if (Cron.isCron(given)) {
    return timeZone === undefined && Option.isSome(given.tz) ? given : ticks.inZone(given, zone)
  }
  const cron = Cron.parse(nicknames[given] ?? given, zone)
  if (Result.isFailure(cron)) {
    return invalid(operation, "perpetual.cron", `${JSON.stringify(given)}: ${cron.failure.message}`)
  }
  // at every hour means at each of them that passes, at 2 o'clock means once a day
  return cron.success.hours.size === 0 ? ticks.everyOccurrence(cron.success) : cron.success
}

// As many ticks show how close the ticks of an expression come to each other.
const sample = 64

/** The shortest time between two ticks. */
const shortestGap = (cron: Cron.Cron): number => {
  let gap = Infinity
  let previous = -Infinity
  for (let i = 0, tick = ticks.cronAfter(cron, 0); i < sample && tick !== undefined; i++) {
    gap = Math.min(gap, tick - previous)
    previous = tick
    tick = ticks.cronAfter(cron, tick)
  }
  return gap
}

const recurrence = (operation: string, options: Perpetual.Options): Recurrence => {
  const { cron, every, jitter: spread, overlap, timeZone } = options as Partial<
    {
      cron: string | Cron.Cron
      every: Duration.Input
      jitter: Duration.Input
      overlap: Recurrence["overlap"]
      timeZone: string
    }
  > // one of `every` and `cron` is there: `Perpetual.Options`
  if (overlap === "allow" && options.catchUp === "all") {
    return invalid(
      operation,
      "perpetual.overlap",
      "`overlap: \"allow\"` and `catchUp: \"all\"` exclude each other: one adds ticks as they come, one makes up for them in their order"
    )
  }
  const jitter = spread === undefined ? 0 : Math.floor(millis(operation, "perpetual.jitter", spread))
  const interval = every === undefined && cron !== undefined
    ? undefined
    : Math.ceil(millis(operation, "perpetual.every", every!, 1))
  if (interval === Infinity) return invalid(operation, "perpetual.every", "has to be finite")
  const next: Recurrence["next"] = interval === undefined
    ? { _tag: "Cron", cron: cronOf(operation, cron!, timeZone) }
    : { _tag: "Every", millis: interval }
  // a tick that never comes is found here, and not by the first run that waits for the next
  if (next._tag === "Cron" && ticks.cronAfter(next.cron, 0) === undefined) {
    return invalid(operation, "perpetual.cron", "it never comes")
  }
  const distance = jitter === 0 ? Infinity : next._tag === "Every" ? next.millis : shortestGap(next.cron)
  if (jitter >= distance) {
    const limit = Duration.format(Duration.millis(distance))
    return invalid(operation, "perpetual.jitter", `has to be shorter than the time from one run to the next, ${limit}`)
  }
  return {
    automatic: options.automatic ?? false,
    overlap: overlap ?? "skip",
    catchUp: options.catchUp ?? "latest",
    jitter,
    next
  }
}

// How long the last outcome of a perpetual task is kept at least: whoever keeps it seeded has to see that it was ended.
const leastRetention = checks * Duration.toMillis(checkInterval)

const resolve = (task: Task.Any): Resolved => {
  const get = <A>(reference: Context.Reference<A>): A => Context.get(task.annotations, reference)
  const operation = `task "${task._tag}"`
  const timeout = get(Timeout)
  const retention: unknown = get(Retention) // a task may give a single duration or a part
  const { failure, success } = isPart(retention, "success", "failure")
    ? { success: retention["success"] ?? "1 day", failure: retention["failure"] ?? "14 days" }
    : { success: retention, failure: retention }
  const options = get(PerpetualOptions)
  const perpetual = options === undefined ? undefined : recurrence(operation, options)
  const lane = checkName(operation, "lane", get(Lane))
  const priority: unknown = get(Priority) // a task may give a function
  if (typeof priority !== "function") {
    integer(operation, "priority", priority, Number.MIN_SAFE_INTEGER)
  }
  const kept = perpetual === undefined ? 0 : leastRetention
  return {
    key: get(Key),
    retry: get(Retry_) as AnyRetry | undefined, // a task may give rules by tag
    defectRetryPolicy: get(DefectRetryPolicy),
    timeout: timeout === undefined ? undefined : millis(operation, "timeout", timeout, 1),
    priority: priority as number | ((payload: never) => number), // checked above
    lane,
    retention: {
      success: Math.max(kept, millis(operation, "retention.success", success as Duration.Input)), // the types of the option say so
      failure: Math.max(kept, millis(operation, "retention.failure", failure as Duration.Input))
    },
    maxBytes: integer(operation, "maxBytes", get(MaxBytes), 1),
    version: integer(operation, "version", get(Version), 1),
    migrate: get(Migrate),
    perpetual,
    gates: gates(operation, {
      concurrency: get(Concurrency),
      rateLimit: get(RateLimit),
      cooldown: get(Cooldown),
      debounce: get(Debounce)
    })
  }
}

const cache = new WeakMap<Task.Any, Resolved>()

/** The options of a task, read once. Throws a `DocketError` with reason `InvalidOption`. */
export const resolved = (task: Task.Any): Resolved => {
  let options = cache.get(task)
  if (options === undefined) {
    options = resolve(task)
    cache.set(task, options)
  }
  return options
}
