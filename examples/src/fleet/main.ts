/**
 * A fleet: producers and workers as processes of their own on one Redis, what they do live on the terminal, and in the end
 * the proof that everything was done exactly once. Kill any worker while it goes on: `kill -9` the pid in the table.
 *
 *     npm run fleet -- --store redis://127.0.0.1:6379 --producers 2 --workers 4 --seconds 20
 */
import { Docket } from "@effect-docket/dsl"
import { Clock, Effect, Fiber, Layer, Option, type Redacted, Schedule, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { randomUUID } from "node:crypto"
import { interrupted, Problem, runProgram, stopAtOnce } from "../shared/program.ts"
import { layerStore, leaseFlag, storeFlag, toProblem } from "../shared/store.ts"
import { bold, plural } from "../shared/text.ts"
import { hasEnded, hire, type Member } from "./crew.ts"
import { countEnds, prove } from "./proof.ts"
import { layerDocket } from "./tasks.ts"
import { makeRates, plain, Screen, type State, summary, table, totalsOf } from "./view.ts"

interface Options {
  readonly producers: number
  readonly workers: number
  readonly seconds: number
  readonly runs: number
  readonly concurrency: number
  readonly rate: number
  readonly lease: number
}

const upTo = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index + 1)

/** The share of the `number`th of `count`. */
const share = (total: number, count: number, number: number): number =>
  Math.floor(total * number / count) - Math.floor(total * (number - 1) / count)

const run = Effect.fnUntraced(function*(store: Redacted.Redacted<string>, options: Options) {
  const screen = yield* Screen
  const fleet = randomUUID().slice(0, 8)
  const left = yield* Docket.clear
  if (left > 0) yield* screen.print(`removed ${plural(left, "run")} of an earlier fleet`)
  const ends = yield* countEnds(fleet)

  const late: Array<number> = []
  const hiring = { store, onLate: (more: ReadonlyArray<number>) => late.push(...more) }
  const { concurrency, lease, rate, runs, seconds } = options
  const workers = yield* Effect.forEach(
    upTo(options.workers),
    (number) => hire("worker", number, [fleet, `worker ${number}`, concurrency, lease * 1000], hiring)
  )
  // One that would have no run to add is not hired: for it, 0 means as many as there is time for.
  const count = runs > 0 ? Math.min(runs, options.producers) : options.producers
  const producers = yield* Effect.forEach(
    upTo(count),
    (number) => hire("producer", number, [fleet, number, share(runs, count, number), seconds, rate], hiring)
  )
  const members = [...producers, ...workers]
  if (!screen.live) {
    for (const { name, pid } of members) yield* screen.print(`${name} is process ${pid}`)
  }

  const start = yield* Clock.currentTimeMillis
  const rates = makeRates()
  const history: Array<number> = []
  const known = new Map<Member, Member["state"]>()
  let next = 0
  let counts: State["counts"]

  const show = Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const state: State = { members, counts, done: ends.size, elapsed: now - start }
    const rate = rates(now, totalsOf(state))
    if (now >= next) {
      next = now + 1000
      history.push(rate("done"))
      if (history.length > 30) history.shift()
      if (!screen.live) yield* screen.print(plain(state, rate))
    }
    yield* screen.draw(table(state, rate, history))
    for (const one of members) {
      const before = known.get(one)
      known.set(one, one.state)
      if (before === one.state || one.state !== "killed" && one.state !== "failed") continue
      if (!screen.live) {
        yield* screen.print(`${one.name} (process ${one.pid}) ${one.state} ${one.said.trim()}`.trimEnd())
      }
    }
  })

  /** Whether there is nothing left to wait for. */
  const look = Effect.gen(function*() {
    counts = yield* Docket.counts.pipe(
      Effect.map((all) => ({
        scheduled: all.reduce((sum, { scheduled }) => sum + scheduled, 0),
        ready: all.reduce((sum, { held, ready }) => sum + ready + held, 0),
        running: all.reduce((sum, { running }) => sum + running, 0)
      })),
      Effect.orElseSucceed(() => undefined)
    )
    if (workers.every(hasEnded)) return true
    return producers.every(hasEnded) && counts !== undefined && counts.scheduled + counts.ready + counts.running === 0
  })
  const dismiss = Effect.forEach(members, ({ dismiss }) => dismiss, { concurrency: "unbounded", discard: true })

  // on its own: the store may take its time to answer
  const showing = yield* Effect.forkScoped(
    Effect.repeat(show, Schedule.spaced(screen.live ? "200 millis" : "100 millis"))
  )
  yield* look.pipe(
    Effect.repeat({ until: (over) => over, schedule: Schedule.spaced("100 millis") }),
    Effect.ensuring(Fiber.interrupt(showing)),
    Effect.onInterrupt(() =>
      Effect.gen(function*() {
        yield* stopAtOnce
        yield* screen.print("stopping (a second signal does not wait)")
        yield* dismiss
        const left = yield* Effect.orElseSucceed(Docket.clear, () => 0)
        yield* screen.print(`stopped: ${plural(ends.size, "run")} done, ${plural(left, "run")} left and removed`)
        process.exitCode = interrupted
      })
    )
  )
  const elapsed = (yield* Clock.currentTimeMillis) - start
  const failed = members.filter(({ state }) => state === "failed")
  // the workers say the rest while they drain
  yield* dismiss
  yield* show
  for (const { name, said } of screen.live ? failed : []) yield* screen.print(`${name} failed: ${said.trim()}`)
  const proof = yield* prove(fleet, producers.map(({ total }) => total), ends)
  yield* screen.print(
    ...summary(proof, { elapsed, late, producers: producers.length }, screen.live ? bold : String)
  )
  if (proof.missing > 0) {
    yield* Effect.ignore(Docket.clear)
    return yield* new Problem({ message: `${plural(proof.missing, "run")} not done`, code: 1 })
  }
  if (proof.twice > 0) return yield* new Problem({ message: `${plural(proof.twice, "run")} done twice`, code: 1 })
  if (failed.length > 0) {
    return yield* new Problem({ message: `${plural(failed.length, "process", "processes")} failed`, code: 1 })
  }
}, Effect.scoped)

const int = (name: string, description: string, otherwise: number, minimum: number, maximum: number) =>
  Flag.Int(name).pipe(
    Flag.withDescription(`${description}, ${minimum} to ${maximum} (default: ${otherwise})`),
    Flag.withDefault(otherwise),
    Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))
  )

const command = Command.make(
  "fleet",
  {
    store: storeFlag.pipe(
      Flag.withDescription("The Redis of the fleet, which is needed; one fleet at a time"),
      Flag.optional
    ),
    producers: int("producers", "Processes that add runs", 2, 1, 50),
    workers: int("workers", "Processes that do them", 2, 1, 50),
    seconds: int("seconds", "For how long runs are added", 10, 1, 600),
    runs: int(
      "runs",
      "How many runs are added instead, by all producers; 0: as many as there is time for",
      0,
      0,
      1_000_000
    ),
    concurrency: int("concurrency", "How many runs a worker does at once", 10, 1, 1000),
    rate: int("rate", "How many runs a producer adds per second; 0: as many as it can", 250, 0, 100_000),
    lease: leaseFlag.pipe(
      Flag.withDescription("After how many seconds others take over from a killed worker (default: 5)"),
      Flag.withDefault(5)
    )
  },
  Effect.fnUntraced(function*({ store, ...options }) {
    if (Option.isNone(store)) {
      return yield* new Problem({
        message: [
          "needs a Redis that its processes share: --store redis://127.0.0.1:6379",
          "To start one, if there is none:",
          "  redis-server --save '' --port 6379",
          "  docker run --rm -p 6379:6379 redis"
        ].join("\n"),
        code: 2
      })
    }
    const docket = Layer.provide(layerDocket, layerStore(store))
    yield* run(store.value, options).pipe(
      Effect.provide([docket, Screen.layer]),
      Effect.catchTag("DocketError", (error) => toProblem(error))
    )
  })
)

runProgram(
  "fleet",
  command.pipe(
    Command.withDescription("Starts producers and workers as processes on one Redis, and shows what they do"),
    Command.run({ version: "0.1.0" })
  )
)
