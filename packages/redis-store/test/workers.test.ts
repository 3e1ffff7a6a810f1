/**
 * Worker processes that are killed, stopped and asked to end.
 */
import { Docket } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Latch, Layer, Stream } from "effect"
import * as path from "node:path"
import { addWork, docketAt, range, uniqueName } from "./kit.ts"
import * as processes from "./processes.ts"
import * as servers from "./server.ts"
import { Work, Works } from "./work.ts"

const root = path.resolve(import.meta.dirname, "../../..")

/** A worker process, and what its bodies and logs say. */
const startWorker = Effect.fnUntraced(function*(
  url: string,
  docket: string,
  name: string,
  lease: number,
  told: (n: number, attempt: number) => void
) {
  const ready = Latch.makeUnsafe()
  const late = Latch.makeUnsafe()
  const running = yield* processes.start({
    program: process.execPath,
    args: [
      "--conditions=@effect-docket/source",
      path.join(import.meta.dirname, "worker.ts"),
      url,
      docket,
      name,
      String(lease)
    ],
    cwd: root,
    onLine: (line) => {
      const [tag, n, attempt] = line.split(" ")
      if (tag === "ready") ready.openUnsafe()
      else if (tag === "start") told(Number(n), Number(attempt))
      else if (line.includes("came too late")) late.openUnsafe()
    }
  })
  yield* Effect.raceFirst(
    ready.await,
    Effect.flatMap(running.ended, () => Effect.die(`the worker ended: ${running.output()}`))
  )
  return { ...running, late: late.await }
})

const server = servers.shared(servers.start())

/** A docket for processes, and its finished runs as its events tell them. */
const observed = Effect.fnUntraced(function*(url: string) {
  const name = uniqueName()
  const context = yield* Layer.build(Works.client.pipe(Layer.provideMerge(docketAt(url, name))))
  const finished: Array<string> = []
  const store = yield* Effect.provide(
    Docket.Docket.useSync((docket) => docket),
    context
  )
  yield* Stream.runForEach(store.events, (event) =>
    Effect.sync(() => {
      if (event.event._tag === "Finished") finished.push(event.key)
    })).pipe(Effect.ignore, Effect.forkScoped({ startImmediately: true }))
  return { name, context, finished }
})

describe("worker processes", () => {
  it.live("kill -9 → another takes over; every run is settled once, bodies are repeated only where the lease was lost", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { context, finished, name } = yield* observed(url)
      const started = { victim: new Map<number, number>(), survivor: new Map<number, number>() }
      const busy = Latch.makeUnsafe()
      const victim = yield* startWorker(url, name, "victim", 1500, (n, attempt) => {
        started.victim.set(n, attempt)
        if (started.victim.size === 7) busy.openUnsafe()
      })
      yield* startWorker(url, name, "survivor", 1500, (n, attempt) => {
        assert.isFalse(started.survivor.has(n))
        started.survivor.set(n, attempt)
      })
      yield* Effect.gen(function*() {
        const runs = yield* Effect.forEach(range(40), (n) => addWork(n, 100))
        yield* busy.await
        yield* victim.signal("SIGKILL")
        assert.strictEqual(yield* victim.ended, "SIGKILL")
        assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), range(40))
        const repeated = range(40).filter((n) => started.victim.has(n) && started.survivor.has(n))
        assert.isAtLeast(repeated.length, 1)
        assert.isAtMost(repeated.length, 5, "no more than it had slots")
        for (const n of repeated) assert.strictEqual(started.survivor.get(n), 2)
        yield* servers.until(Effect.sync(() => finished.length >= 40))
        assert.deepStrictEqual(finished.toSorted(), range(40).map(String).toSorted(), "each finished once")
        assert.deepStrictEqual(yield* Docket.counts, [])
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped))

  it.live("SIGSTOP past its lease, then SIGCONT → its settlement comes too late and changes nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { context, finished, name } = yield* observed(url)
      const begun = Latch.makeUnsafe()
      const attempts: Array<readonly [worker: string, attempt: number]> = []
      const sleeper = yield* startWorker(url, name, "sleeper", 1000, (_, attempt) => {
        attempts.push(["sleeper", attempt])
        begun.openUnsafe()
      })
      yield* Effect.gen(function*() {
        const run = yield* addWork(1, 200)
        yield* begun.await
        yield* sleeper.signal("SIGSTOP")
        yield* startWorker(url, name, "other", 1000, (_, attempt) => attempts.push(["other", attempt]))
        assert.strictEqual(yield* run.await, 1)
        yield* sleeper.signal("SIGCONT")
        yield* sleeper.late
        assert.deepStrictEqual(attempts, [["sleeper", 1], ["other", 2]])
        const after = yield* Docket.Docket.use((docket) => docket.get("1"))
        assert.deepStrictEqual([after?.state, after?.attempt], ["Completed", 2])
        // it goes on with other work
        assert.strictEqual(yield* Effect.flatMap(Docket.add(Work, { n: 2, millis: 0 }), (run) => run.await), 2)
        assert.deepStrictEqual(finished.filter((key) => key === "1"), ["1"])
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped))

  it.live("SIGTERM → bodies end, then the process does, with nothing left claimed", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { context, name } = yield* observed(url)
      const begun = Latch.makeUnsafe()
      const worker = yield* startWorker(url, name, "worker", 30_000, () => begun.openUnsafe())
      yield* Effect.gen(function*() {
        const run = yield* addWork(1, 300)
        yield* begun.await
        yield* worker.signal("SIGTERM")
        assert.strictEqual(yield* worker.ended, 0, worker.output())
        assert.strictEqual(yield* run.await, 1)
        assert.deepStrictEqual(yield* Docket.counts, [])
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped))
})
