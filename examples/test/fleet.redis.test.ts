/**
 * The fleet, run as its user runs it, on a Redis of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Work } from "../src/fleet/tasks.ts"
import { folder, limit } from "./fileReport.ts"
import { isAlive, killBusy, observe, printed, program, startServer, succeeded, until } from "./redis.ts"

/** A fleet of two producers and two workers. */
const start = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const server = yield* startServer
  const cwd = yield* folder
  const seen = yield* observe(server.url, "fleet", Work._tag)
  const fleet = yield* program("fleet", cwd, "--store", server.url, ...args)
  yield* printed(fleet, "  added ")
  const pids = new Map(
    Array.from(fleet.output().matchAll(/^(.*) is process (\d+)$/gm), ([, name, pid]) => [name!, Number(pid)])
  )
  assert.sameMembers(Array.from(pids.keys()), ["producer 1", "producer 2", "worker 1", "worker 2"])
  const left = () => Array.from(pids.values()).filter(isAlive)
  // nothing outlives a test, even if it fails
  yield* Effect.addFinalizer(() => Effect.sync(() => left().forEach((pid) => process.kill(pid, "SIGKILL"))))
  return { server, seen, fleet, pids, left }
})

/** It says that so many runs were done once, and that is what an observer has seen. */
const isComplete = Effect.fnUntraced(function*(output: string, runs: number, finished: ReadonlyArray<string>) {
  const text = runs.toLocaleString("en-US")
  assert.include(output, `Everything that was added was done exactly once: ${text} runs`)
  assert.include(output, `added     ${text} keys by 2 producers\ndone      ${text} keys once, 0 never, 0 twice\n`)
  const byWorker = Array.from(
    output.matchAll(/^ +([\d,]+) by worker \d$/gm),
    ([, count]) => Number(count!.replace(",", ""))
  )
  assert.strictEqual(byWorker.reduce((sum, count) => sum + count, 0), runs)
  yield* until(Effect.sync(() => finished.length >= runs))
  assert.strictEqual(finished.length, runs)
  assert.strictEqual(new Set(finished).size, runs)
})

describe("fleet", { concurrent: false }, () => {
  it.live("does each run once, and leaves no process and no lasting key", () =>
    Effect.gen(function*() {
      // no machine stands still for so long
      const { fleet, left, seen, server } = yield* start("--runs", "501", "--rate", "0", "--lease", "60")
      const output = yield* succeeded(fleet)
      yield* isComplete(output, 501, seen.finished)
      assert.match(output, /^begun +0 of them again/m)
      assert.deepEqual(left(), [])
      const keys = yield* Effect.promise(() => server.admin.keys("docket:{fleet}:*"))
      const lives = yield* Effect.promise(() => Promise.all(keys.map((key) => server.admin.pttl(key))))
      assert.sameMembers(keys.filter((_, index) => lives[index] === -1), [
        "docket:{fleet}:counts",
        "docket:{fleet}:meta"
      ])
    }), limit)

  it.live("does each run once when a worker is killed", () =>
    Effect.gen(function*() {
      const few = ["--concurrency", "1", "--lease", "1"]
      const { fleet, left, pids, seen } = yield* start("--runs", "600", "--rate", "0", ...few)
      const pid = pids.get("worker 2")!
      // a run takes 10 ms and more, so it is at work for six seconds and more, if the other one waits
      process.kill(pids.get("worker 1")!, "SIGSTOP")
      const held = yield* killBusy(seen, (worker) => worker === "worker 2", pid, Effect.void)
      process.kill(pids.get("worker 1")!, "SIGCONT")
      const output = yield* succeeded(fleet)
      yield* isComplete(output, 600, seen.finished)
      assert.include(output, `worker 2 (process ${pid}) killed\n`)
      assert.isAtLeast(Number(/^begun +(\d+) of them again/m.exec(output)![1]), held.length)
      assert.deepEqual(left(), [])
    }), limit)

  it.live("says that runs are missing when all workers are killed", () =>
    Effect.gen(function*() {
      const { fleet, left, pids, seen } = yield* start("--seconds", "600")
      yield* until(Effect.sync(() => seen.finished.length > 0))
      for (const name of ["worker 1", "worker 2"]) process.kill(pids.get(name)!, "SIGKILL")
      assert.strictEqual(yield* fleet.ended, 1)
      assert.match(fleet.output(), /^Not everything was done exactly once: [\d,]+ missing, 0 twice$/m)
      assert.match(fleet.output(), /^fleet: [\d,]+ runs not done$/m)
      assert.deepEqual(left(), [])
    }), limit)

  it.live("stops all processes at SIGINT, and takes what is left with it", () =>
    Effect.gen(function*() {
      const { fleet, left, seen } = yield* start("--seconds", "600")
      yield* until(Effect.sync(() => seen.finished.length > 0))
      yield* fleet.signal("SIGINT")
      assert.strictEqual(yield* fleet.ended, 130)
      assert.match(fleet.output(), /\nstopping .*\nstopped: [\d,]+ runs? done, [\d,]+ runs? left and removed\n$/)
      assert.deepEqual(left(), [])
      const counts = yield* seen.docket.counts
      assert.isTrue(counts.every(({ ready, running, scheduled }) => ready + running + scheduled === 0))
    }), limit)

  it.live("ends all processes when the main one is killed", () =>
    Effect.gen(function*() {
      const { fleet, left, seen } = yield* start("--seconds", "600")
      yield* until(Effect.sync(() => seen.finished.length > 0))
      yield* fleet.signal("SIGKILL")
      yield* until(Effect.sync(() => left().length === 0))
    }), limit)

  it.live("says what it needs", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      const without = yield* program("fleet", cwd)
      assert.strictEqual(yield* without.ended, 2)
      assert.match(
        without.output(),
        /^fleet: needs a Redis .* --store redis:.*\n.*\n +redis-server .*\n +docker run .*\n$/
      )
      const { stop, url } = yield* startServer
      yield* stop()
      const unreachable = yield* program("fleet", cwd, "--store", url)
      assert.strictEqual(yield* unreachable.ended, 1)
      assert.match(unreachable.output(), /^fleet: --store: cannot connect to 127.0.0.1:\d+: .*\n$/)
      const help = yield* program("fleet", cwd, "--help")
      const text = yield* succeeded(help)
      for (const flag of ["--store", "--producers", "--workers", "--seconds", "--runs", "--concurrency", "--rate"]) {
        assert.include(text, flag)
      }
    }), limit)
})
