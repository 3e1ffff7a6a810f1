/**
 * Effect's `PersistedQueue` on its Redis store, through an adapter for ioredis.
 */
import { Effect, Exit, Layer, ManagedRuntime, Schema, Scope } from "effect"
import { PersistedQueue, Redis } from "effect/persistence"
import { Redis as IoRedis } from "ioredis"
import { payload, type Session, type System } from "./system.ts"

const use = <A>(call: () => Promise<A>) =>
  Effect.tryPromise({ try: call, catch: (cause) => new Redis.RedisError({ cause }) })

const sendOn = (client: IoRedis) => <A = unknown>(command: string, ...args: ReadonlyArray<string>) =>
  use(() => client.call(command, ...args) as Promise<A>) // the caller says what the command replies

const connectTo = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => new IoRedis({ port, replyMapping: "legacy", maxRetriesPerRequest: null })),
    (client) => Effect.sync(() => client.disconnect())
  )

const layerRedis = (port: number) =>
  Layer.effect(
    Redis.Redis,
    Effect.gen(function*() {
      const client = yield* connectTo(port)
      return yield* Redis.make({
        send: sendOn(client),
        // no queue subscribes
        subscribe: () => Effect.succeed(Effect.never),
        connect: Effect.sync(() => {
          const another = client.duplicate()
          return { send: sendOn(another), close: Effect.sync(() => another.disconnect()) }
        })
      })
    })
  )

const queue = PersistedQueue.make({ name: "bench", schema: Schema.Struct({ id: Schema.String, n: Schema.Int }) })

const open = async (port: number): Promise<Session> => {
  const runtime = ManagedRuntime.make(
    PersistedQueue.layer.pipe(
      Layer.provide(PersistedQueue.layerStoreRedis()),
      Layer.provide(layerRedis(port))
    )
  )
  const jobs = await runtime.runPromise(queue)
  const offer = (n: number, due?: number) => {
    const value = payload(n)
    return jobs.offer(value, { id: value.id, delay: due === undefined ? undefined : Math.max(0, due - Date.now()) })
  }
  const offerEach = (first: number, n: number, inFlight: number, due?: number) =>
    Effect.suspend(() => {
      let next = first
      const lane = Effect.whileLoop({
        while: () => next < first + n,
        body: () => offer(next++, due),
        step: () => {}
      })
      return inFlight === 1
        ? lane
        : Effect.all(Array.from({ length: inFlight }, () => lane), { concurrency: "unbounded", discard: true })
    })
  return {
    addEach: (first, n, inFlight) => runtime.runPromise(offerEach(first, n, inFlight)),
    addAll: (first, n, due) => runtime.runPromise(offerEach(first, n, 1000, due)),
    addAt: (n, due) => runtime.runPromise(Effect.asVoid(offer(n, due))),
    work: async (concurrency, onStart, onSettled) => {
      const scope = Scope.makeUnsafe()
      const take = Effect.tap(
        jobs.take(({ n }) =>
          Effect.sync(() => {
            onStart(n)
            return n + 1
          })
        ),
        () => Effect.sync(onSettled)
      )
      await runtime.runPromise(
        Effect.forEach(Array.from({ length: concurrency }), () => Effect.forkIn(Effect.forever(take), scope), {
          discard: true
        })
      )
      return { stop: () => runtime.runPromise(Scope.close(scope, Exit.void)) }
    },
    close: () => runtime.dispose()
  }
}

/** The system. */
export const persistedQueue: System = {
  name: "PersistedQueue (Redis)",
  note: "stores no result; has no bulk: 1,000 in flight instead; a key stays taken after its run",
  tellsSettled: true,
  open
}
