/**
 * effect-docket on its Redis store: payloads and results through their schemas, dedup by key, leases, fenced settlement.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { Effect, Exit, Layer, ManagedRuntime, References, Schema, Scope } from "effect"
import { payload, type Session, type System } from "./system.ts"

class Tick extends Task.make("Tick", {
  payload: { id: Schema.String, n: Schema.Int },
  success: Schema.Int,
  key: ({ id }) => id
}) {}
class Group extends TaskGroup.make(Tick) {}

const batch = 1000

const addEach = (first: number, n: number, inFlight: number) =>
  Effect.suspend(() => {
    let next = first
    const lane = Effect.whileLoop({
      while: () => next < first + n,
      body: () => Docket.add(Tick, payload(next++)),
      step: () => {}
    })
    return inFlight === 1
      ? lane
      : Effect.all(Array.from({ length: inFlight }, () => lane), { concurrency: "unbounded", discard: true })
  })

const addAll = (first: number, n: number, due: number | undefined) =>
  Effect.gen(function*() {
    const when: Docket.AddOptions = due === undefined ? {} : { at: due }
    for (let at = first; at < first + n; at += batch) {
      const size = Math.min(batch, first + n - at)
      yield* Docket.addAll(Array.from({ length: size }, (_, i) => [Tick, payload(at + i), when] as const))
    }
  })

const open = async (port: number): Promise<Session> => {
  const engine = DocketEngine.layer({ name: "bench" }).pipe(
    Layer.provide(RedisStore.layer({ url: `redis://127.0.0.1:${port}` }))
  )
  // the server has no persistence on purpose, and the store would say so each time
  const quiet = Layer.succeed(References.MinimumLogLevel, "Error")
  const runtime = ManagedRuntime.make(Group.client.pipe(Layer.provideMerge(engine), Layer.provideMerge(quiet)))
  await runtime.context()
  return {
    addEach: (first, n, inFlight) => runtime.runPromise(addEach(first, n, inFlight)),
    addAll: (first, n, due) => runtime.runPromise(addAll(first, n, due)),
    addAt: (n, due) => runtime.runPromise(Effect.asVoid(Docket.add(Tick, payload(n), { at: due }))),
    work: async (concurrency, onStart) => {
      const live = Tick.toLayer(({ n }) =>
        Effect.sync(() => {
          onStart(n)
          return n + 1
        })
      )
      const scope = Scope.makeUnsafe()
      await runtime.runPromise(
        Layer.buildWithScope(Layer.provide(Worker.layer(Group, { concurrency }), live), scope)
      )
      return { stop: () => runtime.runPromise(Scope.close(scope, Exit.void)) }
    },
    close: () => runtime.dispose()
  }
}

/** The system. */
export const docket: System = { name: "effect-docket (Redis)", tellsSettled: false, open }
