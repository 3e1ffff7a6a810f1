/**
 * The flows of `acceptance/flows.ts` and `acceptance/seed-flows.ts` on real servers. Days and minutes are milliseconds here.
 */
import { Docket, Execution, Flow, Gather, Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { type DocketEngine, Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Option, Result, Schema } from "effect"
import { listen } from "../../runtime/test/contract/seam.ts"
import { docketIn, logs, range, uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

// ---------------------------------------------------------------------------------------------------------------------
// chains and branches
// ---------------------------------------------------------------------------------------------------------------------

class ValidFile extends Schema.TaggedClass<ValidFile>()("ValidFile", { filePath: Schema.String }) {}
class InvalidFile extends Schema.TaggedClass<InvalidFile>()("InvalidFile", { filePath: Schema.String }) {}

class DownloadData extends Task.make("DownloadData", {
  payload: { url: Schema.String },
  success: Schema.Struct({ filePath: Schema.String })
}) {}
class ValidateData extends Task.make("ValidateData", {
  payload: { filePath: Schema.String },
  success: Schema.Union([ValidFile, InvalidFile])
}) {}
class ProcessData extends Task.make("ProcessData", { payload: { filePath: Schema.String } }) {}
class HandleInvalidData extends Task.make("HandleInvalidData", { payload: { filePath: Schema.String } }) {}
class Data extends TaskGroup.make(DownloadData, ValidateData, ProcessData, HandleInvalidData) {}

class Ingest extends Flow.make(
  "Ingest",
  DownloadData.pipe(
    Flow.andThen(ValidateData),
    Flow.match({ ValidFile: ProcessData, InvalidFile: HandleInvalidData })
  )
) {}

// ---------------------------------------------------------------------------------------------------------------------
// fan-out
// ---------------------------------------------------------------------------------------------------------------------

class ChunkLost extends Schema.TaggedError<ChunkLost>()("ChunkLost", { chunkId: Schema.String }) {}

class ProcessChunk extends Task.make("ProcessChunk", {
  payload: { datasetId: Schema.String, chunkId: Schema.String },
  success: Schema.Int,
  error: ChunkLost,
  key: ["datasetId", "chunkId"]
}) {}
class SplitDataset extends Task.make("SplitDataset", {
  payload: { datasetId: Schema.String },
  success: Schema.Array(Schema.Struct({ datasetId: Schema.String, chunkId: Schema.String }))
}) {}
class FinalizeGathered extends Task.make("FinalizeGathered", {
  payload: { gathered: Gather.schema(ProcessChunk) },
  success: Schema.Struct({ done: Schema.Int, lost: Schema.Array(Schema.String), complete: Schema.Boolean })
}) {}
class CountChunks extends Task.make("CountChunks", { payload: Schema.Array(Schema.Int), success: Schema.Int }) {}
class Archive extends Task.make("Archive", { payload: { datasetId: Schema.String }, success: Schema.String }) {}
class Index extends Task.make("Index", { payload: { datasetId: Schema.String }, error: ChunkLost }) {}
class Summarize extends Task.make("Summarize", {
  payload: { archive: Task.outcome(Archive), index: Task.outcome(Index) },
  success: Schema.String
}) {}
class Datasets
  extends TaskGroup.make(SplitDataset, ProcessChunk, FinalizeGathered, CountChunks, Archive, Index, Summarize)
{}

class ProcessDataset extends Flow.make(
  "ProcessDataset",
  SplitDataset.pipe(
    Flow.forEach(ProcessChunk, { policy: Gather.allSettled, deadline: "2 hours", onRelease: "cancelRest" }),
    Flow.andThen(FinalizeGathered, (gathered) => ({ gathered }))
  ),
  { version: 2, key: ({ datasetId }) => `dataset-${datasetId}` }
) {}
class Total extends Flow.make("Total", SplitDataset.pipe(Flow.forEach(ProcessChunk), Flow.andThen(CountChunks))) {}
const patience = 500
class Impatient extends Flow.make(
  "Impatient",
  SplitDataset.pipe(
    Flow.forEach(ProcessChunk, {
      policy: Gather.allSettled,
      deadline: patience,
      over: "1 hour",
      onRelease: "cancelRest"
    }),
    Flow.andThen(FinalizeGathered, (gathered) => ({ gathered }))
  )
) {}
class Joined extends Flow.make(
  "Joined",
  Flow.input(Schema.Struct({ datasetId: Schema.String })).pipe(
    Flow.outcomes({ archive: Archive, index: Index }),
    Flow.andThen(Summarize)
  )
) {}

const DatasetsLive = Datasets.toLayer({
  SplitDataset: ({ datasetId }) =>
    Effect.succeed(range(Number(datasetId)).map((n) => ({ datasetId, chunkId: String(n) }))),
  ProcessChunk: ({ chunkId }) => chunkId === "2" ? Effect.fail(new ChunkLost({ chunkId })) : Effect.succeed(1),
  FinalizeGathered: ({ gathered }) =>
    Effect.succeed({
      done: Gather.successes(gathered).length,
      lost: Gather.failures(gathered).map((error) => error.chunkId),
      complete: gathered.reason === "AllSettled"
    }),
  CountChunks: (all) => Effect.succeed(all.length),
  Archive: ({ datasetId }) => Effect.succeed(datasetId),
  Index: () => Effect.fail(new ChunkLost({ chunkId: "index" })),
  Summarize: ({ archive, index }) =>
    Effect.succeed(`${archive._tag} ${Result.isFailure(index) ? index.failure._tag : "?"}`)
})

// ---------------------------------------------------------------------------------------------------------------------
// conditional rescheduling
// ---------------------------------------------------------------------------------------------------------------------

class ChurnRisk extends Schema.TaggedClass<ChurnRisk>()("ChurnRisk", { userId: Schema.String }) {}
class Satisfied extends Schema.TaggedClass<Satisfied>()("Satisfied", { userId: Schema.String }) {}

class AnalyzeUserBehavior extends Task.make("AnalyzeUserBehavior", {
  payload: { userId: Schema.String },
  success: Schema.Union([ChurnRisk, Satisfied])
}) {}
class CreateRetentionCampaign extends Task.make("CreateRetentionCampaign", { payload: { userId: Schema.String } }) {}
class Behavior extends TaskGroup.make(AnalyzeUserBehavior, CreateRetentionCampaign) {}

const checkAgain = 60
class BehaviorCheck extends Flow.make(
  "BehaviorCheck",
  AnalyzeUserBehavior.pipe(Flow.match({
    ChurnRisk: CreateRetentionCampaign,
    Satisfied: Flow.again({ after: Duration.millis(checkAgain) })
  })),
  { key: ({ userId }) => `behavior-check-${userId}` }
) {}

// ---------------------------------------------------------------------------------------------------------------------
// compensation
// ---------------------------------------------------------------------------------------------------------------------

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}

class Reserve extends Task.make("Reserve", {
  payload: { orderId: Schema.String },
  success: Schema.Struct({ orderId: Schema.String, reservation: Schema.String })
}) {}
class Release extends Task.make("Release", { payload: { reservation: Schema.String } }) {}
class Charge extends Task.make("Charge", {
  payload: { orderId: Schema.String },
  success: Schema.Struct({ orderId: Schema.String, charge: Schema.String })
}) {}
class Refund extends Task.make("Refund", { payload: { chargeId: Schema.String } }) {}
class Ship
  extends Task.make("Ship", { payload: { orderId: Schema.String }, success: Schema.String, error: OutOfStock })
{}
class Shop extends TaskGroup.make(Reserve, Release, Charge, Refund, Ship) {}

class Checkout extends Flow.make(
  "Checkout",
  Reserve.pipe(
    Flow.compensate(Release),
    Flow.andThen(Charge),
    Flow.compensate(Refund, ({ charge }) => ({ chargeId: charge })),
    Flow.andThen(Ship),
    Flow.deadline("2 days")
  ),
  { key: ({ orderId }) => `checkout/${orderId}` }
) {}

// ---------------------------------------------------------------------------------------------------------------------
// many members
// ---------------------------------------------------------------------------------------------------------------------

class Page extends Task.make("Page", { payload: Schema.Int, success: Schema.String }) {}
class Bind extends Task.make("Bind", { payload: { letters: Schema.Int }, success: Schema.Int }) {}
class Press extends TaskGroup.make(Page, Bind) {}

const book = Flow.input(Schema.Int).pipe(
  Flow.forEach(Page, { items: range }),
  Flow.andThen(Bind, (pages) => ({ letters: pages.reduce((sum, page) => sum + page.length, 0) }))
)
class Book extends Flow.make("Book", book) {}

// ---------------------------------------------------------------------------------------------------------------------
// on servers
// ---------------------------------------------------------------------------------------------------------------------

type Services = DocketEngine.DocketEngine | Docket.Docket

const suite = (name: string, url: Effect.Effect<string>): void => {
  /** A docket of its own for each test. */
  const docket = Layer.unwrap(
    Effect.map(url, (url) => docketIn(RedisStore.layer({ url }), uniqueName()))
  ).pipe(Layer.provideMerge(logs().layer), Layer.fresh)
  const on = <A, E>(layer: Layer.Layer<A, E, Services>) => Effect.provide(layer.pipe(Layer.provideMerge(docket)))

  describe(`flows: ${name}`, () => {
    it.live("a chain with a branch: exactly the matching one", () => {
      const ran: Array<string> = []
      const note = (what: string) => ({ filePath }: { readonly filePath: string }) =>
        Effect.sync(() => void ran.push(`${what} ${filePath}`))
      const live = Data.toLayer({
        DownloadData: ({ url }) => Effect.succeed({ filePath: `/data/${url}` }),
        ValidateData: ({ filePath }) =>
          Effect.succeed(filePath.endsWith("bad") ? new InvalidFile({ filePath }) : new ValidFile({ filePath })),
        ProcessData: note("process"),
        HandleInvalidData: note("handle")
      })
      return Effect.gen(function*() {
        const runs = yield* Effect.forEach(["good", "bad"], (url) => Docket.start(Ingest, { url }))
        yield* Worker.runUntilIdle(Data, { flows: [Ingest] })
        for (const run of runs) yield* run.await
        assert.sameMembers(ran, ["process /data/good", "handle /data/bad"])
        assert.deepStrictEqual(yield* Docket.counts, [])
      }).pipe(on(live.pipe(Layer.provideMerge(Data.client))))
    })

    it.live("fan-out and fan-in: what failed is told by index, or fails the flow; branches have outcomes", () =>
      Effect.gen(function*() {
        const flows = [ProcessDataset, Total, Joined] as const
        const settled = yield* Docket.start(ProcessDataset, { datasetId: "4" })
        const failed = yield* Docket.start(Total, { datasetId: "3" })
        // more than one write adds: beside, and before it waits
        const large = yield* Docket.start(ProcessDataset, { datasetId: "700" })
        const joined = yield* Docket.start(Joined, { datasetId: "a" })
        const whole = yield* Docket.start(Total, { datasetId: "2" })
        yield* Worker.runUntilIdle(Datasets, { flows, concurrency: 50 })
        assert.deepStrictEqual(yield* settled.await, { done: 3, lost: ["2"], complete: true })
        assert.deepStrictEqual(yield* Effect.flip(failed.await), new ChunkLost({ chunkId: "2" }))
        assert.deepStrictEqual(yield* large.await, { done: 699, lost: ["2"], complete: true })
        assert.strictEqual(yield* joined.await, "Success ChunkLost")
        assert.strictEqual(yield* whole.await, 2)
        assert.deepStrictEqual(yield* Docket.counts, [])
      }).pipe(on(DatasetsLive.pipe(Layer.provideMerge(Datasets.client)))))

    it.live("the deadline of a gather passes → it goes on with what there is, and the rest is cancelled", () =>
      Effect.gen(function*() {
        const ended = yield* listen("k/1/0")
        const begin = yield* Clock.currentTimeMillis
        const run = yield* Docket.start(Impatient, { datasetId: "2" }, { key: "k" })
        yield* Worker.runUntilIdle(Datasets, { flows: [Impatient] })
        const outcome = yield* run.await
        assert.deepStrictEqual({ ...outcome, done: 1 }, { done: 1, lost: [], complete: false })
        // a slow machine may not be through with the first one when the deadline passes
        if ((yield* ended("Finished")).event.at < begin + patience) assert.strictEqual(outcome.done, 1)
        assert.deepStrictEqual(yield* Docket.counts, [])
      }).pipe(Effect.scoped, on(DatasetsLive.pipe(Layer.provideMerge(Datasets.client)))))

    it.live("again: the same key, later, until a branch ends it", () => {
      const visits: Array<number> = []
      const keys: Array<string> = []
      const live = Behavior.toLayer({
        AnalyzeUserBehavior: ({ userId }) =>
          Effect.map(
            Clock.currentTimeMillis,
            (at) => visits.push(at) < 3 ? new Satisfied({ userId }) : new ChurnRisk({ userId })
          ),
        CreateRetentionCampaign: () =>
          Execution.CurrentExecution.useSync(({ flow }) => {
            keys.push(Option.getOrThrow(flow).key)
          })
      })
      return Effect.gen(function*() {
        const run = yield* Docket.start(BehaviorCheck, { userId: "u1" })
        yield* Worker.runUntilIdle(Behavior, { flows: [BehaviorCheck] })
        yield* run.await
        assert.deepStrictEqual(keys, ["behavior-check-u1"])
        assert.strictEqual(visits.length, 3)
        for (const n of [1, 2]) assert.isAtLeast(visits[n]! - visits[n - 1]!, checkAgain)
      }).pipe(on(live.pipe(Layer.provideMerge(Behavior.client))))
    })

    it.live("a flow fails → what it has done is undone, the newest first; redriven, it goes on from its first step", () => {
      const undone: Array<string> = []
      let stock = 0
      const live = Shop.toLayer({
        Reserve: ({ orderId }) => Effect.succeed({ orderId, reservation: `r-${orderId}` }),
        Release: ({ reservation }) => Effect.sync(() => void undone.push(reservation)),
        Charge: ({ orderId }) => Effect.succeed({ orderId, charge: `c-${orderId}` }),
        Refund: ({ chargeId }) => Effect.sync(() => void undone.push(chargeId)),
        Ship: ({ orderId }) => stock === 0 ? Effect.fail(new OutOfStock({ sku: "s" })) : Effect.succeed(orderId)
      })
      return Effect.gen(function*() {
        const run = yield* Docket.start(Checkout, { orderId: "o1" })
        yield* Worker.runUntilIdle(Shop, { flows: [Checkout] })
        assert.deepStrictEqual(yield* Effect.flip(run.await), new OutOfStock({ sku: "s" }))
        assert.deepStrictEqual(undone, ["c-o1", "r-o1"])
        stock = 1
        assert.strictEqual(yield* Docket.redrive(Checkout), 1)
        yield* Worker.runUntilIdle(Shop, { flows: [Checkout] })
        const again = Option.getOrThrow(yield* Docket.get(Checkout, "checkout/o1"))
        assert.strictEqual(yield* again.await, "o1")
      }).pipe(on(live.pipe(Layer.provideMerge(Shop.client))))
    })

    it.live(
      "10,000 members with 3 MB of results, where no message may have more than 1 MB → joined, with all of them",
      () =>
        Effect.gen(function*() {
          const run = yield* Docket.start(Book, 10_000)
          yield* Worker.runUntilIdle(Press, { flows: [Book], concurrency: 100 })
          assert.strictEqual(yield* run.await, 3_000_000)
          assert.deepStrictEqual(yield* Docket.counts, [])
        }).pipe(on(
          Press.toLayer({
            Page: (n) => Effect.succeed(String(n % 10).repeat(300)),
            Bind: ({ letters }) => Effect.succeed(letters)
          }).pipe(Layer.provideMerge(Press.client))
        )),
      60_000
    )

    it.live("two workers, one of them without the flow: it goes on between them", () => {
      const undone: Array<string> = []
      const live = Shop.toLayer({
        Reserve: ({ orderId }) => Effect.succeed({ orderId, reservation: `r-${orderId}` }),
        Release: ({ reservation }) => Effect.sync(() => void undone.push(reservation)),
        Charge: ({ orderId }) => Effect.succeed({ orderId, charge: `c-${orderId}` }),
        Refund: ({ chargeId }) => Effect.sync(() => void undone.push(chargeId)),
        Ship: ({ orderId }) => orderId === "7" ? Effect.fail(new OutOfStock({ sku: "s" })) : Effect.succeed(orderId)
      })
      return Effect.gen(function*() {
        yield* Layer.build(Layer.fresh(Worker.layer(Shop, { name: "steps" })))
        yield* Layer.build(Layer.fresh(Worker.layer(TaskGroup.make(Reserve), { name: "flows", flows: [Checkout] })))
        const runs = yield* Effect.forEach(range(20), (n) => Docket.start(Checkout, { orderId: String(n) }))
        const ends = yield* Effect.forEach(runs, (run) => Effect.result(run.await), { concurrency: "unbounded" })
        assert.strictEqual(ends.filter(Result.isSuccess).length, 19)
        assert.deepStrictEqual(undone, ["c-7", "r-7"])
      }).pipe(Effect.scoped, on(live.pipe(Layer.provideMerge(Shop.client))))
    })
  })
}

/** A server that takes no message of more than 1 MB, the least that can be asked for. */
const limit = ({ admin }: servers.Server) => servers.command(() => admin.config("SET", "proto-max-bulk-len", "1mb"))
const server = servers.shared(Effect.tap(servers.start(), limit))
const cluster = servers.shared(Effect.tap(servers.cluster, ({ nodes }) => Effect.forEach(nodes, limit)))

suite("a single server", Effect.map(server, ({ url }) => url))
suite("a cluster", Effect.map(cluster, ({ url }) => url))
