/**
 * The file report: counts every file of a folder with one task per file. Shown here: a docket in memory, a worker with
 * slots per lane, a first run added by the program, and a shutdown that drains and says what it leaves.
 *
 *     npm start -- FOLDER --report report.json --concurrency 8 --watch
 */
import { Docket } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import {
  Cause,
  Console,
  Data,
  Effect,
  Exit,
  FileSystem,
  Layer,
  Logger,
  Path,
  References,
  Runtime,
  Schema
} from "effect"
import { Argument, CliConfig, CliOutput, Command, Flag, GlobalFlag } from "effect/cli"
import { fileURLToPath } from "node:url"
import { layerProgress, Screen } from "./progress.ts"
import { Ledger } from "./report.ts"
import { CountFile, FileReport, FileReportLive, FindFiles } from "./tasks.ts"
import { plural } from "./text.ts"

/** Ends the program with a message and an exit code. */
class Problem extends Data.TaggedError("Problem")<{ readonly message: string; readonly code: number }> {
  override get [Runtime.errorExitCode]() {
    return this.code
  }
  override readonly [Runtime.errorReported] = false // by the logger: `main` prints it
}

const folderOf = Effect.fnUntraced(function*(path: string) {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* Effect.mapError(
    fs.realPath(path),
    ({ reason }) =>
      new Problem({ message: `${path}: ${reason._tag === "NotFound" ? "no such folder" : reason.message}`, code: 2 })
  )
  const { type } = yield* Effect.orDie(fs.stat(folder)) // it was there a moment ago
  return type === "Directory" ? folder : yield* new Problem({ message: `${path}: not a folder`, code: 2 })
})

interface Options {
  readonly root: string
  readonly report: string
  readonly concurrency: number
  readonly watch: boolean
  readonly strict: boolean
}

const signals = ["SIGINT", "SIGTERM"] as const
const interrupted = 130

const run = Effect.fnUntraced(function*({ concurrency, report, root, strict, watch }: Options) {
  const screen = yield* Screen
  const ledger = yield* Ledger

  const work = Effect.gen(function*() {
    const finder = yield* Docket.add(FindFiles, { root, report, watch })
    const stop = Effect.gen(function*() {
      for (const signal of signals) process.once(signal, () => process.exit(interrupted))
      yield* screen.line("stopping (a second signal does not wait)")
      yield* finder.cancel // or it would wait for runs that nobody starts any more
    })
    yield* finder.await.pipe(
      // the finder says it, and tries again in its next round
      Effect.catchTag("ReportNotWritten", (error) => watch ? Effect.void : Effect.fail(error)),
      Effect.andThen(watch ? Effect.never : Effect.void),
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
  const lanes = { finder: 1, default: concurrency }
  yield* work.pipe(
    Effect.provide(Worker.layer(FileReport, { concurrency: concurrency + 1, lanes })),
    Effect.onInterrupt(() => Effect.ignore(leave))
  )
  const failures = ledger.failures()
  if (strict && failures > 0) return yield* new Problem({ message: `${failures} of the files failed`, code: 1 })
})

const command = Command.make(
  "file-report",
  {
    folder: Argument.String("folder").pipe(
      Argument.withDescription("The folder to count (default: the sources of effect)"),
      Argument.withDefault(fileURLToPath(new URL("src", import.meta.resolve("effect/package.json"))))
    ),
    report: Flag.String("report").pipe(
      Flag.withDescription("Where to write the report"),
      Flag.withDefault("report.json")
    ),
    concurrency: Flag.Int("concurrency").pipe(
      Flag.withDescription("How many files to count at once, 1 to 1000"),
      Flag.withDefault(8),
      Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 })))
    ),
    watch: Flag.Boolean("watch").pipe(
      Flag.withDescription("Go on: count new and changed files"),
      Flag.withDefault(false)
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print the report, and nothing else"),
      Flag.withDefault(false)
    ),
    strict: Flag.Boolean("strict").pipe(Flag.withDescription("Exit with 1 if a file failed"), Flag.withDefault(false))
  },
  Effect.fnUntraced(function*({ folder, json, report, ...options }) {
    const path = yield* Path.Path
    const root = yield* folderOf(folder)
    const file = path.join(yield* folderOf(path.dirname(path.resolve(report))), path.basename(report))
    const services = Layer.provideMerge(
      Layer.mergeAll(FileReport.client, layerProgress(CountFile._tag)),
      DocketEngine.layerMemory
    )
    yield* run({ ...options, root, report: file }).pipe(
      Effect.provide(
        FileReportLive.pipe(
          Layer.provideMerge(services),
          Layer.provideMerge([Ledger.layer, Screen.layer({ json, report })])
        )
      )
    )
  })
)

command.pipe(
  Command.withDescription("Counts the lines, words and bytes of every file of a folder"),
  Command.run({ version: "0.1.0" }),
  Effect.catchTag(
    "ShowHelp",
    ({ errors }) =>
      new Problem({ message: errors.map(({ message }) => message.replaceAll(/\s+/g, " ")).join("; "), code: 2 })
  ),
  Effect.tapError(({ message }) => Console.error(`file-report: ${message}`)),
  Effect.provide([
    NodeServices.layer,
    Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]),
    CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.LogLevel] }),
    CliOutput.layerPresenter({
      // a mistake is told in one line, at the end
      present: (event) => event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event)
    })
  ]),
  // The worker logs each failed file as an error, which the report does better. `--log-level` brings it back.
  Effect.provideService(References.MinimumLogLevel, "None"),
  NodeRuntime.runMain({
    teardown: (exit, onExit) =>
      Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
        ? onExit(Number(process.exitCode ?? interrupted))
        : Runtime.defaultTeardown(exit, onExit)
  })
)
