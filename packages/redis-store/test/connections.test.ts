/**
 * Ways to a server, and what is said when there is none.
 */
import { type DocketError } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import type { DocketStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Redacted, Result } from "effect"
import { Cluster, Redis } from "ioredis"
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { createServer, type Socket } from "node:net"
import * as path from "node:path"
import { parse } from "../src/internal/address.ts"
import { format } from "../src/internal/layout.ts"
import { rule } from "./acl.ts"
import { addWork, docketIn, logs, unavailable, uniqueName } from "./kit.ts"
import * as processes from "./processes.ts"
import * as servers from "./server.ts"
import { Works } from "./work.ts"

const secret = "s3cr3t"

type StoreLayer = Layer.Layer<DocketStore.DocketStore, DocketError.DocketError | Config.ConfigError>

/** Adds a run, which the server has to have afterwards. */
const use = (store: StoreLayer) =>
  Effect.flatMap(Effect.sync(uniqueName), (name) =>
    addWork(1, 0).pipe(
      Effect.map((run) => assert.strictEqual(run.key, "1")),
      Effect.provide(Works.client.pipe(Layer.provideMerge(docketIn(store, name))))
    ))

const failing = (store: StoreLayer): Effect.Effect<DocketError.DocketError> =>
  Effect.flip(use(store)).pipe(
    Effect.orDie,
    Effect.filterOrElse((error) => error._tag === "DocketError", Effect.die)
  )

const at = (url: string) => RedisStore.layer({ url })

const server = servers.shared(servers.start({
  config: [`unixsocket $DIR/redis.sock`, `user docket on >${secret} ${rule}`, `user other on >${secret} +@all ~*`]
}))
const sentinel = servers.shared(servers.sentinel)
const cluster = servers.shared(servers.cluster)

describe("connecting", () => {
  it.live("by URL: a host, with a database, with a user, in a Redacted", () =>
    Effect.gen(function*() {
      const { admin, port, url } = yield* server
      yield* use(at(url))
      yield* use(at(`${url}/3`))
      assert.include(yield* Effect.promise(() => admin.info("keyspace")), "db3:")
      yield* use(at(`redis://docket:${secret}@127.0.0.1:${port}`))
      yield* use(RedisStore.layer({ url: Redacted.make(`redis://docket:${secret}@localhost:${port}/0`) }))
    }))

  it.live("by URL: a unix socket, Sentinels, a cluster", () =>
    Effect.gen(function*() {
      yield* use(at(`unix://${(yield* server).folder}/redis.sock?db=1`))
      yield* use(at((yield* sentinel).url))
      yield* use(at((yield* cluster).url))
    }))

  it.live("by the options of ioredis", () =>
    Effect.flatMap(
      server,
      ({ port }) => use(RedisStore.layer({ host: "127.0.0.1", port, username: "docket", password: secret }))
    ))

  it.live("by configuration", () =>
    Effect.gen(function*() {
      const { port, url } = yield* server
      const env = (REDIS_URL: string) => ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS_URL, PORT: port }))
      const config = { url: Config.Redacted("REDIS_URL") }
      yield* use(RedisStore.layerConfig(config).pipe(Layer.provide(env(url))))
      const options = Config.map(Config.Port("PORT"), (port) => ({ host: "127.0.0.1", port }))
      yield* use(RedisStore.layerConfig(options).pipe(Layer.provide(env(url))))
      const error = yield* failing(
        RedisStore.layerConfig(config).pipe(Layer.provide(env(`redis://docket:${secret}@127.0.0.1:99999`)))
      )
      assert.strictEqual(error.reason._tag, "InvalidOption")
      assert.notInclude(error.message, secret)
    }))

  it.live("by a client of the application, which stays open; what the store opened beside it is closed", () =>
    Effect.gen(function*() {
      const { admin, port } = yield* server
      const { nodes } = yield* cluster
      const count = Effect.promise(async () => (await admin.client("LIST") as string).trim().split("\n").length)
      const before = yield* count
      const single = new Redis({ host: "127.0.0.1", port })
      const clustered = new Cluster([{ host: "127.0.0.1", port: nodes[0]!.port }])
      for (const client of [single, clustered]) {
        yield* use(RedisStore.layerClient(client))
        assert.strictEqual(yield* Effect.promise(() => client.get("nothing")), null)
        assert.strictEqual(client.status, "ready")
      }
      yield* servers.until(Effect.map(count, (n) => n <= before + 1))
      single.disconnect()
      clustered.disconnect()
    }))

  it.live("building and closing ten times leaves no connection", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* server
      const count = Effect.promise(async () => (await admin.client("LIST") as string).trim().split("\n").length)
      const before = yield* count
      yield* Effect.repeat(use(at(url)), { times: 9 })
      yield* servers.until(Effect.map(count, (n) => n <= before))
    }))

  it.live("over TLS, with a certificate that has to be trusted", () =>
    Effect.gen(function*() {
      const folder = yield* processes.makeFolder
      const file = (name: string) => path.join(folder, name)
      execFileSync("openssl", [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        file("key.pem"),
        "-out",
        file("cert.pem"),
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1"
      ], { stdio: "ignore" })
      const ca = readFileSync(file("cert.pem"))
      const { port } = yield* servers.start({
        isPlain: false,
        config: [
          "port 0",
          "tls-port $PORT",
          `tls-cert-file ${file("cert.pem")}`,
          `tls-key-file ${file("key.pem")}`,
          "tls-auth-clients no"
        ],
        admin: { tls: { ca } }
      })
      yield* use(RedisStore.layer({ host: "127.0.0.1", port, tls: { ca } }))
      const message = unavailable(yield* failing(at(`rediss://127.0.0.1:${port}`)))
      assert.include(message, `127.0.0.1:${port}`)
      assert.include(message, "self-signed certificate")
    }))
})

describe("what is wrong is said", () => {
  const wrong: ReadonlyArray<readonly [what: string, url: string]> = [
    ["no scheme", `user:${secret}@host`],
    ["another scheme", `http://user:${secret}@host`],
    ["a port that is no number", `redis://user:${secret}@host:port`],
    ["a port that is too large", `redis://user:${secret}@host:65536`],
    ["several hosts", `redis://user:${secret}@one,two`],
    ["Sentinels without the name of a master", `redis+sentinel://user:${secret}@one,two`],
    ["a database that is none", `redis://user:${secret}@host/db`],
    ["a negative database", `redis://user:${secret}@host/-1`],
    ["a password with an @", `redis://user:${secret}@${secret}@host`],
    ["a password with a slash", `redis://user:${secret}/${secret}@host`],
    ["a lone percent sign", `redis://user:${secret}%@host`]
  ]
  for (const [what, url] of wrong) {
    it.live(`a URL with ${what} → InvalidOption, which does not repeat it`, () =>
      Effect.gen(function*() {
        const error = yield* failing(at(url))
        assert.strictEqual(error.reason._tag, "InvalidOption")
        assert.include(error.message, "option `url`")
        assert.notInclude(JSON.stringify(error), secret)
        assert.notInclude(error.message, secret)
      }))
  }

  it("reads what a URL says", () => {
    const read = (url: string) => Result.getOrThrow(parse(url))
    assert.deepInclude(read("rediss://u:p%40ss@[::1]:7000/2"), {
      kind: "single",
      nodes: [{ host: "::1", port: 7000 }],
      username: "u",
      password: "p@ss",
      db: 2,
      tls: true
    })
    assert.deepInclude(read("redis://u:p?q@host"), { username: "u", password: "p?q" })
    assert.deepInclude(read("redis://:p@host"), { username: undefined, password: "p", db: 0, tls: false })
    assert.deepInclude(read("redis+sentinel://a,b:1/main?db=4"), {
      kind: "sentinel",
      nodes: [{ host: "a", port: 26379 }, { host: "b", port: 1 }],
      master: "main",
      db: 4
    })
    assert.deepInclude(read("rediss+cluster://a,b"), { kind: "cluster", tls: true })
    assert.deepInclude(read("unix:///run/redis.sock"), { kind: "socket", path: "/run/redis.sock" })
  })

  it.live("nobody listens → StoreUnavailable that names host and port, within the time", () =>
    Effect.gen(function*() {
      const port = yield* servers.freePort
      const urls = [
        `redis://127.0.0.1:${port}`,
        `redis+sentinel://127.0.0.1:${port}/main`,
        `redis+cluster://127.0.0.1:${port}`
      ]
      yield* Effect.forEach(urls, (url) =>
        Effect.gen(function*() {
          const message = unavailable(yield* Effect.timeout(failing(at(url)), "45 seconds").pipe(Effect.orDie))
          assert.include(message, `127.0.0.1:${port}`, url)
        }), { concurrency: 3 })
    }))

  it.live("somebody listens and says nothing → StoreUnavailable within the time", () =>
    Effect.gen(function*() {
      const sockets = new Set<Socket>()
      const silent = createServer((socket) => sockets.add(socket))
      const port = yield* servers.freePort
      yield* Effect.acquireRelease(
        Effect.sync(() => silent.listen(port, "127.0.0.1")),
        () =>
          Effect.sync(() => {
            for (const socket of sockets) socket.destroy()
            silent.close()
          })
      )
      const message = unavailable(
        yield* Effect.timeout(failing(at(`redis://127.0.0.1:${port}`)), "45 seconds").pipe(Effect.orDie)
      )
      assert.include(message, `127.0.0.1:${port}`)
    }))

  it.live("a wrong password, or a user who may not → StoreUnavailable without the password", () =>
    Effect.gen(function*() {
      const { port } = yield* server
      const log = logs()
      for (const user of ["docket:wrong", "nobody:wrong"]) {
        const error = yield* Effect.provide(failing(at(`redis://${user}@127.0.0.1:${port}`)), log.layer)
        const message = unavailable(error)
        assert.include(message, `127.0.0.1:${port}`)
        assert.include(message, "WRONGPASS")
        assert.notInclude(JSON.stringify(error), ":wrong")
      }
      assert.notInclude(log.lines.join("\n"), ":wrong")
    }))

  it.live("a docket that another version of the library has written → IncompatibleStore", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* server
      const name = uniqueName()
      yield* Effect.promise(() => admin.hset(`docket:{${name}}:meta`, "format", "0"))
      const error = yield* Effect.flip(Effect.scoped(Layer.build(docketIn(at(url), name))))
      assert.deepInclude(error.reason, { _tag: "IncompatibleStore", found: "0", expected: format })
    }))

  it.live("settings that lose runs → a warning each, where the user may read them", () =>
    Effect.gen(function*() {
      const { admin, port, url: limited } = yield* servers.start()
      const url = `redis://127.0.0.1:${port}`
      const warnings = (url: string) => {
        const log = logs()
        return Effect.as(Effect.provide(use(at(url)), log.layer), log)
      }
      const off = yield* warnings(url)
      assert.strictEqual(off.count("Warn: "), 1)
      assert.strictEqual(off.count("appendonly is off"), 1)
      yield* Effect.promise(() => admin.config("SET", "maxmemory-policy", "allkeys-lru"))
      assert.strictEqual((yield* warnings(url)).count("maxmemory-policy is allkeys-lru"), 1)
      assert.deepStrictEqual((yield* warnings(limited)).lines, [])
      yield* Effect.promise(() => admin.config("SET", "maxmemory-policy", "noeviction"))
      yield* Effect.promise(() => admin.config("SET", "appendonly", "yes"))
      assert.deepStrictEqual((yield* warnings(url)).lines, [])
    }))

  it("the documentation grants what the tests run with", () => {
    const text = readFileSync(path.join(import.meta.dirname, "../../../docs/redis.md"), "utf8")
    assert.include(text.replaceAll(/\s*\\\n\s*/g, " "), rule)
  })
})
