/**
 * One claimed run inside a worker, from claim to settlement: the value that the steps of the pipeline pass on.
 */
import type { Docket } from "@effect-docket/dsl"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { Claim } from "../../DocketStore.ts"
import type { Program } from "./program.ts"

/**
 * Why a body is interrupted. `Expired`: a limit of its flow has passed. `Lost`: the claim is somebody else's by now, nothing that the body does counts.
 */
export type StopReason = "Cancelled" | "Timeout" | "Expired" | "Shutdown" | "Lost"

/** A claimed run inside a worker. */
export class Slot {
  readonly claim: Claim
  readonly program: Program
  /** When it was started, by the time of the worker. */
  readonly startedAt: number
  readonly scope: Scope.Closeable = Scope.makeUnsafe()
  fiber: Fiber.Fiber<void> | undefined = undefined
  timer: Fiber.Fiber<void> | undefined = undefined
  /** When its timeout is over, by the time of the worker, and how long it was. */
  deadline = Infinity
  limit = Infinity
  /** When a limit of its flow has passed, by the time of the worker. */
  expiry = Infinity
  stopped: StopReason | undefined = undefined
  /** The settlement is on its way: whatever the body still does comes too late. */
  done = false
  /** The key has a newer generation: nobody renews this claim, and its body may finish. */
  replaced = false
  /** What a perpetual handler asked for. */
  next: {
    due: Docket.Due | undefined
    payload: string | undefined
    gates: Docket.EncodedGates | undefined
    cancelled: boolean
  } = { due: undefined, payload: undefined, gates: undefined, cancelled: false }
  /** Until when ticks that come while it is running have been taken care of, by the clock of the store. */
  ticked = 0
  /** Adds the runs of the ticks until then that have none: see `overlap.ts`. */
  flush: ((until: number) => Effect.Effect<void>) | undefined = undefined

  constructor(claim: Claim, program: Program, startedAt: number) {
    this.claim = claim
    this.program = program
    this.startedAt = startedAt
  }

  /** Interrupts the body. The first reason counts. */
  stop(reason: StopReason): void {
    if (this.stopped !== undefined || this.done) return
    this.stopped = reason
    this.fiber?.interruptUnsafe()
  }
}
