/**
 * One act: a docket on servers of its own, worker and producer processes, and a plan of faults. It ends when everything is
 * drained and every process has ended, and tells what the judge has to know.
 */
import { Docket } from "@effect-docket/dsl"
import type { EncodedOutcome } from "@effect-docket/dsl/Docket"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine } from "@effect-docket/runtime"
import { Clock, Effect, Layer, Logger, Schedule, type Scope, Semaphore } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { docketIn, uniqueName } from "../kit.ts"
import { leaks } from "../leaks.ts"
import * as processes from "../processes.ts"
import * as servers from "../server.ts"
import * as book from "./book.ts"
import { makeFaults } from "./faults.ts"
import * as member from "./member.ts"
import * as plan from "./plan.ts"

/** What to play. */
export interface Options extends plan.Options {
  readonly slots: number
  /** Additions per second and producer. */
  readonly rate: number
  readonly flows: boolean
  /** The root of another build of the project: every other worker is of that one. */
  readonly old: string | undefined
}

/** A fault that happened. */
export interface Happened {
  readonly kind: plan.Kind
  readonly target: plan.Target
  readonly from: number
  readonly to: number
}

/** When a process was there. */
export interface Life {
  readonly name: string
  readonly from: number
  readonly to: number
  /** What it said, if it ended otherwise than it should. */
  readonly broke: string | undefined
}

/** What became of an act. */
export interface Report {
  readonly options: Options
  readonly from: number
  /** When the last fault was over and the last run was added, and when everything was drained. */
  readonly calm: number
  readonly drained: number
  readonly isDrained: boolean
  readonly faults: ReadonlyArray<Happened>
  readonly lives: ReadonlyArray<Life>
  readonly lines: ReadonlyArray<book.Written>
  /** How the store says that each run has ended. */
  readonly found: ReadonlyMap<string, EncodedOutcome>
  /** Keys that nobody uses any more, and that nothing removes. */
  readonly leaked: ReadonlyArray<string>
  /** Where the ledger is. */
  readonly folder: string
}

/** How long draining may take: everything that is held by who is gone waits for its lease, and what waits for that for another. */
export const patience = (lease: number): number => 60_000 + 5 * lease

// much longer than the longest one of any plan
const longestFault = 120_000
const longestWait = 3000

const makeStage = Effect.fnUntraced(function*(which: plan.Servers) {
  if (which === "sentinel") {
    // a busy machine keeps a server from answering for a while, and a failover then would lose what the replica has not heard
    const set = yield* servers.watched(60_000)
    return { url: set.url, port: undefined, server: set.nodes[0]!, nodes: set.nodes, set }
  }
  const server = yield* servers.start({ config: ["appendonly yes", "appendfsync always"] })
  return { url: server.url, port: server.port, server, nodes: [server], set: undefined }
})

/** Servers of an act. */
export type Stage = Effect.Success<ReturnType<typeof makeStage>>

/** Plays an act. `tell` hears what happens. */
export const play = Effect.fnUntraced(function*(
  options: Options,
  tell: (line: string) => void
): Effect.fn.Return<Report, never, Scope.Scope> {
  const { lease, millis, producers, servers: which, workers } = options
  const stage = yield* makeStage(which)
  const folder = yield* processes.makeFolder
  const ledger = path.join(folder, "ledger")
  mkdirSync(ledger)
  const over = path.join(folder, "over")
  const docket = uniqueName()
  const lives: Array<Life> = []
  const now = Clock.currentTimeMillis
  const given = { ...options, docket, ledger, over, lives, stage }
  const start = (role: member.Member["role"], count: number, until: number) =>
    Effect.all(Array.from({ length: count }, (_, n) => member.make({ ...given, until }, role, n)), { concurrency: 2 })
  const staff = yield* start("worker", workers, 0)
  const from = yield* now
  const crew = [...staff, ...(yield* start("producer", producers, from + millis + 2000))]
  const happened: Array<Happened> = []
  const faults = makeFaults(stage, crew)
  // one may last longer than planned: what hits the same then waits
  const turns = new Map(["server", ...crew.map(({ name }) => name)].map((name) => [name, Semaphore.makeUnsafe(1)]))
  yield* Effect.forEach(plan.make(options), (fault) =>
    Effect.gen(function*() {
      yield* Effect.sleep(Math.max(0, from + fault.at - (yield* now)))
      yield* turns.get(fault.target)!.withPermit(Effect.gen(function*() {
        const start = yield* now
        // on a slow machine some are left out, so that there is work between them
        if (start > from + fault.at + longestWait) return
        yield* Effect.timeoutOrElse(faults(fault), {
          duration: longestFault,
          orElse: () => Effect.die(`${fault.kind} (${fault.target}) does not end`)
        })
        const end = yield* now
        happened.push({ kind: fault.kind, target: fault.target, from: start, to: end })
        tell(`${((start - from) / 1000).toFixed(1)} s: ${fault.kind} (${fault.target}, ${end - start} ms)`)
        yield* Effect.sleep(1000)
      }))
    }), { concurrency: "unbounded", discard: true })
  yield* Effect.forEach(crew, (one) => one.role === "producer" ? one.finished : Effect.void)
  const calm = yield* now
  writeFileSync(over, "")

  const context = yield* Effect.orDie(
    Layer.build(docketIn(RedisStore.layer({ url: stage.url }), docket).pipe(Layer.provide(Logger.layer([]))))
  )
  const isEmpty = Effect.map(Docket.counts, (counts) => counts.length === 0)
  const isDrained = yield* isEmpty.pipe(
    Effect.orElseSucceed(() => false),
    Effect.repeat({ until: (empty) => empty, schedule: Schedule.spaced(100) }),
    Effect.timeoutOrElse({ duration: patience(lease), orElse: () => Effect.succeed(false) }),
    Effect.provide(context)
  )
  const drained = yield* now
  yield* Effect.forEach(crew, (one) => one.role === "worker" ? one.dismiss : Effect.void, { concurrency: "unbounded" })

  const lines = book.readAll(ledger)
  const keys = new Set(lines.flatMap((line) => line.tag === "intend" ? [line.key] : []))
  const found = new Map<string, EncodedOutcome>()
  yield* Effect.forEach(keys, (key) =>
    Effect.gen(function*() {
      const store = yield* Docket.Docket
      const run = yield* store.get(key)
      const outcome = run && (yield* store.outcome(key, run.generation))
      if (outcome !== undefined) found.set(key, outcome)
    }), { concurrency: 50, discard: true }).pipe(Effect.orDie, Effect.provide(context))
  const engine = yield* Effect.provide(Effect.map(DocketEngine.DocketEngine, ({ store }) => store), context)
  const masters = stage.set === undefined ? Effect.succeed(stage.nodes) : Effect.map(stage.set.master, (one) => [one])
  const leaked = yield* Effect.orDie(leaks(masters)(engine))
  return { options, from, calm, drained, isDrained, faults: happened, lives, lines, found, leaked, folder: ledger }
})
