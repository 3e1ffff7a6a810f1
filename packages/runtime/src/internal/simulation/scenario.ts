/**
 * One simulation from beginning to end, and the search for a shorter one that fails as well.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Disturbance, Report } from "../../Simulation.ts"
import { Chance } from "./chance.ts"
import { faults } from "./network.ts"
import { rest } from "./rest.ts"
import { events, walk } from "./walk.ts"
import { open, type Subject } from "./world.ts"

/** Everything that can be left out. */
export const disturbances: ReadonlyArray<Disturbance> = [...faults, ...events]

/** What may cost somebody a claim. */
const losing: ReadonlyArray<Disturbance> = [...faults, "outage", "kill", "freeze", "jump"]

/** What decides a simulation. */
export interface Script {
  readonly seed: number
  readonly steps: number
  readonly enabled: ReadonlySet<Disturbance>
}

/** How a simulation went. */
export interface Played {
  readonly script: Script
  readonly report: Report
  readonly violations: ReadonlyArray<string>
}

/** What the seed says about the fleet and the network. */
const setupOf = ({ enabled, seed }: Script) => {
  const chance = new Chance(seed, "setup")
  const latency = chance.pick([0, 0, 2, 10, 50])
  const fleet = {
    most: chance.pick([1, 2, 3, 3]),
    lease: chance.pick([300, 1000, 5000]),
    drainTimeout: chance.pick([0, 500, 5000]),
    concurrency: chance.pick([1, 2, 3, 10]),
    isDivided: chance.happens(0.2),
    isPartial: chance.happens(0.2)
  }
  const skew = chance.pick([0, 1000, 300_000])
  const rates = new Map(faults.map((fault) => {
    const rate = chance.pick(fault === "crash" ? [0, 0.01, 0.02] : [0, 0.02, 0.05, 0.15])
    return [fault, enabled.has(fault) ? rate : 0]
  }))
  return { latency, rates, fleet: { ...fleet, skew: enabled.has("skew") ? skew : 0 } }
}

/** Plays a script. */
export const play = (subject: Effect.Effect<Subject>, script: Script): Effect.Effect<Played> =>
  Effect.gen(function*() {
    const world = yield* Effect.flatMap(subject, (subject) => open({ seed: script.seed, subject, ...setupOf(script) }))
    const { ledger, machine, network, trace } = world
    ledger.isCalm = !losing.some((disturbance) => script.enabled.has(disturbance))
    const fiber = world.direct(Effect.andThen(walk(world, script.steps, script.enabled), rest(world)))
    const exit = yield* Effect.exit(machine.run(() => fiber.pollUnsafe() !== undefined))
    if (Exit.isFailure(exit)) ledger.violation(Cause.prettyErrors(exit.cause).map(({ message }) => message).join(", "))
    const ended = fiber.pollUnsafe()
    if (ended !== undefined && Exit.isFailure(ended)) {
      ledger.violation(`a bug of the simulation: ${Cause.pretty(ended.cause)}`)
    }
    const { bodies, claims, redelivered, runs } = ledger.figures
    const report: Report = {
      seed: script.seed,
      trace: trace.text,
      runs,
      claims,
      bodies,
      redelivered,
      faults: Array.from(network.faults.values()).reduce((sum, count) => sum + count, 0)
    }
    return { script, report, violations: ledger.violations }
  }).pipe(
    // opening a world waits for nothing
    Effect.orDie
  )

/** A script that fails as well, with fewer steps and fewer disturbances: found by leaving out one thing after the other. */
export const shorten = Effect.fnUntraced(function*(
  subject: Effect.Effect<Subject>,
  script: Script
): Effect.fn.Return<Played> {
  let shortest = yield* play(subject, script)
  const attempt = Effect.fnUntraced(function*(script: Script): Effect.fn.Return<boolean> {
    const played = yield* play(subject, script)
    if (played.violations.length > 0) shortest = played
    return played.violations.length > 0
  })
  const prefix = Effect.fnUntraced(function*() {
    for (let cut = Math.ceil(shortest.script.steps / 2); cut > 0;) {
      const { script } = shortest
      const isEnough = cut <= script.steps && (yield* attempt({ ...script, steps: script.steps - cut }))
      if (!isEnough) cut = cut === 1 ? 0 : Math.ceil(cut / 2)
    }
  })
  yield* prefix()
  for (const disturbance of script.enabled) {
    const enabled = new Set(shortest.script.enabled)
    enabled.delete(disturbance)
    yield* attempt({ ...shortest.script, enabled })
  }
  yield* prefix()
  return shortest
})

// Lines of a trace that a message shows; the rest of it is in the error.
const shown = 40

/** What is said of a failure. */
export const message = (
  { seed, trace }: Report,
  steps: number,
  enabled: ReadonlySet<Disturbance>,
  violations: ReadonlyArray<string>
): string => {
  const lines = trace.split("\n")
  const first = lines.findIndex((line) => line.includes(" !    "))
  const end = first === -1 ? lines.length : first + 1
  const list = Array.from(enabled, (name) => JSON.stringify(name)).join(", ")
  return [
    `seed ${seed} fails:`,
    ...violations.slice(0, 10).map((text) => `  ${text}`),
    `It is repeated by Simulation.run(workload, { seed: ${seed}, steps: ${steps}, disturbances: [${list}] }).`,
    "What came before:",
    ...lines.slice(Math.max(0, end - shown), end)
  ].join("\n")
}
