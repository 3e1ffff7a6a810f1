/**
 * A worker without a runtime: it claims and settles through the seam, and renews nothing.
 */
import type { Docket, DocketError } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect, Latch, Queue, type Scope } from "effect"
import type { DocketEngine } from "../../src/DocketEngine.ts"
import type {
  Change,
  Claim,
  Fence,
  Renewed,
  Settled,
  Settlement,
  StoredDocket,
  StoredEvent,
  TurnReply,
  TurnRequest,
  WorkerOptions
} from "../../src/DocketStore.ts"
import { longLease, stored } from "./kit.ts"

/** An addition of the task "T" with defaults. */
export const addition = (key: string, options?: Partial<Docket.EncodedAddition>): Docket.EncodedAddition => ({
  task: "T",
  version: 1,
  key,
  payload: "{}",
  due: { after: 0 },
  onExisting: "keep",
  lane: "default",
  priority: 0,
  retention: { success: longLease, failure: longLease },
  ...options
})

/** Adds one run of the task "T". */
export const add = (
  key: string,
  options?: Partial<Docket.EncodedAddition>
): Effect.Effect<Docket.EncodedAdded, DocketError.DocketError, DocketEngine> =>
  Effect.flatMap(
    stored,
    (store) => Effect.map(store.add([addition(key, options)], { atomic: true }), (added) => added[0]!)
  )

/** An exit as a worker would write it. */
export const exit = (value: unknown): string => JSON.stringify({ _tag: "Success", value })
/** The exit of a failure. */
export const failure = JSON.stringify({ _tag: "Failure", cause: [{ _tag: "Fail", error: "boom" }] })

/** An attached worker. */
export interface SeamWorker {
  readonly turn: (request?: Partial<TurnRequest>) => Effect.Effect<TurnReply, DocketError.DocketError>
  /** What there is to claim now. */
  readonly claim: (capacity?: number) => Effect.Effect<ReadonlyArray<Claim>, DocketError.DocketError>
  /** The one run that there is to claim now. */
  readonly claimOne: Effect.Effect<Claim, DocketError.DocketError>
  /** The next run that there is to claim, waiting for it. */
  readonly next: Effect.Effect<Claim, DocketError.DocketError>
  readonly settle: (
    fence: Fence,
    change: Change,
    successor?: Settlement["successor"]
  ) => Effect.Effect<Settled, DocketError.DocketError>
  readonly complete: (fence: Fence) => Effect.Effect<Settled, DocketError.DocketError>
  readonly renew: (fence: Fence) => Effect.Effect<Renewed, DocketError.DocketError>
  /** Waits until the store wakes it, since it last waited. */
  readonly woken: Effect.Effect<void>
}

/** Attaches a worker that serves the task "T". */
export const attach = (
  options?: Partial<WorkerOptions>
): Effect.Effect<SeamWorker, DocketError.DocketError, DocketEngine | Scope.Scope> =>
  Effect.flatMap(stored, (store) => attachTo(store, options))

/** Attaches a worker to a docket. */
export const attachTo = Effect.fnUntraced(function*(
  store: StoredDocket,
  options?: Partial<WorkerOptions>
): Effect.fn.Return<SeamWorker, DocketError.DocketError, Scope.Scope> {
  const latch = Latch.makeUnsafe()
  const session = yield* store.attach({
    worker: "w",
    tasks: new Map([["T", 1]]),
    lanes: ["default"],
    lease: longLease,
    onWake: () => {
      latch.openUnsafe()
    },
    ...options
  })
  const turn: SeamWorker["turn"] = (request) =>
    session.turn({ settle: [], capacity: 0, lanes: undefined, except: undefined, ...request })
  const claim: SeamWorker["claim"] = (capacity = 1000) => Effect.map(turn({ capacity }), ({ claimed }) => claimed)
  const settle: SeamWorker["settle"] = ({ generation, key, token }, change, successor) =>
    Effect.map(turn({ settle: [{ key, generation, token, change, successor }] }), ({ settled }) => settled[0]!)
  const woken = Effect.tap(latch.await, latch.close)
  const next: SeamWorker["next"] = Effect.flatMap(
    claim(1),
    ([first]) => first === undefined ? Effect.andThen(woken, next) : Effect.succeed(first)
  )
  return {
    turn,
    claim,
    next,
    claimOne: Effect.map(claim(), (claims) => {
      assert.strictEqual(claims.length, 1, "exactly one run to claim")
      return claims[0]!
    }),
    settle,
    complete: (fence) => settle(fence, { _tag: "Completed", exit: exit(null) }),
    renew: (fence) => Effect.map(session.renew([fence]), (answers) => answers[0]!),
    woken
  }
})

/** Subscribes to a docket. The effect that it returns waits for an event, skipping others. */
export const listen = Effect.fnUntraced(function*(key?: string) {
  const queue = yield* (yield* stored).subscribe(key)
  const until = (tag: Docket.EncodedEvent["_tag"]): Effect.Effect<StoredEvent> =>
    Effect.filterOrElse(Queue.take(queue), ({ event }) => event._tag === tag, () => until(tag))
  return until
})

type Arranged = Effect.Effect<unknown, DocketError.DocketError, DocketEngine>

const once = (
  settle: (worker: SeamWorker, claim: Claim) => Effect.Effect<unknown, DocketError.DocketError>
): Arranged =>
  Effect.scoped(Effect.gen(function*() {
    yield* add("k")
    const worker = yield* attach()
    yield* settle(worker, yield* worker.claimOne)
  }))

const everything = { task: undefined, lane: undefined }

/** Ways to bring the key "k" into each pending state. */
export const pendingStates: Readonly<Record<string, Arranged>> = {
  "due later": add("k", { due: { after: longLease } }),
  "ready": add("k"),
  "held by a pause": Effect.andThen(Effect.flatMap(stored, (store) => store.pause(everything, "lunch")), add("k")),
  "waiting for its retry": once((worker, claim) =>
    worker.settle(claim, { _tag: "Retry", after: longLease, exit: failure, failures: "1" })
  )
}

/** Ways to bring the key "k" into each settled state. */
export const settledStates: Readonly<Record<string, Arranged>> = {
  "completed": once((worker, claim) => worker.complete(claim)),
  "failed": once((worker, claim) => worker.settle(claim, { _tag: "Failed", exit: failure })),
  "cancelled": Effect.andThen(add("k"), Effect.flatMap(stored, (store) => store.cancel("k"))),
  "skipped": Effect.scoped(Effect.gen(function*() {
    const store = yield* stored
    yield* add("k")
    yield* store.strike({ task: "T", where: [], reason: "", until: undefined })
    assert.deepStrictEqual(yield* (yield* attach()).claim(), [])
    yield* store.restore({ task: "T", where: [] })
  }))
}
