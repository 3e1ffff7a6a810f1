/**
 * What workers settle, as the ledger sees it: applied with a claim that holds and never with another, and what is written
 * in the same step.
 */
import type { Settled, Settlement, TurnReply, TurnRequest } from "../../DocketStore.ts"
import { toOpen } from "./additions.ts"
import { become, type Claimed, claimState, type Generation, goOn, isCurrent, nameOf } from "./books.ts"
import * as expected from "./expected.ts"
import { dueOf, type Ledger } from "./ledger.ts"

// The run of a tick that came while another one was running: nothing follows it.
const extra = /@[+-]?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** What a turn settled; its events come before what it claimed. */
export const settled = (ledger: Ledger, { settle }: TurnRequest, { settled }: TurnReply, now: number): void => {
  for (const [index, settlement] of settle.entries()) {
    const { key, token } = settlement
    const claim = ledger.claims.get(token)
    if (claim === undefined) ledger.violation(`${key} is settled with token ${token}, which nobody was given`)
    else settledOne(ledger, settlement, claim, settled[index]!, now)
  }
}

const settledOne = (ledger: Ledger, settlement: Settlement, claim: Claimed, answer: Settled, now: number): void => {
  const { change } = settlement
  const run = ledger.find(claim)! // it was claimed
  if (answer === "Lost") ledger.refused(run, claim, now)
  const wrong = () => `${change._tag} of ${nameOf(claim)} was ${answer}, but ${claimState(claim, run)}`
  ledger.check(isCurrent(run, claim) === (answer === "Applied"), wrong)
  // as long as nothing has happened to the run since, the store knows what it has applied
  const isRepeated = claim.settled !== undefined && run.latest === claim && run.ended === undefined
  ledger.check(answer === "Duplicate" ? claim.settled !== undefined : !isRepeated, wrong)
  if (answer !== "Applied") {
    // a replaced run keeps its slot until then
    claim.until = Math.min(claim.until, now)
    return
  }
  claim.settled = change._tag
  claim.settledAt = now
  ledger.check(
    change._tag !== "Cancelled" || run.cancelling || claim.thread !== undefined,
    () => `${nameOf(claim)} is cancelled, and nobody had asked for it`
  )
  ledger.check(
    change._tag !== "Completed" || claim.thread !== undefined || claim.result === "Success",
    () => `${nameOf(claim)} is completed, but its body did not succeed`
  )
  ledger.check(
    claim.result !== "Stopped" || (change._tag !== "Failed" && change._tag !== "Retry"),
    () => `${nameOf(claim)} is ${change._tag}, and it was its worker that stopped`
  )
  goesOn(ledger, run, settlement, now)
  if (change._tag === "Completed" || change._tag === "Failed") {
    claim.exit = change.exit
    follows(ledger, run, claim, settlement, now)
  }
  // what undoes or waits for others hears of no cancel any more
  if (run.onCancel === "ignore") run.cancelling = false
}

/** How a run goes on, and the members that are written with that. */
const goesOn = (ledger: Ledger, run: Generation, { change, members }: Settlement, now: number): void => {
  run.notBefore = change._tag === "Retry" || change._tag === "Snooze"
    ? now + change.after
    : change._tag === "Continue" && change.to._tag !== "Gather"
    ? dueOf(change.to.due, now)
    : now
  // of what somebody has cancelled nothing more is written
  if (run.cancelling && !(change._tag === "Continue" && change.thread.onCancel === "ignore")) {
    if (change._tag === "Continue") become(run, change.thread)
    return
  }
  goOn(run, change)
  if (run.notBefore > now || run.waitsFor !== undefined) expected.waits(ledger, run)
  if (change._tag === "Continue" && change.forget !== undefined) {
    ledger.gathers.forget(run.key, run.generation, change.forget)
  }
  for (const member of members ?? []) {
    const parent = member.thread?.parent
    if (parent !== undefined && member.onExisting === "replace") ledger.gathers.again(parent)
    ledger.unseen.set(member.key, toOpen(member, dueOf(member.due, now), true))
    ledger.additions.set(member.key, member)
  }
}

/** What follows a run that has ended. */
const follows = (
  ledger: Ledger,
  run: Generation,
  claim: Claimed,
  { change, key, successor }: Settlement,
  now: number
): void => {
  const shortest = ledger.perpetual.get(claim.task)
  if (successor === undefined) {
    return ledger.check(
      shortest === undefined || claim.next === "Ends" || extra.test(key),
      () => `${nameOf(claim)} is ${change._tag}, and nothing follows it`
    )
  }
  // of a cancelled one there is no successor, whatever its worker says
  if (run.cancelling) return
  const due = dueOf(successor.due, now)
  ledger.check(
    claim.next !== undefined || due >= run.due + (shortest ?? 0),
    () => `what follows ${nameOf(claim)} is due ${due - run.due} ms after it, and not ${shortest}`
  )
  const { payload } = successor
  const gates = successor.gates ?? run.gates
  ledger.unseen.set(key, { isMember: false, due, gates, payload, retention: run.retention, thread: undefined })
}
