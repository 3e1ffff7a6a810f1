/**
 * The file report on Redis: with further workers, and with processes that are killed.
 */
import { Docket } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as fs from "node:fs"
import { join } from "node:path"
import { CountFile } from "../src/fileReport/tasks.ts"
import { folder, limit, read, reference } from "./fileReport.ts"
import { isOf, killBusy, observe, printed, program, startServer, succeeded, until } from "./redis.ts"

const fileReport = (cwd: string, ...args: ReadonlyArray<string>) => program("fileReport", cwd, ...args)

/** The folder of the files, and beside it the one of the report. */
const folders = Effect.map(folder, (cwd) => {
  const root = join(cwd, "in")
  fs.mkdirSync(root)
  return { cwd, root, report: join(cwd, "report.json") }
})

const fill = (root: string, count: number) => {
  for (let i = 0; i < count; i++) fs.writeFileSync(join(root, `${i}`), `file ${i}\n`.repeat(i))
}

/** What counts a file. Added for later, it is a gate: until the test says that it is due, the job is not over. */
const gateOf = (root: string, path: string) => ({
  root,
  path,
  modified: fs.lstatSync(join(root, path), { bigint: true }).mtimeNs
})

/** The report is what `wc` and `sha256sum` say of that many files. */
const isRight = Effect.fnUntraced(function*(file: string, count: number) {
  const report = read(file)
  assert.deepEqual(report.files, yield* reference(report))
  assert.deepEqual([report.files.length, report.failures], [count, []])
})

/** So many different keys have finished, each once. */
const isOnce = Effect.fnUntraced(function*(finished: ReadonlyArray<string>, count: number) {
  yield* until(Effect.sync(() => finished.length >= count))
  assert.strictEqual(finished.length, count)
  assert.strictEqual(new Set(finished).size, count)
})

describe("file report on Redis", { concurrent: false }, () => {
  it.live("shares the files of a job among all workers, who end with it", () =>
    Effect.gen(function*() {
      const { url } = yield* startServer
      const { cwd, report, root } = yield* folders
      const store = ["--store", url, "--concurrency", "2"]
      const [first, second] = yield* Effect.all([
        fileReport(cwd, ...store, "--worker"),
        fileReport(cwd, ...store, "--worker")
      ])
      yield* Effect.forEach([first, second], (worker) => printed(worker, "waiting for a job"))
      const seen = yield* observe(url, "file-report", CountFile._tag)
      const main = yield* fileReport(cwd, "in", ...store, "--watch")
      const all = [main, first, second]
      const tookPart = () => all.every((one) => seen.started.some(({ worker }) => isOf(worker, one)))
      let files = 0
      do {
        for (let i = 0; i < 20; i++) {
          // made elsewhere: the watcher sees no half of a file, and no other name of it
          fs.writeFileSync(join(cwd, "new"), "some words\n")
          fs.renameSync(join(cwd, "new"), join(root, `${files++}`))
        }
        yield* until(Effect.sync(() => seen.finished.length === files))
      } while (!tookPart())
      yield* until(Effect.sync(() => fs.existsSync(report) && read(report).files.length === files))
      yield* isRight(report, files)
      yield* isOnce(seen.finished, files)

      yield* second.signal("SIGTERM")
      assert.match(yield* succeeded(second), /\nstopping .*\nstopped: \d+ files? counted here\n$/)
      yield* main.signal("SIGINT")
      assert.include(yield* succeeded(main), "the report is up to date")
      const output = yield* succeeded(first)
      const counted = seen.started.filter(({ worker }) => isOf(worker, first)).length
      assert.include(output, `the job is over: ${counted} file`)
    }), limit)

  it.live("loses nothing when a worker is killed", () =>
    Effect.gen(function*() {
      const { url } = yield* startServer
      const { cwd, report, root } = yield* folders
      fill(root, 200)
      const seen = yield* observe(url, "file-report", CountFile._tag)
      const client = Layer.provide(CountFile.client, Layer.succeedContext(seen.context))
      // a few that take a while, whose runs are due when the test says so
      const large = join(root, "large")
      fs.writeFileSync(large, Buffer.alloc(20_000_000, "some words of a large file\n"))
      for (let i = 0; i < 12; i++) fs.linkSync(large, join(root, `large ${i}`))
      const gates = Array.from({ length: 12 }, (_, i) => gateOf(root, `large ${i}`))
      fs.rmSync(large)
      yield* Effect.provide(Docket.addAll(gates.map((gate) => [CountFile, gate, { after: "1 hour" }] as const)), client)
      let open = 0
      const openSome = Effect.suspend(() => {
        const some = gates.slice(open, open + 3)
        open += some.length
        return Effect.forEach(some, (gate) => Docket.replace(CountFile, gate), { discard: true })
      }).pipe(Effect.provide(client))
      const store = ["--store", url, "--concurrency", "2"]
      const victim = yield* fileReport(cwd, ...store, "--worker", "--lease", "1")
      const other = yield* fileReport(cwd, ...store, "--worker")
      yield* Effect.forEach([victim, other], (worker) => printed(worker, "waiting for a job"))
      const main = yield* fileReport(cwd, "in", ...store)

      const isHis = (worker: string) => isOf(worker, victim)
      // the small ones first; then some are due whenever nobody has anything to do, until he is caught with one
      const held = yield* killBusy(
        seen,
        isHis,
        victim.pid,
        Effect.suspend(() => seen.finished.length === 200 + open ? openSome : Effect.void)
      )
      while (open < gates.length) yield* openSome
      yield* succeeded(main)
      yield* isRight(report, 212)
      yield* isOnce(seen.finished, 212)
      for (const key of held) {
        const last = seen.started.findLast((one) => one.key === key)!
        assert.isFalse(isHis(last.worker), "another process has counted it")
        assert.isAbove(last.attempt, 1)
      }
      assert.include(yield* succeeded(other), "the job is over")
    }), limit)

  it.live("goes on with what is left when the main process is killed and started again", () =>
    Effect.gen(function*() {
      const { url } = yield* startServer
      const { cwd, report, root } = yield* folders
      fill(root, 50)
      const gate = gateOf(root, "49")
      const seen = yield* observe(url, "file-report", CountFile._tag)
      const client = Layer.provide(CountFile.client, Layer.succeedContext(seen.context))
      yield* Effect.provide(Docket.add(CountFile, gate, { after: "1 hour" }), client)
      const store = ["--store", url, "--lease", "1"]
      const workers = yield* Effect.all([
        fileReport(cwd, ...store, "--worker"),
        fileReport(cwd, ...store, "--worker")
      ])
      const first = yield* fileReport(cwd, "in", ...store)
      yield* until(Effect.sync(() => seen.finished.length > 0))
      yield* first.signal("SIGKILL")
      assert.strictEqual(yield* first.ended, "SIGKILL")
      assert.isFalse(fs.existsSync(report))

      // all but the gate, by whoever is left
      yield* until(Effect.sync(() => seen.finished.length === 49))
      assert.isFalse(workers.some((worker) => worker.hasEnded()), "the job is not over")
      const second = yield* fileReport(cwd, "in", ...store)
      yield* printed(second, "49 files counted before\ncounting 1 file\n")
      yield* Effect.provide(Docket.replace(CountFile, gate), client)
      yield* succeeded(second)
      yield* isRight(report, 50)
      yield* isOnce(seen.finished, 50)
      for (const worker of workers) assert.include(yield* succeeded(worker), "the job is over")
    }), limit)

  it.live("says in a line when the server does not answer", () =>
    Effect.gen(function*() {
      const { port, stop, url } = yield* startServer
      const { cwd } = yield* folders
      yield* stop()
      for (const more of [[], ["--worker"]]) {
        const one = yield* fileReport(cwd, "in", "--store", url, ...more)
        assert.strictEqual(yield* one.ended, 1)
        assert.match(one.output(), new RegExp(`^file-report: --store: cannot connect to 127.0.0.1:${port}: .*\n$`))
      }
    }), limit)
})
