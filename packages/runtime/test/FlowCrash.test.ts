/**
 * A worker dies at each single write of a flow, before it or after it, or its reply is lost, or it is sent twice: the flow ends
 * once, with the right outcome. Small flows are tried at every write, which takes about a thousand workers; then all of them
 * together, and one with many members, with workers that die all the time.
 *
 * `DOCKET_FLOW_DEATHS` (how many of these die, default 200) and `DOCKET_FLOW_SEED` choose other ones; a nightly run takes
 * 20,000.
 */
import { assert, describe, it } from "@effect/vitest"
import { Config, Effect, Exit } from "effect"
import { Chance } from "../src/internal/simulation/chance.ts"
import { type Fault, type Plan, play } from "./flow/crash.ts"
import { Bodies, large, produce, type Scenario, scenarios, subject } from "./flow/scenarios.ts"

const faults: ReadonlyArray<Fault> = ["before", "after", "lostReply", "repeat"]

/** What is wrong with the bodies and the end of a scenario. */
const problems = (scenario: Scenario, end: string | undefined, seen: Bodies, losses: number): ReadonlyArray<string> => {
  const { bodies, ends, maybe = [], undoes = [], undone = [] } = scenario
  const cancelled = "error \"Cancelled\""
  if (end === cancelled && ends !== cancelled) {
    return undoes
      .filter(([begun, undone]) => seen.all.includes(begun) && !seen.all.includes(undone))
      .map(([begun, undone]) => `${scenario.name}: ${begun}, and no ${undone}`)
  }
  const order = seen.all.filter((body, i) => undone.includes(body) && seen.all.indexOf(body) === i)
  return [
    ...end === ends ? [] : [`it ends with ${end}`],
    ...bodies.filter((body) => !seen.all.includes(body)).map((body) => `no body ${body}`),
    ...seen.all.filter((body) => !bodies.includes(body) && !maybe.includes(body)).map((body) => `a body ${body}`),
    ...Array.from(seen.steps)
      .filter(([, times]) => times > 1 + losses)
      .map(([step, times]) => `${times} bodies of ${step}, and ${losses} claims were lost`),
    ...order.join() === undone.join() ? [] : [`compensations in the order ${order.join()}`]
  ].map((problem) => `${scenario.name}: ${problem}`)
}

/** Runs scenarios; what is wrong with them, and how many writes and deaths there were. */
const run = Effect.fnUntraced(function*(list: ReadonlyArray<Scenario>, plan: Plan) {
  const seen = new Map(list.map(({ name }) => [name, new Bodies()]))
  const all = Effect.forEach(list, produce, { concurrency: "unbounded" })
  const [{ name: key }] = list as readonly [Scenario] // there is one
  const played = yield* play({ ...subject(list, (flow) => seen.get(flow)!), key }, plan, all)
  const ends = Exit.isSuccess(played.exit) ? played.exit.value : []
  const counts = new Map<string, number>()
  for (const event of played.events) counts.set(event, (counts.get(event) ?? 0) + 1)
  const losses = played.deaths + played.lostReplies
  const cancel = played.events.indexOf("accepted")
  const accepted = cancel === -1 ? played.events.length : cancel
  const wrong = [
    ...played.left,
    ...Exit.isSuccess(played.exit) ? [] : [String(played.exit.cause)],
    ...list.flatMap((scenario, i) => problems(scenario, ends[i], seen.get(scenario.name)!, losses)),
    // a step is released once, and everything ends once; rounds have the same steps
    ...Array.from(counts)
      .filter(([event, times]) => times > 1 && !event.startsWith("Again"))
      .map(([event, times]) => `${times} times ${event}`),
    ...played.events.slice(accepted).filter((event) => event.startsWith(`${key} `) && event.endsWith("Started")).map((
      event
    ) => `${event} after a cancel was accepted`),
    ...list.filter(({ name }) => !counts.has(`${name} Finished`)).map(({ name }) => `no event says that ${name} ended`)
  ]
  return { wrong, writes: played.writes, deaths: played.deaths, ends }
})

describe("a worker dies, or does not hear", () => {
  for (const scenario of scenarios) {
    it.live(`${scenario.name} → ends once, whatever write goes wrong`, () =>
      Effect.gen(function*() {
        const calm = yield* run([scenario], () => undefined)
        assert.deepStrictEqual(calm.wrong, [], "nothing goes wrong")
        for (const fault of faults) {
          for (let n = 1; n <= calm.writes; n++) {
            const { wrong } = yield* run([scenario], (write) => write === n ? fault : undefined)
            assert.deepStrictEqual(wrong, [], `${fault} write ${n} of ${calm.writes}`)
          }
        }
      }), 120_000)
  }

  for (const scenario of scenarios.filter(({ cancelAt }) => cancelAt === undefined)) {
    it.live(
      `${scenario.name} → ends once, whatever write a cancel meets, and what was done is undone`,
      () =>
        Effect.gen(function*() {
          const { writes } = yield* run([scenario], () => undefined)
          for (const fault of ["cancel", "cancelAndDie"] as const) {
            for (let n = 3; n <= writes; n++) {
              const { wrong } = yield* run([scenario], (write) => write === n ? fault : undefined)
              assert.deepStrictEqual(wrong, [], `${fault} at write ${n} of ${writes}`)
            }
          }
        }),
      120_000
    )
  }

  it.live("at any step, again and again → every flow ends once, with the right outcome", () =>
    Effect.gen(function*() {
      const wanted = yield* Config.withDefault(Config.Int("DOCKET_FLOW_DEATHS"), 200)
      const seed = yield* Config.withDefault(Config.String("DOCKET_FLOW_SEED"), "flows")
      // how these end depends on how long their members take
      const all = [...scenarios.filter(({ name }) => name !== "Late" && name !== "Quorum"), large]
      let deaths = 0
      for (let batch = 1; deaths < wanted; batch++) {
        const chance = new Chance(batch, seed)
        // a flow whose interpretation is lost six times in a row ends: see `mostLost`
        const rate = chance.pick([0.02, 0.06])
        const played = yield* run(all, () => chance.happens(rate) ? chance.pick(faults) : undefined)
        assert.deepStrictEqual(played.wrong, [], `DOCKET_FLOW_SEED=${seed}, batch ${batch}`)
        deaths += played.deaths
      }
    }), 36_000_000)
})
