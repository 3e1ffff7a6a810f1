/**
 * How runs in memory leave the worker that has them: what settlements write, lost leases included.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Change, Fence, Settled, Settlement } from "../../DocketStore.ts"
import type { Stored, Transition } from "../transitions.ts"
import type { Additions } from "./additions.ts"
import type { Flows } from "./flows.ts"
import type { Part } from "./part.ts"
import type { Run } from "./run.ts"
import { dueOf, type Runs } from "./runs.ts"

/** Settlements in a docket. */
export class Settlements {
  readonly #runs: Runs
  readonly #flows: Flows
  readonly #additions: Additions

  constructor(runs: Runs, flows: Flows, additions: Additions) {
    this.#runs = runs
    this.#flows = flows
    this.#additions = additions
  }

  /** Writes what a worker says of a claim, if it still has it. */
  apply(settlement: Settlement, now: number): Settled {
    const run = this.current(settlement)
    if (run === undefined) {
      this.#runs.free(settlement.token)
      return this.#runs.get(settlement.key)?.settledToken === settlement.token ? "Duplicate" : "Lost"
    }
    const { change } = settlement
    run.settledToken = run.token
    switch (change._tag) {
      case "Completed":
        this.#finish(run, "complete", "Completed", settlement, change.exit, now)
        return "Applied"
      case "Failed":
        this.#finish(run, "fail", "Failed", settlement, change.exit, now)
        return "Applied"
      case "Cancelled":
        // what an interpreter says is the last word: it has undone what it could
        if (run.part !== undefined && run.group.lane === "") {
          this.settle(run, "abort", "Cancelled", { _tag: "Cancelled" }, now)
        } else this.abort(run, "abort", now)
        return "Applied"
    }
    if (change._tag === "Skipped") {
      this.settle(run, "drop", "Skipped", { _tag: "Limited", by: change.by }, now)
      return "Applied"
    }
    if (change._tag === "Continue" || change._tag === "HandOver") {
      this.#continue(run.part!, change, settlement.members ?? [], now)
      return "Applied"
    }
    if (run.cancelling) {
      this.abort(run, "abort", now)
      return "Applied"
    }
    this.#again(run, change, now)
    return "Applied"
  }

  /** Puts a run back that is to run again. */
  #again(run: Run, change: Extract<Change, { readonly _tag: "Retry" | "Snooze" | "Released" }>, now: number): void {
    if (change._tag === "Retry") run.failures = change.failures
    else run.attempt--
    if (change._tag !== "Released") run.lost = 0
    const { part } = run
    // the patience of its flow ended meanwhile
    if (part?.thread.deadline !== undefined && part.thread.deadline <= now) {
      return this.#flows.interpret(part, { _tag: "Expired" }, now)
    }
    this.#runs.take(run)
    run.token = undefined
    run.progress = undefined
    if (change._tag === "Released") return this.#runs.ready(run, "release", now)
    const next = now + change.after
    if (change._tag === "Snooze") return this.#runs.place(run, "snooze", next, now, true)
    this.#runs.observers.publish(run, {
      _tag: "Retrying",
      at: now,
      attempt: run.attempt,
      exit: change.exit,
      next
    })
    this.#runs.place(run, "retry", next, now, false)
  }

  #finish(
    run: Run,
    transition: "complete" | "fail",
    to: "Completed" | "Failed",
    { successor }: Settlement,
    exit: string,
    now: number
  ): void {
    if (successor === undefined || run.cancelling) {
      this.settle(run, transition, to, { _tag: "Exit", exit }, now)
      return
    }
    this.#runs.take(run)
    this.#runs.groups.left(run.group)
    this.#runs.move(run, transition, to)
    this.#runs.conclude(run, { _tag: "Exit", exit }, now)
    run.generation = this.#runs.next()
    run.attempt = 0
    run.lost = 0
    run.failures = undefined
    run.token = undefined
    run.progress = undefined
    run.payload = successor.payload
    if (successor.gates !== undefined) run.gates = successor.gates
    run.group = this.#runs.groups.of(run.group.task, successor.version, run.group.lane)
    this.#runs.place(run, "perpetuate", dueOf(successor.due, now), now, true)
  }

  #continue(
    part: Part,
    change: Extract<Change, { readonly _tag: "Continue" | "HandOver" }>,
    members: ReadonlyArray<Docket.EncodedAddition>,
    now: number
  ): void {
    const { run } = part
    if (run.cancelling && (change._tag === "HandOver" ? part.thread : change.thread).onCancel !== "ignore") {
      if (change._tag === "Continue") this.#flows.become(part, change.thread)
      else part.exit = change.exit
      this.abort(run, "abort", now)
      return
    }
    this.#runs.take(run)
    run.cancelling = false
    run.token = undefined
    run.progress = undefined
    run.attempt = 0
    run.lost = 0
    run.failures = undefined
    if (change._tag === "HandOver") {
      part.exit = change.exit
      part.stopped = change.expired ? { _tag: "Expired" } : part.stopped
      this.#flows.enterBetween(part)
      this.#runs.ready(run, "continue", now)
      return
    }
    const moves = part.thread.step !== change.thread.step
    if (moves) this.#flows.publishStep(part, "Ended", now)
    this.#flows.become(part, change.thread)
    part.exit = undefined
    part.stopped = undefined
    if (change.forget !== undefined) part.forget(change.forget)
    for (const member of members) this.#additions.one(member, now)
    const { to } = change
    if (to._tag !== "Step") {
      this.#flows.enterBetween(part)
      if (moves) this.#flows.publishStep(part, "Started", now)
      if (to._tag === "Between") return this.#runs.place(run, "continue", dueOf(to.due, now), now, false)
      part.waitsFor = to.gather
      part.last = to.gather.id
      if (part.isGathered) {
        part.waitsFor = undefined
        return this.#runs.ready(run, "continue", now)
      }
      this.#runs.move(run, "continue", "Held")
      run.group.held++
      return
    }
    run.group = this.#runs.groups.of(to.task, to.version, to.lane)
    run.priority = to.priority
    run.payload = to.payload
    run.gates = to.gates
    this.#runs.place(run, "continue", dueOf(to.due, now), now, true)
  }

  /** Ends a running run that somebody cancelled, or leaves that to its interpreter. */
  abort(run: Run, transition: "abort" | "takeOver", now: number): void {
    if (run.part?.isInterpretedOnCancel) this.#flows.interpret(run.part, { _tag: "Cancelled" }, now)
    else this.settle(run, transition, "Cancelled", { _tag: "Cancelled" }, now)
  }

  /** Ends a run, with everything that follows from that. */
  settle(run: Run, transition: Transition, to: Stored, outcome: Docket.EncodedOutcome, now: number): void {
    const { group, part } = run
    if (part !== undefined) this.#flows.publishStep(part, "Ended", now)
    this.#runs.take(run)
    this.#runs.move(run, transition, to)
    run.token = undefined
    run.progress = undefined
    run.heldIn = undefined
    this.#runs.gates.settled(run)
    run.settledAt = now
    if (to === "Failed") {
      group.failed.add(run)
    } else {
      // nobody reads these of a run that did not fail, and a settled run should cost little
      run.payload = ""
      run.failures = undefined
    }
    this.#runs.conclude(run, outcome, now)
    if (part !== undefined) {
      const member: Docket.EncodedMember = outcome._tag !== "Exit"
        ? { _tag: "Cancelled" }
        : { _tag: to === "Completed" ? "Done" : "Failed", text: outcome.exit }
      this.#flows.left(part, member, now)
    }
    const retention = to === "Failed" ? run.retention.failure : run.retention.success
    if (retention <= 0) this.#runs.forget(run)
    else {
      this.#runs.retentions.add(run, retention, now)
      this.#runs.arm(run.until)
    }
    this.#runs.groups.left(group)
  }

  /** A lease is over. */
  takeOver(run: Run, now: number): void {
    if (this.#runs.free(run.token)) return
    if (run.cancelling) return this.abort(run, "takeOver", now)
    const { part } = run
    if (part?.thread.deadline !== undefined && part.thread.deadline <= now) {
      return this.#flows.interpret(part, { _tag: "Expired" }, now)
    }
    this.#runs.take(run)
    run.lost++
    run.token = undefined
    run.progress = undefined
    this.#runs.ready(run, "takeOver", now)
  }

  /** The run of a claim that has not been lost. */
  current({ generation, key, token }: Fence): Run | undefined {
    const run = this.#runs.get(key)
    return run !== undefined && run.generation === generation && run.token === token ? run : undefined
  }
}
