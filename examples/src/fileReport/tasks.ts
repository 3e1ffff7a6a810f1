/**
 * A whole application in tasks: find the files of a folder, flood one task per file, join their outcomes, and finish with
 * a report. Shown here: tasks as classes with typed payloads, results and errors; retry rules by error tag; keys that
 * make each version of a file one run, whichever job or process asks for it; flows, one in the other, that decide, catch what
 * goes wrong and begin again; handlers that depend on services; and two dockets, one for what any process may do and one for
 * what belongs to this process.
 */
import { Docket, type DocketError, Flow, Progress, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine } from "@effect-docket/runtime"
import { Array, type Duration, Effect, Exit, Layer, Option, Result, Schema } from "effect"
import { createHash } from "node:crypto"
import { plural } from "../shared/text.ts"
import { Binary, Busy, count, Counted, find, type Found, patience, toBytes, Unreadable, Vanished } from "./files.ts"
import { Screen } from "./progress.ts"
import { Ledger, makeReport, ReportNotWritten, summary, temporary, writeReport } from "./report.ts"

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16)

/** What the keys of all files of a folder begin with. */
export const keyPrefix = (root: string): string => `count/${digest(root)}/`

interface Version extends Found {
  readonly root: string
}

// JSON, because names that are not UTF-8 have to stay different from each other. A key has a limit, a path has none.
const keyOf = ({ modified, path, root }: Version): string => {
  const name = JSON.stringify(path)
  return `${keyPrefix(root)}${name.length <= 1000 ? name : digest(name)}/${modified}`
}

/** Counts one version of a file. */
export class CountFile extends Task.make("CountFile", {
  payload: { root: Schema.String, path: Schema.String, modified: Schema.BigInt },
  success: Counted,
  error: Schema.Union([Busy, Unreadable, Binary, Vanished]),
  key: keyOf,
  retry: { Busy: patience, Unreadable: Retry.never, Binary: Retry.never, Vanished: Retry.never }
}) {}

const Where = { root: Schema.String, report: Schema.String }

/** A job that has not ended: it lies in the docket, never due, and workers stay for as long as there is one. */
export class Job extends Task.make("Job", { payload: Where, key: ["root", "report"], retention: 0 }) {}

/** Writes the report of what is known, and shows it. */
export class WriteReport extends Task.make("WriteReport", {
  payload: { ...Where, counted: Schema.Int },
  error: ReportNotWritten
}) {}

/** Floods `CountFile` for what is new or changed, and waits for all of it. */
export class FindFiles extends Task.make("FindFiles", {
  payload: Where,
  success: Schema.Struct({ ...Where, counted: Schema.Int, stale: Schema.Boolean })
}) {}

/** Says what went wrong. */
export class Complain extends Task.make("Complain", { payload: { message: Schema.String } }) {}

/** One round. The report is written if there is something that it does not tell. */
export class Round extends Flow.make("Round", FindFiles.pipe(Flow.when(({ stale }) => stale, WriteReport))) {}

/** Round after round: what goes wrong in one is tried again in the next. */
export class Watch extends Flow.make(
  "Watch",
  Round.pipe(
    Flow.catchTags({ ReportNotWritten: Complain, TaskFailure: Complain }),
    Flow.andThen(Flow.again({ after: "1 second" }))
  )
) {}

/** What any process that sees the files may do. */
export class Counting extends TaskGroup.make(CountFile) {}

/**
 * The docket that processes share, with leave to add to it. Outcomes are kept for as long as somebody may ask: in a store
 * that outlives the process, a start after a crash.
 */
export const layerShared = (outlives: boolean) => {
  const retention: Duration.Input = outlives ? "1 hour" : "5 seconds"
  return Counting.add(Job).annotateTasks(Task.Retention, { success: retention, failure: retention }).client.pipe(
    Layer.provideMerge(DocketEngine.layer({ name: "file-report" }))
  )
}

/** What belongs to the process that keeps the ledger and the screen. */
export class Reporting extends TaskGroup.make(FindFiles, WriteReport, Complain) {}

/** How many files this process has counted. */
export interface Tally {
  counted: number
}

export const countingLive = (tally: Tally) =>
  Counting.toLayer({
    CountFile: ({ path, root }) =>
      Effect.tap(count(toBytes(root, path)), () =>
        Effect.sync(() => {
          tally.counted++
        }))
  })

// A flood in portions: 2000 runs are waiting at most, so that a hundred thousand files do not fill the memory.
const chunk = 500
const chunks = 4

/** Adding again with the same key, and asking again, is safe. */
const ridingOut = <A, R>(effect: Effect.Effect<A, DocketError.DocketError, R>) =>
  Effect.retry(effect, { schedule: patience, while: ({ reason }) => reason._tag === "StoreUnavailable" })

/** What an earlier start or another process has done about a version. One that has failed gets another chance. */
const known = Effect.fnUntraced(function*(version: Version) {
  const run = Option.getOrUndefined(yield* Docket.get(CountFile, keyOf(version)))
  const exit = run && Option.getOrUndefined(yield* run.poll)
  if (exit === undefined) return { run, counted: undefined }
  return { run: undefined, counted: Exit.isSuccess(exit) ? exit.value : undefined }
}, ridingOut)

export const ReportingLive = Reporting.toLayer(Effect.gen(function*() {
  const ledger = yield* Ledger
  const screen = yield* Screen

  /** The versions that are left to count, with their runs if they have any. */
  const remember = Effect.fnUntraced(function*(root: string, files: ReadonlyArray<Found>) {
    const look = Effect.fnUntraced(function*(file: Found) {
      const { counted, run } = yield* known({ root, ...file })
      if (counted === undefined) return [{ file, run }]
      ledger.record(file, Result.succeed(counted))
      return []
    })
    const left = (yield* Effect.forEach(files, look, { concurrency: 64 })).flat()
    if (left.length < files.length) yield* screen.line(`${plural(files.length - left.length, "file")} counted before`)
    return left
  })

  return Reporting.of({
    FindFiles: Effect.fnUntraced(function*({ report, root }) {
      const found = yield* find(root, [report, temporary(report)])
      const fresh = ledger.fresh(found.files)
      const left = yield* remember(root, fresh)
      if (left.length > 0) yield* Progress.report(FindFiles, { current: 0, total: left.length })
      const countAll = Effect.fnUntraced(function*(files: typeof left) {
        const additions = files.flatMap(({ file, run }) =>
          run === undefined ? [[CountFile, { root, ...file }] as const] : []
        )
        const added = (yield* ridingOut(Docket.addAll(additions))).values()
        const runs = files.map(({ file, run }) => ({ file, run: run ?? added.next().value! })) // one for each addition
        yield* Effect.forEach(
          runs,
          ({ file, run }) => Effect.map(Effect.result(run.await), (outcome) => ledger.record(file, outcome)),
          { concurrency: "unbounded", discard: true }
        )
      })
      yield* Effect.forEach(Array.chunksOf(left, chunk), countAll, { concurrency: chunks, discard: true })
      ledger.reconcile(found)
      return { root, report, counted: fresh.length, stale: ledger.stale() }
    }, Effect.orDie),

    WriteReport: Effect.fnUntraced(function*({ counted, report, root }) {
      const result = makeReport(root, ledger)
      const json = yield* writeReport(report, result)
      ledger.written()
      yield* screen.result(json, counted, summary(result, ledger))
    }),

    Complain: ({ message }) => screen.line(message)
  })
}))
