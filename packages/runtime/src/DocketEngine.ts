/**
 * Turns a store into a docket: the `Docket` service of producers and the engine of workers.
 *
 * @since 0.1.0
 */
import { Agenda, Docket, type DocketError } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { DocketStore, type StoredDocket } from "./DocketStore.ts"
import { decode } from "./internal/events.ts"
import * as MemoryStore from "./MemoryStore.ts"

/**
 * The engine workers run on: one docket of a store.
 *
 * @category services
 * @since 0.1.0
 */
export class DocketEngine extends Context.Service<DocketEngine, {
  readonly name: string
  readonly store: StoredDocket
}>()("@effect-docket/runtime/DocketEngine") {}

/**
 * Options of `layer`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Name of the docket: dockets with different names share nothing. */
  readonly name: string
  /** Prefix of everything in the store. Default "docket". */
  readonly prefix?: string | undefined
}

// A waiter goes on waiting while the store is away. It asks again after a second and more, up to half a minute, with
// chance in it so that the waiters of many processes do not come back at the same instant.
const untilAvailable = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("30 seconds")]).pipe(
  Schedule.jittered
)

const finish = (at: number, outcome: Docket.EncodedOutcome): Docket.EncodedEvent => ({ _tag: "Finished", at, outcome })

/** Events of a key until the generation has finished; that end is found, too, if it came before the subscription. */
const changes = (
  store: StoredDocket,
  key: string,
  generation: number
): Stream.Stream<Docket.EncodedEvent, DocketError.DocketError> =>
  Stream.unwrap(Effect.gen(function*() {
    const events = yield* store.subscribe(key)
    const outcome = yield* store.outcome(key, generation)
    if (outcome !== undefined) {
      return Stream.succeed(finish(DateTime.toEpochMillis(yield* DateTime.now), outcome))
    }
    return Stream.fromQueue(events).pipe(
      // members of an earlier generation go on, and are not those of this one
      Stream.filter(({ flow }) => flow?.key !== key || flow.generation >= generation),
      Stream.takeUntil((stored) => stored.event._tag === "Finished" && stored.generation >= generation),
      Stream.map(({ event, flow, key, task }): Docket.EncodedEvent =>
        event._tag === "Retrying" ? { ...event, task } : event._tag === "Step" && flow ? { ...event, key } : event
      )
    )
  }))

/** A payload in its JSON form; one that is none is shown as it is stored. */
const readPayload = (text: string): unknown =>
  Result.getOrElse(Result.try(() => JSON.parse(text) as unknown), () => text)

const make = (store: StoredDocket): Docket.Docket["Service"] =>
  Docket.Docket.of({
    name: store.name,
    addEncoded: store.add,
    refused: store.refused,
    cancel: store.cancel,
    get: store.get,
    outcome: store.outcome,
    members: store.members,
    awaitOutcome: (key, generation) =>
      store.awaitOutcome(key, generation).pipe(
        Effect.tapError((error) => Effect.logWarning(`waiting for ${JSON.stringify(key)}: ${error.message}`)),
        Effect.retry(untilAvailable),
        // the schedule has no end
        Effect.orDie
      ),
    changes: (key, generation) => changes(store, key, generation),
    explain: store.explain,
    pause: (options) => store.pause({ task: options?.task?._tag, lane: options?.lane }, options?.reason ?? ""),
    resume: (options) => store.resume({ task: options?.task?._tag, lane: options?.lane }),
    snapshot: Stream.map(store.snapshot, (run) => ({
      task: run.task,
      key: run.key,
      state: run.state,
      scheduledAt: DateTime.makeUnsafe(run.due),
      attempt: run.attempt,
      worker: Option.fromUndefinedOr(run.worker),
      payload: readPayload(run.payload)
    })),
    counts: store.counts,
    events: Stream.unwrap(Effect.map(store.subscribe(undefined), Stream.fromQueue)).pipe(
      Stream.mapEffect(decode),
      Stream.filter((event) => event !== undefined)
    ),
    clear: store.clear,
    strike: store.strike,
    restore: store.restore,
    deadLetters: store.deadLetters
  })

const engine = (options: Options) =>
  Layer.effectContext(Effect.gen(function*() {
    const operation = "DocketEngine.layer"
    for (const [option, value] of [["name", options.name], ["prefix", options.prefix]] as const) {
      if (value === undefined) continue
      yield* Effect.try({
        try: () => Interpreter.name(operation, option, value),
        catch: (error) => error as DocketError.DocketError // thrown by `name`
      })
    }
    const store = yield* (yield* DocketStore).docket({ name: options.name, prefix: options.prefix ?? "docket" })
    return Context.make(DocketEngine, { name: options.name, store }).pipe(Context.add(Docket.Docket, make(store)))
  }))

/**
 * The docket `name` in a store. Fails with reason `InvalidOption` if a name is empty.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options
): Layer.Layer<DocketEngine | Docket.Docket | Agenda.Agenda, DocketError.DocketError, DocketStore> =>
  Agenda.layer.pipe(Layer.provideMerge(engine(options)))

/**
 * A docket in the memory of this process.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<DocketEngine | Docket.Docket | Agenda.Agenda> = layer({ name: "memory" }).pipe(
  Layer.provide(MemoryStore.layer),
  // the name is not empty, and memory is always there
  Layer.orDie
)
