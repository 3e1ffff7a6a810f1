/**
 * What the ledger keeps of runs and of claims, and how it speaks of them.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import type { Claim } from "../../DocketStore.ts"

/** One scheduling of a key. */
export interface Generation {
  readonly task: string
  readonly key: string
  readonly generation: number
  gates: Docket.EncodedGates | undefined
  /** Not to be claimed before. */
  notBefore: number
  latest: Claimed | undefined
  cancelling: boolean
  /** Whom it tells how it ended, if it is a member of a gather. */
  readonly parent: Docket.EncodedParent | undefined
  /** The gather that it waits for, until it is claimed again. */
  waitsFor: Docket.EncodedGather | undefined
  /** How often it was claimed since a body began. */
  idle: number
  /** How it ended: the tag of its outcome, or `Replaced`. */
  ended: string | undefined
}

/** One claim of a run. */
export interface Claimed extends Omit<Claim, "lost"> {
  readonly process: string
  readonly lease: number
  until: number
  settled: string | undefined
  /** Its lease was over, and the store took the run back. */
  lost: boolean
  /** How often a body began for it, and how the last one ended. */
  starts: number
  result: "Success" | "Failure" | undefined
  /** Its body asked to be the last one. */
  endsChain: boolean
}

/** The key that a body knows itself by. */
export const bodyKeyOf = ({ key, thread }: Claimed): string =>
  thread === undefined ? key : Interpreter.threads.stepKey(key, thread)

/** Whether somebody holds a claim of it, by what the store has said. */
export const isHeld = ({ ended, latest }: Generation): boolean =>
  latest !== undefined && latest.settled === undefined && !latest.lost && ended !== "Replaced"

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
