/**
 * The options of a plan, read: each value is checked, and an error names its option.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidOption } from "../DocketError.ts"
import { day, type Hours, type Interval, intervals, minute, nextOpening, weekdays } from "./agendaWindow.ts"

/**
 * Where the slots of a scatter may lie.
 *
 * A time that has passed when the plan is made becomes now, or the next opening of the window.
 *
 * @category models
 * @since 0.1.0
 */
export interface PlanOptions {
  /**
   * Length of the period. Item `i` of `n` lies at `start + i * over / (n - 1)`, so both ends are used; a single item lies
   * at the middle. Has to be positive, and at most 100 years.
   */
  readonly over: Duration.Input
  /** Start of the period. Default: now. */
  readonly start?: DateTime.DateTime.Input | undefined
  /**
   * Moves every slot by a random amount of at most this much, both ways, inside the period, without piling up at its
   * ends. A seed of Effect's `Random` gives the same plan again.
   */
  readonly jitter?: Duration.Input | undefined
  /**
   * Hours of the day slots may lie in; the time outside is left out of the period. The period still ends at `start` plus
   * `over` by the clock: its open hours are shared out, and `jitter` moves along them.
   */
  readonly window?: Window | undefined
}

/**
 * Daily hours in a time zone (default UTC), as the clocks there show them, also where these change. With `from` later
 * than `to` they reach over midnight; `days` are those on which they begin. A whole day is "00:00" to "24:00".
 *
 * @category models
 * @since 0.1.0
 */
export interface Window {
  readonly from: `${number}:${number}`
  readonly to: `${number}:${number}`
  /** A name such as "Europe/Rome", or an offset such as "+02:00". */
  readonly timeZone?: string | undefined
  readonly days?: ReadonlyArray<"mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun"> | undefined
}

/** An option that was read, or what is wrong with it. */
export type Read<A> = Result.Result<A, InvalidOption>

/** Says what is wrong with an option. */
const invalid = (option: string, problem: string): Read<never> =>
  Result.fail(new InvalidOption({ option, message: `option \`${option}\`: ${problem}` }))

/** No period is longer: beyond it a duration is a mistake of units, and the days of a window are walked one by one. */
const maxYears = 100
const maxOver = maxYears * 366 * day

/** The last time of ECMAScript. */
const maxTime = 8.64e15

const readDuration = (option: string, input: Duration.Input): Read<number> => {
  const duration = Duration.fromInput(input)
  // `fromInput` reads NaN as zero: a jitter of NaN would be no jitter
  return Option.isNone(duration) || Number.isNaN(input)
    ? invalid(option, `${String(input)} is not a duration`)
    : Result.succeed(Duration.toMillis(duration.value))
}

const readOver = (input: Duration.Input): Read<number> =>
  Result.flatMap(
    readDuration("over", input),
    (over) =>
      over > 0 && over <= maxOver
        ? Result.succeed(over)
        : invalid(
          "over",
          `has to be positive and at most ${maxYears} years, it is ${Duration.format(Duration.millis(over))}`
        )
  )

const readJitter = (input: Duration.Input | undefined): Read<number> =>
  Result.flatMap(readDuration("jitter", input ?? 0), (jitter) =>
    jitter >= 0 && Number.isFinite(jitter)
      ? Result.succeed(jitter)
      : invalid("jitter", `has to be finite and not negative, it is ${Duration.format(Duration.millis(jitter))}`))

const readStart = (input: DateTime.DateTime.Input | undefined, now: number): Read<number> => {
  if (input === undefined) return Result.succeed(now)
  const start = DateTime.make(input)
  return Option.isSome(start)
    ? Result.succeed(DateTime.toEpochMillis(start.value))
    : invalid("start", `${String(input)} is not a time`)
}

/** Milliseconds from midnight. */
const readTime = (option: string, text: string): Read<number> => {
  const match = /^(\d{1,2}):(\d{2})$/.exec(text)
  const hours = Number(match?.[1])
  const minutes = Number(match?.[2])
  // 24:00 is the end of a day; it opens nothing
  return (hours < 24 && minutes < 60) || (option === "window.to" && hours === 24 && minutes === 0)
    ? Result.succeed((hours * 60 + minutes) * minute)
    : invalid(option, `${JSON.stringify(text)} is not a time of the day such as "09:30"`)
}

const readDays = (days: Window["days"]): Read<ReadonlyArray<boolean>> => {
  if (days === undefined) return Result.succeed(weekdays.map(() => true))
  if (days.length === 0) return invalid("window.days", "must not be empty")
  const unknown = days.find((name) => !weekdays.includes(name))
  return unknown === undefined
    ? Result.succeed(weekdays.map((name) => days.includes(name)))
    : invalid("window.days", `${JSON.stringify(unknown)} is not one of ${weekdays.join(", ")}`)
}

/** Reads a window; `from` later than `to` is open over midnight. */
const readWindow = (window: Window): Read<Hours> =>
  Result.gen(function*() {
    const from = yield* readTime("window.from", window.from)
    const to = yield* readTime("window.to", window.to)
    if (from === to) {
      return yield* invalid("window", "opens and closes at the same time; a whole day is \"00:00\" to \"24:00\"")
    }
    const timeZone = window.timeZone ?? "UTC"
    const zone = DateTime.zoneFromString(timeZone)
    if (Option.isNone(zone)) {
      return yield* invalid("window.timeZone", `${JSON.stringify(timeZone)} is not a time zone such as "Europe/Rome"`)
    }
    return { from, to: from < to ? to : to + day, zone: zone.value, opens: yield* readDays(window.days) }
  })

/** The times that slots may have, one after the other. */
export interface Period {
  /** From the start to the end by the clock, closed hours included. */
  readonly whole: Interval
  readonly open: ReadonlyArray<Interval>
  readonly jitter: number
  /** When an item runs whose time has passed: now, or when the window opens next. */
  readonly soonest: number
}

/** Reads the options of a plan. */
export const readPeriod = (options: PlanOptions, now: number): Read<Period> =>
  Result.gen(function*() {
    const over = yield* readOver(options.over)
    const start = yield* readStart(options.start, now)
    const jitter = yield* readJitter(options.jitter)
    const whole = { from: start, to: start + Math.floor(over) }
    if (whole.to > maxTime) return yield* invalid("start", "the period ends after the last possible time")
    if (options.window === undefined) return { whole, open: [whole], jitter, soonest: now }
    const hours = yield* readWindow(options.window)
    const open = intervals(hours, whole.from, whole.to)
    return open.length > 0
      ? { whole, open, jitter, soonest: nextOpening(hours, now) }
      : yield* invalid("window", "is not open at any time of the period")
  })
