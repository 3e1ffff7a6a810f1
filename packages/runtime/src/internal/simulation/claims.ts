/**
 * What workers claim, renew and run, as the ledger sees it: nothing early or stopped, one claim of a run at a time, and one
 * body for each.
 */
import type { Claim, Fence, Renewed, TurnReply, WorkerOptions } from "../../DocketStore.ts"
import { bodyKeyOf, type Claimed, claimState, type Generation, isCurrent, nameOf, stateOf } from "./books.ts"
import * as expected from "./expected.ts"
import type { Ledger } from "./ledger.ts"

// A run is claimed and given back without a body when its worker stops, or when a gate drops it: not very often.
const mostIdle = 50

/** What a turn claimed. */
export const claimed = (
  ledger: Ledger,
  process: string,
  options: WorkerOptions,
  { claimed }: TurnReply,
  now: number
): void => {
  for (const [key, { due, gates, isMember }] of ledger.unseen) {
    // nobody is told of what a gate holds
    const mayBeHeld = isMember || (due <= now && (gates?.concurrency ?? gates?.rateLimit) !== undefined)
    ledger.check(mayBeHeld, () => `the successor of ${key} is missing`)
    if (!mayBeHeld) ledger.unseen.delete(key)
  }
  for (const claim of claimed) {
    const run = ledger.find(claim)
    if (run === undefined) {
      ledger.violation(`${nameOf(claim)} is claimed, and nobody added it`)
      continue
    }
    mayRun(ledger, run, claim, now)
    isAlone(ledger, run, claim, now)
    isSame(ledger, run, claim)
    run.cancelling = false
    run.attempt = claim.attempt
    run.lost = claim.lost
    run.onCancel = claim.thread?.onCancel
    begins(ledger, run, claim, process, options, now)
  }
}

/** It is due, and nobody has stopped it. */
const mayRun = (ledger: Ledger, run: Generation, claim: Claim, now: number): void => {
  const { due, key, payload, task, thread } = claim
  const { measures } = ledger
  const stopped = thread?.stopped
  const claims = `${nameOf(claim)} is claimed`
  ledger.check(run.ended === undefined, () => `${claims}, but ${stateOf(run)}`)
  ledger.check(
    !run.cancelling || stopped?._tag === "Cancelled",
    () => `${claims} after somebody had cancelled it`
  )
  ledger.check(
    // one that was cancelled, or took too long, does not wait for its time
    ((thread?.between === true || due <= now) && run.notBefore <= now) || stopped !== undefined,
    () => `${claims} ${Math.max(due, run.notBefore) - now} ms early`
  )
  if (thread === undefined) {
    ledger.check(measures.isStruck(task, payload, now) !== true, () => `${claims} while it is struck`)
    const isPaused = measures.isPaused(task, ledger.additions.get(key)?.lane)
    ledger.check(!isPaused, () => `${claims} while it is paused`)
  }
  ledger.check(
    stopped?._tag !== "Struck" || measures.isStruck(task, payload, now) !== false,
    () => `${claims} as struck, and nothing strikes it`
  )
  ledger.check(
    stopped?._tag !== "Expired" || (thread!.deadline !== undefined && thread!.deadline <= now),
    () => `${claims} as expired, and its deadline is ${thread!.deadline}`
  )
  for (const text of ledger.gathers.claimed(run, thread)) ledger.violation(`${nameOf(claim)} ${text}`)
}

/** Nobody else has it, and what is said of the claims before it is right. */
const isAlone = (ledger: Ledger, run: Generation, claim: Claim, now: number): void => {
  const { attempt, lost, thread, token } = claim
  const before = run.latest
  // a gate may have held what was taken back
  if (before !== undefined && isCurrent(run, before) && before.until <= now) ledger.lose(run, before)
  ledger.check(
    before === undefined || before.settled !== undefined || before.lost,
    () => `${nameOf(claim)} is claimed while ${before!.process} holds it until ${before!.until}`
  )
  ledger.check(!ledger.claims.has(token), () => `token ${token} is given out twice`)
  // an interpreter gets what is cancelled or late as it is
  const isCounted = thread?.stopped === undefined || thread.stopped._tag === "Struck"
  ledger.check(
    !isCounted || (attempt === run.attempt + 1 && lost === run.lost),
    () => `${nameOf(claim)} has lost ${lost} claims, after attempt ${run.attempt} and ${run.lost} that were lost`
  )
  run.idle = before?.starts === 0 && before.thread === undefined ? run.idle + 1 : 0
  ledger.check(run.idle !== mostIdle, () => `${nameOf(claim)} is claimed ${mostIdle} times, and never begins`)
}

/** What was written for whoever claims it arrives. */
const isSame = (ledger: Ledger, run: Generation, claim: Claim): void => {
  const { failures, payload, thread } = claim
  if (thread?.between !== true) {
    ledger.check(payload === run.payload, () => `${nameOf(claim)} has payload ${payload}, and not ${run.payload}`)
  }
  ledger.check(failures === run.failures, () => `${nameOf(claim)} has failures ${failures}, and not ${run.failures}`)
  ledger.check(
    thread?.state === run.state,
    () => `${nameOf(claim)} has the state ${thread?.state} of its flow, and not ${run.state}`
  )
}

/** A claim holds from now on. */
const begins = (
  ledger: Ledger,
  run: Generation,
  claim: Claim,
  process: string,
  { gates, lease }: WorkerOptions,
  now: number
): void => {
  const { attempt, lost, task, thread, token } = claim
  const made: Claimed = {
    ...claim,
    process,
    lease,
    until: now + lease,
    settled: undefined,
    settledAt: undefined,
    exit: undefined,
    lost: false,
    starts: 0,
    result: undefined,
    next: undefined
  }
  // an interpreter passes no gate, and nor does a step that will not run
  const passed = thread?.between === true || thread?.stopped !== undefined ? undefined : run.gates
  const problem = ledger.gates.claimed(made, passed, gates?.get(task), attempt === 1 && lost === 0, now)
  if (problem !== undefined) ledger.violation(`${nameOf(claim)}: ${problem}`)
  run.latest = made
  ledger.claims.set(token, made)
  const all = ledger.claimsOf.get(process)
  if (all === undefined) ledger.claimsOf.set(process, [made])
  else all.push(made)
  ledger.figures.claims++
  if (lost > 0) ledger.figures.redelivered++
  const window = gates?.get(task)?.rateLimit?.window
  if (passed?.rateLimit !== undefined && window !== undefined) expected.opens(ledger, passed.rateLimit, now + window)
  expected.isHeld(ledger, run, made)
}

/** Renewals were answered. */
export const renewed = (
  ledger: Ledger,
  fences: ReadonlyArray<Fence>,
  answers: ReadonlyArray<Renewed>,
  now: number
): void => {
  for (const [index, fence] of fences.entries()) {
    const answer = answers[index]!
    const claim = ledger.claims.get(fence.token)! // workers renew what they were given
    const run = ledger.find(fence)!
    const isKept = answer === "Renewed" || answer === "Cancelled"
    if (!isKept) ledger.refused(run, claim, now)
    const isOpen = isCurrent(run, claim)
    ledger.check(
      isOpen === isKept && (answer === "Cancelled") === (isOpen && run.cancelling),
      () => `renewing ${nameOf(claim)} was answered with ${answer}, but ${claimState(claim, run)}`
    )
    if (isKept) claim.until = now + claim.lease
  }
}

/** Progress was reported: it is shown while its claim holds. */
export const progressed = (ledger: Ledger, fence: Fence, answer: boolean, now: number): void => {
  const claim = ledger.claims.get(fence.token)! // as above
  const run = ledger.find(fence)!
  if (!answer) ledger.refused(run, claim, now)
  ledger.check(
    isCurrent(run, claim) === answer,
    () => `progress of ${nameOf(claim)} was answered with ${answer}, but ${claimState(claim, run)}`
  )
}

/** A body begins. */
export const begin = (
  ledger: Ledger,
  process: string,
  key: string,
  attempt: number,
  startedAt: number
): Claimed | undefined => {
  const claims =
    ledger.claimsOf.get(process)?.filter((claim) =>
      bodyKeyOf(claim) === key && claim.attempt === attempt && claim.startedAt === startedAt
    ) ?? []
  const claim = claims.find(({ settled, starts }) => starts === 0 && settled === undefined) ?? claims.at(-1)
  ledger.figures.bodies++
  if (claim === undefined) {
    ledger.violation(`${process} runs ${key}, attempt ${attempt}, which it was not given`)
    return undefined
  }
  claim.starts++
  ledger.check(claim.starts === 1, () => `${nameOf(claim)} began twice`)
  ledger.check(claim.settled === undefined, () => `${nameOf(claim)} began after it was settled`)
  return claim
}
