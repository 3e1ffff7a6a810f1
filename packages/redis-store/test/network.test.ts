/**
 * A network that is cut, slow, or silent without an end.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { DocketStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Queue, Result, Schedule, type Scope } from "effect"
import { Cluster, Redis } from "ioredis"
import { addition, attachTo } from "../../runtime/test/contract/seam.ts"
import { uniqueName } from "./kit.ts"
import * as proxies from "./proxy.ts"
import { nothing, once, type Scenario, survives } from "./scenario.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start())

const proxied = (fault: (proxy: proxies.Proxy) => Omit<Scenario, "store">) =>
  Effect.scoped(Effect.gen(function*() {
    const proxy = yield* proxies.make((yield* server).port)
    yield* survives({ ...fault(proxy), store: RedisStore.layer({ url: proxy.url }) })
  }))

describe.concurrent("the network", () => {
  it.live("is cut for a while → goes on, nothing repeated", () =>
    proxied(({ cut, refuse }) => ({
      begin: () => Effect.andThen(refuse(true), cut),
      end: refuse(false),
      lease: 4000,
      says: once()
    })))

  it.live("is slow for a while → goes on, and nobody notices", () =>
    proxied(({ delay }) => ({ begin: () => delay(100), end: delay(0), says: nothing })))

  it.live("is half open → noticed within seconds, and goes on; what is repeated had lost its lease", () =>
    proxied(({ halfOpen }) => ({ begin: () => halfOpen, lease: 4000, losesLeases: true, says: once() })))

  it.live("is half open for less than a lease → goes on, nothing repeated", () =>
    proxied(({ halfOpen }) => ({ begin: () => halfOpen, says: once() })))
})

// ---------------------------------------------------------------------------------------------------------------------
// single servers and clusters
// ---------------------------------------------------------------------------------------------------------------------

interface Target {
  readonly admin: Redis
  readonly proxy: proxies.Proxy
  readonly url: string
  /** A client of the application that leaves everything as ioredis has it. */
  readonly client: () => Redis | Cluster
}

const single: Effect.Effect<Target, never, Scope.Scope> = Effect.gen(function*() {
  const { admin, port } = yield* servers.start()
  const proxy = yield* proxies.make(port)
  return { admin, proxy, url: proxy.url, client: () => new Redis({ port: proxy.port, lazyConnect: true }) }
})

const clustered: Effect.Effect<Target, never, Scope.Scope> = Effect.gen(function*() {
  const own = yield* servers.freePort
  const { admin, port } = yield* servers.clusterOfOne(own)
  const proxy = yield* proxies.make(port, own)
  return {
    admin,
    proxy,
    url: `redis+cluster://127.0.0.1:${own}`,
    client: () => new Cluster([{ host: "127.0.0.1", port: own }], { lazyConnect: true })
  }
})

const open = (store: Layer.Layer<DocketStore.DocketStore, unknown>, name = uniqueName()) =>
  Effect.flatMap(
    Layer.build(Layer.fresh(store)),
    (context) =>
      Effect.provide(DocketStore.DocketStore.use((store) => store.docket({ name, prefix: "docket" })), context)
  )

/** How many scripts a server has run since the effect was made. */
const countScripts = Effect.fnUntraced(function*(admin: Redis) {
  yield* Effect.promise(() => admin.config("RESETSTAT"))
  const count = (text: string) =>
    Array.from(text.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)).reduce((sum, [, n]) => sum + Number(n), 0)
  return { now: Effect.map(Effect.promise(() => admin.info("commandstats")), count) }
})

/** Loses the answer to what it does: the server has done it, and the connection ends. */
const unanswered = Effect.fnUntraced(function*<A, E>({ admin, proxy }: Target, effect: Effect.Effect<A, E>) {
  const scripts = yield* countScripts(admin)
  yield* proxy.mute(true)
  const fiber = yield* Effect.forkChild(Effect.result(effect), { startImmediately: true })
  yield* servers.until(Effect.map(scripts.now, (count) => count === 1))
  yield* proxy.mute(false)
  yield* proxy.cut
  return { result: yield* Fiber.join(fiber), scripts }
})

for (const [what, target] of [["a single server", single], ["a cluster", clustered]] as const) {
  describe.concurrent(what, () => {
    it.live("a lost answer → nothing is sent again unasked: an addition fails, a settlement sent again is a duplicate", () =>
      Effect.gen(function*() {
        const it = yield* target
        const store = yield* open(RedisStore.layer({ url: it.url }))
        const worker = yield* attachTo(store)
        yield* store.add([addition("before")], { atomic: true })
        const claim = yield* worker.claimOne
        const added = yield* unanswered(it, store.add([addition("k")], { atomic: true }))
        assert.isTrue(Result.isFailure(added.result) && added.result.failure.reason._tag === "StoreUnavailable")
        // it is connected again
        yield* servers.until(Effect.isSuccess(store.get("k")))
        yield* Effect.sleep(300)
        assert.strictEqual(yield* added.scripts.now, 1)
        assert.deepInclude(yield* store.get("k"), { state: "Ready", attempt: 0 })
        const settled = yield* unanswered(it, worker.complete(claim))
        assert.isTrue(Result.isFailure(settled.result))
        yield* servers.until(Effect.isSuccess(store.get("k")))
        assert.strictEqual(yield* settled.scripts.now, 1)
        assert.strictEqual(yield* worker.complete(claim), "Duplicate")
      }).pipe(Effect.scoped))

    it.live("a lost answer, and a client of the application that sends again → the addition meets its own run", () =>
      Effect.gen(function*() {
        const it = yield* target
        const client = it.client()
        yield* Effect.addFinalizer(() => Effect.sync(() => client.disconnect()))
        const store = yield* open(RedisStore.layerClient(client))
        yield* store.add([addition("before")], { atomic: true })
        const { result, scripts } = yield* unanswered(it, store.add([addition("k")], { atomic: true }))
        assert.strictEqual(Result.getOrThrow(result)[0]?.disposition, "Existing")
        assert.strictEqual(yield* scripts.now, 2)
      }).pipe(Effect.scoped))

    it.live("a strike while a worker is cut off → it claims nothing that the strike stops, and hears why", () =>
      Effect.gen(function*() {
        const { admin, proxy, url } = yield* target
        const near = `redis://${servers.user}127.0.0.1:${admin.options.port}`
        const name = uniqueName()
        const far = yield* open(RedisStore.layer({ url }), name)
        const worker = yield* attachTo(far)
        yield* worker.turn({ capacity: 1 })
        yield* proxy.refuse(true)
        yield* proxy.cut
        const operator = yield* open(RedisStore.layer({ url: near }), name)
        const [added] = yield* operator.add([addition("k")], { atomic: true })
        yield* operator.strike({ task: "T", where: [], reason: "broken", author: "grace", until: undefined })
        yield* proxy.refuse(false)
        const claims = yield* Effect.retry(worker.claim(), { schedule: Schedule.spaced(50) })
        assert.deepStrictEqual(claims, [])
        assert.deepStrictEqual(yield* far.awaitOutcome("k", added!.generation), {
          _tag: "Struck",
          reason: "broken",
          author: "grace"
        })
      }).pipe(Effect.scoped))

    it.live("the connection that listens is half open → events come again within a quarter of a minute", () =>
      Effect.gen(function*() {
        const { proxy, url } = yield* target
        const store = yield* open(RedisStore.layer({ url }))
        const events = yield* store.subscribe(undefined)
        yield* store.add([addition("before")], { atomic: true })
        assert.strictEqual((yield* Queue.take(events)).key, "before")
        yield* proxy.halfOpen
        const adding = Effect.forever(
          Effect.andThen(
            Effect.ignore(Effect.suspend(() => store.add([addition(uniqueName())], { atomic: true }))),
            Effect.sleep(200)
          )
        )
        // a busy machine takes longer; without that it would be a quarter of an hour
        const came = yield* Effect.raceFirst(Effect.timeoutOption(Queue.take(events), "45 seconds"), adding)
        assert.isTrue(Option.isSome(came))
      }).pipe(Effect.scoped))
  })
}
