/**
 * What is between a client and a server: it can cut, refuse, delay, and be silent without an end.
 */
import { Effect, type Scope } from "effect"
import { createConnection, createServer, type Socket } from "node:net"
import * as servers from "./server.ts"

/** A proxy in front of a server. */
export interface Proxy {
  readonly port: number
  readonly url: string
  /** Ends all connections. */
  readonly cut: Effect.Effect<void>
  /** Ends each new connection at once, or no longer. */
  readonly refuse: (on: boolean) => Effect.Effect<void>
  /** Passes everything on so much later. */
  readonly delay: (millis: number) => Effect.Effect<void>
  /** Drops what the server says, or no longer. */
  readonly mute: (on: boolean) => Effect.Effect<void>
  /** Neither passes anything on nor ends the connections that there are: both sides believe that the other is silent. */
  readonly halfOpen: Effect.Effect<void>
}

/** Makes a proxy in front of a port, on a port of its own. */
export const make = Effect.fnUntraced(function*(
  port: number,
  given?: number
): Effect.fn.Return<Proxy, never, Scope.Scope> {
  const sockets = new Set<Socket>()
  const silent = new WeakSet<Socket>()
  let refusing = false
  let muted = false
  let millis = 0
  const link = (from: Socket, to: Socket, isServer: boolean) => {
    // in their order, also when the delay changes
    const waiting: Array<{ readonly at: number; readonly bytes: Buffer }> = []
    const pass = () => {
      while (waiting.length > 0 && waiting[0]!.at <= performance.now()) to.write(waiting.shift()!.bytes)
      if (waiting.length > 0) setTimeout(pass, Math.max(1, waiting[0]!.at - performance.now()))
    }
    from.on("data", (bytes) => {
      if (silent.has(from) || (muted && isServer)) return
      if (millis === 0 && waiting.length === 0) return void to.write(bytes)
      waiting.push({ at: performance.now() + millis, bytes })
      if (waiting.length === 1) setTimeout(pass, millis)
    })
    from.on("close", () => {
      sockets.delete(from)
      if (!silent.has(from)) to.destroy()
    })
    from.on("error", () => {})
    sockets.add(from)
  }
  const server = createServer((client) => {
    if (refusing) return void client.destroy()
    const upstream = createConnection({ host: "127.0.0.1", port })
    link(client, upstream, false)
    link(upstream, client, true)
  })
  const own = given ?? (yield* servers.freePort)
  const cut = Effect.sync(() => {
    for (const socket of sockets) socket.destroy()
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(own, "127.0.0.1", () => resume(Effect.void))
    }),
    () => Effect.andThen(cut, Effect.sync(() => server.close()))
  )
  return {
    port: own,
    url: `redis://${servers.user}127.0.0.1:${own}`,
    cut,
    refuse: (on) =>
      Effect.sync(() => {
        refusing = on
      }),
    delay: (by) =>
      Effect.sync(() => {
        millis = by
      }),
    mute: (on) =>
      Effect.sync(() => {
        muted = on
      }),
    halfOpen: Effect.sync(() => {
      for (const socket of sockets) silent.add(socket)
    })
  }
})
