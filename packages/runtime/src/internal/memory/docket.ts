/**
 * One docket in memory: the state machine of `transitions.ts` over records, lists and a heap.
 *
 * Everything here is synchronous, so each method is one atomic write; `MemoryStore` wraps it in effects and drives
 * `tick`. Its cost does not depend on how many runs wait: additions and claims touch one list or log(n) of the heap.
 */
import type { Docket } from "@effect-docket/dsl"
import type * as Clock from "effect/Clock"
import * as Result from "effect/Result"
import type {
  Change,
  Claim,
  Fence,
  Outlook,
  Renewed,
  Settled,
  Settlement,
  TurnReply,
  TurnRequest,
  WorkerOptions
} from "../../DocketStore.ts"
import { isAllowed, isSettled, type Stored, type Transition } from "../transitions.ts"
import { Gates } from "./gates.ts"
import { Groups } from "./groups.ts"
import { Heap } from "./heap.ts"
import { Observers } from "./observers.ts"
import type { Part } from "./part.ts"
import { Deadlines, Run } from "./run.ts"
import type { Session } from "./session.ts"
import { Strikes, struckBy } from "./strikes.ts"
import * as views from "./views.ts"

// Most runs that one call promotes, takes over or forgets. A thousand take about a millisecond, so that 50,000 runs due
// at one instant never hold the event loop; what is left follows in the next call, at once.
const batch = 1000

const isPending = (state: Stored): boolean => state === "Scheduled" || state === "Ready" || state === "Held"

/** Steps that keep the place of a run before later arrivals. */
const givesBack: ReadonlySet<Transition> = new Set<Transition>(["release", "takeOver", "admit", "joinDue"])

// the generation breaks ties, so that runs due at one instant start in the order in which they were added
const isDueBefore = (a: Run, b: Run): boolean => a.due < b.due || (a.due === b.due && a.generation < b.generation)

/** One docket in memory. */
export class MemoryDocket {
  readonly name: string
  /** Called when something is due earlier than it was before. */
  onEarlier: () => void = () => {}
  readonly #clock: Clock.Clock
  readonly #runs = new Map<string, Run>()
  readonly #schedule = new Heap<Run>(isDueBefore)
  readonly #leases = new Deadlines()
  readonly #retentions = new Deadlines()
  /** Parts of flows whose patience ends. */
  readonly #patience = new Heap<Part>((a, b) => a.thread.deadline! < b.thread.deadline!)
  readonly observers = new Observers()
  readonly groups = new Groups(this.observers)
  readonly strikes = new Strikes()
  readonly #gates = new Gates()
  /** Runs that were replaced while they were running, by token: those that have a slot of a gate. */
  readonly #replaced = new Map<string, Run>()
  /** Generations and arrivals come from one sequence, so a later generation of a key is always greater. */
  #sequence = 0
  #tokens = 0
  #wakeAt = Infinity

  constructor(name: string, clock: Clock.Clock) {
    this.name = name
    this.#clock = clock
  }

  get now(): number {
    return this.#clock.currentTimeMillisUnsafe()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // producers
  // -------------------------------------------------------------------------------------------------------------------

  /** Fails with a key that is taken although its addition said `fail`, before anything is written. */
  add(additions: ReadonlyArray<Docket.EncodedAddition>): Result.Result<ReadonlyArray<Docket.EncodedAdded>, string> {
    const before = new Set<string>()
    for (const { key, onExisting } of additions) {
      if (onExisting === "fail") {
        const run = this.#runs.get(key)
        if (before.has(key) || (run !== undefined && !isSettled(run.state))) return Result.fail(key)
      }
      // one addition comes before no other
      if (additions.length > 1) before.add(key)
    }
    const now = this.now
    const added = additions.map((addition) => this.#addOne(addition, now))
    this.#admit(now)
    return Result.succeed(added)
  }

  #addOne(addition: Docket.EncodedAddition, now: number): Docket.EncodedAdded {
    const known = this.#runs.get(addition.key)
    const parent = addition.thread?.parent
    if (parent !== undefined && !this.#mayJoin(parent, addition.onExisting === "replace")) {
      return { disposition: "Existing", generation: 0, due: now }
    }
    const asked = this.#due(addition.due, now)
    const debounce = addition.redrive === undefined ? addition.gates?.debounce : undefined
    const due = debounce === undefined ? asked : Math.max(asked, now + debounce.for)
    const joined = debounce && this.#gates.joined(debounce, now)
    // who asks for it replaces the run instead
    const joins = joined !== undefined && (joined.run !== known || addition.onExisting !== "replace")
    // what it would redrive is forgotten
    if (known === undefined && addition.redrive !== undefined) return { disposition: "Existing", generation: 0, due: 0 }
    if (known !== undefined && !(joins && joined.run === known)) {
      // a member of an earlier generation makes room
      const keeps = parent === undefined
        ? addition.onExisting !== "replace"
        : known.part?.parent?.generation === parent.generation
      const taken = addition.redrive === undefined
        ? !isSettled(known.state) && keeps
        : known.generation !== addition.redrive || !isSettled(known.state)
      if (taken) return { disposition: "Existing", generation: known.generation, due: known.due }
    }
    const refusal = this.#refusal(addition, now)
    if (refusal?._tag === "Struck") return { disposition: "Struck", generation: 0, due, ...struckBy(refusal) }
    if (refusal !== undefined) return { disposition: "Limited", generation: 0, due }
    const isPlain = addition.gates === undefined || addition.redrive !== undefined
    const replaces = known !== undefined && !isSettled(known.state)
    if (joins) return this.#join(joined.run, addition, { asked, settled: joined.due }, now)
    if (known !== undefined) {
      if (known.state === "Running" && known.gates?.concurrency !== undefined) this.#leave(known)
      else this.#take(known)
      this.#gates.settled(known)
    }
    const run = new Run(addition, this.groups.of(addition.task, addition.version, addition.lane), ++this.#sequence, due)
    run.state = replaces ? known.state : "None"
    this.#runs.set(addition.key, run)
    if (known?.part !== undefined) this.#expect(known.part, undefined)
    if (run.part !== undefined) {
      if (known?.part !== undefined && addition.redrive !== undefined) {
        run.part.gathered = known.part.gathered
        run.retention = known.retention
      }
      const { thread } = run.part
      if (thread.deadline !== undefined) run.part.thread = { ...thread, deadline: due + thread.deadline }
      this.#expect(run.part, run.part.thread.deadline)
    }
    if (!isPlain) this.#gates.settle(run, due > asked, now)
    if (replaces) {
      this.groups.left(known.group)
      this.observers.publish(run, { _tag: "Replaced", at: now, due })
    }
    this.#place(run, replaces ? "replace" : "add", due, now, !replaces)
    return { disposition: replaces ? "Replaced" : "Added", generation: run.generation, due }
  }

  /** What would refuse these additions now. A key that is taken is not refused. */
  refused(additions: ReadonlyArray<Docket.EncodedAddition>): ReadonlyArray<Docket.EncodedRefusal | undefined> {
    const now = this.now
    const refusals = additions.map((addition) => this.#refusal(addition, now))
    // most of the time nothing is refused, and nothing more is to be found out
    if (refusals.every((refusal) => refusal === undefined)) return refusals
    const before = new Set<string>()
    return additions.map(({ key, onExisting }, index) => {
      const run = this.#runs.get(key)
      const isTaken = before.has(key) || (run !== undefined && !isSettled(run.state))
      const refusal = isTaken && onExisting !== "replace" ? undefined : refusals[index]
      if (refusal === undefined) before.add(key)
      return refusal
    })
  }

  #refusal(
    { gates, payload, redrive, task, thread }: Docket.EncodedAddition,
    now: number
  ): Docket.EncodedRefusal | undefined {
    // a gather has to hear of each of its members
    if (thread?.parent !== undefined) return undefined
    const strike = this.strikes.find(task, payload, now)
    if (strike !== undefined) return { _tag: "Struck", ...struckBy(strike) }
    const cools = redrive === undefined && this.#gates.isCooling(gates?.cooldown, now)
    return cools ? { _tag: "Limited", by: "cooldown" } : undefined
  }

  /** A running run is replaced: its claim keeps its slot until it is settled, or its lease is over. */
  #leave(run: Run): void {
    run.group.running--
    this.#replaced.set(run.token!, run)
  }

  /** The slot of a claim whose run has been replaced is free. */
  #free(token: string | undefined): boolean {
    const run = token === undefined ? undefined : this.#replaced.get(token)
    if (run === undefined) return false
    this.#replaced.delete(run.token!)
    run.list!.remove(run)
    this.#gates.leftRunning(run)
    return true
  }

  /** An addition joins a debounced run. */
  #join(
    run: Run,
    addition: Docket.EncodedAddition,
    { asked, settled }: { readonly asked: number; readonly settled: number },
    now: number
  ): Docket.EncodedAdded {
    const { key, state } = run
    const { debounce } = addition.gates!
    this.#take(run)
    if (!debounce!.keepsFirst) {
      // of a newer version, it may be for other workers
      run.group = this.groups.of(addition.task, addition.version, addition.lane)
      run.payload = addition.payload
      run.priority = addition.priority
      run.retention = addition.retention
      run.gates = addition.gates
      run.trace = addition.trace
    }
    this.#gates.joins(run, settled > asked)
    // what is due stays so, though its time has not been told yet
    const due = run.due > now ? Math.max(asked, settled) : run.due
    if (state === "Scheduled") this.#place(run, "join", due, now, true)
    else this.#ready(run, "joinDue", now)
    const disposition = debounce!.keepsFirst ? "Existing" : "Replaced"
    return { disposition, generation: run.generation, due: run.due, key }
  }

  cancel(key: string): boolean {
    const run = this.#runs.get(key)
    if (run === undefined || isSettled(run.state)) return false
    const { part } = run
    if (part?.thread.onCancel === "ignore") return true
    if (run.state === "Running") {
      run.cancelling = true
      this.groups.requestCancel(run.worker!, run.token!)
      return true
    }
    const now = this.now
    if (part?.isInterpretedOnCancel) this.#interpret(part, { _tag: "Cancelled" }, now)
    else this.#settle(run, "cancel", "Cancelled", { _tag: "Cancelled" }, now)
    this.#admit(now)
    return true
  }

  clear(): number {
    const now = this.now
    let count = 0
    for (const run of this.#runs.values()) {
      if (!isPending(run.state)) continue
      this.#take(run)
      this.#gates.settled(run)
      this.#move(run, "clear", "None")
      this.#runs.delete(run.key)
      if (run.part !== undefined) this.#leaveFlow(run.part, { _tag: "Gone" }, now)
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
    return views.explain(run, this.strikes.find(run.group.task, run.payload, this.now), this.#gates.isSettling(run))
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
    this.#gates.changed(groups)
    this.#admit(this.now)
  }

  turn(session: Session, request: TurnRequest): TurnReply {
    const now = this.now
    session.free = 0
    session.freeBetween = 0
    session.isWatching = false
    const settled = request.settle.map((settlement) => this.#apply(settlement, now))
    this.#advance(now)
    const between = this.#claimBetween(session, request, now)
    const claimed = request.capacity > 0 ? this.#claim(session, request, now) : []
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
        const replaced = this.#replaced.get(fence.token)
        if (replaced !== undefined) this.#extend(replaced, session, now)
        return "Replaced"
      }
      if (run.generation !== fence.generation || run.token !== fence.token) return "Lost"
      this.#extend(run, session, now)
      return run.cancelling ? "Cancelled" : "Renewed"
    })
  }

  #extend(run: Run, session: Session, now: number): void {
    run.list!.remove(run)
    this.#lease(run, session, now)
  }

  outlook(session: Session, except: ReadonlySet<string> | undefined): Outlook {
    let pending = 0
    let running = 0
    for (const group of session.groups) {
      running += group.running
      if (except === undefined || !except.has(group.task)) pending += group.pending
    }
    session.isWatching = pending + running > 0
    const nextDue = Math.min(this.#schedule.first?.due ?? Infinity, this.#patienceEnds, this.#gates.lookAt)
    return { pending, running, nextDue: nextDue === Infinity ? undefined : nextDue }
  }

  progress(fence: Fence, value: string): boolean {
    const run = this.#current(fence)
    if (run === undefined) return false
    run.progress = value
    this.observers.publish(run, { _tag: "Progress", at: this.now, value })
    return true
  }

  /** Does what time asks for, a batch of it; the next moment at which there is something to do, `Infinity` if none. */
  tick(): number {
    this.#advance(this.now)
    this.#wakeAt = Math.min(
      this.#schedule.first?.due ?? Infinity,
      this.#patienceEnds,
      this.#leases.earliest,
      this.#retentions.earliest,
      this.#gates.lookAt
    )
    return this.#wakeAt
  }

  /** For tests: how much it holds, and when it wants to be woken. */
  get sizes() {
    return {
      runs: this.#runs.size,
      scheduled: this.#schedule.size,
      ready: Array.from(this.groups).reduce((sum, group) => sum + group.ready, 0),
      held: Array.from(this.groups).reduce((sum, group) => sum + group.held, 0),
      gates: this.#gates.size,
      leased: this.#leases.size,
      replaced: this.#replaced.size,
      kept: this.#retentions.size,
      sessions: this.groups.sessions,
      ...this.observers.sizes,
      wakeAt: this.#wakeAt
    }
  }

  #advance(now: number): void {
    for (let n = 0; n < batch; n++) {
      const run = this.#schedule.first
      if (run === undefined || run.due > now) break
      this.#take(run)
      this.#ready(run, "due", now)
    }
    for (let n = 0; n < batch && this.#patienceEnds <= now; n++) {
      const part = this.#patience.first!
      this.#patience.remove(part)
      // who runs it has a clock, and what it does then comes back here
      if (part.run.state !== "Running") this.#interpret(part, { _tag: "Expired" }, now)
    }
    this.#leases.forEachEnded(now, batch, (run) => this.#takeOver(run, now))
    this.#retentions.forEachEnded(now, batch, (run) => this.#forget(run))
    this.#admit(now)
  }

  /** Makes ready what its gate has room for again. */
  #admit(now: number): void {
    this.#gates.look(now, batch)
    const more = this.#gates.admit(now, batch, (run) => {
      this.#take(run)
      this.#ready(run, "admit", now)
    })
    this.#arm(more ? now : this.#gates.lookAt)
  }

  #claimBetween(session: Session, { between = 0 }: TurnRequest, now: number): ReadonlyArray<Claim> {
    const claims: Array<Claim> = []
    while (claims.length < between) {
      const first = session.next(true)
      if (first === undefined) break
      claims.push(this.#claimOne(first, session, now)!) // neither a strike nor a gate concerns it
    }
    return claims
  }

  #claim(session: Session, { capacity, except, lanes }: TurnRequest, now: number): ReadonlyArray<Claim> {
    const claims: Array<Claim> = []
    const room = lanes === undefined ? undefined : new Map(lanes)
    session.room = room
    session.except = except
    let refused = 0
    while (claims.length < capacity) {
      const first = session.next(false)
      if (first === undefined) break
      const claim = this.#claimOne(first, session, now)
      if (claim === undefined) {
        if (++refused < batch) continue
        this.observers.call(session.options.onWake)
        break
      }
      claims.push(claim)
      const { lane } = first.group
      if (room !== undefined) room.set(lane, room.get(lane)! - 1)
    }
    return claims
  }

  #claimOne(run: Run, session: Session, now: number): Claim | undefined {
    const { group } = run
    const strike = group.isBetween ? undefined : this.strikes.find(group.task, run.payload, now)
    const { part } = run
    if (strike !== undefined && part === undefined) {
      this.#settle(run, "skip", "Skipped", { _tag: "Struck", ...struckBy(strike) }, now)
      return undefined
    }
    // in a flow it is a failure of the step, and what becomes of that is said by the flow
    if (strike !== undefined) part!.stopped = { _tag: "Struck", ...struckBy(strike) }
    else if (part?.stopped?._tag === "Struck") part.stopped = undefined
    // not those of its worker: it would refuse what becomes ready by others, again and again
    const { limits } = group
    const isStopped = part?.stopped !== undefined
    const refusing = run.gates === undefined || isStopped ? undefined : this.#gates.refusing(run, limits, now)
    const isDropped = isStopped || refusing?.kind === "rateLimit" && limits?.rateLimit?.drops === true
    this.#take(run)
    if (refusing !== undefined && !isDropped) {
      this.#gates.hold(run, refusing)
      this.#held(run)
      return undefined
    }
    this.#move(run, "claim", "Running")
    group.running++
    if (run.gates !== undefined) this.#gates.charge(run, limits, isDropped, now)
    run.attempt++
    run.token = String(++this.#tokens)
    run.worker = session.options.worker
    run.startedAt = now
    run.progress = undefined
    this.#lease(run, session, now)
    if (this.observers.isListening && !group.isBetween) {
      this.observers.publish(run, { _tag: "Started", at: now, attempt: run.attempt, worker: run.worker })
      if (run.attempt === 1) this.#publishStep(part, "Started", now)
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

  #current({ generation, key, token }: Fence): Run | undefined {
    const run = this.#runs.get(key)
    return run !== undefined && run.generation === generation && run.token === token ? run : undefined
  }

  #apply(settlement: Settlement, now: number): Settled {
    const run = this.#current(settlement)
    if (run === undefined) {
      this.#free(settlement.token)
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
          this.#settle(run, "abort", "Cancelled", { _tag: "Cancelled" }, now)
        } else this.#abort(run, "abort", now)
        return "Applied"
    }
    if (change._tag === "Skipped") {
      this.#settle(run, "drop", "Skipped", { _tag: "Limited", by: change.by }, now)
      return "Applied"
    }
    if (change._tag === "Continue" || change._tag === "HandOver") {
      this.#continue(run.part!, change, settlement.members ?? [], now)
      return "Applied"
    }
    if (run.cancelling) {
      this.#abort(run, "abort", now)
      return "Applied"
    }
    this.#take(run)
    run.token = undefined
    run.progress = undefined
    switch (change._tag) {
      case "Retry": {
        run.failures = change.failures
        run.lost = 0
        const next = now + change.after
        this.observers.publish(run, { _tag: "Retrying", at: now, attempt: run.attempt, exit: change.exit, next })
        this.#place(run, "retry", next, now, false)
        break
      }
      case "Snooze":
        run.attempt--
        run.lost = 0
        this.#place(run, "snooze", now + change.after, now, true)
        break
      case "Released":
        run.attempt--
        this.#ready(run, "release", now)
    }
    return "Applied"
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
      this.#settle(run, transition, to, { _tag: "Exit", exit }, now)
      return
    }
    this.#take(run)
    this.groups.left(run.group)
    this.#move(run, transition, to)
    this.#conclude(run, { _tag: "Exit", exit }, now)
    run.generation = ++this.#sequence
    run.attempt = 0
    run.lost = 0
    run.failures = undefined
    run.token = undefined
    run.progress = undefined
    run.payload = successor.payload
    if (successor.gates !== undefined) run.gates = successor.gates
    run.group = this.groups.of(run.group.task, successor.version, run.group.lane)
    this.#place(run, "perpetuate", this.#due(successor.due, now), now, true)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // flows
  // -------------------------------------------------------------------------------------------------------------------

  /** Whether a member is to be added: its gather does not know how it ended. One that is tried again is forgotten. */
  #mayJoin({ gather, generation, index, key }: Docket.EncodedParent, again: boolean): boolean {
    const part = this.#runs.get(key)?.part
    if (part === undefined || part.run.generation !== generation) return false
    // a request that was on its way for long
    if (isSettled(part.run.state) && !again) return false
    const gathered = part.gathered?.get(gather)
    if (again) gathered?.forget(index)
    return gathered?.members.has(index) !== true
  }

  #continue(
    part: Part,
    change: Extract<Change, { readonly _tag: "Continue" | "HandOver" }>,
    members: ReadonlyArray<Docket.EncodedAddition>,
    now: number
  ): void {
    const { run } = part
    if (run.cancelling && (change._tag === "HandOver" ? part.thread : change.thread).onCancel !== "ignore") {
      if (change._tag === "Continue") this.#become(part, change.thread)
      else part.exit = change.exit
      this.#abort(run, "abort", now)
      return
    }
    this.#take(run)
    run.cancelling = false
    run.token = undefined
    run.progress = undefined
    run.attempt = 0
    run.lost = 0
    run.failures = undefined
    if (change._tag === "HandOver") {
      part.exit = change.exit
      part.stopped = change.expired ? { _tag: "Expired" } : part.stopped
      this.#enterBetween(part)
      this.#ready(run, "continue", now)
      return
    }
    const moves = part.thread.step !== change.thread.step
    if (moves) this.#publishStep(part, "Ended", now)
    this.#become(part, change.thread)
    part.exit = undefined
    part.stopped = undefined
    if (change.forget !== undefined) part.forget(change.forget)
    for (const member of members) this.#addOne(member, now)
    const { to } = change
    if (to._tag !== "Step") {
      this.#enterBetween(part)
      if (moves) this.#publishStep(part, "Started", now)
      if (to._tag === "Between") return this.#place(run, "continue", this.#due(to.due, now), now, false)
      part.waitsFor = to.gather
      part.last = to.gather.id
      if (part.isGathered) {
        part.waitsFor = undefined
        return this.#ready(run, "continue", now)
      }
      this.#move(run, "continue", "Held")
      run.group.held++
      return
    }
    run.group = this.groups.of(to.task, to.version, to.lane)
    run.priority = to.priority
    run.payload = to.payload
    run.gates = to.gates
    this.#place(run, "continue", this.#due(to.due, now), now, true)
  }

  /** It waits for an interpreter, and passes no gate. */
  #enterBetween({ run, thread }: Part): void {
    run.group = this.groups.of(thread.flow, thread.version, "")
    run.gates = undefined
    run.priority = 0
  }

  /** Hands a run to an interpreter, whatever it waits for. */
  #interpret(part: Part, stopped: Part["stopped"], now: number): void {
    const { run } = part
    this.#take(run)
    this.#gates.settled(run)
    part.waitsFor = undefined
    // a limit that passes before its interpreter has come undoes no cancel
    if (part.stopped?._tag !== "Cancelled") part.stopped = stopped
    run.cancelling = false
    run.token = undefined
    run.progress = undefined
    run.heldIn = undefined
    this.#enterBetween(part)
    this.#ready(run, "interpret", now)
  }

  /** Ends a running run that somebody cancelled, or leaves that to its interpreter. */
  #abort(run: Run, transition: "abort" | "takeOver", now: number): void {
    if (run.part?.isInterpretedOnCancel) this.#interpret(run.part, { _tag: "Cancelled" }, now)
    else this.#settle(run, transition, "Cancelled", { _tag: "Cancelled" }, now)
  }

  /** Hears how a member of a gather ended. What comes for another generation, or a second time, is too late. */
  #report({ gather, generation, index, key }: Docket.EncodedParent, member: Docket.EncodedMember, now: number): void {
    const part = this.#runs.get(key)?.part
    if (part === undefined || part.run.generation !== generation) return
    if (isSettled(part.run.state)) {
      // of a gather that it knows: what has succeeded is not run again when it is redriven
      if (member._tag !== "Gone") part.gathered?.get(gather)?.add(index, member)
      return
    }
    if (!part.of(gather).add(index, member) || part.waitsFor?.id !== gather || !part.isGathered) return
    this.#take(part.run)
    part.waitsFor = undefined
    this.#ready(part.run, "gather", now)
  }

  /** A run of a flow has ended. */
  #leaveFlow(part: Part, member: Docket.EncodedMember, now: number): void {
    this.#expect(part, undefined)
    if (part.parent !== undefined) this.#report(part.parent, member, now)
  }

  #become(part: Part, thread: Part["thread"]): void {
    // out of the heap before what it is ordered by changes
    this.#expect(part, undefined)
    part.thread = thread
    this.#expect(part, thread.deadline)
  }

  #expect(part: Part, deadline: number | undefined): void {
    if (part.heapIndex !== -1) this.#patience.remove(part)
    if (deadline === undefined) return
    this.#patience.add(part)
    this.#arm(deadline)
  }

  get #patienceEnds(): number {
    return this.#patience.first?.thread.deadline ?? Infinity
  }

  #publishStep(part: Part | undefined, state: "Started" | "Ended", at: number): void {
    const step = part?.thread.step
    if (part === undefined || step === undefined || !this.observers.isListening) return
    this.observers.publish(part.run, { _tag: "Step", at, step, state }, part.flow)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // moving a run
  // -------------------------------------------------------------------------------------------------------------------

  /** The only writer of `state`. */
  #move(run: Run, transition: Transition, to: Stored): void {
    if (!isAllowed(transition, run.state, to)) {
      throw new Error(`bug: "${transition}" of ${JSON.stringify(run.key)} from ${run.state} to ${to}`)
    }
    run.state = to
  }

  /** Takes a run out of the structure of its state, and out of the count of its group. */
  #take(run: Run): void {
    const { group } = run
    if (run.state === "Scheduled") {
      this.#schedule.remove(run)
      group.scheduled--
      return
    }
    run.list?.remove(run)
    if (run.state === "Ready") {
      group.ready--
      if (run.gates !== undefined) this.#gates.leftReady(run)
    } else if (run.state === "Running") {
      group.running--
      if (run.gates !== undefined) this.#gates.leftRunning(run)
    } else if (run.state === "Held") {
      group.held--
      if (run.heldIn !== undefined) this.#gates.leftHeld(run)
    } else if (run.state === "Failed") group.failed.delete(run)
  }

  /** Puts a run where its due time says. */
  #place(run: Run, transition: Transition, due: number, now: number, announce: boolean): void {
    run.due = due
    if (due <= now) return this.#ready(run, transition, now)
    this.#move(run, transition, "Scheduled")
    run.group.scheduled++
    this.#schedule.add(run)
    this.#arm(due)
    if (announce) this.observers.publish(run, { _tag: "Scheduled", at: now, due })
  }

  #ready(run: Run, transition: Transition, now: number): void {
    const { group } = run
    this.#move(run, transition, "Ready")
    // one that is given back keeps its place before later arrivals
    if (!givesBack.has(transition)) run.arrival = ++this.#sequence
    const isBack = transition === "release" || transition === "takeOver"
    if (run.gates !== undefined && !this.#gates.enter(run, isBack, now)) return this.#held(run)
    group.ready++
    group.queue(run.priority).insert(run)
    if (this.observers.isListening) this.observers.publish(run, { _tag: "Ready", at: now })
    this.groups.wake(group, 1)
  }

  #held(run: Run): void {
    this.#move(run, "hold", "Held")
    run.group.held++
  }

  #takeOver(run: Run, now: number): void {
    if (this.#free(run.token)) return
    if (run.cancelling) return this.#abort(run, "takeOver", now)
    const { part } = run
    if (part?.thread.deadline !== undefined && part.thread.deadline <= now) {
      return this.#interpret(part, { _tag: "Expired" }, now)
    }
    this.#take(run)
    run.lost++
    run.token = undefined
    run.progress = undefined
    this.#ready(run, "takeOver", now)
  }

  #settle(run: Run, transition: Transition, to: Stored, outcome: Docket.EncodedOutcome, now: number): void {
    const { group, part } = run
    if (part !== undefined) this.#publishStep(part, "Ended", now)
    this.#take(run)
    this.#move(run, transition, to)
    run.token = undefined
    run.progress = undefined
    run.heldIn = undefined
    this.#gates.settled(run)
    run.settledAt = now
    if (to === "Failed") {
      group.failed.add(run)
    } else {
      // nobody reads these of a run that did not fail, and a settled run should cost little
      run.payload = ""
      run.failures = undefined
    }
    this.#conclude(run, outcome, now)
    if (part !== undefined) {
      const member: Docket.EncodedMember = outcome._tag !== "Exit"
        ? { _tag: "Cancelled" }
        : { _tag: to === "Completed" ? "Done" : "Failed", text: outcome.exit }
      this.#leaveFlow(part, member, now)
    }
    const retention = to === "Failed" ? run.retention.failure : run.retention.success
    if (retention <= 0) this.#forget(run)
    else {
      this.#retentions.add(run, retention, now)
      this.#arm(run.until)
    }
    this.groups.left(group)
  }

  /** Writes the outcome and tells who waits for it. */
  #conclude(run: Run, outcome: Docket.EncodedOutcome, now: number): void {
    run.outcome = outcome
    run.outcomeGeneration = run.generation
    if (this.observers.isListening) this.observers.publish(run, { _tag: "Finished", at: now, outcome })
    this.observers.tell(run.key, run.generation, outcome)
  }

  #forget(run: Run): void {
    this.#take(run)
    this.#move(run, "forget", "None")
    this.#runs.delete(run.key)
  }

  #lease(run: Run, session: Session, now: number): void {
    this.#leases.add(run, session.options.lease, now)
    this.#arm(run.until)
  }

  #due(due: Docket.Due, now: number): number {
    return "at" in due ? due.at : now + due.after
  }

  #arm(at: number): void {
    if (at >= this.#wakeAt) return
    this.#wakeAt = at
    this.observers.call(this.onEarlier)
  }
}
