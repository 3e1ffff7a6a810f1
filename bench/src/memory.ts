/**
 * The store in memory, through the whole typed pipeline: payloads encoded and decoded, results encoded and kept, dedup by
 * key, leases. Beside it Effect's `PersistedQueue` on its memory store, which keeps no result and has no lease.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, MemoryStore, Worker } from "@effect-docket/runtime"
import { Clock, Deferred, Effect, Layer, Schema } from "effect"
import { PersistedQueue } from "effect/persistence"
import { heap, percentile, type Suite, type Workload } from "./harness.ts"
import * as limits from "./limits.ts"

const ours = "effect-docket (memory)"
const theirs = "PersistedQueue (memory)"

class Tick extends Task.make("Tick", { payload: { id: Schema.String, n: Schema.Int }, success: Schema.Int }) {}
class Group extends TaskGroup.make(Tick) {}

const TickLive = Tick.toLayer(({ n }) => Effect.succeed(n + 1))

type Needs = Docket.Enqueue<"Tick"> | Docket.Docket | Task.Handler<"Tick"> | DocketEngine.DocketEngine

/** Runs a measurement on a docket of its own. */
const measure = <E>(
  effect: Effect.Effect<number, E, Needs>,
  live: Layer.Layer<Task.Handler<"Tick">> = TickLive
): Promise<number> =>
  Effect.runPromise(
    effect.pipe(
      Effect.orDie,
      Effect.provide(
        Layer.mergeAll(live, Group.client).pipe(Layer.provideMerge(Layer.fresh(DocketEngine.layerMemory)))
      )
    )
  )

const payload = (n: number) => ({ id: `item-${n}`, n })

/** Adds `n` runs in batches of a thousand. */
const fill = (n: number, when: Docket.AddOptions = {}, first = 0) =>
  Effect.gen(function*() {
    for (let i = 0; i < n; i += 1000) {
      const size = Math.min(1000, n - i)
      yield* Docket.addAll(Array.from({ length: size }, (_, j) => [Tick, payload(first + i + j), when] as const))
    }
  })

/** Events per second of something that does `n` of them. */
const rate = <E, R>(n: number, effect: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const begun = performance.now()
    return Effect.map(effect, () => n / ((performance.now() - begun) / 1000))
  })

const queue = PersistedQueue.make({ name: "bench", schema: Schema.Struct({ id: Schema.String, n: Schema.Int }) })

const measureQueue = <E>(effect: Effect.Effect<number, E, PersistedQueue.PersistedQueueFactory>): Promise<number> =>
  Effect.runPromise(
    effect.pipe(
      Effect.orDie,
      Effect.provide(Layer.fresh(PersistedQueue.layer.pipe(Layer.provide(PersistedQueue.layerStoreMemory))))
    )
  )

const fillQueue = (n: number) =>
  Effect.gen(function*() {
    const jobs = yield* queue
    for (let i = 0; i < n; i++) yield* jobs.offer(payload(i), { id: `item-${i}` })
  })

const processQueue = (n: number, concurrency: number) =>
  Effect.gen(function*() {
    const jobs = yield* queue
    yield* fillQueue(n)
    let left = n
    const done = yield* Deferred.make<void>()
    const take = jobs.take(({ n }) =>
      Effect.sync(() => {
        if (--left === 0) Deferred.doneUnsafe(done, Effect.void)
        return n + 1
      })
    )
    const workers = Effect.all(Array.from({ length: concurrency }, () => Effect.forever(take)), {
      concurrency: "unbounded",
      discard: true
    })
    return yield* rate(n, Effect.raceFirst(workers, Deferred.await(done)))
  })

const process = (n: number, concurrency: number) =>
  Effect.andThen(fill(n), rate(n, Worker.runUntilIdle(Group, { concurrency })))

/** A handler, and the moment at which it has run so often. */
const counting = (n: number) => {
  const done = Deferred.makeUnsafe<void>()
  let left = n
  const live = Tick.toLayer(({ n }) =>
    Effect.sync(() => {
      if (--left === 0) Deferred.doneUnsafe(done, Effect.void)
      return n + 1
    })
  )
  return {
    live,
    done: Effect.provide(Deferred.await(done), Worker.layer(Group, { concurrency: 100, drainTimeout: 0 }))
  }
}

/** Rate over the first `n` of a backlog: what one run costs while the others wait. */
const processSome = (n: number, backlog: Effect.Effect<unknown, unknown, Needs>) => {
  const { done, live } = counting(n)
  return measure(Effect.andThen(backlog, rate(n, done)), live)
}

/** Rate from the instant at which `n` runs are due until the last one has run. */
const processAtOnce = (n: number, delay: number) => {
  const { done, live } = counting(n)
  return measure(
    Effect.gen(function*() {
      const at = (yield* Clock.currentTimeMillis) + delay
      yield* fill(n, { at })
      yield* done
      return n / (((yield* Clock.currentTimeMillis) - at) / 1000)
    }),
    live
  )
}

/** Milliseconds between two moments of many runs, the worker being idle before each. */
const latencies = (
  n: number,
  share: number,
  add: (i: number, begun: () => void) => Effect.Effect<unknown, unknown, Needs>
) => {
  const figures: Array<number> = []
  const from: Array<number> = []
  const done = Deferred.makeUnsafe<void>()
  const live = Tick.toLayer(({ n: i }) =>
    Effect.sync(() => {
      figures.push(performance.timeOrigin + performance.now() - from[i]!)
      if (figures.length === n) Deferred.doneUnsafe(done, Effect.void)
      return i
    })
  )
  return {
    from,
    measure: () =>
      measure(
        Effect.gen(function*() {
          for (let i = 0; i < n; i++) {
            yield* add(i, () => {
              from[i] = performance.timeOrigin + performance.now()
            })
          }
          yield* Deferred.await(done)
          return percentile(figures, share)
        }).pipe(Effect.provide(Worker.layer(Group, { concurrency: 10 }))),
        live
      )
  }
}

const addToStart = (n: number, share: number) =>
  latencies(n, share, (i, begun) =>
    Effect.andThen(
      Effect.sleep(5),
      Effect.suspend(() => {
        begun()
        return Docket.add(Tick, payload(i))
      })
    )).measure()

const punctuality = (n: number, overMillis: number, share: number) => {
  const start = Date.now() + 100
  const subject = latencies(n, share, (i) => {
    const at = start + Math.round(i * overMillis / n)
    subject.from[i] = at
    return Docket.add(Tick, payload(i), { at })
  })
  return subject.measure()
}

/** The workloads and the limits. */
export const open = (scale: number): Suite => {
  const limited = limits.make({ system: ours, store: MemoryStore.layer }, scale)
  return { workloads: [...workloads(scale), ...limited.workloads], ratios: limited.ratios }
}

/** The workloads. `scale` is 1 for real measurements, less for a quick look. */
const workloads = (scale: number): ReadonlyArray<Workload> => {
  const n = (full: number) => Math.max(100, Math.round(full * scale))
  const both = (
    workload: string,
    concurrency: number | undefined,
    mine: () => Promise<number>,
    other: () => Promise<number>
  ): Workload => ({
    workload,
    concurrency,
    unit: "runs/s",
    subjects: [{ system: ours, measure: mine }, { system: theirs, measure: other }]
  })
  const one = (workload: string, unit: string, measure: () => Promise<number>, concurrency?: number): Workload => ({
    workload,
    concurrency,
    unit,
    subjects: [{ system: ours, measure }]
  })
  const adds = n(20_000)
  return [
    both(
      "add, one at a time",
      undefined,
      () =>
        measure(
          rate(
            adds,
            Effect.gen(function*() {
              for (let i = 0; i < adds; i++) yield* Docket.add(Tick, payload(i))
            })
          )
        ),
      () => measureQueue(rate(adds, fillQueue(adds)))
    ),
    one("add, bulk of 1,000", "runs/s", () => measure(rate(n(100_000), fill(n(100_000))))),
    ...[1, 10, 100].map((concurrency) =>
      both(
        `process ${n(20_000).toLocaleString("en-US")}`,
        concurrency,
        () => measure(process(n(20_000), concurrency)),
        () => measureQueue(processQueue(n(20_000), concurrency))
      )
    ),
    ...[1, 10, 100].map((concurrency) =>
      one(
        `process ${n(100_000).toLocaleString("en-US")}`,
        "runs/s",
        () => measure(process(n(100_000), concurrency)),
        concurrency
      )
    ),
    ...[1_000, 10_000, 100_000, 1_000_000].map((backlog) =>
      one(
        `process ${n(20_000).toLocaleString("en-US")} beside ${n(backlog).toLocaleString("en-US")} scheduled`,
        "runs/s",
        () => processSome(n(20_000), Effect.andThen(fill(n(backlog), { after: "1 day" }, 20_000), fill(n(20_000)))),
        100
      )
    ),
    ...[20_000, 100_000, 1_000_000].map((backlog) =>
      one(
        `process the first ${n(20_000).toLocaleString("en-US")} of ${n(backlog).toLocaleString("en-US")} ready`,
        "runs/s",
        () => processSome(n(20_000), fill(n(backlog))),
        100
      )
    ),
    one(
      `${n(20_000).toLocaleString("en-US")} due at one instant, until all done`,
      "runs/s",
      () => processAtOnce(n(20_000), 1000),
      100
    ),
    one("add to start, p50", "ms", () => addToStart(n(400), 0.5)),
    one("add to start, p99", "ms", () => addToStart(n(400), 0.99)),
    one("start minus due, p50", "ms", () => punctuality(n(1000), 2000 * scale, 0.5)),
    one("start minus due, p99", "ms", () => punctuality(n(1000), 2000 * scale, 0.99)),
    one("memory of a waiting run", "bytes", () =>
      measure(Effect.gen(function*() {
        const before = heap()
        yield* fill(n(100_000), { after: "1 day" })
        return (heap() - before) / n(100_000)
      }))),
    one("memory of a settled run, result kept", "bytes", () =>
      measure(Effect.gen(function*() {
        const before = heap()
        yield* fill(n(100_000))
        yield* Worker.runUntilIdle(Group, { concurrency: 100 })
        return (heap() - before) / n(100_000)
      })))
  ]
}
