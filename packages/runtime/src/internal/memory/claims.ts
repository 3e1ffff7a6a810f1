/**
 * How runs in memory are claimed: the first of highest priority that a worker serves, unless a strike or a gate is in its way.
 */
import type { Claim, TurnRequest } from "../../DocketStore.ts"
import { batch } from "./bounds.ts"
import type { Flows } from "./flows.ts"
import type { Run } from "./run.ts"
import type { Runs } from "./runs.ts"
import type { Session } from "./session.ts"
import type { Settlements } from "./settlements.ts"
import { type Strikes, struckBy } from "./strikes.ts"

/** Claims of a docket. */
export class Claims {
  readonly #runs: Runs
  readonly #flows: Flows
  readonly #settlements: Settlements
  readonly #strikes: Strikes
  #tokens = 0

  constructor(runs: Runs, flows: Flows, settlements: Settlements, strikes: Strikes) {
    this.#runs = runs
    this.#flows = flows
    this.#settlements = settlements
    this.#strikes = strikes
  }

  /** Claims runs of flows that are between two steps. */
  between(session: Session, { between = 0 }: TurnRequest, now: number): ReadonlyArray<Claim> {
    const claims: Array<Claim> = []
    while (claims.length < between) {
      const first = session.next(true)
      if (first === undefined) break
      claims.push(this.#one(first, session, now)!) // neither a strike nor a gate concerns it
    }
    return claims
  }

  /** Claims the others, up to the capacity of a worker and its lanes. */
  some(session: Session, { capacity, except, lanes }: TurnRequest, now: number): ReadonlyArray<Claim> {
    const claims: Array<Claim> = []
    const room = lanes === undefined ? undefined : new Map(lanes)
    session.room = room
    session.except = except
    let refused = 0
    while (claims.length < capacity) {
      const first = session.next(false)
      if (first === undefined) break
      const claim = this.#one(first, session, now)
      if (claim === undefined) {
        if (++refused < batch) continue
        this.#runs.observers.call(session.options.onWake)
        break
      }
      claims.push(claim)
      const { lane } = first.group
      if (room !== undefined) room.set(lane, room.get(lane)! - 1)
    }
    return claims
  }

  #one(run: Run, session: Session, now: number): Claim | undefined {
    const { group } = run
    const strike = group.isBetween ? undefined : this.#strikes.find(group.task, run.payload, now)
    const { part } = run
    if (strike !== undefined && part === undefined) {
      this.#settlements.settle(run, "skip", "Skipped", { _tag: "Struck", ...struckBy(strike) }, now)
      return undefined
    }
    // in a flow it is a failure of the step, and what becomes of that is said by the flow
    if (strike !== undefined) part!.stopped = { _tag: "Struck", ...struckBy(strike) }
    else if (part?.stopped?._tag === "Struck") part.stopped = undefined
    // not those of its worker: it would refuse what becomes ready by others, again and again
    const { limits } = group
    const isStopped = part?.stopped !== undefined
    const refusing = run.gates === undefined || isStopped ? undefined : this.#runs.gates.refusing(run, limits, now)
    const isDropped = isStopped || refusing?.kind === "rateLimit" && limits?.rateLimit?.drops === true
    this.#runs.take(run)
    if (refusing !== undefined && !isDropped) {
      this.#runs.gates.hold(run, refusing)
      this.#runs.held(run)
      return undefined
    }
    this.#runs.move(run, "claim", "Running")
    group.running++
    if (run.gates !== undefined) this.#runs.gates.charge(run, limits, isDropped, now)
    run.attempt++
    run.token = String(++this.#tokens)
    run.worker = session.options.worker
    run.startedAt = now
    run.progress = undefined
    this.#runs.lease(run, session, now)
    if (this.#runs.observers.isListening && !group.isBetween) {
      this.#runs.observers.publish(run, { _tag: "Started", at: now, attempt: run.attempt, worker: run.worker })
      if (run.attempt === 1) this.#flows.publishStep(part, "Started", now)
    }
    const claim: Claim = {
      key: run.key,
      generation: run.generation,
      token: run.token,
      task: group.task,
      version: group.version,
      payload: run.payload,
      attempt: run.attempt,
      lost: run.lost,
      failures: run.failures,
      due: run.due,
      startedAt: now,
      trace: run.trace
    }
    if (part !== undefined) {
      const { exit, parent, stopped, thread } = part
      return {
        ...claim,
        thread: { ...thread, parent, between: group.isBetween, gathered: part.counts, exit, stopped },
        ...isDropped && !isStopped && { droppedBy: "rateLimit" }
      }
    }
    return isDropped ? { ...claim, droppedBy: "rateLimit" } : claim
  }
}
