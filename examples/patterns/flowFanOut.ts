/**
 * Fan-out with a finalizer, in two ways.
 *
 * The first needs no flow: a task adds one run per chunk, and the finalizer for when all of them should be done. That is an
 * estimate: the finalizer comes too late when all goes well, too early when something does not, and it has to find out
 * itself what is there. It is right where a rough time is all that is wanted, and nobody waits for it.
 *
 * The second is a gather. It goes on when the last chunk has ended, at the latest at its deadline, exactly once, and hands
 * over how each chunk ended, with its typed error. It cannot be early, late, or forgotten.
 *
 * Here one chunk takes three hours, and one is lost.
 */
import { Docket, DocketError, Flow, Gather, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, Effect, Layer, Logger, Schema } from "effect"

class ChunkLost extends Schema.TaggedError<ChunkLost>()("ChunkLost", { chunk: Schema.String }) {}

const Chunk = Schema.Struct({ dataset: Schema.String, chunk: Schema.String })
class ProcessChunk extends Task.make("ProcessChunk", { payload: Chunk, success: Schema.Int, error: ChunkLost }) {}

const say = (text: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`${String(now / 3_600_000).padStart(4)} h: ${text}`))

const chunksOf = (dataset: string) => ["a", "b", "c"].map((chunk) => ({ dataset, chunk }))
const processChunk = Effect.fnUntraced(function*({ chunk, dataset }: typeof Chunk.Type) {
  if (chunk === "b") return yield* new ChunkLost({ chunk })
  yield* Effect.sleep(chunk === "c" ? "3 hours" : "30 minutes")
  yield* say(`${dataset}: chunk ${chunk} is done`)
  return 100
})

// ---------------------------------------------------------------------------------------------------------------------
// a finalizer at the estimated time
// ---------------------------------------------------------------------------------------------------------------------

class ProcessDataset extends Task.make("ProcessDataset", {
  payload: { dataset: Schema.String },
  error: DocketError.DocketError // an infrastructure error can be declared like any other
}) {}
class FinalizeDataset extends Task.make("FinalizeDataset", {
  payload: { dataset: Schema.String, chunks: Schema.Int }
}) {}
class Estimated extends TaskGroup.make(ProcessDataset, ProcessChunk, FinalizeDataset) {}

const EstimatedLive = Estimated.toLayer({
  ProcessDataset: Effect.fnUntraced(function*({ dataset }) {
    const chunks = chunksOf(dataset)
    yield* Docket.addAll(chunks.map((chunk) => [ProcessChunk, chunk] as const))
    yield* Docket.add(FinalizeDataset, { dataset, chunks: chunks.length }, {
      after: "2 hours", // when all of them should be done
      key: `finalize/${dataset}`
    })
  }),
  ProcessChunk: processChunk,
  FinalizeDataset: ({ chunks, dataset }) => say(`${dataset}: finalize ${chunks} chunks, whatever has become of them`)
}).pipe(Layer.provide(Estimated.client)) // the first one adds

const estimated = Effect.gen(function*() {
  yield* Docket.add(ProcessDataset, { dataset: "estimated" })
  yield* DocketTest.drain(Estimated)
}).pipe(Effect.provide(Layer.mergeAll(EstimatedLive, Estimated.client).pipe(Layer.provideMerge(DocketTest.layer))))

// ---------------------------------------------------------------------------------------------------------------------
// a gather
// ---------------------------------------------------------------------------------------------------------------------

class SplitDataset extends Task.make("SplitDataset", {
  payload: { dataset: Schema.String },
  success: Schema.Array(Chunk)
}) {}
class FinalizeGathered extends Task.make("FinalizeGathered", {
  payload: { dataset: Schema.String, chunks: Gather.schema(ProcessChunk) }
}) {}
class Gathered extends TaskGroup.make(SplitDataset, ProcessChunk, FinalizeGathered) {}

class Process extends Flow.make(
  "Process",
  SplitDataset.pipe(
    Flow.forEach(ProcessChunk, { policy: Gather.allSettled, deadline: "1 day" }),
    Flow.andThen(FinalizeGathered, (chunks) => ({ dataset: "gathered", chunks }))
  )
) {}

const GatheredLive = Gathered.toLayer({
  SplitDataset: ({ dataset }) => Effect.succeed(chunksOf(dataset)),
  ProcessChunk: processChunk,
  FinalizeGathered: ({ chunks, dataset }) => {
    const rows = Gather.successes(chunks).reduce((a, b) => a + b, 0)
    const lost = Gather.failures(chunks).map(({ chunk }) => chunk) // typed: ChunkLost
    return say(`${dataset}: finalize ${rows} rows of ${chunks.children.length} chunks, lost: ${lost}`)
  }
})

const gathered = Effect.gen(function*() {
  yield* Docket.start(Process, { dataset: "gathered" })
  yield* DocketTest.drain(Gathered, { flows: [Process] })
}).pipe(Effect.provide(Layer.mergeAll(GatheredLive, Gathered.client).pipe(Layer.provideMerge(DocketTest.layer))))

await Effect.runPromise(Effect.provide(Effect.andThen(estimated, gathered), Logger.layer([])))

/* prints
 0.5 h: estimated: chunk a is done
   2 h: estimated: finalize 3 chunks, whatever has become of them
   3 h: estimated: chunk c is done
 0.5 h: gathered: chunk a is done
   3 h: gathered: chunk c is done
   3 h: gathered: finalize 200 rows of 3 chunks, lost: b
*/
