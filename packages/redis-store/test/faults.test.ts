/**
 * A server that is killed, loads, refuses to write, is busy, forgets its scripts or its clients.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { DocketStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { mkdirSync, rmSync } from "node:fs"
import * as path from "node:path"
import { addition, attachTo } from "../../runtime/test/contract/seam.ts"
import { uniqueName } from "./kit.ts"
import { atMost, nothing, once, type Scenario, survives } from "./scenario.ts"
import * as servers from "./server.ts"

// a thousand keys take two seconds to load, and the server answers meanwhile, if only that it loads
const slowly = ["key-load-delay 2000", "loading-process-events-interval-bytes 1024"]
const lasting = ["appendonly yes", "appendfsync always"]

const server = servers.shared(servers.start({
  config: [...lasting, ...slowly, "lua-time-limit 50", ...servers.debugging()]
}))

const config = (name: string, value: string) =>
  Effect.flatMap(server, ({ admin }) => Effect.promise(() => admin.config("SET", name, value)))

const onServer = (fault: Omit<Scenario, "store">) =>
  Effect.flatMap(server, ({ url }) => survives({ ...fault, store: RedisStore.layer({ url }) }))

const fill = (keys: number) =>
  Effect.flatMap(
    server,
    ({ admin }) =>
      Effect.promise(() =>
        admin.eval("for i = 1, ARGV[1] do redis.call('SET', 'other:' .. i, string.rep('x', 100)) end", 0, keys)
      )
  )

/** Makes the file one that is read in small pieces. */
const rewrite = Effect.flatMap(server, (one) =>
  Effect.andThen(
    Effect.promise(() => one.admin.bgrewriteaof()),
    servers.until(Effect.zipWith(
      servers.about(one, "persistence", "aof_rewrite_scheduled"),
      servers.about(one, "persistence", "aof_rewrite_in_progress"),
      (scheduled, running) => scheduled === "0" && running === "0"
    ))
  ))

const unfill = Effect.flatMap(
  server,
  ({ admin }) =>
    Effect.promise(() =>
      admin.eval("for _, key in ipairs(redis.call('KEYS', 'other:*')) do redis.call('DEL', key) end", 0)
    )
)

const loads = Effect.flatMap(
  server,
  (one) => Effect.map(servers.about(one, "persistence", "loading"), (loading) => loading === "1")
)

describe("the server", () => {
  it.live("killed and started again with an append-only file → goes on", () =>
    Effect.flatMap(server, ({ start, stop }) =>
      // with renewals
      onServer({
        begin: () => stop("SIGKILL"),
        end: start,
        millis: 1500,
        lease: 3000,
        losesLeases: true,
        says: once()
      })))

  it.live("killed and started again, LOADING for two seconds → goes on when it has loaded", () =>
    Effect.gen(function*() {
      const { start, stop } = yield* server
      yield* fill(1000)
      yield* rewrite
      yield* onServer({
        begin: () => stop("SIGKILL"),
        end: start,
        millis: 700,
        lease: 4000,
        losesLeases: true,
        says: once()
      })
      yield* unfill
    }))

  it.live("LOADING while its clients are connected → goes on when it has loaded", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const other = admin.duplicate({ commandTimeout: 30_000 })
      yield* Effect.addFinalizer(() => Effect.sync(() => other.disconnect()))
      yield* fill(500)
      // as long as the test wants
      yield* config("key-load-delay", "100000")
      yield* onServer({
        begin: () =>
          Effect.andThen(Effect.forkChild(Effect.promise(() => other.call("DEBUG", "RELOAD"))), servers.until(loads)),
        end: Effect.andThen(config("key-load-delay", "0"), servers.until(Effect.map(loads, (loading) => !loading))),
        says: once("LOADING")
      })
      yield* unfill
    }).pipe(Effect.scoped))

  it.live("all clients are killed, again and again → goes on, nothing repeated", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const kill = Effect.promise(async () => {
        await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await admin.call("CLIENT", "KILL", "TYPE", "pubsub")
      })
      yield* onServer({
        during: Effect.repeat(Effect.andThen(kill, Effect.sleep(50)), { times: 4 }),
        lease: 4000,
        says: atMost(5)
      })
    }))

  it.live("the scripts are flushed, again and again → nobody notices", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const flush = Effect.promise(() => admin.script("FLUSH"))
      yield* onServer({
        during: Effect.repeat(Effect.andThen(flush, Effect.sleep(10)), { times: 20 }),
        says: {
          ...nothing,
          inTheEnd: (log) =>
            Effect.andThen(nothing.inTheEnd(log), Effect.sync(() => assert.strictEqual(log.count("Warn: "), 0)))
        }
      })
    }))

  it.live("READONLY for a while → goes on", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const nowhere = yield* servers.freePort
      yield* onServer({
        begin: () => Effect.promise(() => admin.replicaof("127.0.0.1", nowhere)),
        end: Effect.promise(() => admin.replicaof("NO", "ONE")),
        says: once("READONLY")
      })
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
      // the one that was ready first
      assert.deepStrictEqual((yield* worker.claim(1)).map(({ key }) => key), ["abandoned"])
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
    onServer({ begin: () => config("maxmemory", "1"), end: config("maxmemory", "0"), says: once("OOM") }))

  it.live("NOREPLICAS for a while → goes on", () =>
    onServer({
      begin: () => config("min-replicas-to-write", "1"),
      end: config("min-replicas-to-write", "0"),
      says: once("NOREPLICAS")
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
      rmSync(inTheWay, { force: true })
      yield* onServer({
        begin: () =>
          Effect.andThen(
            Effect.sync(() => mkdirSync(path.join(inTheWay, "full"), { recursive: true })),
            saved("err")
          ),
        end: Effect.andThen(Effect.sync(() => rmSync(inTheWay, { recursive: true })), saved("ok")),
        says: once("MISCONF")
      })
      yield* config("save", "")
    }))

  it.live("BUSY for a while: somebody runs a script that does not end → goes on", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const other = admin.duplicate()
      yield* Effect.addFinalizer(() => Effect.sync(() => other.disconnect()))
      const isBusy = Effect.promise(() => admin.ping().then(() => false, (error) => String(error).includes("BUSY")))
      yield* onServer({
        begin: () =>
          Effect.andThen(
            Effect.sync(() => void other.eval("while true do end", 0).catch(() => {})),
            servers.until(isBusy)
          ),
        end: Effect.promise(() => admin.script("KILL")),
        says: once("BUSY")
      })
    }).pipe(Effect.scoped))
})
