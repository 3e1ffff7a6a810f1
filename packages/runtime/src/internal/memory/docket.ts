/**
 * One docket in memory: the state machine of `transitions.ts` over records, lists and heaps.
 *
 * Everything here is synchronous, so each method is one atomic write; `MemoryStore` wraps it in effects and drives
 * `tick`. Its cost does not depend on how many runs wait: additions and claims touch one list or log(n) of the heap.
 */
import type { Docket } from "@effect-docket/dsl"
import type * as Clock from "effect/Clock"
import * as Result from "effect/Result"
import type { Fence, Outlook, Renewed, TurnReply, TurnRequest, WorkerOptions } from "../../DocketStore.ts"
import { isSettled, type Stored } from "../transitions.ts"
import { Additions } from "./additions.ts"
import { batch } from "./bounds.ts"
import { Claims } from "./claims.ts"
import { Flows } from "./flows.ts"
import type { Run } from "./run.ts"
import { Runs } from "./runs.ts"
import type { Session } from "./session.ts"
import { Settlements } from "./settlements.ts"
import { Strikes } from "./strikes.ts"
import * as views from "./views.ts"

const isPending = (state: Stored): boolean => state === "Scheduled" || state === "Ready" || state === "Held"

/** One docket in memory. */
export class MemoryDocket {
  readonly name: string
  readonly #clock: Clock.Clock
  readonly #runs = new Runs()
  readonly observers = this.#runs.observers
  readonly groups = this.#runs.groups
  readonly strikes = new Strikes()
  readonly #flows = new Flows(this.#runs)
  readonly #additions = new Additions(this.#runs, this.#flows, this.strikes)
  readonly #settlements = new Settlements(this.#runs, this.#flows, this.#additions)
  readonly #claims = new Claims(this.#runs, this.#flows, this.#settlements, this.strikes)

  constructor(name: string, clock: Clock.Clock) {
    this.name = name
    this.#clock = clock
  }

  get now(): number {
    return this.#clock.currentTimeMillisUnsafe()
  }

  /** Called when something is due earlier than it was before. */
  set onEarlier(tell: () => void) {
    this.#runs.onEarlier = tell
  }

  // -------------------------------------------------------------------------------------------------------------------
  // producers
  // -------------------------------------------------------------------------------------------------------------------

  /** Fails with a key that is taken although its addition said `fail`, before anything is written. */
  add(additions: ReadonlyArray<Docket.EncodedAddition>): Result.Result<ReadonlyArray<Docket.EncodedAdded>, string> {
    const { now } = this
    const added = this.#additions.add(additions, now)
    if (Result.isSuccess(added)) this.#admit(now)
    return added
  }

  /** What would refuse these additions now. A key that is taken is not refused. */
  refused(additions: ReadonlyArray<Docket.EncodedAddition>): ReadonlyArray<Docket.EncodedRefusal | undefined> {
    return this.#additions.refused(additions, this.now)
  }

  cancel(key: string, of: Docket.EncodedFlow | undefined): boolean {
    const run = this.#runs.get(key)
    if (run === undefined || isSettled(run.state)) return false
    const { part } = run
    if (of !== undefined && (part?.parent?.key !== of.key || part.parent.generation !== of.generation)) return false
    if (part?.thread.onCancel === "ignore") return true
    if (run.state === "Running") {
      run.cancelling = true
      this.groups.requestCancel(run.worker!, run.token!)
      return true
    }
    const now = this.now
    if (part?.isInterpretedOnCancel) this.#flows.interpret(part, { _tag: "Cancelled" }, now)
    else this.#settlements.settle(run, "cancel", "Cancelled", { _tag: "Cancelled" }, now)
    this.#admit(now)
    return true
  }

  clear(): number {
    const now = this.now
    let count = 0
    for (const run of this.#runs.values()) {
      if (!isPending(run.state)) continue
      this.#runs.take(run)
      this.#runs.gates.settled(run)
      this.#runs.move(run, "clear", "None")
      this.#runs.delete(run)
      if (run.part !== undefined) this.#flows.left(run.part, { _tag: "Gone" }, now)
      this.observers.publish(run, { _tag: "Finished", at: now, outcome: { _tag: "Gone" } })
      this.observers.tell(run.key, Infinity, { _tag: "Gone" })
      this.groups.left(run.group)
      count++
    }
    this.#admit(now)
    return count
  }

  // -------------------------------------------------------------------------------------------------------------------
  // readers
  // -------------------------------------------------------------------------------------------------------------------

  get(key: string): Docket.EncodedRun | undefined {
    const run = this.#runs.get(key)
    return run === undefined ? undefined : views.encode(run, this.groups)
  }

  outcome(key: string, generation: number): Docket.EncodedOutcome | undefined {
    const run = this.#runs.get(key)
    if (run === undefined) return { _tag: "Gone" }
    return run.outcome !== undefined && run.outcomeGeneration >= generation ? run.outcome : undefined
  }

  /** Calls back once with the outcome; the result stops waiting. */
  awaitOutcome(key: string, generation: number, resume: (outcome: Docket.EncodedOutcome) => void): () => void {
    const outcome = this.outcome(key, generation)
    if (outcome !== undefined) {
      resume(outcome)
      return () => {}
    }
    return this.observers.wait(key, generation, resume)
  }

  /** How the members of a gather have ended. */
  members(
    key: string,
    gather: string,
    from: number,
    to: number
  ): ReadonlyArray<Docket.EncodedMember | undefined> {
    const gathered = this.#runs.get(key)?.part?.gathered?.get(gather)
    return Array.from({ length: Math.max(0, to - from) }, (_, n) => gathered?.members.get(from + n))
  }

  explain(key: string): Docket.Explanation {
    const run = this.#runs.get(key)
    if (run === undefined) return { _tag: "Unknown" }
    return views.explain(
      run,
      this.strikes.find(run.group.task, run.payload, this.now),
      this.#runs.gates.isSettling(run)
    )
  }

  /** The pending and running runs by due time: references, so that a page is read as it is when it is asked for. */
  snapshot(): ReadonlyArray<Run> {
    return Array.from(this.#runs.values()).filter((run) => !isSettled(run.state)).toSorted((a, b) =>
      a.due - b.due || a.generation - b.generation
    )
  }

  page(runs: ReadonlyArray<Run>): ReadonlyArray<Docket.EncodedRun> {
    return runs
      .filter((run) => this.#runs.get(run.key) === run && !isSettled(run.state))
      .map((run) => views.encode(run, this.groups))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // workers
  // -------------------------------------------------------------------------------------------------------------------

  attach(options: WorkerOptions): Session {
    const session = this.groups.attach(options)
    this.#limitsChanged(session)
    return session
  }

  detach(session: Session): void {
    this.groups.detach(session)
    this.#limitsChanged(session)
  }

  /** What waits at a gate does not wait for anything to happen there. */
  #limitsChanged({ groups }: Session): void {
    this.#runs.gates.changed(groups)
    this.#admit(this.now)
  }

  turn(session: Session, request: TurnRequest): TurnReply {
    const now = this.now
    session.free = 0
    session.freeBetween = 0
    session.isWatching = false
    const settled = request.settle.map((settlement) => this.#settlements.apply(settlement, now))
    this.#advance(now)
    const between = this.#claims.between(session, request, now)
    const claimed = request.capacity > 0 ? this.#claims.some(session, request, now) : []
    this.#admit(now)
    session.free = Math.max(0, request.capacity - claimed.length)
    session.freeBetween = Math.max(0, (request.between ?? 0) - between.length)
    // it may have been woken for more than it takes: what is left is for the others
    for (const group of session.groups) {
      if (group.ready > 0) this.groups.wake(group, group.ready)
    }
    const cancelled = session.cancelled
    if (cancelled.length > 0) session.cancelled = []
    return { now, settled, claimed: [...between, ...claimed], cancelled, unserved: this.groups.unserved }
  }

  renew(session: Session, fences: ReadonlyArray<Fence>): ReadonlyArray<Renewed> {
    const now = this.now
    return fences.map((fence) => {
      const run = this.#runs.get(fence.key)
      if (run === undefined || run.generation > fence.generation) {
        const replaced = this.#runs.replaced.get(fence.token)
        if (replaced !== undefined) this.#runs.extend(replaced, session, now)
        return "Replaced"
      }
      if (run.generation !== fence.generation || run.token !== fence.token) return "Lost"
      this.#runs.extend(run, session, now)
      return run.cancelling ? "Cancelled" : "Renewed"
    })
  }

  outlook(session: Session, except: ReadonlySet<string> | undefined): Outlook {
    let pending = 0
    let running = 0
    for (const group of session.groups) {
      running += group.running
      if (except === undefined || !except.has(group.task)) pending += group.pending
    }
    session.isWatching = pending + running > 0
    const nextDue = Math.min(
      this.#runs.schedule.first?.due ?? Infinity,
      this.#flows.patienceEnds,
      this.#runs.gates.lookAt
    )
    return { pending, running, nextDue: nextDue === Infinity ? undefined : nextDue }
  }

  progress(fence: Fence, value: string): boolean {
    const run = this.#settlements.current(fence)
    if (run === undefined) return false
    run.progress = value
    this.observers.publish(run, { _tag: "Progress", at: this.now, value })
    return true
  }

  /** Does what time asks for, a batch of it; the next moment at which there is something to do, `Infinity` if none. */
  tick(): number {
    this.#advance(this.now)
    this.#runs.wakeAt = Math.min(
      this.#runs.schedule.first?.due ?? Infinity,
      this.#flows.patienceEnds,
      this.#runs.leases.earliest,
      this.#runs.retentions.earliest,
      this.#runs.gates.lookAt
    )
    return this.#runs.wakeAt
  }

  /** For tests: how much it holds, and when it wants to be woken. */
  get sizes() {
    return {
      runs: this.#runs.size,
      scheduled: this.#runs.schedule.size,
      ready: Array.from(this.groups).reduce((sum, group) => sum + group.ready, 0),
      held: Array.from(this.groups).reduce((sum, group) => sum + group.held, 0),
      gates: this.#runs.gates.size,
      leased: this.#runs.leases.size,
      replaced: this.#runs.replaced.size,
      kept: this.#runs.retentions.size,
      sessions: this.groups.sessions,
      ...this.observers.sizes,
      wakeAt: this.#runs.wakeAt
    }
  }

  #advance(now: number): void {
    for (let n = 0; n < batch; n++) {
      const run = this.#runs.schedule.first
      if (run === undefined || run.due > now) break
      this.#runs.take(run)
      this.#runs.ready(run, "due", now)
    }
    this.#flows.expire(now)
    this.#runs.leases.forEachEnded(now, batch, (run) => this.#settlements.takeOver(run, now))
    this.#runs.retentions.forEachEnded(now, batch, (run) => this.#runs.forget(run))
    this.#admit(now)
  }

  /** Makes ready what its gate has room for again. */
  #admit(now: number): void {
    this.#runs.gates.look(now, batch)
    const more = this.#runs.gates.admit(now, batch, (run) => {
      this.#runs.take(run)
      this.#runs.ready(run, "admit", now)
    })
    this.#runs.arm(more ? now : this.#runs.gates.lookAt)
  }
}
