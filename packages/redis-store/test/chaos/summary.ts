/**
 * An act in a few lines: what was done, what was promised and did not hold, and when it was.
 */
import type { Report } from "./act.ts"
import type { Verdict } from "./judge.ts"
import { sketch } from "./timeline.ts"

const seconds = (millis: number): string => `${(millis / 1000).toFixed(1)} s`

const counted = (all: ReadonlyMap<string, number>): string =>
  Array.from(all).toSorted(([, a], [, b]) => b - a).map(([what, n]) => `${what} ${n}`).join(", ")

const most = 20

/** The lines. */
export const summary = (report: Report, verdict: Verdict): ReadonlyArray<string> => {
  const { calm, drained, faults, from, options } = report
  const { beats, bodies, bound, duplicates, early, flows, losses, other, problems, refused, runs } = verdict
  const kinds = new Map<string, number>()
  for (const { kind } of faults) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  const repeated = Array.from(duplicates.values()).reduce((sum, n) => sum + n, 0)
  const isSound = problems.length === 0
  return [
    `  ${options.servers}, seed ${options.seed}: ${isSound ? "passed" : `FAILED, ${problems.length} problems`}`,
    `  runs         ${runs} accepted, ${flows} of them flows; ${beats} beats; ${bodies} bodies`,
    ...(other === undefined ? [] : [
      `  other build  ${other.bodies} bodies; ${other.taken} times a run went from one build to the other`
    ]),
    `  faults       ${faults.length} in ${seconds(calm - from)}: ${counted(kinds)}`,
    `  lost         ${losses}`,
    `  early        ${early}`,
    `  duplicates   ${repeated} bodies, at most ${bound} allowed${
      repeated === 0 ? "" : `; after: ${counted(duplicates)}`
    }`,
    `  too late     ${refused} settlements refused`,
    `  drained      ${seconds(drained - calm)} after the last fault`,
    ...problems.slice(0, most).map((problem) => `  - ${problem}`),
    ...(problems.length > most ? [`  - and ${problems.length - most} more`] : []),
    ...sketch(report).map((line) => `  ${line}`)
  ]
}
