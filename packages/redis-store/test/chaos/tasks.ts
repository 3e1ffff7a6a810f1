/**
 * The tasks, and a flow of some of them. Their bodies do nothing but to be in the ledger for a while.
 */
import { Execution, Flow, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { Effect, Layer, Schedule, Schema } from "effect"

/** The tag of the only error that bodies fail with. */
export const errorTag = "Flop"

/** What a flaky body fails with. */
export class Flop extends Schema.TaggedError<Flop>()(errorTag, {}) {}

// Claims are lost as often as the plan has it: that is never the end of a run.
const shared = {
  retention: "1 hour",
  defectRetryPolicy: Schedule.spaced(0)
} as const

/** Retries of a flaky run, and how long it waits for each. */
export const retries = { times: 3, delay: 300 } as const

const flaky = {
  error: Flop,
  retry: Schedule.spaced(retries.delay).pipe(Schedule.upTo({ times: retries.times }))
} as const

/** Runs at once. */
export class Plain extends Task.make("Plain", {
  payload: { n: Schema.Int, millis: Schema.Int },
  success: Schema.Int,
  ...shared
}) {}

/** Fails up to that attempt. */
export class Flaky extends Task.make("Flaky", {
  payload: { n: Schema.Int, until: Schema.Int },
  success: Schema.Int,
  ...flaky,
  ...shared
}) {}

/** How many serial runs of one value there may be at once. */
export const atOnce = 2

/** A few at once of each value. */
export class Serial extends Task.make("Serial", {
  payload: { n: Schema.Int, millis: Schema.Int, of: Schema.String },
  success: Schema.Int,
  concurrency: { max: atOnce, key: ["of"] },
  ...shared
}) {}

/** How many rated runs may start in any window of so many milliseconds. */
export const rate = { limit: 8, window: 1000 } as const

/** A few per second. */
export class Rated extends Task.make("Rated", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  rateLimit: rate,
  ...shared
}) {}

/** How many milliseconds a body takes at least. */
export const brief = 20

/** From start to start of a beat. */
export const beat = 400

/** Goes on until it is told to end; now and then it fails. */
export class Beat extends Task.make("Beat", { error: Flop, perpetual: { every: beat }, ...shared }) {}

/** Steps of the flow. */
export class Split extends Task.make("Split", {
  payload: { n: Schema.Int, parts: Schema.Int },
  success: Schema.Array(Schema.Struct({ n: Schema.Int, part: Schema.Int })),
  ...shared
}) {}
export class Part extends Task.make("Part", {
  payload: { n: Schema.Int, part: Schema.Int },
  success: Schema.Int,
  ...flaky,
  ...shared
}) {}
export class Sum extends Task.make("Sum", { payload: Schema.Array(Schema.Int), success: Schema.Int, ...shared }) {}

/** A chain with a fan-out in it, whose members retry: it splits, does each part, and sums up. */
export class Parts extends Flow.make("Parts", Split.pipe(Flow.forEach(Part), Flow.andThen(Sum))) {}

/** All of the tasks. */
export class Works extends TaskGroup.make(Plain, Flaky, Serial, Rated, Beat, Split, Part, Sum) {}

/** What a body does to the ledger. `gate` is what its limit is about. */
export type Record = <A, E, R>(
  body: Effect.Effect<A, E, R>,
  gate?: string
) => Effect.Effect<A, E, R | Execution.CurrentExecution>

const failsUntil = (until: number) =>
  Effect.flatMap(
    Execution.CurrentExecution,
    ({ attempt }) => attempt <= until ? Effect.fail(new Flop()) : Effect.void
  )

/** The handlers. `isOver`: whether the beats are to end. */
export const layer = (record: Record, isOver: () => boolean) => {
  let beats = 0
  return Layer.mergeAll(
    Plain.toLayer(({ millis, n }) => record(Effect.as(Effect.sleep(millis), n))),
    Flaky.toLayer(({ n, until }) => record(Effect.andThen(Effect.sleep(brief), Effect.as(failsUntil(until), n)))),
    Serial.toLayer(({ millis, n, of }) => record(Effect.as(Effect.sleep(millis), n), `Serial ${of}`)),
    Rated.toLayer(({ n }) => record(Effect.as(Effect.sleep(brief), n), "Rated")),
    Beat.toLayer(() =>
      record(Effect.gen(function*() {
        if (isOver()) return yield* Perpetual.Perpetual.use(({ cancel }) => cancel)
        yield* Effect.sleep(brief)
        if (++beats % 5 === 0) return yield* new Flop()
      }))
    ),
    Split.toLayer(({ n, parts }) =>
      record(Effect.as(Effect.sleep(brief), Array.from({ length: parts }, (_, part) => ({ n, part }))))
    ),
    Part.toLayer(({ part }) =>
      record(Effect.andThen(Effect.sleep(brief), Effect.as(failsUntil(part % 4 === 3 ? 1 : 0), part)))
    ),
    Sum.toLayer((parts) => record(Effect.as(Effect.sleep(brief), parts.reduce((sum, part) => sum + part, 0))))
  )
}
