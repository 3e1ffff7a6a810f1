/**
 * Sequential processing: download, validate, then process what is valid and handle what is not.
 *
 * The tasks know nothing of each other. Which one comes next, and with what, is the flow: data, checked by the compiler edge
 * by edge. What `ValidateData` succeeds with decides; leave out one of its outcomes, and it does not compile. How a step
 * has ended and what comes next is one write, so nothing is lost or done twice between two steps, whichever worker dies.
 *
 * A file that is not valid is no failure here: it is an outcome that somebody has to look at. A download that fails for good
 * is a failure, and ends the flow with a typed error.
 */
import { Docket, Flow, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Console, Effect, Layer, Logger, Schedule, Schema } from "effect"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { url: Schema.String }) {}
class Offline extends Schema.TaggedError<Offline>()("Offline", {}) {}
class ValidFile extends Schema.TaggedClass<ValidFile>()("ValidFile", {
  path: Schema.String,
  rows: Schema.Int
}) {}
class InvalidFile extends Schema.TaggedClass<InvalidFile>()("InvalidFile", {
  path: Schema.String,
  why: Schema.String
}) {}

class DownloadData extends Task.make("DownloadData", {
  payload: { url: Schema.String },
  success: Schema.Struct({ path: Schema.String }),
  error: Schema.Union([NotFound, Offline]),
  // a step has failed when its retries are used up
  retry: { NotFound: Retry.never, Offline: Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 5 })) }
}) {}
class ValidateData extends Task.make("ValidateData", {
  payload: { path: Schema.String },
  success: Schema.Union([ValidFile, InvalidFile])
}) {}
class ProcessData extends Task.make("ProcessData", {
  payload: { path: Schema.String, rows: Schema.Int },
  success: Schema.String
}) {}
class HandleInvalidData extends Task.make("HandleInvalidData", {
  payload: { path: Schema.String, why: Schema.String },
  success: Schema.String
}) {}
class Data extends TaskGroup.make(DownloadData, ValidateData, ProcessData, HandleInvalidData) {}

class Ingest extends Flow.make(
  "Ingest",
  DownloadData.pipe(
    Flow.andThen(ValidateData),
    Flow.match({ ValidFile: ProcessData, InvalidFile: HandleInvalidData })
  ),
  { key: ({ url }) => `ingest/${url}` } // one run per file, however often it is asked for
) {}

let attempts = 0

const DataLive = Data.toLayer({
  DownloadData: Effect.fnUntraced(function*({ url }) {
    if (url === "gone.csv") return yield* new NotFound({ url })
    if (url === "orders.csv" && ++attempts < 3) return yield* new Offline() // is there again at the third attempt
    return { path: `downloads/${url}` }
  }),
  ValidateData: ({ path }) =>
    Effect.succeed(
      path.endsWith(".csv") ? new ValidFile({ path, rows: 3 }) : new InvalidFile({ path, why: "not a table" })
    ),
  ProcessData: ({ path, rows }) => Effect.succeed(`processed ${rows} rows of ${path}`),
  HandleInvalidData: ({ path, why }) => Effect.succeed(`set ${path} aside: ${why}`)
})

const program = Effect.gen(function*() {
  for (const url of ["orders.csv", "photo.jpg", "gone.csv"]) {
    const run = yield* Docket.start(Ingest, { url })
    yield* DocketTest.drain(Data, { flows: [Ingest] })
    const ended = yield* Effect.match(run.await, {
      onSuccess: (text) => text, // of the branch that ran
      onFailure: (error) => `failed: ${error._tag}` // NotFound, Offline or TaskFailure
    })
    yield* Console.log(`${run.key}: ${ended}`)
  }
  yield* Console.log(Flow.toMermaid(Ingest))
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(DataLive, Data.client).pipe(
    Layer.provideMerge(DocketTest.layer),
    Layer.provideMerge(Logger.layer([])) // a step that fails for good is logged at error
  )
))

/* prints
ingest/orders.csv: processed 3 rows of downloads/orders.csv
ingest/photo.jpg: set downloads/photo.jpg aside: not a table
ingest/gone.csv: failed: NotFound
flowchart TD
  start(["Ingest"])
  n0["DownloadData"]
  n1__0["ValidateData"]
  n2{"match"}
  n2__ValidFile__0["ProcessData"]
  n2__InvalidFile__0["HandleInvalidData"]
  finish(["end"])
  start --> n0
  n0 --> n1__0
  n1__0 --> n2
  n2 -->|"ValidFile"| n2__ValidFile__0
  n2 -->|"InvalidFile"| n2__InvalidFile__0
  n2__ValidFile__0 --> finish
  n2__InvalidFile__0 --> finish
*/
