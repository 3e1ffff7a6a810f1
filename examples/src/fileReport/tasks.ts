/**
 * A whole application in tasks: find the files of a folder, flood one task per file, join their outcomes, and finish with
 * a report. Shown here: tasks as classes with typed payloads, results and errors; retry rules by error tag; keys that
 * make each version of a file one run; a perpetual task; fan-out and fan-in; handlers that depend on services.
 */
import { Docket, Perpetual, Progress, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { Array, Effect, Schema } from "effect"
import { Binary, Busy, count, Counted, find, type Found, patience, toBytes, Unreadable, Vanished } from "./files.ts"
import { Screen } from "./progress.ts"
import { Ledger, makeReport, ReportNotWritten, summary, temporary, writeReport } from "./report.ts"

/** Counts one version of a file. */
export class CountFile extends Task.make("CountFile", {
  payload: { root: Schema.String, path: Schema.String, modified: Schema.BigInt },
  success: Counted,
  error: Schema.Union([Busy, Unreadable, Binary, Vanished]),
  // JSON, because names that are not UTF-8 have to stay different from each other
  key: ({ modified, path }) => `count/${JSON.stringify(path)}/${modified}`,
  retry: { Busy: patience, Unreadable: Retry.never, Binary: Retry.never, Vanished: Retry.never },
  retention: "5 seconds"
}) {}

/** Writes the report of what is known, and shows it. */
export class WriteReport extends Task.make("WriteReport", {
  payload: { root: Schema.String, report: Schema.String, counted: Schema.Int },
  error: ReportNotWritten
}) {}

/** Floods `CountFile` for what is new or changed, waits for all of it, and has the report written. */
export class FindFiles extends Task.make("FindFiles", {
  payload: { root: Schema.String, report: Schema.String, watch: Schema.Boolean },
  error: ReportNotWritten,
  perpetual: { every: "1 second" },
  // it waits for the runs it adds: with a lane of its own it does not take a slot from them
  lane: "finder"
}) {}

export class FileReport extends TaskGroup.make(FindFiles, CountFile, WriteReport) {}

// A flood in portions: 2000 runs are waiting at most, so that a hundred thousand files do not fill the memory.
const chunk = 500
const chunks = 4

export const FileReportLive = FileReport.toLayer(Effect.gen(function*() {
  const ledger = yield* Ledger
  const screen = yield* Screen
  return FileReport.of({
    FindFiles: Effect.fnUntraced(function*({ report, root, watch }) {
      if (!watch) yield* (yield* Perpetual.Perpetual).cancel // this run is the only one
      const found = yield* find(root, [report, temporary(report)])
      const fresh = ledger.fresh(found.files)
      if (fresh.length > 0) yield* Progress.report(FindFiles, { current: 0, total: fresh.length })
      const countAll = Effect.fnUntraced(function*(files: ReadonlyArray<Found>) {
        const runs = yield* Docket.addAll(files.map((file) => [CountFile, { root, ...file }] as const))
        yield* Effect.forEach(
          runs,
          (run, index) => Effect.map(Effect.result(run.await), (outcome) => ledger.record(files[index]!, outcome)),
          { concurrency: "unbounded", discard: true }
        )
      })
      yield* Effect.forEach(Array.chunksOf(fresh, chunk), countAll, { concurrency: chunks, discard: true })
      ledger.reconcile(found)
      if (ledger.stale()) yield* (yield* Docket.add(WriteReport, { root, report, counted: fresh.length })).await
    }, (effect, { watch }) =>
      effect.pipe(
        Effect.tapError((error) => watch ? screen.line(error.message) : Effect.void),
        Effect.catchTag(["DocketError", "TaskFailure"], Effect.die)
      )),

    CountFile: ({ path, root }) => count(toBytes(root, path)),

    WriteReport: Effect.fnUntraced(function*({ counted, report, root }) {
      const result = makeReport(root, ledger)
      const json = yield* writeReport(report, result)
      ledger.written()
      yield* screen.result(json, counted, summary(result, ledger))
    })
  })
}))
