/**
 * Perpetual tasks in a worker: whether a claimed run was missed, and its successor. When is said by `recurrence`.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import type { Change, Claim, Settlement } from "../../DocketStore.ts"
import * as history from "./history.ts"
import type { Slot } from "./slot.ts"

const { first: firstTick, identity, next } = Interpreter.recurrence

/** When the first run of an automatic task is due: at once, or at the next tick. `undefined`: there is none any more. */
export const first = (
  recurrence: Interpreter.recurrence.Recurrence,
  task: string,
  key: string,
  now: number
): Docket.Due | undefined => {
  const tick = firstTick(recurrence, identity(task, key), now)
  // the store's clock decides when it is now
  return tick === undefined ? undefined : tick.due === now ? { after: 0 } : { at: tick.due }
}

const extra = /@[+-]?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** Whether this is the run of a tick that came while another run was running: see `overlap.ts`. */
export const isExtra = ({ claim, program }: Slot): boolean =>
  program.options.perpetual?.overlap === "allow" && extra.test(claim.key)

const lastOf = (claim: Claim, begun: history.Begun | undefined): Interpreter.recurrence.Last => ({
  identity: identity(claim.task, claim.key),
  due: begun === undefined ? claim.due : begun.due,
  startedAt: begun?.startedAt
})

/** When a run was due and began: of one that was retried, at first. */
export const begunOf = ({ claim }: Slot): history.Begun =>
  history.begun(claim.failures) ?? { due: claim.due, startedAt: claim.startedAt }

/** A run that has begun. */
export const running = (slot: Slot): Interpreter.recurrence.Last => lastOf(slot.claim, begunOf(slot))

/** When a run that has just been claimed is due instead, because it was missed. */
export const missed = (slot: Slot): number | undefined => {
  const { claim, program } = slot
  const recurrence = program.options.perpetual
  // whatever was claimed before has begun: it is redelivered or retried, and not missed
  if (recurrence?.catchUp !== "skip" || claim.attempt > 1 || isExtra(slot)) return undefined
  const tick = next(recurrence, lastOf(claim, undefined), claim.startedAt)
  return tick === undefined || tick.due <= claim.startedAt ? undefined : tick.due
}

/** When a run that its rate limit drops is due instead. */
export const afterDrop = (slot: Slot, now: number): number | undefined => {
  const recurrence = slot.program.options.perpetual
  if (recurrence === undefined || isExtra(slot)) return undefined
  // as after a run that began and ended at once: what comes next of one that has not begun is the run itself, again and again
  return next(recurrence, running(slot), now)?.due
}

/** The run that follows a settlement. `Ends`: it would have one, but there is no tick any more. */
export const successor = (slot: Slot, change: Change, now: number): Settlement["successor"] | "Ends" => {
  const { claim, next: asked, program } = slot
  const recurrence = program.options.perpetual
  if (recurrence === undefined || asked.cancelled || isExtra(slot)) return undefined
  if (change._tag !== "Completed" && change._tag !== "Failed") return undefined
  const tick = asked.due === undefined ? next(recurrence, running(slot), now) : undefined
  const due = asked.due ?? (tick === undefined ? undefined : { at: tick.due })
  return due === undefined ? "Ends" : {
    due,
    payload: asked.payload ?? claim.payload,
    ...asked.gates && { gates: asked.gates },
    version: asked.payload === undefined ? claim.version : program.options.version
  }
}
