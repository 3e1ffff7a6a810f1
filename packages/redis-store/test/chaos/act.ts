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
  /** The root of another build of the project: every other process is of that one. */
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
export const patience = (lease: number): number => 20_000 + 5 * lease

// much longer than the longest one of any plan
const longestFault = 120_000
const longestWait = 3000

const now = Clock.currentTimeMillis

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

/** Writes down that the servers answer, so that the judge sees when the machine did not let them. */
const watch = (stage: Stage, ledger: string, lease: number) => {
  const write = book.open(book.fileOf(ledger, "server", 0))
  const ping = ({ admin }: servers.Server) => servers.command(() => admin.ping().then(() => true, () => false))
  return Effect.forEach(stage.nodes, ping, { concurrency: "unbounded" }).pipe(
    // one whose connection is killed meanwhile may never be answered
    Effect.timeoutOrElse({ duration: lease, orElse: () => Effect.succeed([false]) }),
    Effect.flatMap((answers) =>
      Effect.map(now, (at) => {
        if (answers.every(Boolean)) write({ tag: "awake", at })
      })
    ),
    Effect.repeat(Schedule.spaced(lease / 20)),
    Effect.forkScoped
  )
}

/** Does what is planned, from a time on, and says what was done. What hits the same process or server comes one after the other. */
const inflict = Effect.fnUntraced(function*(
  stage: Stage,
  crew: ReadonlyArray<member.Member>,
  planned: ReadonlyArray<plan.Fault>,
  from: number,
  tell: (line: string) => void
) {
  const happened: Array<Happened> = []
  const faults = makeFaults(stage, crew)
  // one may last longer than planned: what hits the same then waits
  const turns = new Map(["server", ...crew.map(({ name }) => name)].map((name) => [name, Semaphore.makeUnsafe(1)]))
  const inflictOne = Effect.fnUntraced(function*(fault: plan.Fault) {
    const { at, kind, target } = fault
    const start = yield* now
    // on a slow machine some are left out, so that there is work between them
    if (start > from + at + longestWait) return
    yield* Effect.timeoutOrElse(faults(fault), {
      duration: longestFault,
      orElse: () => Effect.die(`${kind} (${target}) does not end`)
    })
    const end = yield* now
    happened.push({ kind, target, from: start, to: end })
    tell(`${((start - from) / 1000).toFixed(1)} s: ${kind} (${target}, ${end - start} ms)`)
    yield* Effect.sleep(1000)
  })
  yield* Effect.forEach(planned, (fault) =>
    Effect.gen(function*() {
      yield* Effect.sleep(Math.max(0, from + fault.at - (yield* now)))
      yield* turns.get(fault.target)!.withPermit(inflictOne(fault))
    }), { concurrency: "unbounded", discard: true })
  return happened
})

/** Waits until no run is pending or running, but not for ever. */
const drain = (lease: number) =>
  Effect.map(Docket.counts, (counts) => counts.length === 0).pipe(
    Effect.orElseSucceed(() => false),
    Effect.repeat({ until: (empty) => empty, schedule: Schedule.spaced(100) }),
    Effect.timeoutOrElse({ duration: patience(lease), orElse: () => Effect.succeed(false) })
  )

/** How the store says that runs have ended. */
const outcomesOf = Effect.fnUntraced(function*(keys: Iterable<string>) {
  const store = yield* Docket.Docket
  const found = new Map<string, EncodedOutcome>()
  yield* Effect.forEach(keys, (key) =>
    Effect.gen(function*() {
      const run = yield* store.get(key)
      const outcome = run && (yield* store.outcome(key, run.generation))
      if (outcome !== undefined) found.set(key, outcome)
    }), { concurrency: 50, discard: true })
  return found
})

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
  yield* watch(stage, ledger, lease)
  const over = path.join(folder, "over")
  const docket = uniqueName()
  const lives: Array<Life> = []
  const given = { ...options, docket, ledger, over, lives, stage }
  const start = (role: member.Member["role"], count: number, until: number) =>
    Effect.all(Array.from({ length: count }, (_, n) => member.make({ ...given, until }, role, n)), { concurrency: 2 })
  const staff = yield* start("worker", workers, 0)
  const from = yield* now
  const authors = yield* start("producer", producers, from + millis + 2000)
  const faults = yield* inflict(stage, [...staff, ...authors], plan.make(options), from, tell)
  yield* Effect.forEach(authors, ({ finished }) => finished)
  const calm = yield* now
  writeFileSync(over, "")

  const context = yield* Effect.orDie(
    Layer.build(docketIn(RedisStore.layer({ url: stage.url }), docket).pipe(Layer.provide(Logger.layer([]))))
  )
  const isDrained = yield* Effect.provide(drain(lease), context)
  const drained = yield* now
  yield* Effect.forEach(staff, ({ dismiss }) => dismiss, { concurrency: "unbounded" })

  const lines = book.readAll(ledger)
  const keys = new Set(lines.flatMap((line) => line.tag === "intend" ? [line.key] : []))
  const found = yield* Effect.orDie(Effect.provide(outcomesOf(keys), context))
  const engine = yield* Effect.provide(Effect.map(DocketEngine.DocketEngine, ({ store }) => store), context)
  const masters = stage.set === undefined ? Effect.succeed(stage.nodes) : Effect.map(stage.set.master, (one) => [one])
  const leaked = yield* Effect.orDie(leaks(masters)(engine))
  return { options, from, calm, drained, isDrained, faults, lives, lines, found, leaked, folder: ledger }
})
