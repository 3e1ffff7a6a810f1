/**
 * Masters that are killed, replicas that take over, slots that move.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { atMost, nothing, once, type Scenario, survives } from "./scenario.ts"
import * as servers from "./server.ts"

/** Kills a master that has told its replicas everything: it answers nobody, until they have heard it all. */
const killAfterwards = Effect.fnUntraced(function*(master: servers.Server) {
  yield* Effect.promise(() => master.admin.call("CLIENT", "PAUSE", 60_000, "WRITE"))
  yield* servers.until(servers.isReplicated(master))
  yield* master.stop("SIGKILL")
})

/** The master that has the keys of a docket, and their slot. */
const ownerOf = Effect.fnUntraced(function*(nodes: ReadonlyArray<servers.Server>, name: string) {
  const slot = yield* servers.slotOf(nodes[0]!, name)
  return { slot, master: yield* servers.masterOf(nodes, slot) }
})

type Kill = (master: servers.Server) => Effect.Effect<void>

const ways: ReadonlyArray<readonly [what: string, kill: Kill, options: Partial<Scenario>]> = [
  ["when its replica has heard everything → goes on, nothing repeated", killAfterwards, {}],
  [
    "→ goes on; what is repeated had lost its lease, or the replica had not heard of it",
    (master) => master.stop("SIGKILL"),
    { lease: 4000, forgets: true }
  ]
]

describe.concurrent("a master is killed", () => {
  for (const [what, kill, options] of ways) {
    it.live(`behind Sentinels ${what}`, () =>
      Effect.gen(function*() {
        const { master, url } = yield* servers.sentinel
        const old = yield* master
        yield* survives({ store: RedisStore.layer({ url }), begin: () => kill(old), says: once(), ...options })
        assert.notStrictEqual((yield* master).port, old.port)
      }).pipe(Effect.scoped))

    it.live(`in a cluster ${what}`, () =>
      Effect.gen(function*() {
        const { nodes, url } = yield* servers.clusterOf(4000)
        yield* survives({
          store: RedisStore.layer({ url }),
          begin: (name) => Effect.flatMap(ownerOf(nodes, name), ({ master }) => kill(master)),
          says: once(),
          ...options
        })
      }).pipe(Effect.scoped))
  }
})

describe("a cluster", () => {
  const cluster = servers.shared(servers.cluster)
  const onCluster = (scenario: (nodes: ReadonlyArray<servers.Server>) => Omit<Scenario, "store">) =>
    Effect.gen(function*() {
      const { nodes, url } = yield* cluster
      // what the test before has broken may take a moment to be known everywhere
      yield* servers.settled(nodes)
      yield* survives({ ...scenario(nodes), store: RedisStore.layer({ url }) })
    })

  it.live("the slot moves to another node → goes on, nobody notices", () =>
    onCluster((nodes) => ({
      begin: (name) => Effect.flatMap(beginMove(nodes, name), ({ finish }) => finish),
      says: nothing
    })))

  it.live("TRYAGAIN: the slot is half moved for a while → goes on, nothing repeated", () =>
    Effect.gen(function*() {
      const { nodes } = yield* cluster
      let finish: Effect.Effect<void> = Effect.void
      yield* onCluster((nodes) => ({
        begin: (name) =>
          Effect.map(beginMove(nodes, name), (move) => {
            finish = move.finish
          }),
        end: Effect.suspend(() => finish),
        // the client tries sixteen times by itself, a tenth of a second apart
        millis: 2500,
        says: once("Too many Cluster redirections")
      }))
      const refused = yield* Effect.forEach(nodes, (node) => servers.about(node, "errorstats", "errorstat_TRYAGAIN"))
      assert.notDeepEqual(refused.filter((count) => count !== undefined), [])
    }))

  it.live("CLUSTERDOWN: a slot of another node is nobody's for a while → goes on, nothing repeated", () =>
    onCluster((nodes) => {
      let end: Effect.Effect<unknown> = Effect.void
      return {
        begin: Effect.fnUntraced(function*(name) {
          const { slot } = yield* ownerOf(nodes, name)
          const lost = (slot + 8000) % 16_384
          const owner = yield* servers.masterOf(nodes, lost)
          yield* Effect.forEach(
            [owner, ...nodes.filter((node) => node !== owner)],
            ({ admin }) => Effect.promise(() => admin.cluster("DELSLOTS", lost))
          )
          end = Effect.gen(function*() {
            yield* Effect.promise(() => owner.admin.cluster("ADDSLOTS", lost))
            const id = yield* servers.nodeId(owner)
            // the other masters would hear of it in a while
            yield* Effect.forEach(
              nodes.slice(0, 3).filter((node) => node !== owner),
              ({ admin }) => Effect.promise(() => admin.cluster("SETSLOT", lost, "NODE", id))
            )
          })
        }),
        end: Effect.suspend(() => end),
        millis: 2500,
        says: once("CLUSTERDOWN")
      }
    }))

  it.live("replicas take over from their masters → goes on, nothing repeated", () =>
    Effect.gen(function*() {
      yield* onCluster((nodes) => ({
        begin: () => Effect.forEach(nodes.slice(3), ({ admin }) => Effect.promise(() => admin.cluster("FAILOVER"))),
        says: atMost(1)
      }))
      const { nodes } = yield* cluster
      const roles = yield* Effect.forEach(nodes, (node) => servers.about(node, "replication", "role"))
      assert.include(roles.slice(3), "master")
    }))
})

/** Begins to move the slot of a docket to another master: some of its keys are there, the others are not. */
const beginMove = Effect.fnUntraced(function*(
  nodes: ReadonlyArray<servers.Server>,
  name: string
): Effect.fn.Return<{ readonly finish: Effect.Effect<void> }, never, Scope.Scope> {
  const { master: source, slot } = yield* ownerOf(nodes, name)
  const target = yield* servers.masterOf(nodes, (slot + 8000) % 16_384)
  const [sourceId, targetId] = yield* Effect.all([servers.nodeId(source), servers.nodeId(target)])
  yield* Effect.promise(() => target.admin.cluster("SETSLOT", slot, "IMPORTING", sourceId))
  yield* Effect.promise(() => source.admin.cluster("SETSLOT", slot, "MIGRATING", targetId))
  const migrate = (count: number) =>
    Effect.promise(async () => {
      const keys = await source.admin.cluster("GETKEYSINSLOT", slot, count) as ReadonlyArray<string>
      if (keys.length > 0) await source.admin.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", ...keys)
      return keys.length
    })
  yield* migrate(3)
  return {
    finish: Effect.gen(function*() {
      yield* Effect.repeat(migrate(3), { until: (moved) => moved === 0 })
      for (const { admin } of [target, source]) {
        yield* Effect.promise(() => admin.cluster("SETSLOT", slot, "NODE", targetId))
      }
    })
  }
})
