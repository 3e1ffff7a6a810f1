/**
 * The one connection of a docket that listens: events for subscribers and waiters, cancels for workers.
 *
 * Scripts publish events only while somebody listens: a key with half a minute to live says so, and is renewed three times
 * in that time. A message that was missed while the connection was down is found by looking again: waiters do so every few
 * seconds, workers when they renew their leases.
 */
import { type Docket, DocketError } from "@effect-docket/dsl"
import type { DocketStore } from "@effect-docket/runtime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Client, Connection } from "./connection.ts"
import { type Keys, parseGroup, readOutcome, readTexts } from "./layout.ts"

const watchMillis = 30_000

const again = Duration.seconds(2)

/** Reads a message; an event that this version does not know is left out. */
const readEvent = (bytes: Buffer): DocketStore.StoredEvent | undefined => {
  const [group = "", key = "", generation, tag = "", at, a = "", b = "", c = ""] = readTexts(bytes)
  const { task } = parseGroup(group)
  const event = ((): Docket.EncodedEvent | undefined => {
    const time = Number(at)
    switch (tag) {
      case "Scheduled":
      case "Replaced":
        return { _tag: tag, at: time, due: Number(a) }
      case "Ready":
        return { _tag: tag, at: time }
      case "Started":
        return { _tag: tag, at: time, attempt: Number(a), worker: b }
      case "Progress":
        return { _tag: tag, at: time, value: a }
      case "Retrying":
        return { _tag: tag, at: time, attempt: Number(a), exit: b, next: Number(c) }
      case "Finished":
        return { _tag: tag, at: time, outcome: readOutcome(a, b) }
      default:
        return undefined
    }
  })()
  return event === undefined ? undefined : { task, key, generation: Number(generation), event }
}

/** Listens for a docket. */
export class Listener {
  readonly #connection: Connection
  readonly #client: Client
  readonly #keys: Keys
  readonly #listeners = new Set<(event: DocketStore.StoredEvent) => void>()
  readonly #onCancel = new Set<(token: string) => void>()
  #subscribed: Promise<unknown> | undefined = undefined

  constructor(connection: Connection, client: Client, keys: Keys) {
    this.#connection = connection
    this.#client = client
    this.#keys = keys
    client.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
      if (channel.toString() === keys.cancels) {
        for (const tell of this.#onCancel) tell(bytes.toString())
        return
      }
      const event = this.#listeners.size === 0 ? undefined : readEvent(bytes)
      if (event === undefined) return
      for (const tell of this.#listeners) tell(event)
    })
  }

  /** Subscribes once; ioredis does so again after each reconnection. */
  get #subscribe(): Effect.Effect<void, DocketError.DocketError> {
    return Effect.tryPromise({
      try: () => this.#subscribed ??= this.#client.subscribe(this.#keys.events, this.#keys.cancels),
      catch: (cause) => {
        this.#subscribed = undefined
        return new DocketError.DocketError({
          operation: "subscribe",
          reason: new DocketError.StoreUnavailable({ cause })
        })
      }
    }).pipe(Effect.asVoid)
  }

  get #watch(): Effect.Effect<void, DocketError.DocketError> {
    return Effect.asVoid(
      this.#connection.use("watch", (client) => client.set(this.#keys.watch, "1", "PX", watchMillis))
    )
  }

  /** Listens in a scope; the scripts publish when this has returned. */
  listen(tell: (event: DocketStore.StoredEvent) => void): Effect.Effect<void, DocketError.DocketError, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        this.#listeners.add(tell)
      }),
      () =>
        Effect.sync(() => {
          this.#listeners.delete(tell)
        })
    ).pipe(
      Effect.andThen(this.#subscribe),
      Effect.andThen(this.#watch),
      Effect.andThen(
        Effect.forkScoped(Effect.repeat(Effect.ignore(this.#watch), Schedule.spaced(Duration.millis(watchMillis / 3))))
      ),
      Effect.asVoid
    )
  }

  subscribe(
    key: string | undefined
  ): Effect.Effect<Queue.Dequeue<DocketStore.StoredEvent>, DocketError.DocketError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const queue = yield* Queue.unbounded<DocketStore.StoredEvent>()
      yield* Effect.addFinalizer(() => Queue.shutdown(queue))
      yield* this.listen((event) => {
        if (key === undefined || key === event.key) Queue.offerUnsafe(queue, event)
      })
      return queue
    })
  }

  /** Waits for an outcome: told by its event, or found by looking. */
  awaitOutcome(
    key: string,
    generation: number,
    look: Effect.Effect<Docket.EncodedOutcome | undefined, DocketError.DocketError>
  ): Effect.Effect<Docket.EncodedOutcome, DocketError.DocketError> {
    return Effect.scoped(Effect.gen({ self: this }, function*() {
      const told = Deferred.makeUnsafe<Docket.EncodedOutcome>()
      yield* this.listen(({ event, generation: of, key: whose }) => {
        if (whose !== key || event._tag !== "Finished" || of < generation) return
        Deferred.doneUnsafe(told, Effect.succeed(event.outcome))
      })
      while (true) {
        const found = yield* look
        if (found !== undefined) return found
        const outcome = yield* Effect.timeoutOption(Deferred.await(told), again)
        if (outcome._tag === "Some") return outcome.value
      }
    }))
  }

  /** Calls back with tokens of claims that somebody asked to cancel. */
  onCancel(tell: (token: string) => void): Effect.Effect<void, DocketError.DocketError, Scope.Scope> {
    return Effect.andThen(
      this.#subscribe,
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => this.#onCancel.add(tell)),
        () => Effect.sync(() => this.#onCancel.delete(tell))
      ))
    )
  }
}
