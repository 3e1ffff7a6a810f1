/**
 * A hundred runs on two workers while something fails: no run is lost, each is settled once, and a body is repeated only
 * where a lease was lost.
 */
import { Docket } from "@effect-docket/dsl"
import { DocketStore, Worker } from "@effect-docket/runtime"
import { assert } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer, type Scope } from "effect"
import { addWork, docketIn, insist, logs, range, uniqueName } from "./kit.ts"
import { Ledger } from "./ledger.ts"
import * as servers from "./server.ts"
import { handling, Works } from "./work.ts"

type Fault = Effect.Effect<unknown, never, Scope.Scope>

/** What fails. */
export interface Scenario {
  readonly store: Layer.Layer<DocketStore.DocketStore, unknown>
  /** Begins while both workers hold runs, whose bodies end after it has begun. Gets the name of the docket. */
  readonly begin?: (name: string) => Fault
  /** Happens while the bodies end. */
  readonly during?: Fault
  /** Ends it, after more runs were to be added. */
  readonly end?: Fault
  /** How long it lasts, between `begin` and `end`. */
  readonly millis?: number
  /** Short where answers are lost: what was claimed with one is taken over when its lease ends. Default: longer than any fault. */
  readonly lease?: number
  /** Whether leases are lost, so that bodies are repeated. */
  readonly losesLeases?: boolean
  /** Whether a server takes over that has not heard of the latest writes. */
  readonly forgets?: boolean
  /** What the log has to hold. */
  readonly says?: Says
}

type Log = ReturnType<typeof logs>

/** What the log of a scenario has to hold. */
export interface Says {
  /** Whether what fails may end: each worker has said what it has to say of it, however slow the machine is. */
  readonly noticed: (log: Log) => boolean
  readonly inTheEnd: (log: Log) => Effect.Effect<void>
}

/** The names of the workers. */
export const workers = ["one", "two"] as const

const slots = 5
const first = 60
const all = 100

/** Adds a run once, however often it takes: an addition that was not answered may have been written. */
const addInsisting = (
  n: number
): Effect.Effect<void, never, Effect.Services<ReturnType<typeof addWork>> | Docket.Docket> =>
  Effect.catch(Effect.asVoid(addWork(n, 5)), () =>
    Effect.flatMap(
      insist(Effect.andThen(Effect.sleep(50), Docket.Docket.use((docket) => docket.get(String(n))))),
      (known) => known === undefined ? addInsisting(n) : Effect.void
    )).pipe(Effect.orDie)

const outcomeOf = (n: number) =>
  Docket.Docket.use((docket) =>
    Effect.map(
      docket.awaitOutcome(String(n), 1),
      (outcome) => outcome._tag === "Exit" ? JSON.parse(outcome.exit).value as unknown : outcome._tag
    )
  )

/** For how long at most this process has stood still. */
const standstill = Effect.gen(function*() {
  const pause = 100
  let longest = 0
  yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
    const before = yield* Clock.currentTimeMillis
    yield* Effect.sleep(pause)
    longest = Math.max(longest, (yield* Clock.currentTimeMillis) - before - pause)
  })))
  return { longest: () => longest }
})

/** Plays a scenario. */
export const survives = Effect.fnUntraced(function*(scenario: Scenario) {
  const { begin, during, end, lease = 20_000, millis = 700, store } = scenario
  const ledger = new Ledger(15)
  const log = logs()
  const name = uniqueName()
  const still = yield* standstill
  const recorded = Layer.effect(DocketStore.DocketStore, Effect.map(DocketStore.DocketStore, ledger.recording)).pipe(
    Layer.provide(store)
  )
  for (const worker of workers) {
    yield* Layer.build(
      Layer.fresh(
        Worker.layer(Works, { name: worker, concurrency: slots, lease }).pipe(
          Layer.provide(handling(ledger.begins(worker))),
          Layer.provide(docketIn(recorded, name)),
          Layer.provide(log.layer)
        )
      )
    )
  }
  const producer = yield* Layer.build(
    Works.client.pipe(Layer.provideMerge(docketIn(store, name)), Layer.provide(log.layer))
  )
  yield* Effect.gen(function*() {
    for (const n of range(first)) yield* addWork(n, 30, n % 3 === 0 ? { after: 300 } : {})
    yield* servers.until(Effect.sync(() => workers.every((worker) => ledger.held.get(worker) === slots)))
    if (begin !== undefined) yield* begin(name)
    const begun = yield* Clock.currentTimeMillis
    yield* ledger.open
    const adding = yield* Effect.forkChild(Effect.forEach(range(all - first), (n) => addInsisting(first + n)), {
      startImmediately: true
    })
    if (during !== undefined) yield* during
    if (end !== undefined) {
      yield* Effect.sleep(millis)
      yield* servers.until(Effect.sync(() => scenario.says?.noticed(log) ?? true))
      yield* end
    }
    yield* Fiber.join(adding)
    assert.deepStrictEqual(
      yield* Effect.forEach(range(all), outcomeOf, { concurrency: "unbounded" }),
      Array.from(range(all)),
      "each has its outcome"
    )
    // the outcome is told before the worker hears that it was applied
    yield* servers.until(Effect.sync(() => ledger.completed.size === all))
    ledger.check(lease, scenario.forgets === true ? begun : undefined)
    // a machine that stood still for most of a lease has lost it
    const isUndisturbed = scenario.losesLeases !== true && scenario.forgets !== true && still.longest() < lease / 2
    if (isUndisturbed) ledger.checkUndisturbed()
    assert.deepStrictEqual(yield* insist(Docket.counts), [], "nothing is left")
    if (scenario.says !== undefined) yield* scenario.says.inTheEnd(log)
  }).pipe(Effect.provide(producer))
}, Effect.scoped)

/** The lines in which a worker says that the store is away, and those in which it says that it is back. */
const said = ({ lines }: Log, worker: string) => {
  const own = lines.filter((line) => line.includes(`worker ${worker}: `))
  return {
    away: own.filter((line) => line.startsWith("Warn: ") && line.endsWith("trying again")),
    back: own.filter((line) => line.startsWith("Info: ") && line.endsWith("the store is back"))
  }
}

/** Each worker says once that the store is away, with this text, and once that it is back. */
export const once = (text = ""): Says => ({
  noticed: (log) => workers.every((worker) => said(log, worker).away.length > 0),
  inTheEnd: Effect.fnUntraced(function*(log: Log) {
    // renewals notice a little later that the store is back
    yield* servers.until(Effect.sync(() => workers.every((worker) => said(log, worker).back.length > 0)))
    for (const worker of workers) {
      const { away, back } = said(log, worker)
      assert.strictEqual(away.length, 1, log.lines.join("\n"))
      assert.include(away[0], text)
      assert.strictEqual(back.length, 1, log.lines.join("\n"))
    }
  })
})

/** Each worker says as often that the store is away as that it is back, and at most so often. */
export const atMost = (times: number): Says => ({
  noticed: () => true,
  inTheEnd: Effect.fnUntraced(function*(log: Log) {
    for (const worker of workers) {
      yield* servers.until(Effect.sync(() => said(log, worker).back.length === said(log, worker).away.length))
      assert.isAtMost(said(log, worker).away.length, times, log.lines.join("\n"))
    }
  })
})

/** No worker says anything. */
export const nothing: Says = {
  noticed: () => true,
  inTheEnd: (log) =>
    Effect.sync(() => {
      for (const worker of workers) assert.deepStrictEqual(said(log, worker), { away: [], back: [] })
    })
}
