/**
 * Servers of the tests: single ones, a cluster of six, and one behind three Sentinels, on free ports of this machine.
 */
import { afterAll, beforeAll } from "@effect/vitest"
import { Effect, Exit, Random, Schedule, Scope } from "effect"
import { Redis, type RedisOptions } from "ioredis"
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { createServer } from "node:net"
import * as path from "node:path"
import { rule } from "./acl.ts"
import { findServer } from "./binary.ts"
import * as processes from "./processes.ts"

/** In a URL, the user of the store: it may do nothing but what the documentation grants. */
export const user = "tests:secret@"

// one test has another prefix
const userSetting = `user tests on >secret ${rule} ~other:* &other:*`

/** A server process. */
export interface Server {
  readonly port: number
  readonly folder: string
  /** For the store, as its user. */
  readonly url: string
  /** A connection for the test itself. */
  readonly admin: Redis
  readonly process: () => processes.Running
  /** Ends the process, and waits for that. */
  readonly stop: (signal?: NodeJS.Signals) => Effect.Effect<void>
  /** Starts it again, on the same port and in the same folder. */
  readonly start: Effect.Effect<void>
}

/** Options of a server. */
export interface Options {
  /** Settings, as in its configuration file. */
  readonly config?: ReadonlyArray<string>
  readonly isSentinel?: boolean
  readonly admin?: RedisOptions
  /** Whether it answers in clear on its port. Default true. */
  readonly isPlain?: boolean
}

/** Runs a command of the test. */
export const command = <A>(f: () => Promise<A>): Effect.Effect<A> => Effect.promise(f)

/** What lets a test use DEBUG, where that has to be said: servers before 7.0 do not know the setting. */
export const debugging = (): ReadonlyArray<string> => {
  const version = /v=(\d+)\./.exec(spawnSync(findServer() ?? "", ["--version"], { encoding: "utf8" }).stdout ?? "")
  return Number(version?.[1] ?? 7) >= 7 ? ["enable-debug-command local"] : []
}

/** Waits until something holds that nobody announces. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.asVoid(Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced(20) }))

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

const given = new Set<number>()

// what a cluster adds to a port for its nodes to talk: no port that is given is another one and this
const busOffset = 10_000

/** A port that is free, and so is the one that a cluster of it would use. Below those that the system gives to clients. */
export const freePort: Effect.Effect<number> = Effect.flatMap(Random.nextIntBetween(10_000, 19_999), (port) => {
  if (given.has(port)) return freePort
  given.add(port)
  return Effect.flatMap(
    Effect.all([isFree(port), isFree(port + busOffset)]),
    (free) => free.every(Boolean) ? Effect.succeed(port) : freePort
  )
})

const connect = (port: number, options?: RedisOptions): Redis =>
  new Redis({
    host: "127.0.0.1",
    port,
    lazyConnect: true,
    replyMapping: "legacy",
    retryStrategy: () => 50,
    maxRetriesPerRequest: null,
    // it has to see a server that loads
    enableReadyCheck: false,
    ...options as Omit<RedisOptions, "replyMapping">
  }).on("error", () => {})

/** Starts a server, which ends with the scope. */
export const start = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<Server, never, Scope.Scope> {
  const program = findServer()
  if (program === undefined) return yield* Effect.die("no server program: see globalSetup.ts")
  const scope = yield* Effect.scope
  const folder = yield* processes.makeFolder
  const port = yield* freePort
  const file = path.join(folder, "server.conf")
  writeFileSync(
    file,
    [
      ...(options.isPlain === false ? [] : [`port ${port}`]),
      "bind 127.0.0.1",
      `dir ${folder}`,
      ...(options.isSentinel ? [] : ["save \"\"", "appendonly no", "maxmemory-policy noeviction", userSetting]),
      ...(options.config ?? []).map((line) => line.replaceAll("$PORT", String(port)).replaceAll("$DIR", folder))
    ].join("\n") + "\n"
  )
  const launch = Scope.provide(
    processes.start({
      program,
      args: options.isSentinel ? [file, "--sentinel"] : [file],
      cwd: folder
    }),
    scope
  )
  const admin = yield* Effect.acquireRelease(
    Effect.sync(() => connect(port, options.admin)),
    (admin) => Effect.sync(() => admin.disconnect())
  )
  let running = yield* launch
  /** It answers, if only that it is still loading. */
  const answers = Effect.suspend(() =>
    running.hasEnded()
      ? Effect.die(`the server ended: ${running.output()}`)
      : Effect.promise(() => admin.ping().then(() => true, () => false)).pipe(
        // one whose connection is killed meanwhile may never be answered
        Effect.timeoutOrElse({ duration: 2000, orElse: () => Effect.succeed(false) })
      )
  )
  yield* until(answers)
  return {
    port,
    folder,
    url: `redis://${user}127.0.0.1:${port}`,
    admin,
    process: () => running,
    stop: (signal = "SIGTERM") =>
      Effect.suspend(() => Effect.andThen(running.signal(signal), Effect.asVoid(running.ended))),
    start: Effect.andThen(
      Effect.map(launch, (again) => {
        running = again
      }),
      until(answers)
    )
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// several
// ---------------------------------------------------------------------------------------------------------------------

/** Several servers, by one URL. */
export interface Servers {
  readonly url: string
  readonly nodes: ReadonlyArray<Server>
}

const info = (server: Server, section: string): Effect.Effect<ReadonlyMap<string, string>> =>
  Effect.map(
    command(() => server.admin.info(section)),
    (text) => new Map(text.split("\r\n").map((line) => line.split(":") as [string, string])) // `key:value`
  )

/** A field of the information about a server. */
export const about = (server: Server, section: string, field: string): Effect.Effect<string | undefined> =>
  Effect.map(info(server, section), (fields) => fields.get(field))

const clusterInfo = (server: Server) =>
  Effect.map(
    command(() => server.admin.cluster("INFO") as Promise<string>),
    (text) => new Map(text.split("\r\n").map((line) => line.split(":") as [string, string])) // `key:value`
  )

const slots = 16_384

/** The id of a node in its cluster. */
export const nodeId = (server: Server): Effect.Effect<string> =>
  command(() => server.admin.cluster("MYID") as Promise<string>)

/** The slot that has the keys of a docket. */
export const slotOf = (server: Server, docket: string): Effect.Effect<number> =>
  command(() => server.admin.cluster("KEYSLOT", `{${docket}}`) as Promise<number>)

/** The master that has a slot. */
export const masterOf = Effect.fnUntraced(function*(nodes: ReadonlyArray<Server>, slot: number) {
  const ranges = yield* command(() => nodes[0]!.admin.cluster("SLOTS"))
  const [, , owner] = ranges.find(([from, to]) => from <= slot && slot <= to)!
  return nodes.find((node) => node.port === owner![1])!
})

/** Whether the replicas of a master have heard everything. */
export const isReplicated = (master: Server): Effect.Effect<boolean> =>
  Effect.map(
    info(master, "replication"),
    (fields) => /offset=(\d+)/.exec(fields.get("slave0") ?? "")?.[1] === fields.get("master_repl_offset")
  )

/** Three masters, and a replica of each, which takes over when its master has been silent for so long. */
export const clusterOf = Effect.fnUntraced(function*(
  silence: number
): Effect.fn.Return<Servers, never, Scope.Scope> {
  const nodes = yield* Effect.all(
    Array.from({ length: 6 }, () =>
      start({
        config: [
          "cluster-enabled yes",
          "cluster-config-file nodes.conf",
          // they tell each other what they know more often, the shorter it is
          "cluster-node-timeout 4000",
          "cluster-announce-ip 127.0.0.1"
        ]
      })),
    { concurrency: 6 }
  )
  const first = nodes[0]!
  const masters = nodes.slice(0, 3)
  for (const [index, { admin }] of masters.entries()) {
    const from = Math.floor(index * slots / 3)
    const to = Math.floor((index + 1) * slots / 3) - 1
    // a range of them is a command of 7.0
    yield* command(() => admin.cluster("ADDSLOTS", ...Array.from({ length: to - from + 1 }, (_, slot) => from + slot)))
    yield* command(() => admin.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1))
  }
  for (const { port } of nodes.slice(1)) yield* command(() => first.admin.cluster("MEET", "127.0.0.1", port))
  const knowsAll = (server: Server) =>
    Effect.map(clusterInfo(server), (fields) => fields.get("cluster_known_nodes") === "6")
  yield* Effect.forEach(nodes, (node) => until(knowsAll(node)))
  for (const [index, { admin }] of nodes.slice(3).entries()) {
    const master = yield* nodeId(masters[index]!)
    // it may not know yet that the other one is a master
    yield* until(Effect.promise(() => admin.cluster("REPLICATE", master).then(() => true, () => false)))
  }
  const isReady = (server: Server) =>
    Effect.zipWith(
      clusterInfo(server),
      about(server, "replication", "master_link_status"),
      (fields, link) => fields.get("cluster_state") === "ok" && (link === undefined || link === "up")
    )
  yield* Effect.forEach(nodes, (node) => until(isReady(node)))
  const knowsReplicas = (server: Server) =>
    Effect.map(
      command(() => server.admin.cluster("NODES") as Promise<string>),
      (text) => text.split("\n").filter((line) => line.includes("slave")).length === 3
    )
  yield* Effect.forEach(nodes, (node) => until(knowsReplicas(node)))
  yield* Effect.forEach(nodes, ({ admin }) => command(() => admin.config("SET", "cluster-node-timeout", silence)))
  return { url: `redis+cluster://${user}${masters.map(({ port }) => `127.0.0.1:${port}`).join(",")}`, nodes }
})

/** Three masters, and a replica of each. No busy machine lets a server wait so long for its turn that another takes over. */
export const cluster: Effect.Effect<Servers, never, Scope.Scope> = clusterOf(15_000)

/** Waits until every node says that each slot has a master that works. */
export const settled = (nodes: ReadonlyArray<Server>): Effect.Effect<void> =>
  Effect.forEach(nodes, (node) =>
    until(Effect.map(
      clusterInfo(node),
      (fields) => fields.get("cluster_state") === "ok" && fields.get("cluster_slots_ok") === String(slots)
    )), { discard: true })

/** A cluster of one server, which says that it is at another port. */
export const clusterOfOne = Effect.fnUntraced(function*(announced: number) {
  const server = yield* start({
    config: ["cluster-enabled yes", "cluster-announce-ip 127.0.0.1", `cluster-announce-port ${announced}`]
  })
  yield* command(() => server.admin.cluster("ADDSLOTS", ...Array.from({ length: slots }, (_, slot) => slot)))
  yield* until(Effect.map(clusterInfo(server), (fields) => fields.get("cluster_state") === "ok"))
  return server
})

/** A master and a replica, and three Sentinels that watch them. */
export interface Sentinels extends Servers {
  readonly sentinels: ReadonlyArray<Server>
  /** The one that the Sentinels say is the master. */
  readonly master: Effect.Effect<Server>
}

/** The name of the master. */
export const masterName = "main"

/** A master and a replica, and three Sentinels that watch them, and wait so long before they say that one is down. */
export const watched = Effect.fnUntraced(function*(downAfter: number): Effect.fn.Return<Sentinels, never, Scope.Scope> {
  const master = yield* start({ config: ["repl-diskless-sync-delay 0"] })
  const replica = yield* start({ config: [`replicaof 127.0.0.1 ${master.port}`, "repl-diskless-sync-delay 0"] })
  yield* until(Effect.map(about(replica, "replication", "master_link_status"), (link) => link === "up"))
  const sentinels = yield* Effect.all(
    Array.from({ length: 3 }, () =>
      start({
        isSentinel: true,
        config: [
          `sentinel monitor ${masterName} 127.0.0.1 ${master.port} 2`,
          `sentinel down-after-milliseconds ${masterName} ${downAfter}`,
          `sentinel failover-timeout ${masterName} 3000`
        ]
      })),
    { concurrency: 3 }
  )
  const knows = ({ admin }: Server) =>
    Effect.map(
      command(() => admin.call("SENTINEL", "MASTER", masterName) as Promise<ReadonlyArray<string>>),
      (fields) =>
        fields[fields.indexOf("num-slaves") + 1] === "1" && fields[fields.indexOf("num-other-sentinels") + 1] === "2"
    )
  yield* Effect.forEach(sentinels, (one) => until(knows(one)))
  const nodes = [master, replica]
  return {
    url: `redis+sentinel://${user}${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/${masterName}`,
    nodes,
    sentinels,
    master: Effect.map(
      command(() =>
        sentinels[0]!.admin.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName) as Promise<ReadonlyArray<string>>
      ),
      ([, port]) => nodes.find((node) => node.port === Number(port))!
    )
  }
})

/** A master and a replica, and three Sentinels that watch them. */
export const sentinel: Effect.Effect<Sentinels, never, Scope.Scope> = watched(1000)

/** Makes something once for a test file, before its first test. */
export const shared = <A>(make: Effect.Effect<A, never, Scope.Scope>): Effect.Effect<A> => {
  const scope = Scope.makeUnsafe()
  let made: { readonly value: A } | undefined
  beforeAll(() =>
    Effect.runPromise(Effect.map(Scope.provide(make, scope), (value) => {
      made = { value }
    })), 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 60_000)
  return Effect.suspend(() => made === undefined ? Effect.die("not made yet") : Effect.succeed(made.value))
}
