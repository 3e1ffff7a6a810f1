/**
 * `npm run chaos`: plays the acts, says what they have shown, and draws them.
 */
import { Effect, Random } from "effect"
import { cpSync, mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { parseArgs } from "node:util"
import * as act from "./act.ts"
import { buildOf, type Built } from "./build.ts"
import * as judge from "./judge.ts"
import type { Servers } from "./plan.ts"
import { summary } from "./summary.ts"
import { draw } from "./timeline.ts"

const usage = `npm run chaos [-- OPTIONS]

  --seed N        decides what is added, and what goes wrong when (default: by chance; it is printed)
  --minutes M     for how long things go wrong, in all (default 1)
  --only SERVERS  single: one server with an append-only file; sentinel: a master and its replica. Default: one after the other
  --rate N        additions per second, of each of two producers (default 10)
  --workers N     worker processes (default 4)
  --lease MILLIS  of the workers (default 4000)
  --old COMMIT    every other process is of this commit of the project, which has to write the same format
  --ledger FOLDER keeps the ledger there, also if all is well
  --svg FILE      where to draw the timeline (default: in the folder for temporary files)`

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string", default: "1" },
    only: { type: "string" },
    rate: { type: "string", default: "10" },
    workers: { type: "string", default: "4" },
    lease: { type: "string", default: "4000" },
    old: { type: "string" },
    ledger: { type: "string" },
    svg: { type: "string" },
    help: { type: "boolean", default: false }
  }
})

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const stage: ReadonlyArray<Servers> = values.only === undefined ? ["single", "sentinel"] : [values.only as Servers] // checked below
const numbers = [values.minutes, values.rate, values.workers, values.lease].map(Number)

const main = Effect.gen(function*() {
  const seed = values.seed === undefined ? yield* Random.nextIntBetween(0, 1_000_000) : Number(values.seed)
  const old: Built | undefined = values.old === undefined ? undefined : yield* buildOf(values.old)
  if (old?._tag === "Refused") {
    print(`not run: ${old.why}`)
    process.exitCode = 2
    return
  }
  const reports: Array<act.Report> = []
  const verdicts: Array<judge.Verdict> = []
  for (const servers of stage) {
    print(`${servers}, seed ${seed}`)
    const report = yield* act.play({
      seed,
      servers,
      millis: Number(values.minutes) * 60_000 / stage.length,
      workers: Number(values.workers),
      producers: 2,
      lease: Number(values.lease),
      slots: 5,
      rate: Number(values.rate),
      old: old?.root
    }, (line) => print(`  ${line}`))
    const verdict = judge.judge(report)
    reports.push(report)
    verdicts.push(verdict)
    for (const line of summary(report, verdict)) print(line)
    if (verdict.problems.length > 0) process.exitCode = 1
    if (verdict.problems.length > 0 || values.ledger !== undefined) {
      const kept = path.join(values.ledger ?? mkdtempSync(path.join(tmpdir(), "docket-chaos-")), servers)
      cpSync(report.folder, kept, { recursive: true })
      writeFileSync(path.join(kept, "faults.json"), JSON.stringify(report.faults, undefined, 1))
      print(`  the ledger is in ${kept}`)
    }
  }
  const file = values.svg ?? path.join(tmpdir(), `docket-chaos-${seed}.svg`)
  writeFileSync(file, draw(reports))
  print(`timeline: ${file}`)
}).pipe(Effect.scoped)

if (values.help) print(usage)
else if (
  numbers.some((n) => !Number.isFinite(n) || n <= 0) || Number.isNaN(Number(values.seed ?? 0)) ||
  stage.some((one) => one !== "single" && one !== "sentinel")
) {
  print(usage)
  process.exitCode = 2
} else await Effect.runPromise(main)
