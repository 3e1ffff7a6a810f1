/**
 * Helpers of the tests on Redis: a server of the test, processes that end with it, and a look at a docket from outside.
 */
import { Docket } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine } from "@effect-docket/runtime"
import { assert } from "@effect/vitest"
import { Context, Effect, Layer, Option, References, Stream } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as processes from "../../packages/redis-store/test/processes.ts"
import * as server from "../../packages/redis-store/test/server.ts"

export const { until } = server

/** A server for one test. */
export const startServer = server.start()

/** A program of `src`, as a process in the folder `cwd`. */
export const program = (name: string, cwd: string, ...args: ReadonlyArray<string>) =>
  processes.start({
    program: process.execPath,
    args: [
      "--conditions=@effect-docket/source",
      fileURLToPath(new URL(`../src/${name}/main.ts`, import.meta.url)),
      ...args
    ],
    cwd
  })

/** Waits until the program has printed it. */
export const printed = ({ hasEnded, output }: processes.Running, text: string) =>
  server.until(Effect.sync(() => {
    if (output().includes(text)) return true
    assert.isFalse(hasEnded(), `it ended without "${text}": ${output()}`)
    return false
  }))

/** Waits for the end of a program, which has to be a good one; what it printed. */
export const succeeded = ({ ended, output }: processes.Running) =>
  Effect.map(ended, (code) => {
    assert.strictEqual(code, 0, output())
    return output()
  })

/** Whether a worker, by its default name, is in that process. */
export const isOf = (worker: string, { pid }: processes.Running): boolean => worker.split("/")[1] === String(pid)

/** A docket, and what happened since to the runs of a task. */
export const observe = Effect.fnUntraced(function*(url: string, name: string, counted: string) {
  const context = yield* Layer.build(Layer.provide(DocketEngine.layer({ name }), RedisStore.layer({ url }))).pipe(
    // a server of a test keeps nothing, and the store warns of that
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
  const docket = Context.get(context, Docket.Docket)
  const started: Array<{ readonly key: string; readonly worker: string; readonly attempt: number }> = []
  const finished: Array<string> = []
  yield* docket.events.pipe(
    Stream.runForEach(({ event, key, task }) =>
      Effect.sync(() => {
        if (task !== counted) return
        if (event._tag === "Started") started.push({ key, worker: event.worker, attempt: event.attempt })
        if (event._tag === "Finished") finished.push(key)
      })
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  return {
    context,
    docket,
    started,
    finished,
    /** The keys of the runs that a worker has begun and not ended. */
    heldBy: (isHis: (worker: string) => boolean) =>
      docket.snapshot.pipe(
        Stream.filter(({ worker }) => Option.exists(worker, isHis)),
        Stream.map(({ key }) => key),
        Stream.filter((key) => started.some((begun) => begun.key === key && isHis(begun.worker))),
        Stream.runCollect
      )
  }
})

/**
 * Kills a process while a worker in it holds runs, which are the result: stopped first, so that it does not finish them. As long
 * as it holds none, `more` may see to it that it will.
 */
export const killBusy = Effect.fnUntraced(function*<E, R>(
  { heldBy, started }: Effect.Success<ReturnType<typeof observe>>,
  isHis: (worker: string) => boolean,
  pid: number,
  more: Effect.Effect<void, E, R>
) {
  let held: ReadonlyArray<string> = []
  yield* until(Effect.gen(function*() {
    if (started.some(({ worker }) => isHis(worker))) {
      process.kill(pid, "SIGSTOP")
      held = yield* heldBy(isHis)
      if (held.length > 0) return true
      process.kill(pid, "SIGCONT")
    }
    yield* more
    return false
  }))
  process.kill(pid, "SIGKILL")
  return held
})

/** Whether a process is there that has not ended. */
export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  // nobody may have asked yet how it ended
  const stat = `/proc/${pid}/stat`
  return !existsSync(stat) || !/\) [XZ] /.test(readFileSync(stat, "utf8"))
}
