/**
 * Worker processes that are killed, stopped and asked to end.
 */
import { Docket } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Latch, Layer, Stream } from "effect"
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
  told: (n: number, attempt: number) => void,
  how = ""
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
      String(lease),
      how
    ],
    cwd: root,
    onLine: (line) => {
      const [tag, n, attempt] = line.split(" ")
      if (tag === "ready") ready.openUnsafe()
      else if (tag === "start") told(Number(n), Number(attempt))
      // it was told when it renewed, or when it settled
      else if (/came too late|the claim was lost/.test(line)) late.openUnsafe()
    }
  })
  yield* Effect.raceFirst(
    ready.await,
    Effect.flatMap(running.ended, () => Effect.die(`the worker ended: ${running.output()}`))
  )
  return { ...running, late: late.await }
})

const server = servers.shared(servers.start())

/** A docket for processes, and what begins and what has finished in it, as its events tell it. */
const observed = Effect.fnUntraced(function*(url: string) {
  const name = uniqueName()
  const context = yield* Layer.build(Works.client.pipe(Layer.provideMerge(docketAt(url, name))))
  const finished: Array<string> = []
  const started: Array<
    { readonly key: string; readonly worker: string; readonly attempt: number; readonly at: number }
  > = []
  const store = yield* Effect.provide(
    Docket.Docket.useSync((docket) => docket),
    context
  )
  yield* Stream.runForEach(store.events, ({ event, key }) =>
    Effect.sync(() => {
      if (event._tag === "Finished") finished.push(key)
      if (event._tag === "Started") {
        const { at, attempt, worker } = event
        started.push({ key, worker, attempt, at: DateTime.toEpochMillis(at) })
      }
    })).pipe(Effect.ignore, Effect.forkScoped({ startImmediately: true }))
  const { admin } = yield* server
  yield* servers.until(Effect.map(Effect.promise(() => admin.exists(`docket:{${name}}:watch`)), (n) => n === 1))
  return { name, context, finished, started }
})

describe("worker processes", () => {
  it.live("kill -9 → another takes over; every run is settled once, bodies are repeated only where the lease was lost", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { context, finished, name, started } = yield* observed(url)
      const lease = 1500
      const bodies = { victim: [] as Array<number>, survivor: [] as Array<number> }
      const [busy, both] = [Latch.makeUnsafe(), Latch.makeUnsafe()]
      const victim = yield* startWorker(url, name, "victim", lease, (n) => {
        if (bodies.victim.push(n) === 7) busy.openUnsafe()
      }, "hangs")
      yield* Effect.gen(function*() {
        const runs = yield* Effect.forEach(range(40), (n) => addWork(n, 100))
        // two have ended, and the others fill its slots until it is killed
        yield* busy.await
        yield* startWorker(url, name, "survivor", 30_000, (n) => {
          bodies.survivor.push(n)
          both.openUnsafe()
        })
        yield* both.await
        yield* victim.signal("SIGKILL")
        assert.strictEqual(yield* victim.ended, "SIGKILL")
        assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), range(40))
        assert.strictEqual(new Set(bodies.survivor).size, bodies.survivor.length, "its lease holds")
        const repeated = bodies.survivor.filter((n) => bodies.victim.includes(n))
        assert.isAtLeast(repeated.length, 5, "as many as it had slots")
        const claimOf = (n: number, by: string) =>
          started.findLast(({ key, worker }) => key === String(n) && worker === by)!
        for (const n of repeated) {
          const [before, after] = [claimOf(n, "victim"), claimOf(n, "survivor")]
          assert.strictEqual(after.attempt, before.attempt + 1)
          assert.isAtLeast(after.at, before.at + lease)
        }
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
      }, "stops")
      yield* Effect.gen(function*() {
        const run = yield* addWork(1, 200)
        yield* begun.await
        yield* startWorker(url, name, "other", 30_000, (_, attempt) => attempts.push(["other", attempt]))
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
