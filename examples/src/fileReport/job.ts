/**
 * The main process: it finds, waits and reports, and counts as well. Shown here: a group on a docket of this process beside
 * a group on a shared one, and a shutdown that says what it leaves.
 */
import { Docket } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { Context, type Duration, Effect, Layer } from "effect"
import { interrupted, Problem, stopAtOnce } from "../shared/program.ts"
import { plural } from "../shared/text.ts"
import { layerProgress, Screen } from "./progress.ts"
import { Ledger } from "./report.ts"
import { Counting, countingLive, Job, keyPrefix, Reporting, ReportingLive, Round, Watch } from "./tasks.ts"

export interface Options {
  readonly root: string
  readonly report: string
  readonly concurrency: number
  readonly lease: Duration.Input
  readonly watch: boolean
  readonly strict: boolean
}

export const runJob = Effect.fnUntraced(function*({ concurrency, lease, report, root, strict, watch }: Options) {
  const screen = yield* Screen
  const ledger = yield* Ledger
  // The ledger and the screen are in this process, so what uses them has to run here: it gets a docket of its own.
  const home = yield* Layer.build(DocketEngine.layerMemory)

  const work = Effect.gen(function*() {
    const input = { root, report }
    const rounds = yield* (watch ? Docket.start(Watch, input) : Docket.start(Round, input))
    const stop = Effect.gen(function*() {
      yield* stopAtOnce
      yield* screen.line("stopping (a second signal does not wait)")
      yield* rounds.cancel // or it would wait for runs that nobody starts any more
    })
    yield* rounds.await.pipe(
      Effect.onInterrupt(() => Effect.ignore(stop)),
      Effect.mapError(({ message }) => new Problem({ message, code: 1 }))
    )
  })
  const leave = Effect.gen(function*() {
    yield* screen.line(
      ledger.stale()
        ? `stopped: ${plural(ledger.left(), "file")} left to count, no report written`
        : "stopped: nothing left to count, the report is up to date"
    )
    // the exit of an interrupted fiber has no room for a code
    process.exitCode = ledger.stale() ? interrupted : strict && ledger.failures() > 0 ? 1 : 0
  })

  // A worker drains when its layer ends: what runs may finish.
  const workers = Layer.merge(
    Worker.layer(Reporting, { flows: [Round, Watch], concurrency: 1 }).pipe(
      Layer.provide(Layer.succeedContext(home)),
      // its handlers look at the shared docket, and add to it
      Layer.provide(ReportingLive),
      Layer.provideMerge(Layer.provide(Reporting.client, Layer.succeedContext(home)))
    ),
    Worker.layer(Counting, { concurrency, lease }).pipe(Layer.provide(countingLive({ counted: 0 })))
  )
  yield* Effect.acquireRelease(
    Docket.add(Job, { root, report }, { after: "365 days" }),
    (job) => Effect.ignore(job.cancel)
  )
  yield* work.pipe(
    Effect.provide(Layer.provideMerge(workers, layerProgress(keyPrefix(root), Context.get(home, Docket.Docket)))),
    Effect.onInterrupt(() => Effect.ignore(leave))
  )
  const failures = ledger.failures()
  if (strict && failures > 0) return yield* new Problem({ message: `${failures} of the files failed`, code: 1 })
}, Effect.scoped)
