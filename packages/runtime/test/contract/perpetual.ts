/**
 * Perpetual tasks and cron: chains, their ends and their seeds, and the ticks that come while nothing or something runs.
 */
import { Docket, Execution, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { DateTime, Effect, Exit, Layer, Option, Schedule, Schema, Scope, Stream } from "effect"
import * as Worker from "../../src/Worker.ts"
import { type Kit, live, longLease, now, shortLease, signal, start, stored, wrapped } from "./kit.ts"
import { add, attach, exit } from "./seam.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

/** What a run was, with times of the store. */
interface Run {
  readonly n: number
  readonly attempt: number
  readonly due: number
  readonly startedAt: number
}

type Body = (
  run: Run,
  count: number
) => Effect.Effect<void, Boom, Task.HandlerServices | Perpetual.Perpetual | Docket.Docket | Docket.Enqueue<"Tick">>

/** A perpetual task that notes its runs; its success is how many there were. */
const ticking = (
  perpetual: Record<string, unknown>,
  body: Body = () => Effect.void,
  options?: Record<string, unknown>
) => {
  class Tick extends Task.make("Tick", {
    payload: { n: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(0))) },
    success: Schema.Int,
    error: Boom,
    perpetual: perpetual as unknown as Perpetual.Every, // options of either kind
    ...options as {}
  }) {}
  class Ticks extends TaskGroup.make(Tick) {}
  const runs: Array<Run> = []
  const handler = live(Tick, ({ n }) =>
    Effect.gen(function*() {
      const execution = yield* Execution.CurrentExecution
      const run = {
        n,
        attempt: execution.attempt,
        due: DateTime.toEpochMillis(execution.scheduledAt),
        startedAt: DateTime.toEpochMillis(execution.startedAt)
      }
      yield* body(run, runs.push(run))
      return runs.length
    }))
  return { Tick, Ticks, runs, layer: handler.pipe(Layer.provideMerge(Tick.client)) }
}

const second = 1000
const everySecond = { cron: "* * * * * *" }

/** From one start to the next. */
const distances = (runs: ReadonlyArray<Run>) => runs.slice(1).map((run, i) => run.startedAt - runs[i]!.startedAt)

const isNeverEarly = (runs: ReadonlyArray<Run>) => runs.every(({ due, startedAt }) => startedAt >= due)

const pending = Effect.map(Stream.runCollect(Docket.snapshot), (runs) => runs.length)

/** The tests of this part. */
export const perpetual = ({ eventually, pass, passing, test }: Kit): void => {
  const atMost = <T extends Task.Any>(group: TaskGroup.TaskGroup<T>, count: number) =>
    passing(Worker.runAtMost(group, { Tick: count } as { readonly [Tag in T["_tag"]]?: number })) // the task is "Tick"

  test("every 50 ms, at most 3 → 3 runs under one key, from start to start, never early", () => {
    const { Tick, Ticks, layer, runs } = ticking({ every: 50, automatic: true })
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* atMost(Ticks, 3), { succeeded: 3, failed: 0, retried: 0 })
      assert.strictEqual(runs.length, 3)
      assert.isTrue(isNeverEarly(runs))
      assert.isTrue(distances(runs).every((distance) => distance >= 50), distances(runs).join(" "))
      const run = Option.getOrThrow(yield* Docket.get(Tick, "Tick"))
      assert.strictEqual(yield* run.await, 3)
    }).pipe(Effect.provide(layer))
  })

  test("a pause, or nobody who works → no burst afterwards", () => {
    const { Tick, Ticks, layer, runs } = ticking({ every: 50, automatic: true })
    return Effect.gen(function*() {
      yield* atMost(Ticks, 1)
      yield* Docket.add(Tick, {}, { key: "Tick" })
      yield* pass(300)
      yield* atMost(Ticks, 4)
      assert.strictEqual(runs.length, 5)
      assert.isAtLeast(runs[1]!.startedAt - runs[1]!.due, 300)
      assert.isTrue(distances(runs).every((distance) => distance >= 50), distances(runs).join(" "))
    }).pipe(Effect.provide(layer))
  })

  test("after, at, next(payload) from the handler → next run follows them, also when the body then fails", () => {
    const asked: Array<number> = []
    const { Tick, Ticks, layer, runs } = ticking({ every: "1 hour" }, ({ startedAt }, count) =>
      Effect.gen(function*() {
        const control = yield* Perpetual.Perpetual
        yield* control.next(Tick, { n: count })
        const time = startedAt + (count < 3 ? 60 : 20)
        asked.push(time)
        yield* count % 2 === 1 ? control.after(count < 3 ? 60 : 20) : control.at(time)
        if (count > 1) return yield* new Boom()
      }))
    return Effect.gen(function*() {
      yield* Docket.add(Tick, {}, { key: "Tick" })
      assert.deepStrictEqual(yield* atMost(Ticks, 4), { succeeded: 1, failed: 3, retried: 0 })
      assert.deepStrictEqual(runs.map(({ n }) => n), [0, 1, 2, 3])
      for (const [i, time] of asked.slice(0, 3).entries()) assert.isAtLeast(runs[i + 1]!.startedAt, time)
      assert.isTrue(isNeverEarly(runs))
    }).pipe(Effect.provide(layer))
  })

  test("cancel from the handler → no successor, the chain ends, and nobody seeds it again", () => {
    const { Tick, Ticks, layer, runs } = ticking(
      { every: 20 },
      (_, count) => count === 2 ? Perpetual.Perpetual.use(({ cancel }) => cancel) : Effect.void,
      { retention: 0 }
    )
    return Effect.gen(function*() {
      const worker = yield* start(Ticks)
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(Perpetual.layer(Tick, {}, { checkEvery: 20 }), scope)
      yield* eventually(Effect.sync(() => runs.length === 2))
      yield* eventually(Effect.map(pending, (count) => count === 0))
      yield* pass(100)
      // one who comes later does not seed it either
      yield* Layer.buildWithScope(Layer.fresh(Perpetual.layer(Tick, {}, { checkEvery: 20 })), scope)
      yield* pass(50)
      assert.strictEqual(runs.length, 2)
      assert.deepStrictEqual(yield* Docket.counts, [])
      yield* Scope.close(scope, Exit.void)
      yield* worker.stop
    }).pipe(Effect.provide(layer))
  })

  test("body fails, exhausts its retries, times out → exactly one successor, attempt back at 1", () => {
    const { Tick, Ticks, layer, runs } = ticking(
      { every: 20 },
      (_, count) => count <= 2 ? Effect.die("boom") : count <= 4 ? Effect.never : Effect.void,
      { timeout: 50, defectRetryPolicy: Schedule.recurs(1) }
    )
    return Effect.gen(function*() {
      yield* Docket.add(Tick, {}, { key: "Tick" })
      assert.deepStrictEqual(yield* atMost(Ticks, 3), { succeeded: 1, failed: 2, retried: 2 })
      assert.deepStrictEqual(runs.map(({ attempt }) => attempt), [1, 2, 1, 2, 1])
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(layer))
  })

  test(
    "its worker dies, another settles, the first comes back → exactly one successor",
    () =>
      Effect.gen(function*() {
        const store = yield* stored
        yield* add("k")
        const successor = (payload: string) => ({ due: { after: longLease }, payload, version: 1 })
        const completed = { _tag: "Completed", exit: exit(null) } as const
        const first = yield* attach({ worker: "first", lease: shortLease })
        const claim = yield* first.claimOne
        // it takes no more, so that what it loses waits for the other
        yield* first.turn()
        yield* pass(shortLease)
        const other = yield* attach({ worker: "other" })
        const again = yield* other.next
        assert.deepStrictEqual([again.generation, again.attempt, again.lost], [claim.generation, 2, 1])
        assert.strictEqual(yield* other.settle(again, completed, successor("2")), "Applied")
        assert.strictEqual(yield* first.settle(claim, completed, successor("3")), "Lost")
        assert.strictEqual(yield* other.settle(again, completed, successor("2")), "Duplicate")
        const next = (yield* store.get("k"))!
        assert.deepStrictEqual([next.state, next.payload, next.attempt], ["Scheduled", "2", 0])
        assert.strictEqual(yield* pending, 1)
      }),
    { pending: 1 }
  )

  test("its worker dies in the body → the body is repeated once, and has one successor", () => {
    const { Tick, Ticks, layer, runs } = ticking({ every: 20 })
    return Effect.gen(function*() {
      yield* Docket.add(Tick, {}, { key: "Tick" })
      const store = yield* stored
      yield* Effect.scoped(Effect.gen(function*() {
        const session = yield* store.attach({
          worker: "dies",
          tasks: new Map([["Tick", 1]]),
          lanes: ["default"],
          lease: shortLease,
          onWake: () => {}
        })
        const { claimed } = yield* session.turn({ settle: [], capacity: 1, lanes: undefined, except: undefined })
        assert.strictEqual(claimed.length, 1)
      }))
      yield* atMost(Ticks, 2)
      assert.deepStrictEqual(runs.map(({ attempt }) => attempt), [2, 1])
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(layer))
  })

  test("K replaced while running → the replacement's time wins", () => {
    const replaced: Array<number> = []
    const { Tick, Ticks, layer, runs } = ticking({ every: 10 }, ({ startedAt }, count) => {
      if (count > 1) return Effect.void
      replaced.push(startedAt + 150)
      return Effect.asVoid(Effect.orDie(Docket.replace(Tick, { n: 7 }, { key: "Tick", after: 150 })))
    })
    return Effect.gen(function*() {
      yield* Docket.add(Tick, {}, { key: "Tick" })
      yield* atMost(Ticks, 2)
      assert.deepStrictEqual(runs.map(({ n }) => n), [0, 7])
      assert.isAtLeast(runs[1]!.startedAt, replaced[0]!)
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(layer))
  })

  test("severed under a live worker → back; struck → not seeded; restored → resumes", () => {
    const { Tick, Ticks, layer, runs } = ticking({ every: "1 hour" })
    let looks = 0
    const looked = Effect.suspend(() => {
      const before = looks
      // the first may have begun before
      return eventually(Effect.sync(() => looks > before + 1))
    })
    const counting = wrapped((store) => ({
      ...store,
      get: (key) => Effect.tap(store.get(key), Effect.sync(() => looks++))
    }))
    return Effect.gen(function*() {
      const worker = yield* start(Ticks)
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(Perpetual.layer(Tick, {}, { checkEvery: 20 }), scope)
      for (const times of [1, 2]) {
        yield* eventually(Effect.map(pending, (count) => runs.length === times && count === 1))
        yield* looked
        assert.strictEqual(runs.length, times)
        if (times === 2) yield* Docket.strike(Tick)
        assert.strictEqual(yield* Docket.clear, 1)
      }
      yield* looked
      yield* looked
      assert.strictEqual(yield* pending, 0)
      yield* Docket.restore(Tick)
      yield* eventually(Effect.map(pending, (count) => runs.length === 3 && count === 1))
      yield* Scope.close(scope, Exit.void)
      yield* worker.stop
      yield* Docket.clear
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(counting))))
  })

  test("two hundred workers seed the same automatic task → one run per cycle", () => {
    const { Tick, Ticks, layer, runs } = ticking({ every: "1 hour", automatic: true })
    return Effect.gen(function*() {
      const workers = yield* Effect.forEach(Array.from({ length: 200 }), () => start(Ticks), { concurrency: 50 })
      yield* eventually(Effect.sync(() => runs.length > 0))
      assert.strictEqual(runs.length, 1)
      yield* eventually(Effect.map(pending, (count) => count === 1))
      yield* Docket.replace(Tick, {}, { key: "Tick" })
      yield* eventually(Effect.sync(() => runs.length > 1))
      yield* eventually(Effect.map(pending, (count) => count === 1))
      assert.strictEqual(runs.length, 2)
      yield* Docket.clear
      yield* Effect.forEach(workers, ({ stop }) => stop, { concurrency: "unbounded", discard: true })
    }).pipe(Effect.provide(layer))
  })

  test("cron, each second → at its ticks, each once, never early", () => {
    const { Ticks, layer, runs } = ticking({ ...everySecond, automatic: true })
    return Effect.gen(function*() {
      yield* atMost(Ticks, 3)
      assert.isTrue(isNeverEarly(runs))
      assert.isTrue(runs.every(({ due }) => due % second === 0))
      assert.isTrue(runs.slice(1).every(({ due }, i) => due > runs[i]!.due))
    }).pipe(Effect.provide(layer))
  })

  test("cron with jitter → later than its ticks, never early", () => {
    const { Ticks, layer, runs } = ticking({ ...everySecond, automatic: true, jitter: 500 })
    return Effect.gen(function*() {
      yield* atMost(Ticks, 3)
      assert.isTrue(isNeverEarly(runs))
      assert.isTrue(runs.every(({ due }) => due % second <= 500))
      assert.isTrue(runs.some(({ due }) => due % second > 0))
    }).pipe(Effect.provide(layer))
  })

  const missed = (catchUp: string) =>
    Effect.gen(function*() {
      const { Tick, Ticks, layer, runs } = ticking({ ...everySecond, catchUp })
      const begin = yield* now
      const first = Math.floor(begin / second) * second - 5 * second
      yield* Effect.gen(function*() {
        yield* Docket.add(Tick, {}, { key: "Tick", at: first })
        yield* atMost(Ticks, 4)
      }).pipe(Effect.provide(layer))
      assert.isTrue(isNeverEarly(runs))
      return { begin, dues: runs.map(({ due }) => (due - first) / second), first, runs }
    })

  test("missed ticks, latest → one late run, then on from there", () =>
    Effect.gen(function*() {
      const { begin, dues, runs } = yield* missed("latest")
      assert.strictEqual(dues[0], 0)
      assert.isTrue(runs.slice(1).every(({ due }) => due > begin))
    }))

  test("missed ticks, skip → none of them", () =>
    Effect.gen(function*() {
      const { begin, runs } = yield* missed("skip")
      assert.isTrue(runs.every(({ due }) => due > begin))
    }))

  test("missed ticks, all → each has its run, one after the other", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* missed("all")).dues, [0, 1, 2, 3])
    }))

  const overlapping = (overlap: string) => {
    const ended: Array<number> = []
    // how far the worker's view of the store's clock may be behind: so long its answers took, to arrive or to be read
    let behind = 1
    const answering = wrapped((store) => ({
      ...store,
      attach: (options) =>
        Effect.map(store.attach(options), (session) => ({
          ...session,
          turn: (request) =>
            Effect.tap(session.turn(request), (reply) =>
              Effect.map(now, (at) => {
                behind = Math.max(behind, at - reply.now + 1)
              }))
        }))
    }))
    const { Ticks, layer, runs } = ticking(
      { ...everySecond, overlap, automatic: true },
      (_, count) =>
        count > 1 ? Effect.void : Effect.andThen(
          Effect.sleep(2200),
          Effect.map(now, (time) => {
            ended.push(time)
          })
        )
    )
    return Effect.map(
      Effect.provide(atMost(Ticks, 2), layer.pipe(Layer.provideMerge(answering))),
      () => ({ behind, ended: ended[0]!, runs })
    )
  }

  test("a tick comes while the run before it runs, skip → it is left out", () =>
    Effect.gen(function*() {
      const { behind, ended, runs } = yield* overlapping("skip")
      assert.isAbove(runs[1]!.due, ended - behind)
    }))

  test("a tick comes while the run before it runs, queue → it runs afterwards", () =>
    Effect.gen(function*() {
      const { ended, runs } = yield* overlapping("queue")
      assert.isAtMost(runs[1]!.due, ended)
      assert.isAbove(runs[1]!.due, runs[0]!.startedAt)
      assert.isAtLeast(runs[1]!.startedAt, runs[0]!.startedAt + 2200)
    }))

  test("a tick comes while the run before it runs, allow → it runs beside it, once", () => {
    const gate = signal()
    const { Ticks, layer, runs } = ticking(
      { ...everySecond, overlap: "allow", automatic: true },
      (_, count) => count > 1 ? Effect.void : gate.await
    )
    return Effect.gen(function*() {
      const worker = yield* start(Ticks)
      yield* eventually(Effect.sync(() => runs.length >= 4))
      const end = yield* now
      yield* gate.open
      yield* eventually(Effect.sync(() => runs.at(-1)!.due > end + second))
      assert.isTrue(isNeverEarly(runs))
      const dues = runs.map(({ due }) => due - runs[0]!.due)
      assert.strictEqual(new Set(dues).size, dues.length, dues.join(" "))
      yield* Docket.clear
      yield* worker.stop
      yield* Docket.clear
    }).pipe(Effect.provide(layer))
  })

  test("ten fast cycles → one record", () => {
    const records: Array<number> = []
    const { Ticks, layer, runs } = ticking(
      { every: 1, automatic: true },
      () => Effect.asVoid(Effect.orDie(Effect.map(pending, (count) => records.push(count))))
    )
    return Effect.gen(function*() {
      yield* atMost(Ticks, 10)
      assert.strictEqual(runs.length, 10)
      assert.deepStrictEqual(new Set(records), new Set([1]))
      assert.strictEqual(yield* pending, 0)
    }).pipe(Effect.provide(layer))
  })

  test("waiting on a perpetual → the value of this cycle", () => {
    const gate = signal()
    // the third does not end, or it might before somebody waits for the second
    const { Tick, Ticks, layer } = ticking(
      { every: 20 },
      (_, count) => count === 1 ? Effect.void : count === 2 ? gate.await : Effect.never
    )
    return Effect.gen(function*() {
      const first = yield* Docket.add(Tick, {}, { key: "Tick" })
      const worker = yield* start(Ticks)
      assert.strictEqual(yield* passing(first.await), 1)
      yield* eventually(Effect.map(Docket.snapshot.pipe(Stream.runCollect), ([run]) => run?.state === "Running"))
      const second = Option.getOrThrow(yield* Docket.get(Tick, "Tick"))
      yield* gate.open
      assert.strictEqual(yield* passing(second.await), 2)
      yield* Docket.cancel("Tick")
      yield* worker.stop
    }).pipe(Effect.provide(layer))
  })
}
