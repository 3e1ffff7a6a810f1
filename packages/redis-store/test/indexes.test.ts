/**
 * What the indexes of a docket hold when a script has ended. Workers look for themselves when nobody has woken them for a
 * while, and pass entries that do not agree with their run: without these tests, nobody would notice that they have to.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { DocketStore as Stores } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { addition, attachTo } from "../../runtime/test/contract/seam.ts"
import { uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start())

/** A docket, and the keys of the group of the task "T". */
const docket = Effect.gen(function*() {
  const { admin, url } = yield* server
  const name = uniqueName()
  const context = yield* Layer.build(RedisStore.layer({ url }))
  const store = yield* Effect.provide(
    Stores.DocketStore.use((store) => store.docket({ name, prefix: "docket" })),
    context
  )
  const key = (index: string) => `docket:{${name}}:g:1/default/T:${index}`
  /** The tokens that are there for idle workers. Afterwards there are none. */
  const tokens = Effect.promise(async () => {
    const [found] = await Promise.all([admin.lrange(key("wake"), 0, -1), admin.del(key("wake"))])
    return found
  })
  const sizes = Effect.promise(async () => ({
    ready: await admin.llen(key("ready")),
    leases: await admin.zcard(key("lease"))
  }))
  return { store, tokens, sizes }
})

describe("indexes", () => {
  it.live("whatever makes a run ready leaves one token for an idle worker", () =>
    Effect.gen(function*() {
      const { store, tokens } = yield* docket
      const one = ["1"]
      yield* store.add([addition("alone")], { atomic: true })
      assert.deepStrictEqual(yield* tokens, one, "added alone")
      yield* store.add([addition("a"), addition("b")], { atomic: true })
      assert.deepStrictEqual(yield* tokens, one, "added with others")
      const { due } = (yield* store.add([addition("later", { due: { after: 60_000 } })], { atomic: true }))[0]!
      assert.deepStrictEqual(yield* tokens, [String(due)], "due later: when")
      const worker = yield* attachTo(store)
      const claims = yield* worker.claim(2)
      assert.deepStrictEqual(yield* tokens, one, "left by a turn")
      // with a free slot it would take the next token
      const last = yield* worker.claim(1)
      assert.deepStrictEqual(yield* tokens, [], "nothing is left")
      yield* worker.settle(claims[0]!, { _tag: "Released" })
      assert.deepStrictEqual(yield* tokens, one, "given back")
      for (const claim of [...claims.slice(1), ...last, ...yield* worker.claim()]) yield* worker.complete(claim)
      yield* store.clear
    }).pipe(Effect.scoped))

  it.live("what was claimed is not among the ready ones any more, nor what has ended among the leases", () =>
    Effect.gen(function*() {
      const { sizes, store } = yield* docket
      yield* store.add(["a", "b", "c", "d"].map((key) => addition(key)), { atomic: true })
      assert.deepStrictEqual(yield* sizes, { ready: 4, leases: 0 })
      const worker = yield* attachTo(store)
      const claims = yield* worker.claim(3)
      assert.deepStrictEqual(yield* sizes, { ready: 1, leases: 3 })
      yield* worker.complete(claims[0]!)
      assert.deepStrictEqual(yield* sizes, { ready: 1, leases: 2 })
      yield* worker.settle(claims[1]!, { _tag: "Retry", after: 60_000, exit: "", failures: "" })
      assert.deepStrictEqual(yield* sizes, { ready: 1, leases: 1 })
      yield* worker.complete(claims[2]!)
      yield* worker.complete(yield* worker.claimOne)
      yield* store.clear
    }).pipe(Effect.scoped))
})
