/**
 * A worker or a producer as a process, which may be killed and started again, behind a proxy of its own where there is one
 * server.
 */
import { Clock, Effect, Latch, Scope } from "effect"
import * as path from "node:path"
import * as processes from "../processes.ts"
import * as proxies from "../proxy.ts"
import type { Life, Options, Stage } from "./act.ts"
import * as book from "./book.ts"
import { root } from "./build.ts"
import { isOfOther, type Target } from "./plan.ts"

/** What members of an act share. */
export interface Given extends Options {
  readonly docket: string
  readonly ledger: string
  readonly over: string
  readonly stage: Stage
  readonly lives: Array<Life>
  /** When producers end. */
  readonly until: number
}

/** A member. */
export interface Member {
  readonly role: "worker" | "producer"
  readonly name: Target
  /** `undefined` where the addresses come from Sentinels. */
  readonly proxy: proxies.Proxy | undefined
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Kills it, and waits for its end. */
  readonly kill: Effect.Effect<void>
  /** Asks it to end, and waits for that. */
  readonly dismiss: Effect.Effect<void>
  /** Waits until it has ended of its own accord. */
  readonly finished: Effect.Effect<void>
  /** Starts it again. */
  readonly start: Effect.Effect<void>
}

// how long a process that is asked to end may take
const mostPatience = 60_000

// clocks of the processes, in minutes
const clocks = [0, 5, -5, 60]

/** Starts a member, which ends with the scope. */
export const make = Effect.fnUntraced(function*(
  given: Given,
  role: Member["role"],
  n: number
): Effect.fn.Return<Member, never, Scope.Scope> {
  const { stage } = given
  const scope = yield* Effect.scope
  const name: Target = `${role} ${n}`
  const proxy = stage.port === undefined ? undefined : yield* proxies.make(stage.port)
  const url = proxy?.url ?? stage.url
  let lives = 0
  let isKilled = false

  const launch = Effect.gen(function*() {
    const life = lives++
    const file = book.fileOf(given.ledger, name, life)
    const build = given.old !== undefined && isOfOther(name) ? given.old : root
    isKilled = false
    const ready = Latch.makeUnsafe()
    const from = yield* Clock.currentTimeMillis
    // a producer goes on with the number after the last one that it began with
    const next = role === "worker" ? 0 : book.readAll(given.ledger, name).filter(({ tag }) => tag === "intend").length
    const running = yield* processes.start({
      program: process.execPath,
      args: [
        "--conditions=@effect-docket/source",
        path.join(build, "packages/redis-store/test/chaos", `${role}.ts`),
        url,
        given.docket,
        name,
        ...(role === "worker"
          ? [String(given.lease), String(given.slots), file, given.over]
          : [String(given.seed), String(next), String(given.until), String(given.rate), file])
      ],
      cwd: build,
      env: {
        CHAOS_CLOCK: String(clocks[(n + (role === "producer" ? 1 : 0)) % clocks.length]! * 60_000)
      },
      onLine: (line) => {
        if (line === "ready") ready.openUnsafe()
      }
    })
    yield* Effect.forkIn(
      Effect.gen(function*() {
        const end = yield* running.ended
        const text = end === 0 || isKilled ? undefined : `${end}: ${running.output().slice(-3000)}`
        given.lives.push({ name, from, to: yield* Clock.currentTimeMillis, broke: text })
      }),
      scope,
      { startImmediately: true }
    )
    yield* Effect.raceFirst(ready.await, running.ended)
    return running
  }).pipe(Effect.provideService(Scope.Scope, scope))

  let running = yield* launch
  const signal = (signal: NodeJS.Signals) => Effect.suspend(() => running.signal(signal))
  const ended = Effect.asVoid(Effect.suspend(() => running.ended))
  const kill = Effect.suspend(() => {
    isKilled = true
    return Effect.andThen(signal("SIGKILL"), ended)
  })
  return {
    role,
    name,
    proxy,
    signal,
    kill,
    dismiss: Effect.andThen(
      signal("SIGTERM"),
      Effect.timeoutOrElse(ended, {
        duration: mostPatience,
        // without `kill`: it broke its word
        orElse: () => Effect.andThen(signal("SIGKILL"), ended)
      })
    ),
    finished: ended,
    start: Effect.map(launch, (again) => {
      running = again
    })
  }
})
