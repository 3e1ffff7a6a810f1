/**
 * A connection that listens breaks again while it comes back: ioredis subscribes again by itself, and nobody waits for that.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { DocketStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Queue } from "effect"
import { createConnection, createServer, type Socket } from "node:net"
import { addition } from "../../runtime/test/contract/seam.ts"
import { uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start({ config: ["appendonly yes", "appendfsync no"] }))

/** What passes everything on, but ends so many connections that want to subscribe. */
const gate = Effect.fnUntraced(function*(port: number) {
  const sockets = new Set<Socket>()
  const state = { breaks: 0, listening: undefined as Socket | undefined }
  const proxy = createServer((client) => {
    const upstream = createConnection({ host: "127.0.0.1", port })
    const end = () => {
      client.destroy()
      upstream.destroy()
    }
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("error", () => {}).on("close", end)
    }
    upstream.on("data", (bytes) => client.write(bytes))
    client.on("data", (bytes) => {
      if (!/subscribe/i.test(bytes.toString("latin1"))) return void upstream.write(bytes)
      if (state.breaks > 0) {
        state.breaks--
        return end()
      }
      state.listening = client
      upstream.write(bytes)
    })
  })
  const own = yield* servers.freePort
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      proxy.listen(own, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        proxy.close()
      })
  )
  return { state, url: `redis://${servers.user}127.0.0.1:${own}` }
})

/** What nobody waited for, and would have ended a process. */
const unhandled = Effect.acquireRelease(
  Effect.sync(() => {
    const all: Array<unknown> = []
    const note = (reason: unknown) => {
      all.push(reason)
    }
    process.on("unhandledRejection", note)
    return { all, note }
  }),
  ({ note }) => Effect.sync(() => process.off("unhandledRejection", note))
)

describe("the connection that listens", () => {
  it.live(
    "breaks while it subscribes again → the process lives, and events come again",
    () =>
      Effect.gen(function*() {
        const { port } = yield* server
        const { state, url } = yield* gate(port)
        const { all } = yield* unhandled
        const context = yield* Layer.build(RedisStore.layer({ url }))
        const store = yield* Effect.provide(
          DocketStore.DocketStore.use((store) => store.docket({ name: uniqueName(), prefix: "docket" })),
          context
        )
        const events = yield* store.subscribe(undefined)
        yield* store.add([addition("before")], { atomic: true })
        assert.strictEqual((yield* Queue.take(events)).key, "before")
        state.breaks = 1
        state.listening!.destroy()
        yield* servers.until(Effect.sync(() => state.breaks === 0))
        const adding = Effect.forever(
          Effect.andThen(
            Effect.ignore(Effect.suspend(() => store.add([addition(uniqueName())], { atomic: true }))),
            Effect.sleep(100)
          )
        )
        const came = yield* Effect.raceFirst(Effect.timeoutOption(Queue.take(events), "40 seconds"), adding)
        assert.isTrue(Option.isSome(came))
        assert.deepStrictEqual(all, [])
      }).pipe(Effect.scoped),
    60_000
  )
})
