/**
 * The patterns of `acceptance/seed-patterns.ts` on a real server. Minutes are milliseconds here where something has to run,
 * and stay minutes where only its time counts; what is asserted is what ran, under which key, in which order and how often,
 * and that nothing was early.
 */
import { Agenda, Docket, DocketError, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { type DocketEngine, Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { docketIn, logs, range, uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start())

/** A docket of its own for each test. */
const docket = Layer.unwrap(
  Effect.map(server, ({ url }) => docketIn(RedisStore.layer({ url }), uniqueName()))
).pipe(Layer.provide(logs().layer), Layer.fresh)

type Services = DocketEngine.DocketEngine | Docket.Docket | Agenda.Agenda

const on = <A, E>(layer: Layer.Layer<A, E, Services>) => Effect.provide(layer.pipe(Layer.provideMerge(docket)))

const now = Clock.currentTimeMillis
const millisOf = ({ at }: { readonly at: DateTime.Utc }) => DateTime.toEpochMillis(at)

/** Task and time of what the server holds, by time. */
const held = Effect.map(
  Stream.runCollect(Docket.snapshot),
  (runs) => runs.map(({ scheduledAt, task }) => [task, DateTime.toEpochMillis(scheduledAt)] as const)
)

// ---------------------------------------------------------------------------------------------------------------------
// find and flood
// ---------------------------------------------------------------------------------------------------------------------

class ProcessSingleOrder extends Task.make("ProcessSingleOrder", {
  payload: { orderId: Schema.Int },
  key: ["orderId"]
}) {}
class FindPendingOrders extends Task.make("FindPendingOrders", {
  perpetual: { every: "50 millis", automatic: true }
}) {}
class Orders extends TaskGroup.make(FindPendingOrders, ProcessSingleOrder) {}

class Countdown extends Task.make("Countdown", { payload: { left: Schema.Int }, perpetual: { every: "1 minute" } }) {}

class Watch extends Task.make("Watch", { payload: { polls: Schema.Int }, perpetual: { every: "20 millis" } }) {}

describe("seed patterns: find and flood", () => {
  it.live("a perpetual finder adds one run per order; an order whose run is pending is not added twice", () => {
    const processed: Array<number> = []
    const dispositions: Array<string> = []
    let finds = 0
    const handlers = Orders.toLayer({
      FindPendingOrders: Effect.fnUntraced(function*() {
        // order 4 is there already, and due in an hour
        const runs = yield* Docket.addAll([1, 2, 3, 4].map((orderId) => [ProcessSingleOrder, { orderId }] as const))
        dispositions.push(...runs.map(({ disposition, key }) => `${key} ${disposition}`))
        if (++finds === 3) yield* Docket.cancel("ProcessSingleOrder/4")
      }, Effect.orDie),
      ProcessSingleOrder: ({ orderId }) =>
        Effect.sync(() => {
          processed.push(orderId)
        })
    })
    return Effect.gen(function*() {
      yield* Docket.add(ProcessSingleOrder, { orderId: 4 }, { after: "1 hour" })
      const report = yield* Worker.runAtMost(Orders, { FindPendingOrders: 3 })
      assert.strictEqual(dispositions.length, 3 * 4)
      assert.strictEqual(dispositions.filter((one) => one === "ProcessSingleOrder/4 Existing").length, 3)
      // a slow machine may find an order again before it has run
      const added = dispositions.filter((one) => one.endsWith("Added")).length
      assert.strictEqual(processed.length, added)
      assert.strictEqual(report.succeeded, 3 + added)
      assert.sameMembers(Array.from(new Set(processed)), [1, 2, 3])
    }).pipe(on(handlers.pipe(Layer.provideMerge(Orders.client))))
  })

  it.live("a handler chooses the payload and the time of its next run, and ends the chain", () => {
    const seen: Array<readonly [left: number, at: number]> = []
    const handlers = Countdown.toLayer(Effect.fnUntraced(function*({ left }) {
      const perpetual = yield* Perpetual.Perpetual
      seen.push([left, yield* now])
      if (left === 0) return yield* perpetual.cancel
      yield* perpetual.next(Countdown, { left: left - 1 })
      yield* perpetual.after(Duration.millis(left * 10))
    }))
    return Effect.gen(function*() {
      yield* Docket.add(Countdown, { left: 3 }, { key: "countdown" })
      const report = yield* Worker.runUntilIdle(TaskGroup.make(Countdown))
      assert.strictEqual(report.succeeded, 4)
      assert.deepStrictEqual(seen.map(([left]) => left), [3, 2, 1, 0])
      for (const [index, [left]] of seen.slice(0, -1).entries()) {
        assert.isAtLeast(seen[index + 1]![1] - seen[index]![1], left * 10)
      }
      assert.deepStrictEqual(yield* held, [])
      // settled, under its one key
      const run = yield* Docket.get(Countdown, "countdown")
      assert.isTrue(Option.isSome(run))
    }).pipe(on(handlers.pipe(Layer.provideMerge(Countdown.client))))
  })

  it.live("a task that waits for something ends its own chain when it has come", () => {
    let polls = 0
    const handlers = Watch.toLayer(Effect.fnUntraced(function*(payload) {
      const perpetual = yield* Perpetual.Perpetual
      polls = payload.polls
      return yield* polls === 5 ? perpetual.cancel : perpetual.next(Watch, { polls: polls + 1 })
    }))
    return Effect.gen(function*() {
      yield* Docket.add(Watch, { polls: 1 }, { key: "watch" })
      assert.strictEqual((yield* Worker.runUntilIdle(TaskGroup.make(Watch))).succeeded, 5)
      assert.deepStrictEqual([polls, yield* held], [5, []])
    }).pipe(on(handlers.pipe(Layer.provideMerge(Watch.client))))
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// scattering
// ---------------------------------------------------------------------------------------------------------------------

class ProcessItem extends Task.make("ProcessItem", { payload: { itemId: Schema.Int } }) {}
class SendEmail extends Task.make("SendEmail", { payload: { userId: Schema.String, template: Schema.String } }) {}
class CleanupTempFiles extends Task.make("CleanupTempFiles") {}
class CompressOldLogs extends Task.make("CompressOldLogs") {}
class ValidTask extends Task.make("ValidTask", { payload: Schema.NonEmptyString }) {}
class Items extends TaskGroup.make(ProcessItem, SendEmail, CleanupTempFiles, CompressOldLogs, ValidTask) {}

const items = (n: number) => Agenda.fromIterable(ProcessItem, range(n).map((itemId) => ({ itemId })))
const onItems = on(Items.client)

describe("seed patterns: scattering", () => {
  it.live("basic: 100 items lie evenly over 50 minutes, both ends included", () =>
    Effect.gen(function*() {
      const { scheduled } = yield* Agenda.scatter(items(100), { over: "50 minutes" })
      const start = millisOf(scheduled[0]!)
      scheduled.forEach((slot, i) => assert.strictEqual(millisOf(slot) - start, Math.round(i * 3_000_000 / 99)))
      // what is due at once has the time of the server
      assert.deepStrictEqual((yield* held).slice(1), scheduled.slice(1).map((slot) => [slot.task, millisOf(slot)]))
    }).pipe(onItems))

  it.live("basic, scaled: 40 items over 400 ms run in their order, none early", () => {
    const ran: Array<readonly [itemId: number, at: number]> = []
    const handlers = ProcessItem.toLayer(({ itemId }) =>
      Effect.map(now, (at) => {
        ran.push([itemId, at])
      })
    )
    return Effect.gen(function*() {
      const { scheduled } = yield* Agenda.scatter(items(40), { over: "400 millis" })
      const report = yield* Worker.runUntilIdle(TaskGroup.make(ProcessItem), { concurrency: 1 })
      assert.strictEqual(report.succeeded, 40)
      assert.deepStrictEqual(ran.map(([itemId]) => itemId), range(40))
      // the first may have the time of this process instead of that of the server, which are those of one machine
      ran.forEach(([, at], i) => assert.isAtLeast(at, millisOf(scheduled[i]!)))
    }).pipe(on(handlers.pipe(Layer.provideMerge(ProcessItem.client))))
  })

  it.live("jitter: each item within 30 seconds of its place, and inside the 50 minutes", () =>
    Effect.gen(function*() {
      const start = (yield* now) + 60_000
      const { scheduled } = yield* Agenda.scatter(items(100), { start, over: "50 minutes", jitter: "30 seconds" })
      scheduled.forEach((slot, i) => {
        const offset = millisOf(slot) - start
        assert.isTrue(offset >= 0 && offset <= 3_000_000)
        assert.isAtMost(Math.abs(offset - i * 3_000_000 / 99), 30_001)
      })
      const times = scheduled.map(millisOf).toSorted((a, b) => a - b)
      assert.deepStrictEqual((yield* held).map(([, at]) => at), times)
    }).pipe(onItems))

  it.live("a window in the future: planned first, and written as planned; nothing of it runs now", () =>
    Effect.gen(function*() {
      const start = DateTime.add(yield* DateTime.now, { hours: 2 })
      const plan = yield* Agenda.plan(items(3), { start, over: "30 minutes" })
      assert.deepStrictEqual(yield* held, [])
      yield* Agenda.resume(plan)
      assert.deepStrictEqual(
        (yield* held).map(([, at]) => (at - DateTime.toEpochMillis(start)) / 60_000),
        [0, 15, 30]
      )
      assert.isTrue((yield* Stream.runCollect(Docket.snapshot)).every(({ state }) => state === "Scheduled"))
    }).pipe(onItems))

  it.live("mixed tasks keep their order", () =>
    Effect.gen(function*() {
      const { scheduled } = yield* Agenda.empty.pipe(
        Agenda.add(ProcessItem, { itemId: 1001 }),
        Agenda.add(SendEmail, { userId: "user123", template: "welcome" }),
        Agenda.add(CleanupTempFiles),
        Agenda.add(ProcessItem, { itemId: 1002 }),
        Agenda.scatter({ over: "10 minutes" })
      )
      const order = ["ProcessItem", "SendEmail", "CleanupTempFiles", "ProcessItem"]
      assert.deepStrictEqual(scheduled.map(({ task }) => task), order)
      assert.deepStrictEqual((yield* held).map(([task]) => task), order)
    }).pipe(onItems))

  it.live("a single item lies at the middle", () =>
    Effect.gen(function*() {
      const start = (yield* now) + 60_000
      yield* Agenda.scatter(items(1), { start, over: "10 minutes" })
      assert.deepStrictEqual(yield* held, [["ProcessItem", start + 300_000]])
    }).pipe(onItems))

  it.live("an agenda is a value: today and tomorrow are two batches", () =>
    Effect.gen(function*() {
      const daily = Agenda.empty.pipe(Agenda.add(CleanupTempFiles), Agenda.add(CompressOldLogs))
      const today = DateTime.add(yield* DateTime.now, { minutes: 1 })
      const tomorrow = DateTime.add(today, { days: 1 })
      for (const start of [today, tomorrow]) {
        assert.strictEqual((yield* Agenda.scatter(daily, { start, over: "30 minutes" })).scheduled.length, 2)
      }
      const half = 30 * 60_000
      const [first, second] = [DateTime.toEpochMillis(today), DateTime.toEpochMillis(tomorrow)]
      assert.deepStrictEqual((yield* held).map(([, at]) => at), [first, first + half, second, second + half])
    }).pipe(onItems))

  it.live("failure: loose schedules what it can and says what it could not, strict schedules nothing", () =>
    Effect.gen(function*() {
      const batch = Agenda.fromIterable(ValidTask, ["arg1", "arg2", "", "arg4"])
      const options = { start: (yield* now) + 60_000, over: "10 minutes" } as const
      const rejected = yield* Effect.flip(Agenda.scatter(batch, { ...options, atomic: true }))
      assert.deepStrictEqual([rejected._tag, rejected.rejected.length, yield* held], ["ScatterRejected", 1, []])
      const partial = yield* Effect.flip(Agenda.scatter(batch, options))
      assert.deepStrictEqual([partial.scheduled.length, partial.failed[0]?.reason._tag], [3, "InvalidPayload"])
      assert.strictEqual((yield* Agenda.resume(partial.rest)).scheduled.length, 0)
      assert.strictEqual((yield* held).length, 3)
    }).pipe(onItems))
})

// ---------------------------------------------------------------------------------------------------------------------
// fan-out, with a finalizer at the estimated time
// ---------------------------------------------------------------------------------------------------------------------

class ProcessChunk extends Task.make("ProcessChunk", {
  payload: { datasetId: Schema.String, chunkId: Schema.String },
  key: ["datasetId", "chunkId"]
}) {}
class FinalizeDataset extends Task.make("FinalizeDataset", {
  payload: { datasetId: Schema.String, chunks: Schema.Int }
}) {}
class ProcessLargeDataset extends Task.make("ProcessLargeDataset", {
  payload: { datasetId: Schema.String },
  error: DocketError.DocketError
}) {}
class Datasets extends TaskGroup.make(ProcessLargeDataset, ProcessChunk, FinalizeDataset) {}

describe("seed patterns: fan-out", () => {
  it.live("a dataset is split, its chunks run, and a finalizer runs at the estimated time", () => {
    const ran: Array<string> = []
    const note = (text: string) =>
      Effect.sync(() => {
        ran.push(text)
      })
    const handlers = Datasets.toLayer({
      ProcessLargeDataset: Effect.fnUntraced(function*({ datasetId }) {
        const chunkIds = ["a", "b", "c"]
        yield* Docket.addAll(chunkIds.map((chunkId) => [ProcessChunk, { datasetId, chunkId }] as const))
        yield* Docket.add(FinalizeDataset, { datasetId, chunks: chunkIds.length }, {
          after: "2 hours",
          key: `finalize-${datasetId}`
        })
      }),
      ProcessChunk: ({ chunkId }) => note(chunkId),
      FinalizeDataset: ({ chunks }) => note(`finalize ${chunks}`)
    })
    return Effect.gen(function*() {
      const before = yield* now
      yield* Layer.build(Worker.layer(Datasets))
      const run = yield* Docket.add(ProcessLargeDataset, { datasetId: "d1" })
      yield* run.await
      for (const chunkId of ["a", "b", "c"]) {
        yield* Option.getOrThrow(yield* Docket.get(ProcessChunk, `ProcessChunk/d1/${chunkId}`)).await
      }
      assert.sameMembers(ran, ["a", "b", "c"])
      const finalizer = Option.getOrThrow(yield* Docket.get(FinalizeDataset, "finalize-d1"))
      assert.isAtLeast(DateTime.toEpochMillis(finalizer.scheduledAt), before + 2 * 3_600_000)
      assert.deepStrictEqual((yield* held).map(([task]) => task), ["FinalizeDataset"])
      // two hours later
      const moved = yield* Docket.replace(FinalizeDataset, { datasetId: "d1", chunks: 3 }, { key: "finalize-d1" })
      yield* moved.await
      assert.strictEqual(ran.at(-1), "finalize 3")
    }).pipe(Effect.scoped, on(handlers.pipe(Layer.provideMerge(Datasets.client))))
  })
})
