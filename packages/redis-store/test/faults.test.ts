/**
 * Real servers and processes that fail: no run is lost, each is settled once, and a body is repeated only where a lease was
 * lost.
 */
import { Docket } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketStore, Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, type Scope, Stream } from "effect"
import { mkdirSync, rmdirSync } from "node:fs"
import * as path from "node:path"
import { addition, attachTo } from "../../runtime/test/contract/seam.ts"
import { addWork, docketAt, docketIn, insist, logs, range, uniqueName } from "./kit.ts"
import * as processes from "./processes.ts"
import * as proxies from "./proxy.ts"
import * as servers from "./server.ts"
import { handling, Work, Works } from "./work.ts"

type StoreService = DocketStore.DocketStore["Service"]

// ---------------------------------------------------------------------------------------------------------------------
// what happens to the runs
// ---------------------------------------------------------------------------------------------------------------------

/** The ledger: which bodies began, and which settlements were applied. */
class Ledger {
  /** Attempts of the bodies that began, by run. */
  readonly started = new Map<number, Array<number>>()
  readonly applied: Array<string> = []
  readonly #enough = Latch.makeUnsafe()
  readonly #signalAt: number

  constructor(signalAt: number) {
    this.#signalAt = signalAt
  }

  readonly told = (n: number, attempt: number): void => {
    const attempts = this.started.get(n)
    if (attempts === undefined) this.started.set(n, [attempt])
    else attempts.push(attempt)
    if (this.started.size >= this.#signalAt) this.#enough.openUnsafe()
  }

  /** Some have begun. */
  get underWay(): Effect.Effect<void> {
    return this.#enough.await
  }

  /** The store, which writes down what was settled. */
  readonly recording = (store: StoreService): StoreService =>
    DocketStore.DocketStore.of({
      docket: (options) =>
        Effect.map(store.docket(options), (docket) => ({
          ...docket,
          attach: (options) =>
            Effect.map(docket.attach(options), (session) => ({
              ...session,
              turn: (request) =>
                Effect.tap(session.turn(request), (reply) =>
                  Effect.sync(() => {
                    request.settle.forEach(({ change, key }, index) => {
                      if (change._tag === "Completed" && reply.settled[index] !== "Lost") this.applied.push(key)
                    })
                  }))
            }))
        }))
    })
}

interface Scenario {
  readonly url: string
  /** Begins when some bodies run. */
  readonly begin: Effect.Effect<unknown, never, Scope.Scope>
  /** Ends after some more runs were to be added. */
  readonly end?: Effect.Effect<unknown, never, Scope.Scope>
  readonly lease?: number
  /** Whether leases or acknowledged writes are lost, so that bodies may be repeated. */
  readonly repeats?: boolean
}

const first = 60
const all = 100

/** Runs a hundred runs on two workers while something fails, and holds that nothing is lost or doubled. */
const survives = Effect.fnUntraced(function*({ begin, end, lease = 4000, repeats = false, url }: Scenario) {
  const ledger = new Ledger(15)
  const log = logs()
  const name = uniqueName()
  const recorded = Layer.effect(
    DocketStore.DocketStore,
    Effect.map(DocketStore.DocketStore, ledger.recording)
  ).pipe(Layer.provide(RedisStore.layer({ url })))
  for (const worker of ["one", "two"]) {
    yield* Layer.build(
      Layer.fresh(
        Worker.layer(Works, { name: worker, concurrency: 5, lease }).pipe(
          Layer.provide(handling(ledger.told)),
          Layer.provide(docketIn(recorded, name)),
          Layer.provide(log.layer)
        )
      )
    )
  }
  const producer = yield* Layer.build(
    Works.client.pipe(Layer.provideMerge(docketAt(url, name)), Layer.provide(log.layer))
  )
  return yield* Effect.gen(function*() {
    const runs = yield* Effect.forEach(range(first), (n) => addWork(n, 30, n % 3 === 0 ? { after: 300 } : {}))
    yield* ledger.underWay
    yield* begin
    const adding = yield* Effect.forkChild(
      Effect.forEach(range(all - first), (n) => insist(addWork(first + n, 5))),
      { startImmediately: true }
    )
    yield* Effect.sleep(700)
    if (end !== undefined) yield* end
    runs.push(...yield* Fiber.join(adding))
    assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await, { concurrency: "unbounded" }), range(all))
    // settled once each; the outcome is told before the worker hears that it was applied
    yield* servers.until(Effect.sync(() => new Set(ledger.applied).size === all))
    const applied = ledger.applied.length
    if (!repeats) assert.strictEqual(applied, all, "each was settled once")
    for (const [n, attempts] of ledger.started) {
      if (!repeats) assert.strictEqual(attempts.length, 1, `run ${n} began once`)
      assert.deepStrictEqual(attempts, Array.from(new Set(attempts)), `attempts of run ${n} are different ones`)
    }
    assert.deepStrictEqual(yield* insist(Docket.counts), [], "nothing is left")
    return log
  }).pipe(Effect.provide(producer))
}, Effect.scoped)

/** Each worker said so once, and that the store is back, if it noticed. */
const saidOnce = (log: ReturnType<typeof logs>) => {
  for (const worker of ["one", "two"]) {
    const away = log.lines.filter((line) => line.includes(`worker ${worker}: `) && line.includes("trying again")).length
    const back = log.count(`worker ${worker}: the store is back`)
    assert.isAtMost(away, 2, log.lines.join("\n"))
    assert.isAtMost(back, away)
  }
}

const saidSo = (log: ReturnType<typeof logs>, text: string) => {
  assert.isAtLeast(log.count(text), 1, log.lines.join("\n"))
  saidOnce(log)
}

// ---------------------------------------------------------------------------------------------------------------------
// worker processes
// ---------------------------------------------------------------------------------------------------------------------

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

const server = servers.shared(servers.start({
  config: ["appendonly yes", "appendfsync always", "key-load-delay 1000", "busy-reply-threshold 50"]
}))

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

// ---------------------------------------------------------------------------------------------------------------------
// the server
// ---------------------------------------------------------------------------------------------------------------------

const config = (name: string, value: string) =>
  Effect.flatMap(server, ({ admin }) => Effect.promise(() => admin.config("SET", name, value)))

const onServer = (fault: Omit<Scenario, "url">) => Effect.flatMap(server, ({ url }) => survives({ ...fault, url }))

describe("the server", () => {
  it.live("killed and started again with an append-only file, loading for a while → goes on", () =>
    Effect.gen(function*() {
      const { start, stop } = yield* server
      const log = yield* onServer({ begin: stop("SIGKILL"), end: start })
      saidSo(log, "trying again")
    }))

  it.live("all clients are killed, again and again → goes on", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const kill = Effect.promise(async () => {
        await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await admin.call("CLIENT", "KILL", "TYPE", "pubsub")
      })
      yield* onServer({ begin: Effect.repeat(Effect.andThen(kill, Effect.sleep(50)), { times: 4 }) })
    }))

  it.live("the scripts are flushed, again and again → nobody notices", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const flush = Effect.promise(() => admin.script("FLUSH"))
      const log = yield* onServer({ begin: Effect.repeat(Effect.andThen(flush, Effect.sleep(10)), { times: 20 }) })
      assert.deepStrictEqual(log.lines.filter((line) => line.startsWith("Warn: ")), [])
    }))

  it.live("READONLY for a while → goes on", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const nowhere = yield* servers.freePort
      const log = yield* onServer({
        begin: Effect.promise(() => admin.replicaof("127.0.0.1", nowhere)),
        end: Effect.promise(() => admin.replicaof("NO", "ONE"))
      })
      saidSo(log, "READONLY")
    }))

  it.live("memory is short → a turn is done as a whole or not at all", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const context = yield* Layer.build(RedisStore.layer({ url }))
      const store = yield* Effect.provide(
        DocketStore.DocketStore.use((store) => store.docket({ name: uniqueName(), prefix: "docket" })),
        context
      )
      const worker = yield* attachTo(store, { lease: 25 })
      yield* store.add([addition("due", { due: { after: 20 } }), addition("abandoned")], { atomic: true })
      yield* worker.claim()
      yield* Effect.sleep(50)
      yield* config("maxmemory", "1")
      // a script whose first write frees memory is let through
      const during = yield* Effect.orElseSucceed(worker.claim(), () => [])
      const refused = yield* Effect.flip(store.add([addition("more")], { atomic: true }))
      assert.include(refused.message, "OOM")
      yield* config("maxmemory", "0")
      const claims = during.length > 0 ? during : yield* worker.claim()
      assert.deepStrictEqual(claims.map(({ attempt, key }) => [key, attempt]).toSorted(), [["abandoned", 2], [
        "due",
        1
      ]])
    }).pipe(Effect.scoped))

  it.live("OOM for a while → goes on", () =>
    Effect.gen(function*() {
      const log = yield* onServer({ begin: config("maxmemory", "1"), end: config("maxmemory", "0") })
      saidSo(log, "OOM")
    }))

  it.live("NOREPLICAS for a while → goes on", () =>
    Effect.gen(function*() {
      const log = yield* onServer({
        begin: config("min-replicas-to-write", "1"),
        end: config("min-replicas-to-write", "0")
      })
      saidSo(log, "NOREPLICAS")
    }))

  it.live("MISCONF for a while: a snapshot cannot be written → goes on", () =>
    Effect.gen(function*() {
      const { admin, folder } = yield* server
      const inTheWay = path.join(folder, "dump.rdb")
      const saved = (status: string) =>
        Effect.gen(function*() {
          yield* Effect.promise(() => admin.bgsave().catch(() => undefined))
          yield* servers.until(
            Effect.zipWith(
              Effect.flatMap(server, (one) => servers.about(one, "persistence", "rdb_last_bgsave_status")),
              Effect.flatMap(server, (one) => servers.about(one, "persistence", "rdb_bgsave_in_progress")),
              (last, running) => last === status && running === "0"
            )
          )
        })
      yield* config("save", "3600 1000000")
      const log = yield* onServer({
        begin: Effect.andThen(
          Effect.sync(() => mkdirSync(path.join(inTheWay, "full"), { recursive: true })),
          saved("err")
        ),
        end: Effect.andThen(
          Effect.sync(() => {
            rmdirSync(path.join(inTheWay, "full"))
            rmdirSync(inTheWay)
          }),
          saved("ok")
        )
      })
      yield* config("save", "")
      saidSo(log, "MISCONF")
    }))

  it.live("BUSY for a while: somebody runs a script that does not end → goes on", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const other = admin.duplicate()
      yield* Effect.addFinalizer(() => Effect.sync(() => other.disconnect()))
      const log = yield* onServer({
        begin: Effect.sync(() => void other.eval("while true do end", 0).catch(() => {})),
        end: Effect.promise(() => admin.script("KILL"))
      })
      saidSo(log, "BUSY")
    }).pipe(Effect.scoped))
})

// ---------------------------------------------------------------------------------------------------------------------
// the network
// ---------------------------------------------------------------------------------------------------------------------

const proxied = (fault: (proxy: proxies.Proxy) => Omit<Scenario, "url">) =>
  Effect.scoped(Effect.gen(function*() {
    const proxy = yield* proxies.make((yield* server).port)
    return yield* survives({ ...fault(proxy), url: proxy.url })
  }))

describe("the network", () => {
  it.live("is cut for a while → goes on", () =>
    Effect.gen(function*() {
      const log = yield* proxied(({ cut, refuse }) => ({
        begin: Effect.andThen(refuse(true), cut),
        end: refuse(false)
      }))
      saidSo(log, "trying again")
    }))

  it.live("is slow for a while → goes on, and nobody notices", () =>
    Effect.gen(function*() {
      const log = yield* proxied(({ delay }) => ({ begin: delay(100), end: delay(0) }))
      assert.deepStrictEqual(log.lines.filter((line) => line.includes("trying again")), [])
    }))

  it.live("is half open → noticed within seconds, and goes on", () =>
    Effect.gen(function*() {
      const log = yield* proxied(({ halfOpen }) => ({ begin: halfOpen, repeats: true }))
      saidSo(log, "trying again")
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// failover
// ---------------------------------------------------------------------------------------------------------------------

describe("failover", () => {
  const sentinel = servers.shared(servers.sentinel)
  const cluster = servers.shared(servers.cluster)

  it.live("Sentinels make the replica the master when the master is killed → goes on", () =>
    Effect.gen(function*() {
      const { master, url } = yield* sentinel
      const old = yield* master
      // what the replica had not heard of when the master died is done again
      const log = yield* survives({ url, begin: old.stop("SIGKILL"), repeats: true })
      assert.notStrictEqual((yield* master).port, old.port)
      saidSo(log, "trying again")
    }))

  it.live("a replica of the cluster takes over from its master → goes on, nothing repeated", () =>
    Effect.gen(function*() {
      const { nodes, url } = yield* cluster
      const before = yield* Effect.forEach(nodes, (node) => servers.about(node, "replication", "role"))
      const takeOver = Effect.forEach(nodes.slice(3), ({ admin }) => Effect.promise(() => admin.cluster("FAILOVER")))
      yield* survives({ url, begin: takeOver })
      const after = yield* Effect.forEach(nodes, (node) => servers.about(node, "replication", "role"))
      assert.notDeepEqual(after, before)
    }))

  it.live("slots move to another node → goes on, nothing repeated", () =>
    Effect.gen(function*() {
      const { nodes, url } = yield* cluster
      yield* survives({ url, begin: moveSlots(nodes) })
    }))
})

/** Moves each slot that has keys to the next master. */
const moveSlots = Effect.fnUntraced(function*(nodes: ReadonlyArray<servers.Server>) {
  const roles = yield* Effect.forEach(nodes, (node) => servers.about(node, "replication", "role"))
  const masters = nodes.filter((_, index) => roles[index] === "master")
  const ids = yield* Effect.forEach(masters, servers.nodeId)
  for (const [index, source] of masters.entries()) {
    const target = masters[(index + 1) % masters.length]!
    const sourceId = ids[index]!
    const targetId = ids[(index + 1) % masters.length]!
    const keys = yield* Effect.promise(() => source.admin.keys("docket:*"))
    const slots = new Set(
      yield* Effect.promise(() =>
        Promise.all(keys.map((key) => source.admin.cluster("KEYSLOT", key) as Promise<number>))
      )
    )
    for (const slot of slots) {
      yield* Effect.promise(() => target.admin.cluster("SETSLOT", slot, "IMPORTING", sourceId))
      yield* Effect.promise(() => source.admin.cluster("SETSLOT", slot, "MIGRATING", targetId))
      while (true) {
        const some = yield* Effect.promise(() =>
          source.admin.cluster("GETKEYSINSLOT", slot, 3) as Promise<ReadonlyArray<string>>
        )
        if (some.length === 0) break
        yield* Effect.promise(() =>
          source.admin.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", ...some) as Promise<unknown>
        )
        // half of the keys are here, half there
        yield* Effect.sleep(10)
      }
      for (const { admin } of [target, source, ...masters]) {
        yield* Effect.promise(() => admin.cluster("SETSLOT", slot, "NODE", targetId))
      }
    }
    if (slots.size > 0) return
  }
})
