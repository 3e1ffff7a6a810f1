/**
 * The one connection of a docket that listens: events for subscribers and waiters, cancels for workers.
 *
 * Scripts publish events only while somebody listens, and of those who wait for outcomes only the ends of runs: two keys with
 * half a minute to live say so, and are renewed three times in that time. A message that was missed while the connection was down is found by looking again: waiters do so every few
 * seconds, workers when they renew their leases. Subscribers to events have nothing to look at, so a connection that is half
 * open must not stay unnoticed: as often as the key is renewed, it subscribes again to what it has, and what does not answer
 * is replaced. That works on every kind of client; a PING does not reach the connection of a cluster that listens.
 */
import type { Docket, DocketError } from "@effect-docket/dsl"
import type { DocketStore } from "@effect-docket/runtime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Client, Connection } from "./connection.ts"
import { type Keys, parseGroup } from "./layout.ts"
import { readOutcome } from "./outcomes.ts"
import { readFlow } from "./parts.ts"
import { readTexts } from "./texts.ts"

const watchMillis = 30_000

// How long the connection may take to say that it has what it asks for again.
const answerWithin = Duration.seconds(5)

const again = Duration.seconds(2)

/** Reads a message; an event that this version does not know is left out. */
const readEvent = (texts: ReadonlyArray<string>): DocketStore.StoredEvent | undefined => {
  const [group = "", key = "", generation, tag = "", at, a = "", b = "", c = ""] = texts
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
      case "Step":
        return { _tag: tag, at: time, step: a, state: b as "Started" | "Ended" } // as scripts write it
      case "Finished":
        return { _tag: tag, at: time, outcome: readOutcome(a, b, c) }
      default:
        return undefined
    }
  })()
  const flow = tag === "Step" && c !== "" ? readFlow(c) : undefined
  return event === undefined ? undefined : { task, key, generation: Number(generation), event, flow }
}

/** Listens for a docket. */
export class Listener {
  readonly #connection: Connection
  readonly #client: Client
  readonly #keys: Keys
  readonly #listeners = new Set<(event: DocketStore.StoredEvent) => void>()
  /** Those who wait for an outcome, by key. */
  readonly #waiters = new Map<string, Set<(event: DocketStore.StoredEvent) => void>>()
  readonly #onCancel = new Set<(token: string) => void>()
  #subscribed: Promise<unknown> | undefined = undefined
  /** Open while somebody listens. */
  readonly #used = Latch.makeUnsafe()

  constructor(connection: Connection, client: Client, keys: Keys) {
    this.#connection = connection
    this.#client = client
    this.#keys = keys
    client.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
      if (channel.toString() === keys.cancels) {
        for (const tell of this.#onCancel) tell(bytes.toString())
        return
      }
      if (this.#listeners.size + this.#waiters.size === 0) return
      const texts = readTexts(bytes)
      const waiters = texts[3] === "Finished" ? this.#waiters.get(texts[1]!) : undefined
      if (this.#listeners.size === 0 && waiters === undefined) return
      const event = readEvent(texts)
      if (event === undefined) return
      for (const tell of this.#listeners) tell(event)
      for (const tell of waiters ?? []) tell(event)
    })
  }

  /** Subscribes once; ioredis does so again after each reconnection. */
  get #subscribe(): Effect.Effect<void, DocketError.DocketError> {
    return this.#connection.use("subscribe", () => this.#subscribed ??= this.#ask()).pipe(
      Effect.tapError(() =>
        Effect.sync(() => {
          this.#subscribed = undefined
        })
      ),
      Effect.asVoid
    )
  }

  #ask(): Promise<unknown> {
    return this.#client.subscribe(this.#keys.events, this.#keys.cancels)
  }

  #say(key: string): Effect.Effect<void, DocketError.DocketError> {
    return Effect.asVoid(this.#connection.use("watch", (client) => client.set(key, "1", "PX", watchMillis)))
  }

  /** Says again what is still true. */
  get #sayAgain(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.ignore(Effect.all([
        this.#listeners.size > 0 ? this.#say(this.#keys.watch) : Effect.void,
        this.#waiters.size > 0 ? this.#say(this.#keys.waits) : Effect.void
      ], { discard: true }))
    )
  }

  /** Replaces the connection if it does not answer. */
  get #check(): Effect.Effect<void> {
    return Effect.tryPromise(() => this.#ask()).pipe(
      Effect.timeoutOrElse({
        duration: answerWithin,
        // one that is connecting has its own time
        orElse: () => Effect.sync(() => this.#client.status === "ready" && this.#client.disconnect(true))
      }),
      Effect.ignore
    )
  }

  /** While somebody listens, keeps the scripts publishing and the connection alive. */
  get keep(): Effect.Effect<never> {
    return this.#used.await.pipe(
      Effect.andThen(Effect.sleep(Duration.millis(watchMillis / 3))),
      Effect.andThen(this.#sayAgain),
      Effect.andThen(this.#check),
      Effect.forever
    )
  }

  /** Has somebody in a set for a scope. */
  #join<A>(all: Set<A>, one: A): Effect.Effect<void, never, Scope.Scope> {
    return this.#use(() => all.add(one), () => all.delete(one))
  }

  #use(begin: () => void, end: () => void): Effect.Effect<void, never, Scope.Scope> {
    return Effect.asVoid(Effect.acquireRelease(
      Effect.sync(() => {
        begin()
        this.#used.openUnsafe()
      }),
      () =>
        Effect.sync(() => {
          end()
          if (this.#listeners.size + this.#waiters.size + this.#onCancel.size === 0) this.#used.closeUnsafe()
        })
    ))
  }

  /** Listens in a scope; the scripts publish when this has returned. */
  listen(tell: (event: DocketStore.StoredEvent) => void): Effect.Effect<void, DocketError.DocketError, Scope.Scope> {
    return this.#join(this.#listeners, tell).pipe(
      Effect.andThen(this.#subscribe),
      Effect.andThen(this.#say(this.#keys.watch))
    )
  }

  /** Waits in a scope for the end of a run; the scripts publish it when this has returned. */
  #wait(
    key: string,
    tell: (event: DocketStore.StoredEvent) => void
  ): Effect.Effect<void, DocketError.DocketError, Scope.Scope> {
    const begin = () => {
      const known = this.#waiters.get(key)
      if (known === undefined) this.#waiters.set(key, new Set([tell]))
      else known.add(tell)
    }
    const end = () => {
      const known = this.#waiters.get(key)
      known?.delete(tell)
      if (known?.size === 0) this.#waiters.delete(key)
    }
    return this.#use(begin, end).pipe(
      Effect.andThen(this.#subscribe),
      Effect.andThen(this.#say(this.#keys.waits))
    )
  }

  subscribe(
    key: string | undefined
  ): Effect.Effect<Queue.Dequeue<DocketStore.StoredEvent>, DocketError.DocketError, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const queue = yield* Queue.unbounded<DocketStore.StoredEvent>()
      yield* Effect.addFinalizer(() => Queue.shutdown(queue))
      yield* this.listen((event) => {
        if (key === undefined || key === event.key || key === event.flow?.key) Queue.offerUnsafe(queue, event)
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
      yield* this.#wait(key, ({ event, generation: of }) => {
        if (event._tag !== "Finished" || of < generation) return
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
    return Effect.andThen(this.#subscribe, this.#join(this.#onCancel, tell))
  }
}

/** The listener of a docket. */
export const make = Effect.fnUntraced(function*(connection: Connection, keys: Keys) {
  const listener = new Listener(connection, yield* connection.another("listen"), keys)
  yield* Effect.forkScoped(listener.keep)
  return listener
})
