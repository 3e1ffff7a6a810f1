/**
 * Reads the ledger of an act, and says what was promised and did not hold.
 *
 * It goes by what the processes wrote down, by the time of the machine, and by what the store says at the end. A late body is
 * no fault of the store where its lease was lost, so what it does then is counted, and not judged.
 */
import type { DocketStore } from "@effect-docket/runtime"
import type { Happened, Report } from "./act.ts"
import type { Ending, Line } from "./book.ts"
import { atOnce, beat, rate, retries } from "./tasks.ts"

/** A settlement that was sent; `Unanswered`: it may have been applied. */
interface Settlement {
  readonly change: DocketStore.Change["_tag"]
  readonly at: number
  readonly after: number
  answer: DocketStore.Settled | "Unanswered"
}

/** A claim, and all that was done with it. */
interface Claim extends Omit<Extract<Line, { readonly tag: "claim" }>, "tag" | "token"> {
  readonly by: string
  readonly token: number
  readonly settlements: Array<Settlement>
  begin: number | undefined
  end: number | undefined
  gate: string | undefined
  /** When it was given, or asked to be renewed with success. */
  alive: number
}

interface Intent {
  readonly at: number
  readonly after: number
  readonly ends: Ending
  additions: number
  added: boolean
  /** Somebody was about to cancel it. */
  cancelling: boolean
  cancelled: number | undefined
}

/** What an act has shown. */
export interface Verdict {
  readonly runs: number
  readonly bodies: number
  readonly flows: number
  readonly beats: number
  /** Accepted runs that did not end as they should. */
  readonly losses: number
  readonly early: number
  /** Bodies that ran again though none of them had failed, by what allowed it. */
  readonly duplicates: ReadonlyMap<string, number>
  /** At most so many could be, by what happened. */
  readonly bound: number
  /** Settlements that came too late, and were refused. */
  readonly refused: number
  readonly problems: ReadonlyArray<string>
}

const final = new Set<Settlement["change"]>(["Completed", "Failed", "Cancelled", "Skipped"])
const isAccepted = ({ answer }: Settlement) => answer === "Applied" || answer === "Duplicate"
const isApplied = (settlement: Settlement) => settlement.answer !== "Lost"
// both clocks count whole milliseconds
const tick = 2

/** Whether it can make a worker lose leases. Renewals are sent three times per lease. */
const mayLose = (lease: number) => ({ from, kind, to }: Happened): boolean => {
  switch (kind) {
    case "worker killed":
    case "worker asked to end":
    case "half open":
      return true
    case "clock jumps":
    case "scripts flushed":
    case "producer killed":
    case "Sentinel killed":
      return false
    default:
      return to - from >= lease / 3
  }
}

const read = ({ lines }: Report) => {
  const intents = new Map<string, Intent>()
  const claims = new Map<string, Claim>()
  const problems: Array<string> = []
  for (const line of lines) {
    switch (line.tag) {
      case "intend": {
        const { after, at, ends, key } = line
        if (intents.has(key)) problems.push(`${key}: intended twice`)
        intents.set(key, { at, after, ends, additions: 1, added: false, cancelling: false, cancelled: undefined })
        break
      }
      case "again":
        intents.get(line.key)!.additions++
        break
      case "added":
        intents.get(line.key)!.added = true
        break
      case "cancelling":
        intents.get(line.key)!.cancelling = true
        break
      case "cancelled":
        intents.get(line.key)!.cancelled = line.at
        break
      case "claim": {
        const { tag: _, token, ...claim } = line
        if (claims.has(token)) problems.push(`${line.key}: token ${token} was given twice`)
        claims.set(token, {
          ...claim,
          token: Number(token),
          settlements: [],
          begin: undefined,
          end: undefined,
          gate: undefined,
          alive: line.startedAt
        })
        break
      }
      case "settle":
        claims.get(line.token)!.settlements.push({
          change: line.change,
          at: line.at,
          after: line.after,
          answer: "Unanswered"
        })
        break
      case "settled":
        claims.get(line.token)!.settlements.findLast(({ answer }) => answer === "Unanswered")!.answer = line.answer
        break
      default: {
        const claim = claims.get(line.token)!
        if (line.tag === "renewed") claim.alive = Math.max(claim.alive, line.at)
        else if (line.tag === "end") claim.end = line.at
        else {
          if (claim.begin !== undefined) problems.push(`${claim.key}: claim ${line.token} began twice`)
          claim.begin = line.at
          claim.gate = line.gate
        }
      }
    }
  }
  return { intents, claims: Array.from(claims.values()), problems }
}

const textOf = ({ attempt, begin, by, generation, key, lost, settlements, task, token }: Claim) =>
  `${task} ${key} (generation ${generation}, claim ${token} of ${by}, attempt ${attempt}, lost ${lost}, ${
    begin === undefined ? "not begun" : "begun"
  }, ${settlements.map(({ answer, change }) => `${change} ${answer}`).join(", ") || "not settled"})`

/** Why a lease may have been lost: what had happened to its worker, or to its servers, when it was over. */
const causeOf = (faults: ReadonlyArray<Happened>, before: Claim, after: Claim, lease: number): string => {
  const [cause] = faults
    .filter(({ from, target, to }) =>
      (target === before.by || target === "server") && from <= after.startedAt && to >= before.alive - lease
    )
    .toSorted((a, b) =>
      // one that is asked to end gives back what it holds, if the store can be reached
      Number(a.kind === "worker asked to end") - Number(b.kind === "worker asked to end")
      || Number(b.target === before.by) - Number(a.target === before.by)
      || b.from - a.from
    )
  return cause?.kind ?? unplanned
}

const unplanned = "nothing that was planned (a busy machine)"

/** Whether a run has ended with its value, or failed where it should. */
const isExpected = (exit: string, ends: Ending): boolean => {
  const { _tag, value } = JSON.parse(exit) as { readonly _tag: string; readonly value?: unknown } // as `Schema.Exit` writes it
  if (typeof ends === "number") return _tag === "Success" && value === ends
  return _tag === (ends === "fails" ? "Failure" : "Success")
}

/** Says what an act has shown. */
export const judge = (report: Report): Verdict => {
  const { faults, found, options: { lease, slots, workers } } = report
  const { claims, intents, problems } = read(report)
  const incidents = faults.filter(mayLose(lease))
  const duplicates = new Map<string, number>()
  let losses = 0
  let early = 0

  if (!report.isDrained) problems.push("not drained in time")
  for (const { broke, name } of report.lives) if (broke !== undefined) problems.push(`${name} ended with ${broke}`)
  for (const key of report.leaked) problems.push(`left over: ${key}`)

  // each generation of each key: claims in their order
  const byRun = Map.groupBy(
    claims.toSorted((a, b) => a.token - b.token),
    ({ generation, key }) => `${generation} ${key}`
  )
  for (const all of byRun.values()) {
    const ends = all.flatMap(({ settlements }) => settlements).filter((one) => final.has(one.change))
    if (ends.filter(({ answer }) => answer === "Applied").length > 1) {
      problems.push(`ended twice: ${all.map(textOf).join("; ")}`)
    }
    for (const [index, after] of all.entries()) {
      if (after.startedAt < after.due - tick || (after.begin ?? Infinity) < after.due - tick) {
        early++
        problems.push(`early: ${textOf(after)}`)
      }
      const before = all[index - 1]
      if (before === undefined) continue
      const wrong = (what: string) => problems.push(`${what}: ${textOf(before)}, then ${textOf(after)}`)
      const settlement = before.settlements.findLast(isApplied)
      if (settlement !== undefined && isAccepted(settlement) && final.has(settlement.change)) {
        wrong("claimed after its end")
      }
      if (before.settlements.some(({ answer, at }) => answer === "Applied" && at > after.startedAt + tick)) {
        wrong("settled by a claim that was lost")
      }
      const isReleased = settlement?.change === "Released"
      const goesOn = settlement !== undefined && !final.has(settlement.change)
      if (!goesOn && after.lost <= before.lost) wrong("claimed again without a loss")
      // a renewal counts from when the server had it, which was not before it was asked for
      if (!goesOn && after.startedAt < before.alive + lease - tick) wrong("claimed again within its lease")
      // it may have been applied when it was sent first
      const sent = Math.min(...before.settlements.map(({ at }) => at))
      if (goesOn && isAccepted(settlement) && after.startedAt < sent + settlement.after - tick) {
        early++
        wrong("retried early")
      }
      if (before.begin !== undefined && after.begin !== undefined && (!goesOn || isReleased)) {
        const cause = isReleased ? "given back by a worker that ended" : causeOf(incidents, before, after, lease)
        duplicates.set(cause, (duplicates.get(cause) ?? 0) + 1)
      }
    }
  }

  // each key
  for (const [key, { added, additions, after, at, cancelled, cancelling, ends }] of intents) {
    const own = claims.filter((claim) => claim.key === key)
    const outcome = found.get(key)
    const text = `${key} (${outcome === undefined ? "no outcome" : JSON.stringify(outcome).slice(0, 100)})`
    const isAsItShould = outcome?._tag === "Exit"
      ? isExpected(outcome.exit, ends)
      : outcome?._tag === "Cancelled" && cancelling
    if (!isAsItShould && (added || own.length > 0)) {
      losses++
      problems.push(`not ended as it should: ${text}`)
    }
    for (const claim of own) {
      if (claim.startedAt < at + after - tick) {
        early++
        problems.push(`early, by ${at + after - claim.startedAt} ms: ${textOf(claim)}`)
      }
      if (cancelled !== undefined && claim.startedAt > cancelled + tick) {
        problems.push(`claimed after it was cancelled: ${textOf(claim)}`)
      }
    }
    const retried = own.flatMap(({ settlements }) => settlements)
      .filter((one) => one.change === "Retry" && one.answer === "Applied").length
    if (ends !== "goes on" && retried > retries.times && own[0]?.task === "Flaky") {
      problems.push(`retried ${retried} times: ${text}`)
    }
    const generations = new Set(own.map(({ generation }) => generation)).size
    if (ends === "goes on") {
      if (added) checkBeats(key, own, report.calm, problems)
    } else if (generations > additions) problems.push(`added ${additions} times, and ran ${generations} times: ${text}`)
  }
  checkLimits(claims, lease, problems)

  const bound = incidents.reduce((sum, { target }) => sum + slots * (target === "server" ? workers : 1), 0)
  const total = Array.from(duplicates).reduce((sum, [cause, n]) => cause === unplanned ? sum : sum + n, 0)
  if (total > bound) problems.push(`${total} duplicates, where ${incidents.length} faults allow ${bound}`)
  const begun = claims.filter(({ begin }) => begin !== undefined)
  return {
    runs: Array.from(intents.values()).filter(({ added }) => added).length,
    bodies: begun.length,
    flows: new Set(begun.filter(({ task }) => task === "Split").map(({ key }) => key)).size,
    beats:
      new Set(begun.filter(({ task }) => task === "Beat").map(({ generation, key }) => `${generation} ${key}`)).size,
    losses,
    early,
    duplicates,
    bound,
    refused: claims.flatMap(({ settlements }) => settlements).filter(({ answer }) => answer === "Lost").length,
    problems
  }
}

/** Each beat has one successor, which is not early and does not begin before the end of the beat; none is the last before its time. */
const checkBeats = (key: string, claims: ReadonlyArray<Claim>, over: number, problems: Array<string>): void => {
  const beats = Array.from(Map.groupBy(claims, ({ generation }) => generation))
    .toSorted(([a], [b]) => a - b).map(([, claims]) => claims.toSorted((a, b) => a.token - b.token))
  for (const [index, after] of beats.entries()) {
    const before = beats[index - 1]?.at(-1)
    if (before === undefined) continue
    const ends = before.settlements.filter((one) => isAccepted(one) && final.has(one.change))
    const earliest = Math.max(before.startedAt + beat, ...ends.map(({ at }) => at - tick))
    if (after[0]!.startedAt < earliest) {
      problems.push(`${key}: a beat came ${earliest - after[0]!.startedAt} ms early: ${textOf(after[0]!)}`)
    }
  }
  const last = beats.at(-1)?.at(-1)
  if (last === undefined || (last.begin ?? 0) < over) {
    problems.push(`${key}: no beat came any more: ${last === undefined ? "none at all" : textOf(last)}`)
  }
}

/** No limit is exceeded. A claim that was lost counts until its lease was over at the earliest. */
const checkLimits = (claims: ReadonlyArray<Claim>, lease: number, problems: Array<string>): void => {
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
      if (running > atOnce) problems.push(`${gate}: ${running} at once, at ${at}`)
    }
  }
  const starts = claims.filter(({ begin, gate }) => begin !== undefined && gate === "Rated")
    .map(({ startedAt }) => startedAt).toSorted((a, b) => a - b)
  for (const [index, at] of starts.entries()) {
    const later = starts[index + rate.limit]
    if (later !== undefined && later - at < rate.window) {
      problems.push(`Rated: ${rate.limit + 1} starts within ${later - at} ms, at ${at}`)
    }
  }
}
