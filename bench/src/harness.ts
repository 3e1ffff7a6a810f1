/**
 * How measurements are taken and shown: systems alternate within a workload, medians of several rounds, ratios next to
 * figures. Machines are noisy; compare ratios and medians.
 */
import { arch, cpus, platform, release, totalmem } from "node:os"

/** One workload on one system. `measure` is called once a round and gives the figure of that round. */
export interface Subject {
  readonly system: string
  readonly measure: () => Promise<number>
}

/** Something to measure, on one or more systems. */
export interface Workload {
  readonly workload: string
  readonly concurrency?: number | undefined
  readonly unit: string
  /** What the other systems do less, or otherwise. */
  readonly note?: string | undefined
  readonly subjects: ReadonlyArray<Subject>
}

/** The figures of one workload on one system. */
export interface Row {
  readonly workload: string
  readonly system: string
  readonly concurrency: number | null
  readonly unit: string
  readonly median: number
  readonly min: number
  readonly max: number
  readonly runs: number
}

/** The first system of a workload against another one. */
export interface Ratio {
  readonly workload: string
  readonly concurrency: number | null
  readonly against: string
  readonly ratio: number
}

/** What is written as JSON. */
export interface Results {
  readonly machine: Readonly<Record<string, string | number>>
  readonly rows: ReadonlyArray<Row>
  readonly ratios: ReadonlyArray<Ratio>
}

/** The machine, as far as it matters. */
export const machine = (): Results["machine"] => ({
  node: process.version,
  platform: `${platform()} ${release()} ${arch()}`,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30)
})

/** The middle of some figures. */
export const median = (figures: ReadonlyArray<number>): number => {
  const sorted = figures.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** The figure below which a share of the figures lies. */
export const percentile = (figures: ReadonlyArray<number>, share: number): number =>
  figures.toSorted((a, b) => a - b)[Math.min(figures.length - 1, Math.floor(figures.length * share))]!

/** Bytes in use after a collection. */
export const heap = (): number => {
  if (globalThis.gc === undefined) throw new Error("run it with --expose-gc")
  globalThis.gc()
  globalThis.gc()
  return process.memoryUsage().heapUsed
}

/** Measures workloads one after the other, the systems of each in turn; one round before the first is not counted. */
export const run = async (
  workloads: ReadonlyArray<Workload>,
  rounds: number,
  onDone: (rows: ReadonlyArray<Row>) => void
): Promise<Results> => {
  const rows: Array<Row> = []
  const ratios: Array<Ratio> = []
  for (const { concurrency = null, subjects, unit, workload } of workloads) {
    const figures = subjects.map((): Array<number> => [])
    for (let round = -1; round < rounds; round++) {
      for (const [index, subject] of subjects.entries()) {
        globalThis.gc?.()
        // one after the other is the point
        // oxlint-disable-next-line no-await-in-loop -- measurements must not overlap
        const figure = await subject.measure()
        if (round >= 0) figures[index]!.push(figure)
      }
    }
    const done = subjects.map(({ system }, index): Row => ({
      workload,
      system,
      concurrency,
      unit,
      median: median(figures[index]!),
      min: Math.min(...figures[index]!),
      max: Math.max(...figures[index]!),
      runs: rounds
    }))
    rows.push(...done)
    for (const other of done.slice(1)) {
      ratios.push({ workload, concurrency, against: other.system, ratio: done[0]!.median / other.median })
    }
    onDone(done)
  }
  return { machine: machine(), rows, ratios }
}

const number = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3)

/** A line of the table. */
export const line = (row: Row): string =>
  [
    row.workload.padEnd(44),
    (row.concurrency === null ? "" : String(row.concurrency)).padStart(5),
    row.system.padEnd(24),
    number(row.median).padStart(10),
    row.unit.padEnd(8),
    `${number(row.min)} - ${number(row.max)}`
  ].join("  ")

/** The head of the table. */
export const head = [
  "workload".padEnd(44),
  "conc.",
  "system".padEnd(24),
  "median".padStart(10),
  "unit".padEnd(8),
  "min - max"
].join("  ")
