/**
 * `npm run bench [-- SUITE] [--quick] [--json FILE]`
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { head, line, run, type Workload } from "./harness.ts"
import * as memory from "./memory.ts"

const suites: Readonly<Record<string, (scale: number) => ReadonlyArray<Workload>>> = { memory: memory.workloads }

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    rounds: { type: "string" },
    only: { type: "string" },
    help: { type: "boolean", default: false }
  }
})

const usage = `npm run bench [-- SUITE] [--quick] [--rounds N] [--only TEXT] [--json FILE]

  SUITE          ${Object.keys(suites).join(", ")}; all if none is given
  --quick        a twentieth of the work, two rounds: whether it runs, not how fast
  --rounds N     rounds that count (default 5)
  --only TEXT    workloads whose name has this text
  --json FILE    writes the results`

const names = positionals.length === 0 ? Object.keys(suites) : positionals
const unknown = names.filter((name) => suites[name] === undefined)
const rounds = Number(values.rounds ?? (values.quick ? 2 : 5))

if (values.help) {
  console.log(usage)
} else if (unknown.length > 0 || !Number.isSafeInteger(rounds) || rounds < 1) {
  console.error(unknown.length > 0 ? `unknown suite: ${unknown.join(", ")}` : "--rounds has to be a positive integer")
  console.error(usage)
  process.exitCode = 2
} else {
  const workloads = names
    .flatMap((name) => suites[name]!(values.quick ? 0.05 : 1))
    .filter(({ workload }) => values.only === undefined || workload.includes(values.only))
  console.log(head)
  const results = await run(workloads, rounds, (rows) => {
    for (const row of rows) console.log(line(row))
  })
  if (results.ratios.length > 0) console.log()
  for (const { against, concurrency, ratio, workload } of results.ratios) {
    console.log(`${workload}${concurrency === null ? "" : `, ${concurrency}`}: ${ratio.toFixed(1)} times ${against}`)
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
}
