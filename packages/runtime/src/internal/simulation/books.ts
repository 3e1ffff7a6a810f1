/**
 * What the ledger keeps of runs and of claims, and how it speaks of them.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import type { Change, Claim } from "../../DocketStore.ts"

/** One scheduling of a key. */
export interface Generation {
  readonly task: string
  readonly key: string
  readonly generation: number
  gates: Docket.EncodedGates | undefined
  /** What its next body is given. */
  payload: string
  /** What the last retry has handed on. */
  failures: string | undefined
  /** What the last interpreter has handed on, if it is part of a flow. */
  state: string | undefined
  /** When its flow loses patience. */
  deadline: number | undefined
  /** How long its outcome is kept. */
  retention: Docket.EncodedAddition["retention"]
  /** When it was to run at first. A retry comes later. */
  due: number
  /** Not to be claimed before. */
  notBefore: number
  /** A debounce makes it wait no longer. */
  readonly latestDue: number
  latest: Claimed | undefined
  /** Somebody has cancelled it: it ends, or an interpreter is told. */
  cancelling: boolean
  /** The attempt that it is at, and how many of its claims were lost since the last settlement. */
  attempt: number
  lost: number
  /** Whom it tells how it ended, if it is a member of a gather. */
  readonly parent: Docket.EncodedParent | undefined
  /** The gather that it waits for, until it is claimed again. */
  waitsFor: Docket.EncodedGather | undefined
  /** It need not wait any more. */
  isReady: boolean
  /** The gather that it waited for last. */
  lastGather: string | undefined
  /** What a cancel does to it while it is pending, if it is part of a flow. */
  onCancel: Docket.EncodedThread["onCancel"] | undefined
  /** How often it was claimed since a body began. */
  idle: number
  /** How it ended: the tag of its outcome, or `Replaced`. */
  ended: string | undefined
  /** Its outcome, once an event has shown it. */
  outcome: Docket.EncodedOutcome | undefined
}

/** What was written with a settlement: the event that shows its generation comes when it is not held by a gate. */
export interface Unseen {
  /** A member of a gather, or a successor. */
  readonly isMember: boolean
  readonly due: number
  readonly gates: Docket.EncodedGates | undefined
  readonly payload: string
  readonly retention: Docket.EncodedAddition["retention"]
  readonly thread: Docket.EncodedAddition["thread"]
}

/** One claim of a run. */
export interface Claimed extends Omit<Claim, "lost"> {
  readonly process: string
  readonly lease: number
  until: number
  /** The change that was applied, and what it says of how the run ended. */
  settled: Change["_tag"] | undefined
  settledAt: number | undefined
  exit: string | undefined
  /** Its lease was over, and the store took the run back. */
  lost: boolean
  /** How often a body began for it, and how the last one ended. `Stopped`: its worker was to stop, and interrupted it. */
  starts: number
  result: "Success" | "Failure" | "Stopped" | undefined
  /** Its body said that it is the last one of its chain, or when the next one comes. */
  next: "Ends" | "Chosen" | undefined
}

/** The key that a body knows itself by. */
export const bodyKeyOf = ({ key, thread }: Claimed): string =>
  thread === undefined ? key : Interpreter.threads.stepKey(key, thread)

/** Whether somebody holds a claim of it, by what the store has said. */
export const isHeld = ({ ended, latest }: Generation): boolean =>
  latest !== undefined && latest.settled === undefined && !latest.lost && ended !== "Replaced"

/** Whether a settlement with this claim would be applied. */
export const isCurrent = (run: Generation, claim: Claimed): boolean =>
  run.latest === claim && run.ended === undefined && !claim.lost && claim.settled === undefined

/** An interpreter has said where it stands. */
export const become = (run: Generation, { deadline, onCancel, state }: Docket.EncodedThread): void => {
  run.deadline = deadline
  run.onCancel = onCancel
  run.state = state
}

/** What a settlement that was applied makes of a run, apart from when it goes on. */
export const goOn = (run: Generation, change: Change): void => {
  const { _tag } = change
  run.waitsFor = undefined
  run.isReady = false
  if (_tag === "Snooze" || _tag === "Released") run.attempt--
  if (_tag === "Retry") run.failures = change.failures
  if (_tag === "Continue" || _tag === "HandOver") {
    run.attempt = 0
    run.failures = undefined
  }
  if (_tag !== "Released") run.lost = 0
  if (_tag !== "Continue") return
  const { thread, to } = change
  run.gates = to._tag === "Step" ? to.gates : undefined
  if (to._tag === "Step") run.payload = to.payload
  become(run, thread)
  if (to._tag !== "Gather") return
  run.waitsFor = to.gather
  run.lastGather = to.gather.id
}

/** A claim in a sentence. */
export const nameOf = ({ attempt, generation, key, token }: Omit<Claim, "lost">): string =>
  `${key}#${generation} (attempt ${attempt}, token ${token})`

/** What became of a run, in a sentence. */
export const stateOf = (run: Generation | undefined): string =>
  run === undefined
    ? "nothing was there"
    : run.ended === undefined
    ? `generation ${run.generation} had not ended`
    : `generation ${run.generation} had ended (${run.ended})`

/** What became of a claim, in a sentence. */
export const claimState = (claim: Claimed, run: Generation): string =>
  claim.settled !== undefined
    ? `it was settled before (${claim.settled})`
    : claim.lost
    ? "its lease was over"
    : run.ended !== undefined
    ? stateOf(run)
    : run.latest !== claim
    ? `${run.latest?.process} has it by now`
    : `it is held until ${claim.until}${run.cancelling ? ", and to be cancelled" : ""}`
