/**
 * A store in the memory of this process. It follows the `Clock` it is built with, so a `TestClock` drives it.
 *
 * It has every property of a store but one: it ends with its layer. Nothing in it polls: what is scheduled, leased or kept
 * is waited for with one timer per docket, set to the earliest of them.
 *
 * @since 0.1.0
 */
import { type Docket, DocketError } from "@effect-docket/dsl"
import { refusalReason } from "@effect-docket/dsl/Interpreter"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { DocketStore, type StoredDocket, type StoredEvent } from "./DocketStore.ts"
import { MemoryDocket } from "./internal/memory/docket.ts"
import * as views from "./internal/memory/views.ts"

// Runs that a page of a snapshot holds: small enough that a page of long payloads is no burden, large enough that
// 100,000 runs are a few hundred steps.
const pageSize = 500

/** Advances a docket whenever something of it is due. */
const timer = (docket: MemoryDocket, clock: Clock.Clock): Effect.Effect<never> => {
  const earlier = Latch.makeUnsafe()
  docket.onEarlier = () => {
    earlier.openUnsafe()
  }
  return Effect.suspend(() => {
    earlier.closeUnsafe()
    const wait = docket.tick() - clock.currentTimeMillisUnsafe()
    docket.observers.flush()
    if (wait <= 0) return Effect.yieldNow
    return wait === Infinity ? earlier.await : Effect.raceFirst(clock.sleep(Duration.millis(wait)), earlier.await)
  }).pipe(Effect.forever)
}

/** One atomic write, and then those who are told of it. */
const write = <A>(docket: MemoryDocket, operation: () => A): Effect.Effect<A> =>
  Effect.sync(() => {
    const answer = operation()
    docket.observers.flush()
    return answer
  })

type Written = Result.Result<ReadonlyArray<Docket.EncodedAdded>, DocketError.Reason>

/** Writes additions, or none of them where a refusal of one is to be a failure of all. */
const add = (
  docket: MemoryDocket,
  additions: ReadonlyArray<Docket.EncodedAddition>,
  { onRefused }: Docket.EncodedAddOptions
): Written => {
  if (onRefused === "fail") {
    for (const [index, refusal] of docket.refused(additions).entries()) {
      if (refusal !== undefined) return Result.fail(refusalReason(additions[index]!.key, refusal))
    }
  }
  return Result.mapError(docket.add(additions), (key) => new DocketError.KeyExists({ key }))
}

const wrap = (docket: MemoryDocket): StoredDocket => ({
  name: docket.name,
  add: (additions, options) =>
    Effect.flatMap(write(docket, () => add(docket, additions, options)), (added) =>
      Result.match(added, {
        onSuccess: Effect.succeed,
        onFailure: (reason) => Effect.fail(new DocketError.DocketError({ operation: "add", reason }))
      })),
  refused: (additions) => Effect.sync(() => docket.refused(additions)),
  cancel: (key, of) => write(docket, () => docket.cancel(key, of)),
  get: (key) => Effect.sync(() => docket.get(key)),
  outcome: (key, generation) => Effect.sync(() => docket.outcome(key, generation)),
  members: (key, gather, from, to) => Effect.sync(() => docket.members(key, gather, from, to)),
  awaitOutcome: (key, generation) =>
    Effect.callback((resume) =>
      Effect.sync(docket.awaitOutcome(key, generation, (outcome) => resume(Effect.succeed(outcome))))
    ),
  subscribe: (key) =>
    Effect.acquireRelease(
      Effect.map(Queue.unbounded<StoredEvent>(), (queue) => ({
        queue,
        unsubscribe: docket.observers.subscribe(key, (event) => {
          Queue.offerUnsafe(queue, event)
        })
      })),
      ({ queue, unsubscribe }) => Effect.andThen(Effect.sync(unsubscribe), Queue.shutdown(queue))
    ).pipe(Effect.map(({ queue }) => queue)),
  progress: (fence, value) => write(docket, () => docket.progress(fence, value)),
  explain: (key) => Effect.sync(() => docket.explain(key)),
  snapshot: Stream.suspend(() =>
    Stream.fromIterable(docket.snapshot()).pipe(
      Stream.grouped(pageSize),
      Stream.flatMap((runs) => Stream.fromIterable(docket.page(runs)))
    )
  ),
  counts: Effect.sync(() => views.counts(docket.groups)),
  deadLetters: (task) => Stream.suspend(() => Stream.fromIterable(views.deadLetters(task, docket.groups))),
  strike: (strike) => write(docket, () => docket.strikes.add(strike)),
  restore: (strike) => write(docket, () => docket.strikes.remove(strike)),
  pause: (pause, reason) => write(docket, () => docket.groups.pause(pause, reason)),
  resume: (pause) => write(docket, () => docket.groups.resume(pause)),
  clear: write(docket, () => docket.clear()),
  attach: (options) =>
    Effect.acquireRelease(
      write(docket, () => docket.attach(options)),
      (session) => write(docket, () => docket.detach(session))
    ).pipe(Effect.map((session) => ({
      turn: (request) => write(docket, () => docket.turn(session, request)),
      renew: (fences) => write(docket, () => docket.renew(session, fences)),
      outlook: (except) => Effect.sync(() => docket.outlook(session, except))
    })))
})

// for tests, which ask what is left of a docket
const inspected = new WeakMap<StoredDocket, MemoryDocket>()

/** @internal */
export const sizes = (store: StoredDocket): MemoryDocket["sizes"] => inspected.get(store)!.sizes

/**
 * A new, empty store.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DocketStore> = Layer.effect(
  DocketStore,
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const scope = yield* Effect.scope
    const dockets = new Map<string, StoredDocket>()
    return DocketStore.of({
      docket: Effect.fnUntraced(function*({ name, prefix }) {
        const id = JSON.stringify([prefix, name])
        const known = dockets.get(id)
        if (known !== undefined) return known
        const docket = new MemoryDocket(name, clock)
        const stored = wrap(docket)
        dockets.set(id, stored)
        inspected.set(stored, docket)
        yield* Effect.forkIn(timer(docket, clock), scope)
        return stored
      })
    })
  })
)
