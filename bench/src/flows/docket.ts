/**
 * Flows of effect-docket: results through their schemas, the settlement of a step and the next step in one write.
 */
import { Docket, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, MemoryStore, Worker } from "@effect-docket/runtime"
import { Effect, Layer, ManagedRuntime, References, Schema } from "effect"
import { concurrency, few, type Session, type System } from "./system.ts"

const N = Schema.Struct({ n: Schema.Int })

class Next extends Task.make("Next", { payload: N, success: N }) {}
class Split extends Task.make("Split", { payload: N, success: Schema.Array(N) }) {}
class Join extends Task.make("Join", { payload: Schema.Array(N), success: Schema.Int }) {}
class Group extends TaskGroup.make(Next, Split, Join) {}

const Live = Group.toLayer({
  Next: ({ n }) => Effect.succeed({ n: n + 1 }),
  Split: ({ n }) => Effect.succeed(Array.from({ length: n }, (_, i) => ({ n: i }))),
  Join: (all) => Effect.succeed(all.length)
})

const chains = new Map<number, ReturnType<typeof chainOf>>()
const chainOf = (n: number) => {
  let chain: Flow.Flow<{ readonly n: number }, { readonly n: number }, never, "Next"> = Flow.task(Next)
  for (let i = 1; i < n; i++) chain = Flow.andThen(chain, Next)
  return Flow.make(`Chain${n}`, chain)
}
/** The chain of this length. */
const chain = (n: number) => {
  const known = chains.get(n)
  if (known !== undefined) return known
  const made = chainOf(n)
  chains.set(n, made)
  return made
}

class Fan extends Flow.make("Fan", Split.pipe(Flow.forEach(Next), Flow.andThen(Join))) {}

const session = async (engine: Layer.Layer<DocketEngine.DocketEngine | Docket.Docket, unknown>): Promise<Session> => {
  const quiet = Layer.succeed(References.MinimumLogLevel, "Error")
  const worker = Worker.layer(Group, { flows: [Fan, chain(1000), chain(100)], concurrency }).pipe(Layer.provide(Live))
  const runtime = ManagedRuntime.make(
    Layer.mergeAll(worker, Group.client).pipe(Layer.provideMerge(engine), Layer.provideMerge(quiet), Layer.orDie)
  )
  await runtime.context()
  return {
    chain: (n) =>
      runtime.runPromise(Effect.asVoid(Effect.flatMap(Docket.start(chain(n), { n: 0 }), (run) => run.await))),
    fan: (n) => runtime.runPromise(Effect.asVoid(Effect.flatMap(Docket.start(Fan, { n }), (run) => run.await))),
    many: (n) =>
      runtime.runPromise(
        Effect.forEach(Array.from({ length: n }), () => Docket.start(Fan, { n: few }), { concurrency: 100 }).pipe(
          Effect.flatMap(Effect.forEach((run) => run.await, { concurrency: "unbounded", discard: true }))
        )
      ),
    waiting: (n) =>
      runtime.runPromise(
        Effect.forEach(Array.from({ length: n }), () => Docket.start(Fan, { n: few }, { after: "1 day" }), {
          concurrency: 100,
          discard: true
        })
      ),
    close: () => runtime.dispose()
  }
}

/** The systems. */
export const docket: System = {
  name: "effect-docket (Redis)",
  open: (port) =>
    session(
      DocketEngine.layer({ name: "bench" }).pipe(Layer.provide(RedisStore.layer({ url: `redis://127.0.0.1:${port}` })))
    )
}

/** The same in memory. */
export const inMemory: System = {
  name: "effect-docket (memory)",
  open: () => session(DocketEngine.layer({ name: "bench" }).pipe(Layer.provide(Layer.fresh(MemoryStore.layer))))
}
