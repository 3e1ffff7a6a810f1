/**
 * The file report: counts every file of a folder with one task per file. Shown here: a docket in memory or on Redis, a
 * worker with slots per lane, a first run added by the program, further worker processes, and a shutdown that drains and
 * says what it leaves.
 *
 *     npm start -- FOLDER --report report.json --concurrency 8 --watch
 *     npm start -- FOLDER --store redis://127.0.0.1:6379
 *     npm start -- --store redis://127.0.0.1:6379 --worker
 */
import { Effect, FileSystem, Layer, Option, Path, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { fileURLToPath } from "node:url"
import { Problem, runProgram } from "../shared/program.ts"
import { layerStore, leaseFlag, seconds, storeFlag, toProblem } from "../shared/store.ts"
import { runJob } from "./job.ts"
import { Screen } from "./progress.ts"
import { Ledger } from "./report.ts"
import { layerShared } from "./tasks.ts"
import { runWorker } from "./worker.ts"

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
    strict: Flag.Boolean("strict").pipe(Flag.withDescription("Exit with 1 if a file failed"), Flag.withDefault(false)),
    store: storeFlag.pipe(
      Flag.withDescription(
        "Keep the runs in Redis, and outcomes for an hour, so that a killed job goes on with what is left (default: "
          + "memory). redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
      ),
      Flag.optional
    ),
    worker: Flag.Boolean("worker").pipe(
      Flag.withDescription(
        "Join the jobs of --store as a further process, until they are over or SIGINT or SIGTERM. It has to see the same "
          + "folders, and heeds --concurrency and --lease"
      ),
      Flag.withDefault(false)
    ),
    lease: leaseFlag.pipe(
      Flag.withDescription("With --store: after how many seconds others take over from a killed process (default: 10)"),
      Flag.withDefault(10)
    )
  },
  Effect.fnUntraced(function*({ concurrency, folder, json, lease, report, store, worker, ...options }) {
    if (worker && Option.isNone(store)) {
      return yield* new Problem({
        message:
          "--worker needs --store: name the store of the job that it joins, as in --store redis://127.0.0.1:6379",
        code: 2
      })
    }
    const shared = layerShared(Option.isSome(store)).pipe(Layer.provideMerge(layerStore(store)))
    const screen = Screen.layer({ json: json && !worker, report })
    const job = Effect.gen(function*() {
      const path = yield* Path.Path
      const root = yield* folderOf(folder)
      const file = path.join(yield* folderOf(path.dirname(path.resolve(report))), path.basename(report))
      yield* runJob({ ...options, concurrency, lease: seconds(lease), root, report: file }).pipe(
        Effect.provide([shared, Ledger.layer, screen])
      )
    })
    const join = Effect.provide(runWorker({ concurrency, lease: seconds(lease) }), [shared, screen])
    yield* (worker ? join : job).pipe(Effect.catchTag("DocketError", (error) => toProblem(error)))
  })
)

runProgram(
  "file-report",
  command.pipe(
    Command.withDescription("Counts the lines, words and bytes of every file of a folder"),
    Command.run({ version: "0.1.0" })
  )
)
