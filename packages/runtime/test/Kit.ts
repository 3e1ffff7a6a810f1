/**
 * Helpers of the tests of the worker and of the testing kit: a bundle of layers per test, and readers of outcomes,
 * log lines and clocks. Nothing here waits for time: fibers go on when they are let, the clock moves when it is moved.
 */
import { type Docket, DocketError, type Task, TaskFailure, type TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, type DocketStore } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert } from "@effect/vitest"
import { Cause, type Duration, Effect, Exit, Layer, Logger, References, Scope } from "effect"
import { TestClock } from "effect/testing"

/** The handlers of a group, the permission to add its tasks, and an empty docket. */
export const live = <Tasks extends Task.Any, H, E, R>(
  group: TaskGroup.TaskGroup<Tasks>,
  handlers: Layer.Layer<H, E, R>
) => Layer.merge(handlers, group.client).pipe(Layer.provideMerge(DocketTest.layer))

/** Lets every fiber go on that can, without moving the clock. */
export const settle: Effect.Effect<void> = Effect.forEach(Array.from({ length: 100 }), () => Effect.yieldNow, {
  discard: true
})

/** Moves the clock, with everybody asleep who wants to sleep before, and awake who was to wake after. */
export const advance = (duration: Duration.Input): Effect.Effect<void> =>
  Effect.andThen(Effect.andThen(settle, TestClock.adjust(duration)), settle)

/** Moves the clock in small steps, so that what sleeps again after it woke is not late. */
export const advanceBy = (step: Duration.Input, steps: number): Effect.Effect<void> =>
  Effect.forEach(Array.from({ length: steps }), () => advance(step), { discard: true })

/** The reason of a `TaskFailure`. */
export const reasonOf = (error: unknown): TaskFailure.Reason => {
  assert.instanceOf(error, TaskFailure.TaskFailure)
  return error.reason
}

/** The reason of a `TaskFailure`, which has to be a defect; its message. */
export const defectOf = (error: unknown): string => {
  const reason = reasonOf(error)
  assert.strictEqual(reason._tag, "Defect")
  return reason.message
}

/** The option that an `InvalidOption` complains about; its message names it and says more. */
export const invalidOption = (error: unknown): string => {
  assert.instanceOf(error, DocketError.DocketError)
  const { reason } = error
  if (reason._tag !== "InvalidOption") {
    return assert.fail(`expected InvalidOption, got ${reason._tag}: ${error.message}`)
  }
  assert.include(reason.message, reason.option)
  assert.isAbove(reason.message.length, reason.option.length + 10)
  return reason.option
}

/** What a function throws. */
export const thrown = (f: () => unknown): unknown => {
  try {
    f()
  } catch (error) {
    return error
  }
  return assert.fail("it did not throw")
}

/** A log line. */
export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
  /** Everything of it, as a logger would print it. */
  readonly text: string
}

/** Catches log lines from a level on. Provide `layer` outside of everything else. */
export const logs = (minimum: "Debug" | "Info" = "Info") => {
  const lines: Array<Line> = []
  const logger = Logger.make<unknown, void>((options) => {
    const { cause, fiber, logLevel, message } = options
    lines.push({
      level: logLevel,
      message: (Array.isArray(message) ? message : [message]).map(String).join(" "),
      annotations: fiber.getRef(References.CurrentLogAnnotations),
      text: `${Logger.formatStructured.log === undefined ? "" : JSON.stringify(Logger.formatStructured.log(options))} ${
        Logger.formatLogFmt.log(options)
      } ${Cause.pretty(cause)}`
    })
  })
  const layer = Layer.merge(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, minimum))
  const at = (level: string) => lines.filter((line) => line.level === level)
  return { lines, layer, at }
}

/** A worker at the seam that claims what is due and is never heard of again. */
export const crashingWorker = Effect.fnUntraced(function*(options: {
  readonly tasks: ReadonlyArray<string>
  readonly lease?: number
  readonly lanes?: ReadonlyArray<string>
}) {
  const { store } = yield* DocketEngine.DocketEngine
  const session = yield* store.attach({
    worker: "crashing",
    tasks: new Map(options.tasks.map((task) => [task, 1])),
    lanes: options.lanes ?? ["default"],
    lease: options.lease ?? 1000,
    onWake: () => {}
  })
  const turn = (capacity: number) => session.turn({ settle: [], capacity, lanes: undefined, except: undefined })
  // it has no slots left afterwards, so that nobody waits for it
  const claim = Effect.map(Effect.tap(turn(100), () => turn(0)), ({ claimed }) => claimed)
  return { session, claim }
})

/** An addition as it comes from another process, whatever its definitions are. */
export const encoded = (fields: Partial<Docket.EncodedAddition> & Pick<Docket.EncodedAddition, "task" | "key">) =>
  ({
    version: 1,
    payload: "{}",
    due: { after: 0 },
    onExisting: "keep" as const,
    lane: "default",
    priority: 0,
    retention: { success: 86_400_000, failure: 86_400_000 },
    ...fields
  }) satisfies Docket.EncodedAddition

/** The engine with sessions that behave otherwise: a store that is away, or that forgets. */
export const intercept = (
  change: (session: DocketStore.WorkerSession) => DocketStore.WorkerSession
): Layer.Layer<DocketEngine.DocketEngine, never, DocketEngine.DocketEngine> =>
  Layer.effect(
    DocketEngine.DocketEngine,
    Effect.map(DocketEngine.DocketEngine, (engine) => ({
      ...engine,
      store: { ...engine.store, attach: (options) => Effect.map(engine.store.attach(options), change) }
    }))
  )

/** What a store says that cannot be reached. */
export const unavailable = new DocketError.DocketError({
  operation: "turn",
  reason: new DocketError.StoreUnavailable({ cause: new Error("connection refused") })
})

/** Runs a layer until the scope that is returned with it is closed: a worker that is stopped at will. */
export const start = Effect.fnUntraced(function*<R>(layer: Layer.Layer<never, DocketError.DocketError, R>) {
  const scope = yield* Scope.make()
  yield* Layer.buildWithScope(layer, scope)
  return { stop: Scope.close(scope, Exit.void) }
})
