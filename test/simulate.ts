/**
 * `npm run simulate [-- --seeds N] [--from N] [--steps N] [--only NAMES] [--of NAME] [--trace]`
 */
import { Simulation } from "@effect-docket/runtime/testing"
import { Console, Effect } from "effect"
import { parseArgs } from "node:util"
import { flows } from "../packages/runtime/test/simulation/flows.ts"
import { disturbances, sagas } from "../packages/runtime/test/simulation/sagas.ts"
import { finite, standard } from "../packages/runtime/test/simulation/standard.ts"

const usage = `npm run simulate [-- --seeds N] [--from N] [--steps N] [--only NAMES] [--of NAME] [--trace]

  --seeds N     how many simulations (default 2000)
  --from N      the first seed (default 1)
  --steps N     things that happen in each (default 80)
  --only NAMES  what goes wrong, with commas between: ${Simulation.disturbances.join(", ")}
  --of NAME     standard (default), finite (no perpetual tasks), flows, or sagas (nobody replaces them)
  --trace       prints the trace of the first seed`

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "2000" },
    from: { type: "string", default: "1" },
    steps: { type: "string" },
    only: { type: "string" },
    of: { type: "string", default: "standard" },
    trace: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const only = values.only?.split(",").filter((name) => name !== "")
const workloads: Readonly<Record<string, Effect.Effect<Simulation.Workload>>> = {
  standard,
  finite,
  flows,
  sagas: sagas({ kept: 0, undone: 0 })
}
const workload = workloads[values.of] ?? standard
const unknown = [
  ...only?.filter((name) => !Simulation.disturbances.some((known) => known === name)) ?? [],
  ...workloads[values.of] === undefined ? [values.of] : []
]
const from = Number(values.from)
const seeds = Number(values.seeds)
const options: Simulation.Options = {
  ...values.steps !== undefined && { steps: Number(values.steps) },
  ...(only !== undefined || values.of === "sagas") && {
    disturbances: (values.of === "sagas" ? disturbances : Simulation.disturbances).filter((name) =>
      only === undefined || only.includes(name)
    )
  }
}

// Seeds between two lines of progress.
const batch = 500

const program = Effect.gen(function*() {
  if (values.trace) yield* Console.log((yield* Simulation.run(workload, { ...options, seed: from })).trace)
  const begun = performance.now()
  const sums = { runs: 0, claims: 0, bodies: 0, redelivered: 0, faults: 0 }
  for (let done = 0; done < seeds;) {
    const count = Math.min(batch, seeds - done)
    const report = yield* Simulation.check(workload, { ...options, from: from + done, seeds: count })
    for (const name of Object.keys(sums) as Array<keyof typeof sums>) sums[name] += report[name] // the keys of a literal
    done += count
    const rate = Math.round(done / (performance.now() - begun) * 1000)
    const figures = Object.entries(sums).map(([name, sum]) => `${sum.toLocaleString("en")} ${name}`).join(", ")
    yield* Console.log(`${done.toLocaleString("en")} seeds, ${rate} a second: ${figures}`)
  }
}).pipe(
  Effect.catch(({ disturbances, message, seed, steps, trace }) =>
    Effect.gen(function*() {
      yield* Console.error(values.trace ? trace : message)
      yield* Console.error(
        `\nnpm run simulate -- --of ${values.of} --seeds 1 --from ${seed} --steps ${steps} --only ${
          disturbances.join(",")
        },`
      )
      process.exitCode = 1
    })
  )
)

const isWrong = unknown.length > 0 || !Number.isSafeInteger(from) || !Number.isSafeInteger(seeds)
if (isWrong) process.exitCode = 1
await Effect.runPromise(
  isWrong
    ? Console.error(unknown.length > 0 ? `unknown: ${unknown.join(", ")}\n\n${usage}` : usage)
    : values.help
    ? Console.log(usage)
    : program
)
