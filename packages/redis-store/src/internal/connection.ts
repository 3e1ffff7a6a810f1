/**
 * Connections of a store: one for commands, one per worker that blocks, one per docket that listens; and scripts, called by
 * their digest and sent whole where the server does not know them (any more).
 */
import { DocketError } from "@effect-docket/dsl"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import { createHash } from "node:crypto"

/** A client of ioredis. */
export type Client = Redis | Cluster

/** A Lua script. */
export interface Script {
  readonly lua: string
  readonly digest: string
}

/** A script with its digest. */
export const script = (lua: string): Script => ({ lua, digest: createHash("sha1").update(lua).digest("hex") })

/** What a store has. */
export interface Connection {
  /** Runs a command; errors name the operation and the server. */
  readonly use: <A>(operation: string, f: (client: Client) => Promise<A>) => Effect.Effect<A, DocketError.DocketError>
  /** Calls a script. Texts of its reply are buffers. */
  readonly call: (
    operation: string,
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>
  ) => Effect.Effect<unknown, DocketError.DocketError>
  /** A further connection, closed with the scope. `answerMillis`: how long a command of it may take. */
  readonly another: (purpose: string, answerMillis?: number) => Effect.Effect<Client, never, Scope.Scope>
}

// A client that looks for its server, as one of Sentinels or a cluster does, keeps commands for as long as that takes. It
// is longer than a socket may be silent, so that the message of that comes first.
const longestWait = Duration.seconds(10)

const unavailable = (operation: string, where: string, cause: unknown) =>
  new DocketError.DocketError({
    operation,
    reason: new DocketError.StoreUnavailable({
      cause: new Error(`${where}: ${textOf(cause)}`)
    })
  })

/** A script asks for what has no name: something else has written there. */
export const unreadable = (operation: string) =>
  new DocketError.DocketError({
    operation,
    reason: new DocketError.StoreUnavailable({
      cause: new Error("what is stored under one of its keys cannot be read")
    })
  })

// what ioredis says of a command whose connection broke is about its own options
const textOf = (cause: unknown): string =>
  !(cause instanceof Error)
    ? String(cause)
    : cause.name === "MaxRetriesPerRequestError"
    ? "the connection is lost"
    : cause.message

/** Runs a promise of a client. */
export const use = <A>(
  operation: string,
  where: string,
  f: () => Promise<A>
): Effect.Effect<A, DocketError.DocketError> =>
  Effect.tryPromise({ try: f, catch: (cause) => unavailable(operation, where, cause) }).pipe(
    Effect.timeoutOrElse({
      duration: longestWait,
      orElse: () => Effect.fail(unavailable(operation, where, "no answer within 10 seconds"))
    })
  )

const isUnknownScript = (error: DocketError.DocketError): boolean => error.message.includes("NOSCRIPT")

/** Says once when a connection breaks, and when it is back. */
const watch = (client: Client, where: string, purpose: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.context<never>(), (context) => {
    const run = Effect.runForkWith(context)
    let isDown = false
    const onError = (error: Error) => {
      if (isDown) return
      isDown = true
      run(Effect.logWarning(`Redis at ${where} (${purpose}): ${error.message}`))
    }
    const onReady = () => {
      if (!isDown) return
      isDown = false
      run(Effect.logInfo(`Redis at ${where} (${purpose}) is back`))
    }
    return Effect.asVoid(Effect.acquireRelease(
      Effect.sync(() => client.on("error", onError).on("ready", onReady)),
      // one that is closing may still say so
      () => Effect.sync(() => client.off("error", onError).off("ready", onReady).on("error", () => {}))
    ))
  })

/**
 * When a connection that listens comes back, ioredis subscribes again by itself, and waits for that nowhere: a connection that
 * breaks meanwhile leaves a rejection without a handler, which ends the process. Here it has one; who listens asks again.
 */
const forgiving = (client: Client): Client => {
  const subscribe = client.subscribe.bind(client) as (...args: ReadonlyArray<unknown>) => Promise<unknown> // whichever of its forms
  return Object.assign(client, {
    subscribe: (...args: ReadonlyArray<unknown>) => {
      const reply = subscribe(...args)
      reply.catch(() => {})
      return reply
    }
  })
}

const duplicate = (client: Client, options: Pick<RedisOptions, "socketTimeout">): Client =>
  forgiving("nodes" in client ? client.duplicate([], { redisOptions: options }) : client.duplicate(options))

/** The connection of a client. `where` names the server in errors. */
export const make = (client: Client, where: string): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.as(watch(client, where, "commands"), {
    use: (operation, f) => use(operation, where, () => f(client)),
    call: (operation, { digest, lua }, keys, args) => {
      const call = (command: string, body: string) =>
        use(operation, where, () => client.callBuffer(command, [body, keys.length, ...keys, ...args]))
      return Effect.catchIf(call("EVALSHA", digest), isUnknownScript, () => call("EVAL", lua))
    },
    another: (purpose, answerMillis) =>
      Effect.acquireRelease(
        Effect.sync(() => duplicate(client, answerMillis === undefined ? {} : { socketTimeout: answerMillis })),
        (another) => Effect.sync(() => another.disconnect())
      ).pipe(Effect.tap((another) => watch(another, where, purpose)))
  })
