/**
 * What the tests of the contract are made of: a docket of their own, time that is simulated or real, and workers.
 *
 * A test waits for what tells it that something has happened (an outcome, an event, a latch that a handler opens), and
 * lets time pass only where the contract is about time. Where time is real, leases that have to hold are long, those that
 * have to run out are short and belong to claims that nobody renews, and nothing is asserted that a slow machine breaks.
 */
import { type Agenda, Docket, type DocketError, type Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { assert, it } from "@effect/vitest"
import { Clock, Context, Effect, Exit, Latch, Layer, Logger, Schedule, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { randomUUID } from "node:crypto"
import * as DocketEngine from "../../src/DocketEngine.ts"
import { DocketStore, type StoredDocket } from "../../src/DocketStore.ts"
import * as DocketTest from "../../src/DocketTest.ts"
import * as testClock from "../../src/internal/testClock.ts"
import * as Worker from "../../src/Worker.ts"

/** Options of a suite. */
export interface Options {
  /** Whose time the store follows: that of a `TestClock`, or the real one. Default "live". */
  readonly time?: "live" | "test" | undefined
  /** What is still there of a docket that nobody uses any more and should not be. */
  readonly leaks?: ((store: StoredDocket) => Effect.Effect<ReadonlyArray<string>, DocketError.DocketError>) | undefined
}

/** What a test may use. */
export type Services =
  | DocketStore
  | DocketEngine.DocketEngine
  | Docket.Docket
  | Agenda.Agenda
  | Logs
  | Scope.Scope

/** Runs that a test leaves, besides settled ones. */
export interface Left {
  readonly pending?: number
  readonly running?: number
}

/** What was logged, as `Level: message`. */
export class Logs extends Context.Service<Logs, Array<string>>()("test/Logs") {}

/** Log lines of the level that contain the text. */
export const logged = (level: string, text: string): Effect.Effect<number, never, Logs> =>
  Logs.useSync((lines) => lines.filter((line) => line.startsWith(`${level}: `) && line.includes(text)).length)

const logs = Layer.unwrap(Effect.sync(() => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel}: ${(message as ReadonlyArray<unknown>).map(String).join(" ")}`)
  })
  return Layer.merge(Layer.succeed(Logs, lines), Logger.layer([logger]))
}))

/** The store of the docket. */
export const stored: Effect.Effect<StoredDocket, never, DocketEngine.DocketEngine> = DocketEngine.DocketEngine.useSync(
  ({ store }) => store
)

/** A store whose dockets are wrapped, over another one. */
export const wrappedStore = (
  wrap: (store: StoredDocket) => StoredDocket
): Layer.Layer<DocketStore, never, DocketStore> =>
  Layer.effect(
    DocketStore,
    DocketStore.useSync((store) => DocketStore.of({ docket: (options) => Effect.map(store.docket(options), wrap) }))
  )

/** The docket of a test in a store that is wrapped, to inject faults or to listen. */
export const wrapped = (
  wrap: (store: StoredDocket) => StoredDocket
): Layer.Layer<
  DocketEngine.DocketEngine | Docket.Docket,
  DocketError.DocketError,
  DocketStore | DocketEngine.DocketEngine
> =>
  Layer.unwrap(
    DocketEngine.DocketEngine.useSync(({ name }) =>
      Layer.fresh(DocketEngine.layer({ name })).pipe(Layer.provide(wrappedStore(wrap)))
    )
  )

/** The docket of a test, which opens the latch when somebody has subscribed. */
export const telling = (subscribed: Latch.Latch) =>
  wrapped((store) => ({ ...store, subscribe: (key) => Effect.tap(store.subscribe(key), subscribed.open) }))

/**
 * Whether the machine lets workers keep their leases: where it, or the store, stands still for about as long as one has until its
 * next renewal, the lease may be lost, and then a body may run again. It is measured beside the workers, whatever they do.
 */
export const leasesOf = (lease: number) => {
  const beats = new Set<{ since: number }>()
  let longest = 0
  const measure = Effect.map(now, (at) => {
    for (const beat of beats) longest = Math.max(longest, at - beat.since)
    return at
  })
  return {
    /** The store, whose workers are watched. */
    watch: (store: StoredDocket): StoredDocket => ({
      ...store,
      attach: (options) =>
        Effect.tap(store.attach(options), () =>
          Effect.gen(function*() {
            const beat = { since: yield* now }
            beats.add(beat)
            yield* Effect.addFinalizer(() => Effect.map(measure, () => beats.delete(beat)))
            yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
              yield* Effect.sleep(lease / 12)
              yield* Effect.ignore(store.counts)
              beat.since = yield* measure
            })))
          }))
    }),
    /** Whether nothing has stood still for long. */
    kept: Effect.map(measure, () => longest < lease / 3)
  }
}

/** Something that happens once. */
export const signal = (): Latch.Latch => Latch.makeUnsafe()

// When tests of simulated time begin: some day, so that there is a past.
const epoch = Date.UTC(2026, 0, 1)

// Longer than any test; a lease of it holds.
export const longLease = 60_000
// A lease that has to run out.
export const shortLease = 100

type Flows = ReadonlyArray<Flow.AnyNamed>

/** A kit for one kind of time. */
export interface Kit {
  readonly isLive: boolean
  /** Registers a test, which gets an empty docket. Afterwards nothing runs, waits, listens or is left that it does not declare. */
  readonly test: (name: string, body: () => Effect.Effect<unknown, unknown, Services>, left?: Left) => void
  /** Lets that much time pass. */
  readonly pass: (millis: number) => Effect.Effect<void>
  /** Lets time pass until the effect has ended. */
  readonly passing: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Lets time pass until something holds that nobody announces. */
  readonly eventually: <E, R>(condition: Effect.Effect<boolean, E, R>) => Effect.Effect<void, E, R>
  /** Runs a worker until nothing is pending or running. */
  readonly drain: <Tasks extends Task.Any, const F extends Flows = readonly []>(
    group: TaskGroup.TaskGroup<Tasks>,
    options?: Worker.Options<F>
  ) => Effect.Effect<Worker.Report, DocketError.DocketError, Worker.Requirements<Tasks, F>>
}

/** Starts a worker. It is stopped by `stop`, or by the end of the test. */
export const start = <Tasks extends Task.Any, const F extends Flows = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  options?: Worker.Options<F>
): Effect.Effect<
  { readonly stop: Effect.Effect<void> },
  DocketError.DocketError,
  Worker.Requirements<Tasks, F> | Scope.Scope
> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Layer.buildWithScope(Layer.fresh(Worker.layer(group, options)), scope)
    return { stop: Scope.close(scope, Exit.void) }
  })

const check = Effect.fnUntraced(function*(store: StoredDocket, left: Left | undefined) {
  const runs = yield* Stream.runCollect(store.snapshot)
  const counts = yield* store.counts
  const sum = (of: (one: Docket.Counts) => number) => counts.reduce((total, one) => total + of(one), 0)
  const running = sum((one) => one.running)
  const pending = sum((one) => one.scheduled + one.ready + one.held)
  assert.deepStrictEqual(
    { running, pending },
    { running: left?.running ?? 0, pending: left?.pending ?? 0 },
    "what is left"
  )
  assert.strictEqual(runs.length, running + pending, "the snapshot and the counts agree")
})

/** A timer counts from the beginning of a turn of the event loop, and is early by as much as that has taken. */
const sleepUntil = (at: number): Effect.Effect<void> =>
  Effect.flatMap(now, (time) => time >= at ? Effect.void : Effect.andThen(Effect.sleep(at - time), sleepUntil(at)))

/** Makes the kit of a suite. */
export const make = (
  layer: Layer.Layer<DocketStore, unknown>,
  options: Options | undefined
): Kit => {
  const isLive = options?.time !== "test"
  const environment = (name: string) =>
    DocketEngine.layer({ name: `${name} ${randomUUID()}` }).pipe(
      Layer.provideMerge(layer),
      Layer.provideMerge(isLive ? Layer.empty : testClock.layer),
      Layer.provideMerge(logs),
      Layer.fresh
    )
  const pass = (millis: number) =>
    isLive ? Effect.flatMap(now, (begin) => sleepUntil(begin + millis + 1)) : TestClock.adjust(millis)
  const step = Effect.andThen(Effect.yieldNow, TestClock.adjust(10))
  const passing: Kit["passing"] = (effect) => isLive ? effect : Effect.raceFirst(effect, Effect.forever(step))
  return {
    isLive,
    test: (name, body, left) => {
      const run = Effect.gen(function*() {
        if (!isLive) yield* TestClock.setTime(epoch)
        yield* Effect.scoped(body())
        const store = yield* stored
        yield* check(store, left)
        if (options?.leaks !== undefined) assert.deepStrictEqual(yield* options.leaks(store), [], "nothing leaks")
      }).pipe(Effect.provide(environment(name)))
      if (isLive) it.live(name, () => run, 60_000)
      else it.effect(name, () => run, 60_000)
    },
    pass,
    passing,
    eventually: (condition) =>
      passing(Effect.asVoid(Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced(5) }))),
    drain: <Tasks extends Task.Any, const F extends Flows = readonly []>(
      group: TaskGroup.TaskGroup<Tasks>,
      options?: Worker.Options<F>
    ) =>
      isLive
        ? Worker.runUntilIdle(group, options)
        // the clock of the test is a `TestClock`
        : DocketTest.drain(group, options) as Effect.Effect<
          Worker.Report,
          DocketError.DocketError,
          Worker.Requirements<Tasks, F>
        >
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// tasks
// ---------------------------------------------------------------------------------------------------------------------

/** Implements a task and grants it. */
export const live = <
  Tag extends string,
  P extends Schema.Top,
  S extends Schema.Top,
  E extends Schema.Top,
  Pr extends Schema.Top,
  Provides,
  R
>(
  task: Task.Task<Tag, P, S, E, Pr, Provides>,
  handler: (payload: P["Type"]) => Effect.Effect<S["Type"], E["Type"], R>
) => Layer.merge(task.toLayer(handler), task.client)

/** The declared error of `Work`. */
export class Boom extends Schema.TaggedError<Boom>()("Boom", { n: Schema.Int }) {}

/** A task that most tests run. */
export class Work extends Task.make("Work", { payload: { n: Schema.Int }, success: Schema.Int, error: Boom }) {}
/** The group of `Work`. */
export class Works extends TaskGroup.make(Work) {}

/** A handler of `Work` that notes the payloads it runs, and succeeds with them. */
export const noting = (seen: Array<number>) =>
  live(Work, ({ n }) =>
    Effect.sync(() => {
      seen.push(n)
      return n
    }))

/** The time of the clock of the test. */
export const now: Effect.Effect<number> = Clock.currentTimeMillis

/** The state of a key, `undefined` if nothing is known of it. */
export const stateOf = (key: string) => Docket.Docket.use((docket) => Effect.map(docket.get(key), (run) => run?.state))
