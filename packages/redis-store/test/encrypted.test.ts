/**
 * Encrypted fields on a real server: every byte that it is told and that it keeps is read.
 */
import { Encrypted } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Latch, Layer } from "effect"
import { createConnection } from "node:net"
import * as scenario from "../../runtime/test/EncryptedScenario.ts"
import { docketIn, uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start({ config: ["rdbcompression no"] }))

/** Everything that the server is told, scripts included, until the text comes. */
const listen = Effect.fnUntraced(function*(port: number, end: string) {
  const ready = Latch.makeUnsafe()
  const over = Latch.makeUnsafe()
  let told = ""
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => createConnection({ host: "127.0.0.1", port })),
    (socket) => Effect.sync(() => socket.destroy())
  )
  socket.setEncoding("latin1").on("data", (text: string) => {
    ready.openUnsafe()
    told += text
    if (told.includes(end)) over.openUnsafe()
  })
  socket.write("MONITOR\r\n")
  yield* ready.await
  return { over: over.await, told: () => told }
})

describe("encrypted fields on a server", () => {
  it.effect("are nowhere in clear: not in a command, a script, an event or a key", () =>
    Effect.gen(function*() {
      const { admin, port, url } = yield* server
      const name = uniqueName()
      const live = Layer.mergeAll(scenario.ShopLive, scenario.Shop.client, Encrypted.layer([scenario.recent])).pipe(
        Layer.provideMerge(docketIn(RedisStore.layer({ url }), name))
      )
      const monitor = yield* listen(port, `end of ${name}`)
      scenario.assertHidden(yield* Effect.provide(scenario.scenario, live))
      // what is left
      const keys = yield* servers.command(() => admin.keys(`*{${name}}*`))
      assert.isTrue(keys.some((key) => key.includes("done:")))
      for (const key of keys) {
        const dump = yield* servers.command(() => admin.dumpBuffer(key))
        scenario.assertHidden(dump?.toString("latin1") ?? "")
      }
      yield* servers.command(() => admin.echo(`end of ${name}`))
      yield* monitor.over
      const commands = monitor.told()
      for (const text of ["v1.recent.", "PUBLISH", "Charge/declined"]) assert.include(commands, text)
      scenario.assertHidden(commands)
    }).pipe(Effect.scoped))
})
