/**
 * Reads the ledger of an act, and says what was promised and did not hold.
 *
 * It goes by what the processes wrote down, by the time of the machine, and by what the store says at the end. A late body is
 * no fault of the store where its lease was lost, so what it does then is counted, and not judged; but each lease that was
 * lost has to have its cause: a fault, or a pause of the machine, that kept its worker from renewing it.
 */
import { pathToFileURL } from "node:url"
import type { Happened, Report } from "./act.ts"
import type { Ending } from "./book.ts"
import { type Claim, type History, type Intent, isAccepted, isFinal, read, textOf } from "./history.ts"
import { checkBeats, checkConcurrency, checkRate } from "./limits.ts"
import { isOfOther } from "./plan.ts"
import { brief, errorTag, retries } from "./tasks.ts"

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
  /** So many bodies may run again after all that has happened: as many as the workers could hold that it hit. */
  readonly bound: number
  /** Settlements that came too late, and were refused. */
  readonly refused: number
  /** Bodies of the other build, and runs that it went on with after this one or the other way round. */
  readonly other: { readonly bodies: number; readonly taken: number } | undefined
  readonly problems: ReadonlyArray<string>
}

/** Why leases may have been lost. */
interface Cause {
  readonly kind: string
  readonly target: string
  readonly from: number
  readonly to: number
}

// both clocks count whole milliseconds
const tick = 2

// A worker claims ahead what it does in five milliseconds. It measures that, so it may be wrong by half.
const aheadOf = (slots: number): number => Math.ceil(1.5 * 5 * slots / brief)

/** Whether it is enough to make a worker lose leases, which are renewed three times before they end. */
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
    case "connections cut":
    case "clients killed":
    case "network slow":
      return false
    case "server killed":
    case "server stands still":
    case "master killed":
    case "worker stands still":
    case "answers dropped":
    case "unreachable":
      return to - from >= lease / 3
  }
}

const hits = ({ target }: { readonly target: string }, { by }: Claim): boolean => target === by || target === "server"

/** Finds out why the lease of a claim may have been lost. */
const causes = (faults: ReadonlyArray<Happened>, history: History, lease: number) => {
  const planned: ReadonlyArray<Cause> = faults.filter(mayLose(lease))
  const pauses = history.pausesOf(lease / 3)
    .filter((pause) =>
      !planned.some((one) => one.target === pause.target && one.from <= pause.to && one.to >= pause.from)
    )
    .map((pause): Cause => ({ kind: `nothing that was planned: ${pause.target.split(" ")[0]} stood still`, ...pause }))
  const causeOf = (claim: Claim): Cause | undefined => {
    const { alive, heard } = claim
    const overlaps = ({ from, to }: Cause | Happened, until: number) => from <= until && to >= alive
    // The next renewal is sent a third of a lease after the worker has heard of the last one. What comes later than that,
    // and some time to notice, finds it renewed, unless something else has delayed it.
    const soon = heard + lease / 2
    const isDelayed = faults.some((fault) => hits(fault, claim) && overlaps(fault, soon))
    const until = isDelayed ? heard + lease : soon
    const possible = planned.filter((one) => hits(one, claim) && overlaps(one, until)).toSorted((a, b) =>
      // one that is asked to end gives back what it holds, if the store can be reached
      Number(a.kind === "worker asked to end") - Number(b.kind === "worker asked to end")
      || Number(b.target === claim.by) - Number(a.target === claim.by)
      || b.from - a.from
    )
    return possible[0] ?? pauses.find((one) => hits(one, claim) && overlaps(one, heard + lease))
  }
  return { planned, pauses, causeOf }
}

/** Whether a run has ended with its value, or with its error where it should. */
const isExpected = (exit: string, ends: Ending): boolean => {
  const { _tag, cause, value } = JSON.parse(exit) as {
    readonly _tag: string
    readonly value?: unknown
    readonly cause?: ReadonlyArray<{ readonly error?: { readonly _tag?: string } }>
  } // as `Schema.Exit` writes it
  if (typeof ends === "number") return _tag === "Success" && value === ends
  return ends === "fails" ? _tag === "Failure" && cause?.[0]?.error?._tag === errorTag : _tag === "Success"
}

const keyOf = ({ key }: Claim): string => key

/** The run that a claim belongs to: members of a flow have keys below that of their flow. */
const rootOf = ({ key }: Claim): string => key.split("/")[0]!

/** Says what an act has shown. */
export const judge = (report: Report): Verdict => {
  const { faults, found, options: { lease, slots, workers } } = report
  const history = read(report.lines)
  const { claims, intents } = history
  const problems = [...history.problems]
  const problem = (what: string): void => void problems.push(what)
  const { causeOf, pauses, planned } = causes(faults, history, lease)
  const duplicates = new Map<string, number>()
  const repeated = new Map<Cause, Map<string, Array<Claim>>>()
  const most = slots + aheadOf(slots)
  let losses = 0
  let early = 0

  if (!report.isDrained) problem("not drained in time")
  for (const { broke, name } of report.lives) if (broke !== undefined) problem(`${name} ended with ${broke}`)
  for (const key of report.leaked) problem(`left over: ${key}`)

  const ranAgain = (kind: string, cause: Cause, claim: Claim): void => {
    const { by } = claim
    duplicates.set(kind, (duplicates.get(kind) ?? 0) + 1)
    const ofWorkers = repeated.get(cause) ?? new Map<string, Array<Claim>>()
    repeated.set(cause, ofWorkers.set(by, [...ofWorkers.get(by) ?? [], claim]))
  }

  /** A claim, and the next one of the same generation of a run. */
  const judgePair = (before: Claim, after: Claim): void => {
    const wrong = (what: string) => problem(`${what}: ${textOf(before)}, then ${textOf(after)}`)
    // what was not answered may have been applied
    const settlement = before.settlements.findLast(({ answer }) => answer !== "Lost")
    const isSettled = settlement !== undefined && isAccepted(settlement)
    if (isSettled && isFinal(settlement)) wrong("claimed after its end")
    if (before.settlements.some(({ answer, at }) => answer === "Applied" && at > after.startedAt + tick)) {
      wrong("settled by a claim that was lost")
    }
    const bothBegan = before.begin !== undefined && after.begin !== undefined
    if (isSettled && settlement.change === "Continue" && bothBegan && after.task === before.task) {
      wrong("a step that had ended began again")
    }
    if (settlement !== undefined && !isFinal(settlement)) {
      // it may have been applied when it was sent first
      const sent = Math.min(...before.settlements.map(({ at }) => at))
      if (isSettled && after.startedAt < sent + settlement.after - tick) {
        early++
        wrong("retried early")
      }
      if (settlement.change !== "Released" || !bothBegan) return
      const asked = planned.find(({ from, kind, target, to }) =>
        kind === "worker asked to end" && target === before.by && from <= settlement.at && settlement.at <= to
      )
      if (asked === undefined) wrong("given back by a worker that nobody had asked to end")
      else ranAgain("given back by a worker that ended", asked, before)
      return
    }
    if (after.lost <= before.lost) wrong("claimed again without a loss")
    // a renewal counts from when the server had it, which was not before it was asked for
    if (after.startedAt < before.alive + lease - tick) wrong("claimed again within its lease")
    const cause = causeOf(before)
    if (cause === undefined) wrong("lost its lease without a cause")
    else if (bothBegan) ranAgain(cause.kind, cause, before)
  }

  const judgeIntent = (key: string, { added, additions, after, at, cancelled, cancelling, ends }: Intent): void => {
    const all = claims.filter((claim) => rootOf(claim) === key)
    const own = all.filter((claim) => claim.key === key)
    const outcome = found.get(key)
    const text = `${key} (${outcome === undefined ? "no outcome" : JSON.stringify(outcome).slice(0, 100)})`
    const isAsItShould = outcome?._tag === "Exit"
      ? isExpected(outcome.exit, ends)
      : outcome?._tag === "Cancelled" && cancelling
    if (!isAsItShould && (added || own.length > 0)) {
      losses++
      problem(`not ended as it should: ${text}`)
    }
    for (const claim of all) {
      if (claim.startedAt < at + after - tick) {
        early++
        problem(`early, by ${at + after - claim.startedAt} ms: ${textOf(claim)}`)
      }
      if (cancelled !== undefined && claim.startedAt > cancelled + tick) {
        problem(`claimed after it was cancelled: ${textOf(claim)}`)
      }
    }
    if (ends === "goes on") {
      const beats = Array.from(Map.groupBy(own, ({ generation }) => generation).values())
      if (added) checkBeats(key, beats, report.calm, problem)
      return
    }
    for (const [key, ofKey] of Map.groupBy(all, keyOf)) {
      const generations = new Set(ofKey.map(({ generation }) => generation)).size
      if (generations > additions) problem(`added ${additions} times, and ran ${generations} times: ${key} of ${text}`)
      const retried = ofKey.flatMap(({ settlements }) => settlements)
        .filter(({ answer, change }) => change === "Retry" && answer === "Applied").length
      if (retried > retries.times * generations) problem(`retried ${retried} times: ${key} of ${text}`)
    }
  }

  for (const all of Map.groupBy(claims, ({ generation, key }) => `${generation} ${key}`).values()) {
    const ends = all.flatMap(({ settlements }) => settlements).filter(isFinal)
    if (ends.filter(({ answer }) => answer === "Applied").length > 1) {
      problem(`ended twice: ${all.map(textOf).join("; ")}`)
    }
    for (const [index, claim] of all.entries()) {
      if (claim.startedAt < claim.due - tick || (claim.begin ?? Infinity) < claim.due - tick) {
        early++
        problem(`early: ${textOf(claim)}`)
      }
      if (index > 0) judgePair(all[index - 1]!, claim)
    }
  }
  for (const [key, intent] of intents) judgeIntent(key, intent)
  for (const claim of claims) if (!intents.has(rootOf(claim))) problem(`nobody has added it: ${textOf(claim)}`)
  checkConcurrency(claims, lease, problem)
  checkRate(claims, problem)
  for (const [{ from, kind, target }, ofWorkers] of repeated) {
    for (const [by, all] of ofWorkers) {
      if (all.length <= most) continue
      const text = all.map((claim) => `${textOf(claim)}, begun at ${claim.begin}`).join("; ")
      problem(
        `${all.length} duplicates of ${most} that ${by} could hold, after: ${kind} (${target}), at ${from}: ${text}`
      )
    }
  }

  const begun = claims.filter(({ begin }) => begin !== undefined)
  return {
    runs: Array.from(intents.values()).filter(({ added }) => added).length,
    bodies: begun.length,
    flows: new Set(begun.filter(({ task }) => task === "Split").map(keyOf)).size,
    beats:
      new Set(begun.filter(({ task }) => task === "Beat").map(({ generation, key }) => `${generation} ${key}`)).size,
    losses,
    early,
    duplicates,
    bound: [...planned, ...pauses].reduce((sum, { target }) => sum + most * (target === "server" ? workers : 1), 0),
    refused: claims.flatMap(({ settlements }) => settlements).filter(({ answer }) => answer === "Lost").length,
    other: judgeBuilds(report, history, begun, problem),
    problems
  }
}

/** Whether each process had the code of its build, and what the builds did with each other's runs. */
const judgeBuilds = (
  { options: { old } }: Report,
  { code }: History,
  begun: ReadonlyArray<Claim>,
  wrong: (what: string) => void
): Verdict["other"] => {
  for (const [name, all] of code) {
    for (const from of all) {
      const isOld = old !== undefined && from.startsWith(pathToFileURL(`${old}/`).href)
      if (isOld !== (old !== undefined && isOfOther(name))) wrong(`${name} is of ${from}`)
    }
  }
  if (old === undefined) return undefined
  const byKey = Map.groupBy(begun, keyOf)
  return {
    bodies: begun.filter(({ by }) => isOfOther(by)).length,
    taken:
      Array.from(byKey.values()).flatMap((all) =>
        all.slice(1).filter(({ by }, index) => isOfOther(by) !== isOfOther(all[index]!.by))
      ).length
  }
}
