/**
 * How measurements are taken and shown: systems alternate within a workload, medians of several rounds, ratios next to
 * figures. Machines are noisy; compare ratios and medians.
 */
import { arch, cpus, platform, release, totalmem } from "node:os"

/** One workload on one system. `measure` is called once a round and gives the figure of that round. */
export interface Subject {
  readonly system: string
  readonly measure: () => Promise<number>
  /** What it does less than the others, or otherwise. */
  readonly note?: string | undefined
}

/** Something to measure, on one or more systems. */
export interface Workload {
  readonly workload: string
  readonly concurrency?: number | undefined
  readonly unit: string
  /** Which figures are good ones. Default: large ones. */
  readonly better?: "more" | "less" | undefined
  /** One round before the first, which does not count. Default true. */
  readonly warm?: boolean | undefined
  readonly subjects: ReadonlyArray<Subject>
  /** Called after the last round. */
  readonly end?: (() => Promise<void>) | undefined
}

/** Workloads that are measured together. */
export interface Suite {
  readonly workloads: ReadonlyArray<Workload>
  /** Further ratios. */
  readonly ratios?: ((rows: ReadonlyArray<Row>) => ReadonlyArray<Ratio>) | undefined
  /** What the figures depend on, beside the machine. */
  readonly machine?: Results["machine"] | undefined
  readonly close?: (() => Promise<void>) | undefined
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
  /** Whether a large ratio is a good one. */
  readonly better: "more" | "less"
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

/** Measures workloads one after the other, the systems of each in turn. */
export const run = async (
  workloads: ReadonlyArray<Workload>,
  rounds: number,
  onDone: (rows: ReadonlyArray<Row>) => void
): Promise<Results> => {
  const rows: Array<Row> = []
  const ratios: Array<Ratio> = []
  for (const { better = "more", concurrency = null, end, subjects, unit, warm = true, workload } of workloads) {
    const figures = subjects.map((): Array<number> => [])
    for (let round = warm ? -1 : 0; round < rounds; round++) {
      for (const [index, subject] of subjects.entries()) {
        // a forced collection throws optimised code away: only where memory is what is measured
        if (unit === "bytes") globalThis.gc?.()
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
      ratios.push({ workload, concurrency, against: other.system, ratio: done[0]!.median / other.median, better })
    }
    // oxlint-disable-next-line no-await-in-loop -- before the next workload
    await end?.()
    onDone(done)
  }
  return { machine: machine(), rows, ratios }
}

const number = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3)

/** A ratio in words. */
export const sentence = ({ against, better, concurrency, ratio, workload }: Ratio): string =>
  `${workload}${concurrency === null ? "" : `, ${concurrency}`}: ${
    ratio < 1 ? ratio.toPrecision(2) : ratio.toFixed(1)
  } times ${against}${better === "less" ? " (less is better)" : ""}`

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
