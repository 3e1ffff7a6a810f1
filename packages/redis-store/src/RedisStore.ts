/**
 * A store in Redis, on ioredis: a single server, behind Sentinel, or a cluster.
 *
 * Every operation is one script or a few commands, and times are those of the server. A docket lies in one slot of a cluster;
 * its keys are listed in `internal/layout.ts`.
 *
 * @since 0.1.0
 */
import { DocketError } from "@effect-docket/dsl"
import { DocketStore } from "@effect-docket/runtime"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { type Address, parse } from "./internal/address.ts"
import * as connection from "./internal/connection.ts"
import * as docket from "./internal/docket.ts"
import { format, makeKeys } from "./internal/layout.ts"
import * as listener from "./internal/listener.ts"

/**
 * By URL, or the options of ioredis for a single server or Sentinel. URLs: `redis://user:password@host:6379/0` and
 * `rediss://` with TLS, `unix:///path`, `redis+sentinel://host:26379,host:26379/master`, `redis+cluster://host:7000,host:7000`.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = { readonly url: string | Redacted.Redacted<string> } | RedisOptions

// A command that gets no answer for so long has failed, and its socket is replaced: that is how a half-open one is noticed.
const answerMillis = 5000

/** Of every connection, where the application says nothing else. */
const defaults = {
  replyMapping: "legacy",
  lazyConnect: true,
  connectTimeout: answerMillis,
  socketTimeout: answerMillis,
  keepAlive: 10_000,
  // a worker tries again by itself, and a producer wants to know: sent again unasked, an addition would meet its own run
  maxRetriesPerRequest: 0,
  // a server that loads guesses how long it will, and guesses badly
  maxLoadingRetryTime: 1000,
  // up to two seconds, and not all at the same instant
  retryStrategy: (times: number) => Math.min(2000, 50 * 2 ** Math.min(times, 6)) * (0.5 + (times * 0.618) % 0.5)
} as const satisfies RedisOptions

const ofAddress = ({ db, kind, master, nodes, password, path, tls, username }: Address): connection.Client => {
  const account: Pick<RedisOptions, "username" | "password" | "tls"> = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: {} } : {})
  }
  switch (kind) {
    case "single":
      return new Redis({ ...defaults, ...account, ...nodes[0], db })
    case "socket":
      return new Redis({ ...defaults, ...account, path, db })
    case "sentinel":
      return new Redis({
        ...defaults,
        ...account,
        sentinels: nodes.map(({ host, port }) => ({ host, port })),
        name: master!, // `parse` asks for it
        db,
        ...(tls ? { enableTLSForSentinelMode: true } : {})
      })
    case "cluster":
      return new Cluster(nodes.map(({ host, port }) => ({ host, port })), {
        lazyConnect: true,
        slotsRefreshTimeout: answerMillis,
        // nor here is anything sent again unasked; who does finds the new master by asking any of them
        retryDelayOnFailover: 0,
        clusterRetryStrategy: defaults.retryStrategy,
        redisOptions: { ...defaults, ...account }
      })
  }
}

/** The store of a client. `where` names the server in errors and logs. */
const make = Effect.fnUntraced(function*(client: connection.Client, where: string) {
  const shared = yield* connection.make(client, where)
  return DocketStore.DocketStore.of({
    docket: Effect.fnUntraced(function*({ name, prefix }) {
      const keys = makeKeys(prefix, name)
      const found = yield* shared.use(
        "open",
        (client) => client.hsetnx(keys.base[0]!, "format", format).then(() => client.hget(keys.base[0]!, "format"))
      )
      if (found !== format) {
        return yield* new DocketError.DocketError({
          operation: "open",
          reason: new DocketError.IncompatibleStore({ found: String(found), expected: format })
        })
      }
      return docket.make({
        name,
        keys,
        connection: shared,
        listener: yield* listener.make(shared, keys)
      })
    })
  })
})

/** Settings with which a server forgets runs, and what to do. */
const risks: ReadonlyArray<
  readonly [setting: string, isRisky: (value: string) => boolean, advice: (value: string) => string]
> = [
  [
    "maxmemory-policy",
    (value) => value !== "noeviction",
    (value) => `maxmemory-policy is ${value}: it removes runs when memory is short. Set it to noeviction`
  ],
  [
    "appendonly",
    (value) => value === "no",
    () => "appendonly is off: a restart loses what came after the last snapshot. Set it to yes"
  ]
]

/** Warns of settings that lose runs, where this user may read them. */
const warn = (client: connection.Client, where: string): Effect.Effect<void> =>
  Effect.forEach(risks, ([setting, isRisky, advice]) =>
    Effect.flatMap(
      connection.use("connect", where, () => client.config("GET", setting) as Promise<ReadonlyArray<string>>), // name, value
      ([, value]) =>
        value !== undefined && isRisky(value) ? Effect.logWarning(`Redis at ${where}: ${advice(value)}`) : Effect.void
    ), { discard: true }).pipe(Effect.ignore)

const invalid = (message: string) =>
  new DocketError.DocketError({
    operation: "RedisStore.layer",
    reason: new DocketError.InvalidOption({ option: "url", message: `option \`url\`: ${message}` })
  })

const whereOf = (address: Address): string =>
  address.kind === "socket" ? address.path : address.nodes.map(({ host, port }) => `${host}:${port}`).join(",")

const connect = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<DocketStore.DocketStore["Service"], DocketError.DocketError, Scope.Scope> {
  const url = Predicate.hasProperty(options, "url") ? options.url as string | Redacted.Redacted<string> : undefined // a member of the union
  const address = url === undefined ? undefined : parse(Redacted.isRedacted(url) ? Redacted.value(url) : url)
  if (address !== undefined && Result.isFailure(address)) return yield* invalid(address.failure)
  const client = yield* Effect.acquireRelease(
    Effect.sync(() =>
      address === undefined
        ? new Redis({ ...defaults, ...options as RedisOptions, replyMapping: "legacy" })
        : ofAddress(address.success)
    ), // the other member
    (client) => Effect.sync(() => client.disconnect())
  )
  const where = address !== undefined
    ? whereOf(address.success)
    : client instanceof Redis
    ? client.options.path ?? `${client.options.host}:${client.options.port}`
    : "cluster"
  const store = yield* make(client, where)
  // what the connection says is more than that it is closed
  let said: Error | undefined
  client.on("error", (error: Error) => {
    said = error
  })
  yield* connection.use("connect", where, () => client.connect().catch((error) => Promise.reject(said ?? error)))
  yield* warn(client, where)
  return store
})

/**
 * Connects on build and disconnects on close. Fails with reason `StoreUnavailable` if the server does not answer,
 * `InvalidOption` if the URL is none, and `IncompatibleStore`, when a docket is opened, if another version of the library has
 * written it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<DocketStore.DocketStore, DocketError.DocketError> =>
  Layer.effect(DocketStore.DocketStore, connect(options))

/**
 * `layer` from configuration: `RedisStore.layerConfig({ url: Config.Redacted("REDIS_URL") })`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config<Options> | { readonly url: Config.Config<string | Redacted.Redacted<string>> }
): Layer.Layer<DocketStore.DocketStore, Config.ConfigError | DocketError.DocketError> =>
  Layer.effect(
    DocketStore.DocketStore,
    Effect.flatMap(Config.isConfig(config) ? config : Config.map(config.url, (url): Options => ({ url })), connect)
  )

/**
 * Uses a connection of the application. It is not closed; the connections that the store makes beside it are.
 *
 * Give it `maxRetriesPerRequest: 0`, and a cluster `retryDelayOnFailover: 0` as well: otherwise ioredis sends a command again
 * whose connection was lost, and an addition that was written both times meets its own run, or adds it again if that has
 * ended meanwhile. With `socketTimeout` it notices a connection that is half open.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (client: Redis | Cluster): Layer.Layer<DocketStore.DocketStore, DocketError.DocketError> =>
  Layer.effect(
    DocketStore.DocketStore,
    Effect.suspend(() => {
      const where = client instanceof Redis
        ? client.options.path ?? `${client.options.host}:${client.options.port}`
        : "cluster"
      // it may not be connected yet
      return Effect.tap(make(client, where), () => Effect.forkScoped(warn(client, where)))
    })
  )
