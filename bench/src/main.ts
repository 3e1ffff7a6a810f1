/**
 * `npm run bench [-- SUITE] [--quick] [--only TEXT] [--system TEXT] [--json FILE] [--svg FILE]`
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { chart } from "./chart.ts"
import * as flows from "./flows.ts"
import { head, line, type Ratio, type Row, run, sentence, type Suite } from "./harness.ts"
import * as memory from "./memory.ts"
import * as redis from "./redis.ts"

interface Entry {
  /** Share of the work that a quick look does. */
  readonly quick: number
  readonly open: (scale: number) => Suite | Promise<Suite>
}

const suites: Readonly<Record<string, Entry>> = {
  memory: { quick: 0.05, open: memory.open },
  redis: { quick: 0.1, open: redis.open },
  flows: { quick: 0.1, open: flows.open }
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    svg: { type: "string" },
    rounds: { type: "string" },
    only: { type: "string" },
    system: { type: "string" },
    help: { type: "boolean", default: false }
  }
})

const usage = `npm run bench [-- SUITE] [--quick] [--rounds N] [--only TEXT] [--system TEXT] [--json FILE] [--svg FILE]

  SUITE          ${Object.keys(suites).join(", ")}; all if none is given
  --quick        a small part of the work, two rounds: whether it runs, not how fast
  --rounds N     rounds that count (default 5)
  --only TEXT    workloads whose name has this text
  --system TEXT  systems whose name has this text
  --json FILE    writes the results
  --svg FILE     draws the ratios

The suite redis starts a server of its own: redis-server or valkey-server on the PATH, or the one that DOCKET_REDIS_SERVER
names.`

const names = positionals.length === 0 ? Object.keys(suites) : positionals
const unknown = names.filter((name) => suites[name] === undefined)
const rounds = Number(values.rounds ?? (values.quick ? 2 : 5))

/** What a run on our store in memory costs, beside one on BullMQ, if both were measured. */
const acrossSuites = (rows: ReadonlyArray<Row>): ReadonlyArray<Ratio> => {
  const rateOf = (system: string) =>
    rows.find((row) =>
      /^process [\d,]+$/.test(row.workload) && row.concurrency === 100 && row.system.startsWith(system)
    )
  const ours = rateOf("effect-docket (memory)")
  const theirs = rateOf("BullMQ")
  return ours === undefined || theirs === undefined ? [] : [{
    workload: `${ours.workload} in memory`,
    concurrency: 100,
    against: `${theirs.system} on Redis`,
    ratio: ours.median / theirs.median,
    better: "more"
  }]
}

const measure = async (): Promise<void> => {
  const opened: Array<Suite> = []
  try {
    for (const name of names) {
      const { open, quick } = suites[name]!
      // oxlint-disable-next-line no-await-in-loop -- one server after the other
      opened.push(await open(values.quick ? quick : 1))
    }
    const workloads = opened
      .flatMap(({ workloads }) => workloads)
      .filter(({ workload }) => values.only === undefined || workload.includes(values.only))
      .map((workload) => ({
        ...workload,
        subjects: workload.subjects.filter(({ system }) =>
          values.system === undefined || system.includes(values.system)
        )
      }))
      .filter(({ subjects }) => subjects.length > 0)
    console.log(head)
    const { machine, ratios: direct, rows } = await run(workloads, rounds, (rows) => {
      for (const row of rows) console.log(line(row))
    })
    const notes = new Map(
      workloads.flatMap(({ subjects }) =>
        subjects.flatMap(({ note, system }) => note === undefined ? [] : [[system, note] as const])
      )
    )
    for (const [system, note] of notes) console.log(`\n${system}: ${note}`)
    const ratios = [...direct, ...opened.flatMap(({ ratios }) => ratios?.(rows) ?? []), ...acrossSuites(rows)]
    if (ratios.length > 0) console.log()
    for (const ratio of ratios) console.log(sentence(ratio))
    const results = {
      machine: Object.assign({}, machine, ...opened.map(({ machine }) => machine)) as typeof machine,
      rows,
      ratios,
      notes: Object.fromEntries(notes)
    }
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
    if (values.svg !== undefined) writeFileSync(values.svg, chart(results))
  } finally {
    await Promise.all(opened.map(({ close }) => close?.()))
  }
}

if (values.help) {
  console.log(usage)
} else if (unknown.length > 0 || !Number.isSafeInteger(rounds) || rounds < 1) {
  console.error(unknown.length > 0 ? `unknown suite: ${unknown.join(", ")}` : "--rounds has to be a positive integer")
  console.error(usage)
  process.exitCode = 2
} else {
  await measure().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  })
}
