/**
 * The simulation itself, and what it says of this runtime: thousands of seeds.
 *
 * `DOCKET_SIMULATION_SEEDS` and `DOCKET_SIMULATION_FROM` choose other seeds; `npm run simulate` does so without a limit.
 */
import { Docket, Flow, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { Simulation } from "@effect-docket/runtime/testing"
import { assert, describe, it, vi } from "@effect/vitest"
import { Config, Console, Duration, Effect, Random, Schema } from "effect"
import type { Change, Claim, ClaimedThread, TurnReply, WorkerOptions } from "../src/DocketStore.ts"
import { Ledger } from "../src/internal/simulation/ledger.ts"
import { Trace } from "../src/internal/simulation/trace.ts"
import { addition } from "./contract/seam.ts"
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
  /^ *\d+ p +clear [1-9]/m
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

/** A ledger that has seen one run of the task "T" being added at 0, due at 10, and what it says of what comes then. */
const audited = (
  perpetual: boolean,
  story: (tell: {
    readonly claim: (now: number, token: string, process?: string, more?: Partial<Claim>) => void
    readonly settle: (now: number, token: string, tag: "Completed" | "Failed" | "Released", answer: string) => void
    readonly body: (token: string, attempt?: number) => void
    readonly ledger: Ledger
  }) => void
): ReadonlyArray<string> => {
  const ledger = new Ledger(new Trace(() => 0), new Set(perpetual ? ["T"] : []))
  const options: WorkerOptions = {
    worker: "w",
    tasks: new Map([["T", 1]]),
    lanes: ["default"],
    lease: 100,
    onWake: () => {}
  }
  const reply = (fields: Partial<TurnReply>): TurnReply => ({
    now: 0,
    settled: [],
    claimed: [],
    cancelled: [],
    unserved: [],
    ...fields
  })
  const claimOf = (token: string): Claim => ({
    key: "k",
    generation: 1,
    token,
    task: "T",
    version: 1,
    payload: "{}",
    attempt: 1,
    lost: 0,
    failures: undefined,
    due: 10,
    startedAt: Number(token),
    trace: undefined
  })
  ledger.added([addition("k", { due: { at: 10 } })], [{ disposition: "Added", generation: 1, due: 10 }], 0)
  story({
    ledger,
    claim: (now, token, process = "w", more) =>
      ledger.claimed(process, options, reply({ claimed: [{ ...claimOf(token), ...more }] }), now),
    settle: (now, token, tag, answer) => {
      const change: Change = tag === "Released" ? { _tag: tag } : { _tag: tag, exit: "" }
      const settle = [{ key: "k", generation: 1, token, change, successor: undefined }]
      const request = { settle, capacity: 0, lanes: undefined, except: undefined }
      ledger.settled(request, reply({ settled: [answer as TurnReply["settled"][number]] }), now) // one of them
    },
    body: (token, attempt = 1) => {
      const claim = ledger.begin("w", "k", attempt, Number(token))
      if (claim !== undefined) claim.result = "Success"
    }
  })
  return ledger.violations
}

const finished = (at: number) =>
  ({
    task: "T",
    key: "k",
    generation: 1,
    event: { _tag: "Finished", at, outcome: { _tag: "Exit", exit: "" } }
  }) as const

describe("The ledger of a simulation", () => {
  it("has nothing to say of what is as promised", () => {
    assert.deepStrictEqual(
      audited(false, ({ body, claim, ledger, settle }) => {
        claim(10, "1")
        body("1")
        settle(20, "1", "Released", "Applied")
        // what it took back is another one's
        claim(20, "2", "other")
        claim(120, "3", "w", { attempt: 2, lost: 1 })
        settle(121, "2", "Completed", "Lost")
        body("3", 2)
        settle(130, "3", "Completed", "Applied")
        ledger.event(finished(130))
        settle(131, "3", "Completed", "Duplicate")
      }),
      []
    )
  })

  for (
    const [text, story] of [
      ["2 ms early", ({ claim }) => claim(8, "1")],
      ["is claimed while w holds it until 110", ({ claim }) => {
        claim(10, "1")
        claim(109, "2")
      }],
      ["was Applied, but its lease was over", ({ claim, settle }) => {
        claim(10, "1")
        claim(110, "2", "other")
        settle(111, "1", "Failed", "Applied")
      }],
      ["was Lost, but it is held until 110", ({ claim, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Lost")
      }],
      ["but its body did not succeed", ({ claim, settle }) => {
        claim(10, "1")
        settle(11, "1", "Completed", "Applied")
      }],
      ["began twice", ({ body, claim }) => {
        claim(10, "1")
        body("1")
        body("1")
      }],
      ["which it was not given", ({ body }) => body("1")],
      ["had ended (Exit)", ({ claim, ledger, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Applied")
        ledger.event(finished(11))
        ledger.event(finished(12))
      }],
      ["was taken from w, which holds it until 110", ({ claim, ledger }) => {
        claim(10, "1")
        ledger.event({ ...finished(50), event: { _tag: "Ready", at: 50 } })
      }],
      ["is claimed after somebody had cancelled it", ({ claim, ledger }) => {
        claim(10, "1")
        ledger.cancelled("k", true)
        claim(110, "2")
      }],
      ["while it is struck", ({ claim, ledger }) => {
        ledger.measures.struck({ task: "T", where: [], reason: "", until: undefined })
        claim(10, "1")
      }],
      ["has lost 0 claims, after attempt 1 and 1 that were lost", ({ claim }) => {
        claim(10, "1")
        claim(110, "2", "other", { attempt: 2 })
      }],
      ["has lost 0 claims, after attempt 0 and 0 that were lost", ({ claim, settle }) => {
        claim(10, "1")
        settle(11, "1", "Released", "Applied")
        claim(12, "2", "other", { attempt: 2 })
      }],
      [
        "q is due 5 ms too early",
        ({ ledger }) =>
          ledger.added([addition("q", { due: { at: 15 } })], [{ disposition: "Added", generation: 2, due: 10 }], 0)
      ],
      ["while it is paused", ({ claim, ledger }) => {
        ledger.measures.paused({ task: undefined, lane: "default" })
        claim(10, "1")
      }],
      ["and nobody added it", ({ ledger }) => ledger.event({ ...finished(10), generation: 2 })]
    ] as ReadonlyArray<readonly [string, Parameters<typeof audited>[1]]>
  ) {
    it(`says: ${text}`, () => {
      const violations = audited(false, story)
      assert.isTrue(violations.some((violation) => violation.includes(text)), violations.join("; "))
    })
  }

  describe("of a gather", () => {
    const gather = { id: "g", succeeded: 2, failed: 2, ended: 3 }
    const thread = {
      flow: "F",
      version: 1,
      step: undefined,
      state: "",
      deadline: undefined,
      onCancel: "end",
      parent: undefined,
      between: true,
      gathered: undefined,
      exit: undefined,
      stopped: undefined
    } as const
    const told = (ends: ReadonlyArray<"Success" | "Failure">, gathered: ClaimedThread["gathered"], goesOn = true) =>
      audited(false, ({ claim, ledger }) => {
        claim(10, "1", "w", { thread })
        const change: Change = { _tag: "Continue", thread, to: { _tag: "Gather", gather } }
        const members = ends.map((_, index) =>
          addition(`m${index}`, { thread: { ...thread, parent: { key: "k", generation: 1, gather: "g", index } } })
        )
        const settle = [{ key: "k", generation: 1, token: "1", change, successor: undefined, members }]
        ledger.settled(
          { settle, capacity: 0, lanes: undefined, except: undefined },
          { now: 10, settled: ["Applied"], claimed: [], cancelled: [], unserved: [] },
          10
        )
        for (const [index, _tag] of ends.entries()) {
          const member = { task: "T", key: `m${index}`, generation: 2 + index }
          ledger.event({ ...member, event: { _tag: "Ready", at: 10 } })
          const outcome = { _tag: "Exit", exit: JSON.stringify({ _tag, value: "Success" }) } as const
          ledger.event({ ...member, event: { _tag: "Finished", at: 11, outcome } })
        }
        if (goesOn) ledger.event({ task: "T", key: "k", generation: 1, event: { _tag: "Ready", at: 11 } })
        ledger.caughtUp()
        if (goesOn) claim(12, "2", "w", { thread: { ...thread, gathered } })
      })

    it("has nothing to say of one that is released when it is complete", () => {
      assert.deepStrictEqual(told(["Success", "Failure", "Success"], { succeeded: 2, failed: 1 }), [])
      assert.deepStrictEqual(told(["Failure", "Failure"], { succeeded: 0, failed: 2 }), [])
      assert.deepStrictEqual(told(["Success"], undefined, false), [])
    })

    for (
      const [text, violations] of [
        [
          "goes on with 1 that have succeeded and 1 that have not, and waits for",
          () => told(["Success", "Failure"], { succeeded: 1, failed: 1 })
        ],
        [
          "is told of {\"succeeded\":3,\"failed\":0}, and there are 2 that have succeeded and 1",
          () => told(["Success", "Failure", "Success"], { succeeded: 3, failed: 0 })
        ],
        ["has what it waits for, and does not go on", () => told(["Success", "Success"], undefined, false)]
      ] as const
    ) {
      it(`says: ${text}`, () => assert.include(violations().join("\n"), text))
    }
  })

  it("says: and nothing follows it", () => {
    const violations = audited(true, ({ claim, settle }) => {
      claim(10, "1")
      settle(11, "1", "Failed", "Applied")
    })
    assert.include(violations.join(), "and nothing follows it")
  })
})
