/**
 * The simulation itself, and what it says of this runtime: thousands of seeds.
 *
 * `DOCKET_SIMULATION_SEEDS` and `DOCKET_SIMULATION_FROM` choose other seeds; `npm run simulate` does so without a limit.
 */
import { Docket, Flow, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { Simulation } from "@effect-docket/runtime/testing"
import { assert, describe, it, vi } from "@effect/vitest"
import { Config, Console, Duration, Effect, Random, Schema } from "effect"
import { flows } from "./simulation/flows.ts"
import { disturbances as ofSagas, type Ends, sagas } from "./simulation/sagas.ts"
import { finite, standard } from "./simulation/standard.ts"

// they work for a minute or two, side by side
vi.setConfig({ testTimeout: 1_800_000 })

const settings = Config.all({
  seeds: Config.withDefault(Config.Int("DOCKET_SIMULATION_SEEDS"), 2000),
  from: Config.withDefault(Config.Int("DOCKET_SIMULATION_FROM"), 1)
})

const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index)

class Charge extends Task.make("Charge", { payload: { order: Schema.Int }, key: ({ order }) => `order-${order}` }) {}
class Charges extends TaskGroup.make(Charge) {}

/** A shop that charges each order once: that of its key, or whenever it is asked. */
const shop = (isCareful: boolean) =>
  Effect.sync(() => {
    const charged = new Map<number, number>()
    let orders = 0
    return Simulation.workload({
      group: Charges,
      handlers: Charges.toLayer({
        Charge: Effect.fnUntraced(function*({ order }) {
          yield* Effect.sleep("100 millis")
          if (isCareful && charged.has(order)) return
          charged.set(order, (charged.get(order) ?? 0) + 1)
          yield* Effect.sleep("100 millis")
        })
      }),
      produce: Effect.suspend(() => Docket.add(Charge, { order: ++orders })),
      verify: Effect.forEach(charged, ([order, times]) =>
        times > 1 ? Effect.fail(`order ${order} was charged ${times} times`) : Effect.void)
    })
  })

// what nobody's operator does to an order, and what makes no body begin again
const faults = Simulation.disturbances.filter((name) =>
  !["add", "replace", "cancel", "pause", "strike", "clear", "redrive"].includes(name)
)
const harmless = ["late", "skew", "pause", "strike", "cancel"] as const

const handled = (body: (n: number) => Effect.Effect<void>) => {
  class Odd extends Task.make("Odd") {}
  class Odds extends TaskGroup.make(Odd) {}
  let count = 0
  return Effect.sync(() =>
    Simulation.workload({
      group: Odds,
      handlers: Odds.toLayer({ Odd: () => Effect.suspend(() => body(++count)) }),
      produce: Docket.add(Odd)
    })
  )
}

// What chance has to lead to, in the words of a trace.
const everywhere = [
  /: lostRequest$/m,
  /: lostReply$/m,
  /: repeat$/m,
  /: late$/m,
  /: crash$/m,
  / w\d+ +crashes$/m,
  / p\d+ +crashes$/m,
  // what one producer has added, another one cancels
  / p2 +cancels /,
  /: outage$/m,
  /is killed$/m,
  /stands still for/,
  /the clock jumps by/,
  /has its clock set -\d+ ahead/,
  /\): Lost/,
  /\): Duplicate/,
  /Released \S+ \(\d+\): Applied/,
  /Retry \S+ \(\d+\): Applied/,
  /renew .*: Lost/,
  /renew .*: Replaced/,
  /renew .*: Cancelled/,
  /pauses \w+ in /,
  /strikes \w+ with /,
  /: Struck/,
  /\(replace\): Replaced/,
  /^ *\d+ p\d+ +clear [1-9]/m
]
const ofTasks = [
  ...everywhere,
  /Snooze \S+ \(\d+\): Applied/,
  /Skipped\+? \S+ \(\d+\): Applied/,
  /Completed\+ Tick/,
  /Failed\+ \S+ \(\d+\): Applied/,
  /Cancelled \S+ \(\d+\): Applied/,
  // a cooldown, a limit that drops, a debounce
  /: Limited/,
  /to drop it/,
  /Settling \S+: Replaced Settling\//,
  /First \S+: Existing first-\d/,
  // an agenda
  /Plain plain-100\d: Added/,
  /redrives (Failing|Scheduled|Dying|Timed|Stubborn)/
]
const ofFlows = [
  ...everywhere,
  /Continue to Step/,
  /Continue to Gather/,
  /Continue to Between/,
  /, Cancelled(,|$)/m,
  /, Expired(,|$)/m,
  /, Struck(,|$)/m,
  /gathered, AllSettled/,
  /gathered, QuorumMet/,
  /gathered, QuorumImpossible/,
  /gathered, DeadlinePassed/,
  // undoing, and another time around
  /runs Undo \S+\/undo~/,
  /runs \w+ \S+~1\S* /,
  /redrives (Row|Branch|Total|Settled|Quorum|Strict|Saga|Both|Patient|Again|Nested|Caught|Tried|Spread)/,
  /redrives .*\n(?:.*\n)*?.*add \w+ flow-\d+: Added/
]

describe("Simulation", () => {
  for (
    const [name, workload, share] of [
      ["standard", standard, 0.4],
      ["finite", finite, 0.15],
      ["flows", flows, 0.3]
    ] as const
  ) {
    it.live(`keeps every promise: ${name}`, () =>
      Effect.gen(function*() {
        const { from, seeds: all } = yield* settings
        const seeds = Math.ceil(all * share)
        const sums = yield* Simulation.check(workload, { from, seeds })
        yield* Console.log(`simulation "${name}", seeds ${from} to ${from + seeds - 1}: ${JSON.stringify(sums)}`)
        assert.isAbove(sums.bodies, seeds)
        assert.isAbove(sums.faults, seeds)
        assert.isAbove(sums.redelivered, seeds)
      }))
  }

  it.live("keeps every promise: sagas undo just what they did, newest first", () =>
    Effect.gen(function*() {
      const { from, seeds: all } = yield* settings
      const seeds = Math.ceil(all * 0.15)
      const ends: Ends = { kept: 0, undone: 0 }
      const sums = yield* Simulation.check(sagas(ends), { from, seeds, disturbances: ofSagas })
      yield* Console.log(
        `simulation "sagas", seeds ${from} to ${from + seeds - 1}: ${JSON.stringify({ ...sums, ...ends })}`
      )
      assert.isAbove(ends.kept, seeds)
      assert.isAbove(ends.undone, seeds)
    }))

  for (const [name, workload, states] of [["standard", standard, ofTasks], ["flows", flows, ofFlows]] as const) {
    it.live(`reaches everything that it is about: ${name}`, () =>
      Effect.gen(function*() {
        const seen = new Map(states.map(({ source }) => [source, 0]))
        for (const seed of range(1, 60)) {
          const { trace } = yield* Simulation.run(workload, { seed })
          for (const state of states) if (state.test(trace)) seen.set(state.source, seen.get(state.source)! + 1)
        }
        for (const [state, seeds] of seen) assert.isAtLeast(seeds, 3, `${state}, of 60 seeds`)
      }))
  }

  it.live("the same seed gives the same trace, byte for byte, whatever else runs beside it", () =>
    Effect.gen(function*() {
      const seeds = range(1, 40)
      const traces = (seeds: ReadonlyArray<number>) =>
        Effect.forEach(
          seeds,
          (seed) => Effect.map(Simulation.run(seed % 2 === 0 ? standard : flows, { seed }), ({ trace }) => trace)
        )
      const [first, second] = yield* Effect.all([traces(seeds), traces(seeds.toReversed())], { concurrency: 2 })
      assert.deepStrictEqual(second.toReversed(), first)
      assert.strictEqual(new Set(first).size, seeds.length)
      for (const trace of first) assert.isAbove(trace.split("\n").length, 20)
    }))

  // seed 10041: a worker whose claim was over added them again, when the flow had long heard how they ended
  it.live("members that are tried again are written with the settlement, or not at all", () =>
    Effect.gen(function*() {
      class Oh extends Schema.TaggedError<Oh>()("Oh", {}) {}
      class Try extends Task.make("Try", {
        payload: { n: Schema.Int },
        success: Schema.Int,
        error: Oh,
        retry: { Oh: Retry.never }
      }) {}
      class Tries extends TaskGroup.make(Try) {}
      class Pair extends Flow.make(
        "Pair",
        Flow.input(Schema.Struct({ n: Schema.Int })).pipe(Flow.all({ left: Try, right: Try }))
      ) {}
      let runs = 0
      const workload = Effect.sync(() =>
        Simulation.workload({
          group: Tries,
          flows: [Pair],
          handlers: Tries.toLayer({
            Try: ({ n }) => Effect.suspend(() => ++runs <= 2 ? new Oh() : Effect.succeed(n))
          }),
          produce: Effect.gen(function*() {
            const pair = yield* Docket.start(Pair, { n: 1 }, { key: "pair" })
            yield* Effect.exit(pair.await)
            yield* Docket.redrive(Pair)
          })
        })
      )
      const { trace } = yield* Simulation.run(workload, { seed: 3, steps: 8, disturbances: [] })
      assert.include(trace, "add Pair pair: Added #")
      assert.isAtLeast(runs, 4)
      assert.notInclude(trace, "(replace)")
    }))

  it.live("a step stays what it is when others are left out", () =>
    Effect.gen(function*() {
      const trace = (steps: number) =>
        Effect.map(Simulation.run(standard, { seed: 7, steps }), ({ trace }) => trace.split("\n"))
      const [short, long] = [yield* trace(10), yield* trace(20)]
      const calm = short.findIndex((line) => line.includes("nothing goes wrong any more"))
      assert.isAbove(calm, 5)
      assert.deepStrictEqual(long.slice(0, calm), short.slice(0, calm))
    }))

  it.live("bodies begin once where nothing costs a claim", () =>
    Effect.gen(function*() {
      const { redelivered, runs } = yield* Simulation.check(shop(false), { seeds: 30, disturbances: ["skew"] })
      assert.strictEqual(redelivered, 0)
      assert.isAbove(runs, 300)
    }))

  it.live("finds a handler that does not stand a repetition, says how, and repeats it", () =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip(Simulation.check(shop(false), { seeds: 100, disturbances: faults }))
      assert.match(failure.violations.join("\n"), /verify fails: order \d+ was charged 2 times/)
      assert.isBelow(failure.steps, 80)
      assert.isBelow(failure.disturbances.length, faults.length)
      assert.include(failure.message, `seed ${failure.seed} fails:`)
      const { disturbances, seed, steps, violations } = failure
      const list = disturbances.map((name) => JSON.stringify(name)).join(", ")
      assert.include(failure.message, `{ seed: ${seed}, steps: ${steps}, disturbances: [${list}] }`)
      const again = yield* Effect.flip(Simulation.run(shop(false), { seed, steps, disturbances }))
      assert.deepStrictEqual(again.violations, violations)
      assert.strictEqual(again.trace, failure.trace)
    }))

  it.live("and none in one that does", () =>
    Effect.gen(function*() {
      const { redelivered } = yield* Simulation.check(shop(true), { seeds: 60, disturbances: faults })
      assert.isAbove(redelivered, 30)
    }))

  it.live("a body that waits for what no clock moves is a failure that says so", () =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip(
        Simulation.run(handled(() => Effect.never), { seed: 1, steps: 5, disturbances: [] })
      )
      assert.match(failure.violations.join("\n"), /is Running for ever/)
    }))

  it.live("a body that lets no time pass is a failure that says so", () =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip(
        Simulation.run(handled(() => Effect.forever(Effect.yieldNow)), { seed: 1, steps: 5, disturbances: [] })
      )
      assert.match(failure.violations.join("\n"), /does not come to rest/)
    }))

  it.live("bodies may wait for promises, and chance in them is decided by the seed", () =>
    Effect.gen(function*() {
      const drawn: Array<Array<number>> = []
      for (let n = 0; n < 2; n++) {
        const numbers: Array<number> = []
        const body = () =>
          Effect.promise(() => Promise.resolve(1)).pipe(
            Effect.andThen(Random.next),
            Effect.tap((number) => Effect.sync(() => numbers.push(number))),
            Effect.andThen(Effect.sleep(Duration.seconds(1)))
          )
        yield* Simulation.run(handled(body), { seed: 3, steps: 20, disturbances: [...harmless] })
        drawn.push(numbers)
      }
      assert.isAbove(drawn[0]!.length, 3)
      assert.deepStrictEqual(drawn[1], drawn[0])
    }))
})
