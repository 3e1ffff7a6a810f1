/**
 * An act in a few lines.
 */
import type { Report } from "./act.ts"
import type { Verdict } from "./judge.ts"

const seconds = (millis: number): string => `${(millis / 1000).toFixed(1)} s`

const counted = (all: ReadonlyMap<string, number>): string =>
  Array.from(all).toSorted(([, a], [, b]) => b - a).map(([what, n]) => `${what} ${n}`).join(", ")

const most = 20

/** The lines. */
export const summary = (report: Report, verdict: Verdict): ReadonlyArray<string> => {
  const { calm, drained, faults, from, options } = report
  const { beats, bodies, bound, duplicates, early, flows, losses, problems, refused, runs } = verdict
  const kinds = new Map<string, number>()
  for (const { kind } of faults) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  const repeated = Array.from(duplicates.values()).reduce((sum, n) => sum + n, 0)
  return [
    `  ${options.servers}, seed ${options.seed}: ${
      problems.length === 0 ? "passed" : `FAILED, ${problems.length} problems`
    }`,
    `  runs         ${runs} accepted${
      options.flows ? `, ${flows} of them flows` : ""
    }; ${beats} beats; ${bodies} bodies`,
    `  faults       ${faults.length} in ${seconds(calm - from)}: ${counted(kinds)}`,
    `  lost         ${losses}`,
    `  early        ${early}`,
    `  duplicates   ${repeated} bodies, at most ${bound} allowed${
      repeated === 0 ? "" : `; after: ${counted(duplicates)}`
    }`,
    `  too late     ${refused} settlements refused`,
    `  drained      ${seconds(drained - calm)} after the last fault`,
    ...problems.slice(0, most).map((problem) => `  - ${problem}`),
    ...(problems.length > most ? [`  - and ${problems.length - most} more`] : [])
  ]
}
