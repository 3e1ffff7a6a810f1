/**
 * What holds over many runs: the pace of perpetual tasks, and the limits of gates.
 */
import { type Claim, isAccepted, isFinal, textOf } from "./history.ts"
import { atOnce, beat, rate } from "./tasks.ts"

// both clocks count whole milliseconds
const tick = 2

/**
 * The beats of a key, the claims of each in their order: each has one successor, which is not early and does not begin before
 * its end; none is the last before it is `over`.
 */
export const checkBeats = (
  key: string,
  beats: ReadonlyArray<ReadonlyArray<Claim>>,
  over: number,
  wrong: (what: string) => void
): void => {
  for (const [index, after] of beats.entries()) {
    const before = beats[index - 1]?.at(-1)
    if (before === undefined) continue
    const ends = before.settlements.filter((one) => isAccepted(one) && isFinal(one))
    const earliest = Math.max(before.startedAt + beat, ...ends.map(({ at }) => at - tick))
    if (after[0]!.startedAt < earliest) {
      wrong(`${key}: a beat came ${earliest - after[0]!.startedAt} ms early: ${textOf(after[0]!)}`)
    }
  }
  const last = beats.at(-1)?.at(-1)
  if (last === undefined || (last.begin ?? 0) < over) {
    wrong(`${key}: no beat came any more: ${last === undefined ? "none at all" : textOf(last)}`)
  }
}

/** No more at once than the limit says. A claim that was lost counts until its lease was over at the earliest. */
export const checkConcurrency = (claims: ReadonlyArray<Claim>, lease: number, wrong: (what: string) => void): void => {
  const serial = claims.filter(({ begin, gate }) => begin !== undefined && gate?.startsWith("Serial ") === true)
  for (const [gate, all] of Map.groupBy(serial, ({ gate }) => gate)) {
    const moments = all.flatMap(({ alive, begin, end, settlements }) => {
      const isLost = settlements.some(({ answer }) => answer === "Lost") || !settlements.some(isAccepted)
      const to = Math.min(end ?? Infinity, isLost ? alive + lease : Infinity)
      return to <= begin! ? [] : [{ at: begin!, by: 1 }, { at: to, by: -1 }]
    }).toSorted((a, b) => a.at - b.at || a.by - b.by)
    let running = 0
    for (const { at, by } of moments) {
      running += by
      if (running > atOnce) wrong(`${gate}: ${running} at once, at ${at}`)
    }
  }
}

/** No more starts within a window than the limit says. */
export const checkRate = (claims: ReadonlyArray<Claim>, wrong: (what: string) => void): void => {
  const starts = claims.filter(({ begin, gate }) => begin !== undefined && gate === "Rated")
    .map(({ startedAt }) => startedAt).toSorted((a, b) => a - b)
  for (const [index, at] of starts.entries()) {
    const later = starts[index + rate.limit]
    if (later !== undefined && later - at < rate.window) {
      wrong(`Rated: ${rate.limit + 1} starts within ${later - at} ms, at ${at}`)
    }
  }
}
