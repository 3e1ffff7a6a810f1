/**
 * A docket in memory, driven by `TestClock`: what is due in a month runs in milliseconds.
 *
 * @since 0.1.0
 */
import { type Agenda, Docket, type DocketError, type Flow, type Task, type TaskGroup } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as DocketEngine from "./DocketEngine.ts"
import * as testClock from "./internal/testClock.ts"
import type { Loop } from "./internal/worker/loop.ts"
import { type AnyOptions, start, work } from "./internal/worker/start.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type * as Worker from "./Worker.ts"

/**
 * An empty docket in memory and the `TestClock` that drives it. Under `it.effect` it uses the clock of the test.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DocketEngine.DocketEngine | Docket.Docket | Agenda.Agenda | TestClock.TestClock> =
  DocketEngine.layer({ name: "test" }).pipe(
    Layer.provide(MemoryStore.layer),
    Layer.orDie,
    Layer.provideMerge(testClock.layer)
  )

/**
 * An expectation that did not hold; the message lists what is scheduled instead.
 *
 * @category errors
 * @since 0.1.0
 */
export class ExpectationFailed extends Data.TaggedError("ExpectationFailed")<{ readonly message: string }> {}

// How long a body may work on something that no clock moves (a file, a promise) before a drain with an end goes on.
const patience = 1000

/** Lets everybody go on who can: fibers, and what bodies wait for outside of Effect. */
const settle = (loop: Loop): Effect.Effect<void> =>
  Effect.gen(function*() {
    let seen = -1
    while (seen !== loop.progress) {
      seen = loop.progress
      for (let i = 0; i < 10; i++) yield* Effect.yieldNow
      if (loop.active > 0) yield* TestClock.withLive(Effect.sleep(1))
    }
  })

/** Moves the clock from one thing to the next until the worker has ended or `end` has come. */
const drive = Effect.fnUntraced(function*(loop: Loop, fiber: Fiber.Fiber<void>, end: number) {
  const clock = yield* Clock.Clock
  let waited = 0
  let seen = -1
  while (true) {
    yield* settle(loop)
    if (fiber.pollUnsafe() !== undefined) return
    const now = clock.currentTimeMillisUnsafe()
    const { nextDue, pending, running } = yield* loop.outlook
    const due = pending > 0 ? nextDue ?? Infinity : Infinity
    const next = loop.active > 0
      ? Math.min(due, testClock.nextWake(clock, true))
      : pending > 0 && due < Infinity
      ? due
      : running > 0
      ? testClock.nextWake(clock, false)
      : Infinity
    waited = seen === loop.progress ? waited + 1 : 0
    seen = loop.progress
    if (next > end || (next === Infinity && end < Infinity && (loop.active === 0 || waited > patience))) {
      return yield* TestClock.adjust(Duration.millis(Math.max(0, end - now)))
    }
    if (next < Infinity) yield* TestClock.adjust(Duration.millis(Math.max(0, next - now)))
    // everything that is left is held: nothing will move by itself
    else if (loop.active === 0 && running === 0) return
    else yield* TestClock.withLive(Effect.sleep(1))
  }
})

const runDriven = (
  group: TaskGroup.Any,
  options: (AnyOptions & { readonly for?: Duration.Input | undefined }) | undefined,
  limits?: ReadonlyMap<string, number>
): Effect.Effect<Worker.Report, DocketError.DocketError, DocketEngine.DocketEngine> =>
  Effect.scoped(Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const length = options?.for
    const end = length === undefined
      ? Infinity
      : clock.currentTimeMillisUnsafe() + (yield* Effect.try({
        try: () => Interpreter.millis("DocketTest", "for", length),
        catch: (error) => error as DocketError.DocketError // thrown by `millis`
      }))
    const loop = yield* start(group, { ...options, drainTimeout: 0 }, limits)
    const fiber = yield* work(loop, true)
    yield* drive(loop, fiber, end)
    // what is running when time is up is released
    const stopping = yield* Effect.forkScoped(loop.stop(fiber))
    yield* drive(loop, stopping, Infinity)
    return { ...loop.counts }
  }))

/**
 * Runs everything that is due, moves the clock to what is due next, and so on until nothing is left or `for` has passed.
 * What is held (paused, or without a handler here) is left.
 *
 * @category running
 * @since 0.1.0
 */
export const drain = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  options?: Worker.Options<Flows> & { readonly for?: Duration.Input | undefined }
): Effect.Effect<
  Worker.Report,
  DocketError.DocketError,
  TestClock.TestClock | Worker.Requirements<Tasks, Flows>
> => runDriven(group, options)

/**
 * `Worker.runAtMost`, moving the clock instead of waiting.
 *
 * @category running
 * @since 0.1.0
 */
export const runAtMost = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  limits: { readonly [Tag in Tasks["_tag"]]?: number },
  options?: Worker.Options<Flows>
): Effect.Effect<
  Worker.Report,
  DocketError.DocketError,
  TestClock.TestClock | Worker.Requirements<Tasks, Flows>
> => runDriven(group, options, new Map(Object.entries<number>(limits as Readonly<Record<string, number>>))) // absent tags are absent

/**
 * One scheduled execution of a task.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scheduled<T extends Task.Any> {
  readonly key: string
  readonly payload: Task.Payload<T>
  readonly at: DateTime.Utc
}

/**
 * Some fields of a payload.
 *
 * @category utility types
 * @since 0.1.0
 */
export type PartialPayload<P> = P extends object ? { readonly [K in keyof P]?: P[K] } : P

interface Found {
  readonly key: string
  readonly payload: unknown
  readonly at: DateTime.Utc
  readonly text: string
}

/** The pending executions of a task, by time. */
const find = Effect.fnUntraced(function*(task: Task.Any) {
  const codec = Interpreter.codec(task)
  const found: Array<Found> = []
  yield* Stream.runForEach(Docket.snapshot, (run) => {
    if (run.task !== task._tag || run.state === "Running") return Effect.void
    const text = JSON.stringify(run.payload)
    return Effect.map(
      Effect.mapError(
        codec.decodePayload(text, Interpreter.resolved(task).version),
        (message) =>
          new ExpectationFailed({ message: `the payload of ${JSON.stringify(run.key)} does not decode: ${message}` })
      ),
      (payload) => {
        found.push({ key: run.key, payload, at: run.scheduledAt, text })
      }
    )
  })
  return found
})

const matches = (payload: unknown, part: unknown): boolean =>
  part === undefined ||
  (typeof part === "object" && part !== null && !Equal.isEqual(part) && typeof payload === "object" && payload !== null
    ? Object.entries(part).every(([field, value]) => Equal.equals(Reflect.get(payload, field), value))
    : Equal.equals(payload, part))

/**
 * Fails unless exactly `times` (default 1) scheduled executions of the task match the part of the payload, the key and
 * the time; returns the first (there is none with `times: 0`). Due executions that no worker has claimed yet count as
 * scheduled.
 *
 * @category assertions
 * @since 0.1.0
 */
export const assertScheduled = <T extends Task.Any>(
  task: T,
  payload?: PartialPayload<Task.Payload<T>>,
  options?: {
    readonly times?: number | undefined
    readonly key?: string | undefined
    readonly after?: Duration.Input | undefined
    readonly at?: DateTime.DateTime.Input | undefined
  }
): Effect.Effect<
  Scheduled<T>,
  ExpectationFailed | DocketError.DocketError,
  Docket.Docket | Task.ServicesServer<T>
> =>
  Effect.gen(function*() {
    const now = yield* DateTime.now
    const times = options?.times ?? 1
    const at = options?.at !== undefined
      ? DateTime.makeUnsafe(options.at)
      : options?.after === undefined
      ? undefined
      : DateTime.addDuration(now, options.after)
    const all = yield* find(task)
    const found = all.filter((one) =>
      matches(one.payload, payload) &&
      (options?.key === undefined || one.key === options.key) &&
      (at === undefined || DateTime.toEpochMillis(one.at) === DateTime.toEpochMillis(at))
    )
    if (found.length !== times) {
      const wanted = [
        payload === undefined ? [] : [`payload ${JSON.stringify(payload)}`],
        options?.key === undefined ? [] : [`key ${JSON.stringify(options.key)}`],
        at === undefined ? [] : [`at ${DateTime.formatIso(at)}`]
      ].flat()
      const list = all.map((one) => `  ${DateTime.formatIso(one.at)}  ${JSON.stringify(one.key)}  ${one.text}`)
      return yield* new ExpectationFailed({
        message: [
          `expected ${times} scheduled execution${times === 1 ? "" : "s"} of "${task._tag}"` +
          (wanted.length === 0 ? "" : ` with ${wanted.join(", ")}`) + `, found ${found.length}.`,
          all.length === 0 ? `None of "${task._tag}" is scheduled.` : `Scheduled of "${task._tag}":`,
          ...list
        ].join("\n")
      })
    }
    const [first] = found
    // decoded with the schema of T; nobody asks for the first of none
    return (first && { key: first.key, payload: first.payload, at: first.at }) as Scheduled<T>
  })

/**
 * The scheduled executions of a task, by time. Due ones that no worker has claimed yet are among them.
 *
 * @category getters
 * @since 0.1.0
 */
export const scheduled = <T extends Task.Any>(
  task: T
): Effect.Effect<
  ReadonlyArray<Scheduled<T>>,
  DocketError.DocketError,
  Docket.Docket | Task.ServicesServer<T>
> =>
  Effect.map(
    Effect.catchTag(find(task), "ExpectationFailed", Effect.die),
    (found) => found.map(({ at, key, payload }) => ({ at, key, payload: payload as Task.Payload<T> }))
  ) // decoded with the schema of T
