/**
 * One docket in memory: the state machine of `transitions.ts` over records, lists and a heap.
 *
 * Everything here is synchronous, so each method is one atomic write; `MemoryStore` wraps it in effects and drives
 * `tick`. Its cost does not depend on how many runs wait: additions and claims touch one list or log(n) of the heap.
 */
import type { Docket } from "@effect-docket/dsl"
import type * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type {
  Claim,
  Fence,
  Outlook,
  Pause,
  Renewed,
  Settled,
  Settlement,
  StoredEvent,
  TurnReply,
  TurnRequest,
  Unserved,
  WorkerOptions
} from "../../DocketStore.ts"
import { isAllowed, type Stored, type Transition } from "../transitions.ts"
import { Group } from "./group.ts"
import { Run, RunList, Schedule } from "./run.ts"
import { Session } from "./session.ts"
import { Strikes } from "./strikes.ts"

// Most runs that one call promotes, takes over or forgets. A thousand take about a millisecond, so that 50,000 runs due
// at one instant never hold the event loop; what is left follows in the next call, at once.
const batch = 1000

const isSettled = (state: Stored): boolean =>
  state === "Completed" || state === "Failed" || state === "Cancelled" || state === "Skipped"

const isPending = (state: Stored): boolean => state === "Scheduled" || state === "Ready"

/** Waits for the outcome of a generation of a key. */
interface Waiter {
  readonly generation: number
  readonly resume: (outcome: Docket.EncodedOutcome) => void
}

/** One docket in memory. */
export class MemoryDocket {
  readonly name: string
  /** Called when something is due earlier than it was before. */
  onEarlier: () => void = () => {}
  readonly #clock: Clock.Clock
  readonly #runs = new Map<string, Run>()
  readonly #schedule = new Schedule()
  /** By task. */
  readonly #groups = new Map<string, Array<Group>>()
  /** Running runs by the length of their lease, and settled ones by that of their retention: the first ends first. */
  readonly #leases = new Map<number, RunList>()
  readonly #retentions = new Map<number, RunList>()
  /** Groups that no attached worker serves. */
  readonly #orphans = new Set<Group>()
  readonly #sessions = new Set<Session>()
  readonly #strikes = new Strikes()
  readonly #pauses: Array<{ readonly pause: Pause; readonly reason: string }> = []
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #subscribers = new Set<{ readonly key: string | undefined; readonly offer: (event: StoredEvent) => void }>()
  /** Generations and arrivals come from one sequence, so a later generation of a key is always greater. */
  #sequence = 0
  /** Released and taken-over runs go before all others: their arrivals count down. */
  #front = 0
  #tokens = 0
  /** Whom to tell about what was written. */
  #outgoing: Array<() => void> = []
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
    return Result.succeed(additions.map((addition) => this.#addOne(addition, now)))
  }

  #addOne(addition: Docket.EncodedAddition, now: number): Docket.EncodedAdded {
    const known = this.#runs.get(addition.key)
    const due = this.#due(addition.due, now)
    if (known !== undefined) {
      const taken = addition.redrive === undefined
        ? !isSettled(known.state) && addition.onExisting !== "replace"
        : known.generation !== addition.redrive || !isSettled(known.state)
      if (taken) return { disposition: "Existing", generation: known.generation, due: known.due }
    }
    const strike = this.#strikes.find(addition.task, addition.payload, now)
    if (strike !== undefined) return { disposition: "Struck", generation: 0, due, reason: strike.reason }
    const replaces = known !== undefined && !isSettled(known.state)
    if (known !== undefined) this.#take(known)
    const run = new Run(addition, this.#group(addition.task, addition.version, addition.lane), ++this.#sequence, due)
    run.state = replaces ? known.state : "None"
    this.#runs.set(addition.key, run)
    if (replaces) this.#publish(run, { _tag: "Replaced", at: now, due })
    this.#place(run, replaces ? "replace" : "add", due, now, !replaces)
    return { disposition: replaces ? "Replaced" : "Added", generation: run.generation, due }
  }

  cancel(key: string): boolean {
    const run = this.#runs.get(key)
    if (run === undefined || isSettled(run.state)) return false
    if (run.state === "Running") {
      run.cancelling = true
      for (const session of this.#sessions) {
        if (session.options.worker === run.worker) {
          session.cancelled.push(run.token!)
          this.#outgoing.push(session.options.onWake)
        }
      }
      return true
    }
    this.#settle(run, "cancel", "Cancelled", { _tag: "Cancelled" }, this.now)
    return true
  }

  clear(): number {
    let count = 0
    for (const run of this.#runs.values()) {
      if (!isPending(run.state)) continue
      this.#take(run)
      this.#move(run, "clear", "None")
      this.#runs.delete(run.key)
      this.#tell(run.key, Infinity, { _tag: "Gone" })
      count++
    }
    return count
  }

  // -------------------------------------------------------------------------------------------------------------------
  // readers
  // -------------------------------------------------------------------------------------------------------------------

  get(key: string): Docket.EncodedRun | undefined {
    const run = this.#runs.get(key)
    return run === undefined ? undefined : this.#encoded(run)
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
    let waiters = this.#waiters.get(key)
    if (waiters === undefined) this.#waiters.set(key, waiters = new Set())
    const waiter: Waiter = { generation, resume }
    waiters.add(waiter)
    return () => {
      waiters.delete(waiter)
      if (waiters.size === 0 && this.#waiters.get(key) === waiters) this.#waiters.delete(key)
    }
  }

  subscribe(key: string | undefined, offer: (event: StoredEvent) => void): () => void {
    const subscriber = { key, offer }
    this.#subscribers.add(subscriber)
    return () => {
      this.#subscribers.delete(subscriber)
    }
  }

  explain(key: string): Docket.Explanation {
    const run = this.#runs.get(key)
    const time = DateTime.makeUnsafe
    if (run === undefined) return { _tag: "Unknown" }
    if (isSettled(run.state)) return { _tag: "Finished", at: time(run.settledAt) }
    if (run.state === "Running") return { _tag: "Running", worker: run.worker!, since: time(run.startedAt) }
    const strike = this.#strikes.find(run.group.task, run.payload, this.now)
    if (strike !== undefined) {
      const until = strike.until === undefined ? Option.none() : Option.some(time(strike.until))
      return { _tag: "Struck", reason: strike.reason, until }
    }
    if (run.state === "Scheduled") {
      return run.failures === undefined
        ? { _tag: "NotDue", at: time(run.due) }
        : { _tag: "Retrying", attempt: run.attempt, next: time(run.due) }
    }
    const { lane, paused, ready, sessions } = run.group
    if (paused !== undefined) return { _tag: "Paused", reason: paused }
    return sessions.length === 0 ? { _tag: "NoWorker", lane } : { _tag: "Waiting", lane, ready }
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
      .map((run) => this.#encoded(run))
  }

  get counts(): ReadonlyArray<Docket.Counts> {
    const counts = new Map<string, { -readonly [K in keyof Docket.Counts]: Docket.Counts[K] }>()
    for (const group of this.#allGroups()) {
      if (group.pending + group.running === 0) continue
      const id = JSON.stringify([group.task, group.lane])
      let count = counts.get(id)
      if (count === undefined) {
        counts.set(id, count = { task: group.task, lane: group.lane, scheduled: 0, ready: 0, held: 0, running: 0 })
      }
      count.scheduled += group.scheduled
      count[this.#isHeld(group) ? "held" : "ready"] += group.ready
      count.running += group.running
    }
    return Array.from(counts.values())
  }

  deadLetters(task: string): ReadonlyArray<Docket.EncodedDeadLetter> {
    const letters: Array<Docket.EncodedDeadLetter> = []
    for (const group of this.#groups.get(task) ?? []) {
      for (const run of group.failed) {
        if (run.outcome?._tag === "Exit") {
          letters.push({ ...this.#encoded(run), exit: run.outcome.exit, failedAt: run.settledAt })
        }
      }
    }
    return letters.toSorted((a, b) => a.failedAt - b.failedAt || a.generation - b.generation)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // strikes and pauses
  // -------------------------------------------------------------------------------------------------------------------

  strike(strike: Docket.EncodedStrike): void {
    this.#strikes.add(strike)
  }

  restore(strike: Pick<Docket.EncodedStrike, "task" | "where">): void {
    this.#strikes.remove(strike)
  }

  pause(pause: Pause, reason: string): void {
    this.resume(pause)
    this.#pauses.push({ pause, reason })
    this.#refreshPauses()
  }

  resume({ lane, task }: Pause): void {
    const index = this.#pauses.findIndex(({ pause }) => pause.task === task && pause.lane === lane)
    if (index === -1) return
    this.#pauses.splice(index, 1)
    this.#refreshPauses()
  }

  #refreshPauses(): void {
    for (const group of this.#allGroups()) {
      const was = group.paused
      group.paused = this.#pauseOf(group)
      if (was !== undefined && group.paused === undefined) this.#wake(group, group.ready)
    }
  }

  #pauseOf({ lane, task }: Group): string | undefined {
    return this.#pauses.find(({ pause }) =>
      (pause.task === undefined || pause.task === task) && (pause.lane === undefined || pause.lane === lane)
    )?.reason
  }

  // -------------------------------------------------------------------------------------------------------------------
  // workers
  // -------------------------------------------------------------------------------------------------------------------

  attach(options: WorkerOptions): Session {
    const session = new Session(options)
    this.#sessions.add(session)
    for (const group of this.#allGroups()) {
      if (session.serves(group)) this.#serve(session, group)
    }
    return session
  }

  detach(session: Session): void {
    this.#sessions.delete(session)
    for (const group of session.groups) {
      group.sessions.splice(group.sessions.indexOf(session), 1)
      if (group.sessions.length === 0) this.#orphans.add(group)
      // it may have been woken for a run that it will not take any more
      this.#wake(group, group.ready)
    }
  }

  turn(session: Session, request: TurnRequest): TurnReply {
    const now = this.now
    session.free = 0
    const settled = request.settle.map((settlement) => this.#apply(settlement, now))
    this.#advance(now)
    const claimed = request.capacity > 0 ? this.#claim(session, request, now) : []
    session.free = Math.max(0, request.capacity - claimed.length)
    // it may have been woken for more than it takes: what is left is for the others
    for (const group of session.groups) {
      if (group.ready > 0 && group.paused === undefined) this.#wake(group, group.ready)
    }
    const cancelled = session.cancelled
    if (cancelled.length > 0) session.cancelled = []
    return { now, settled, claimed, cancelled, unserved: this.#unserved() }
  }

  renew(session: Session, fences: ReadonlyArray<Fence>): ReadonlyArray<Renewed> {
    const now = this.now
    return fences.map((fence) => {
      const run = this.#runs.get(fence.key)
      if (run === undefined || run.generation > fence.generation) return "Replaced"
      if (run.generation !== fence.generation || run.token !== fence.token) return "Lost"
      run.list!.remove(run)
      this.#lease(run, session, now)
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
    return { pending, running, nextDue: this.#schedule.first?.due }
  }

  progress(fence: Fence, value: string): boolean {
    const run = this.#current(fence)
    if (run === undefined) return false
    run.progress = value
    this.#publish(run, { _tag: "Progress", at: this.now, value })
    return true
  }

  /** Does what time asks for, a batch of it; the next moment at which there is something to do, `Infinity` if none. */
  tick(): number {
    this.#advance(this.now)
    this.#wakeAt = Math.min(
      this.#schedule.first?.due ?? Infinity,
      earliest(this.#leases),
      earliest(this.#retentions)
    )
    return this.#wakeAt
  }

  /**
   * Tells those whom a write concerns. Its caller does so when the write is done: they go on at once, in the same call
   * stack, and what they do next has to find the whole of it.
   */
  flush(): void {
    while (this.#outgoing.length > 0) {
      const outgoing = this.#outgoing
      this.#outgoing = []
      for (const tell of outgoing) tell()
    }
  }

  /** For tests: how much it holds, and when it wants to be woken. */
  get sizes() {
    const sizeOf = (lists: Map<number, RunList>) => Array.from(lists.values()).reduce((sum, list) => sum + list.size, 0)
    return {
      runs: this.#runs.size,
      scheduled: this.#schedule.size,
      ready: Array.from(this.#groups.values()).flat().reduce((sum, group) => sum + group.ready, 0),
      leased: sizeOf(this.#leases),
      kept: sizeOf(this.#retentions),
      sessions: this.#sessions.size,
      waiters: this.#waiters.size,
      subscribers: this.#subscribers.size,
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
    for (const leased of this.#leases.values()) {
      for (let n = 0; n < batch && leased.first !== undefined && leased.first.until <= now; n++) {
        this.#takeOver(leased.first, now)
      }
    }
    for (const kept of this.#retentions.values()) {
      for (let n = 0; n < batch && kept.first !== undefined && kept.first.until <= now; n++) this.#forget(kept.first)
    }
  }

  #claim(session: Session, { capacity, except, lanes }: TurnRequest, now: number): ReadonlyArray<Claim> {
    const claims: Array<Claim> = []
    const room = lanes === undefined ? undefined : new Map(lanes)
    session.room = room
    session.except = except
    while (claims.length < capacity) {
      // the earliest of the highest priority among the groups that it serves; a worker serves few groups
      let first: Run | undefined
      for (const group of session.groups) {
        if (group.ready === 0 || group.paused !== undefined || except?.has(group.task)) continue
        if (room !== undefined && (room.get(group.lane) ?? 0) <= 0) continue
        const run = group.first!
        if (
          first === undefined || run.priority > first.priority ||
          (run.priority === first.priority && run.arrival < first.arrival)
        ) first = run
      }
      if (first === undefined) break
      const claim = this.#claimOne(first, session, now)
      if (claim === undefined) continue
      claims.push(claim)
      const { lane } = first.group
      if (room !== undefined) room.set(lane, room.get(lane)! - 1)
    }
    return claims
  }

  #claimOne(run: Run, session: Session, now: number): Claim | undefined {
    const { group } = run
    const strike = this.#strikes.find(group.task, run.payload, now)
    if (strike !== undefined) {
      this.#settle(run, "skip", "Skipped", { _tag: "Struck", reason: strike.reason }, now)
      return undefined
    }
    this.#take(run)
    this.#move(run, "claim", "Running")
    group.running++
    run.attempt++
    run.token = String(++this.#tokens)
    run.worker = session.options.worker
    run.startedAt = now
    run.progress = undefined
    this.#lease(run, session, now)
    if (this.#observed) this.#publish(run, { _tag: "Started", at: now, attempt: run.attempt, worker: run.worker })
    return {
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
  }

  #current({ generation, key, token }: Fence): Run | undefined {
    const run = this.#runs.get(key)
    return run !== undefined && run.generation === generation && run.token === token ? run : undefined
  }

  #apply(settlement: Settlement, now: number): Settled {
    const run = this.#current(settlement)
    if (run === undefined) {
      return this.#runs.get(settlement.key)?.settledToken === settlement.token ? "Duplicate" : "Lost"
    }
    const { change, successor } = settlement
    run.settledToken = run.token
    switch (change._tag) {
      case "Completed":
        this.#finish(run, "complete", "Completed", change.exit, successor, now)
        return "Applied"
      case "Failed":
        this.#finish(run, "fail", "Failed", change.exit, successor, now)
        return "Applied"
      case "Cancelled":
        this.#settle(run, "abort", "Cancelled", { _tag: "Cancelled" }, now)
        return "Applied"
    }
    if (run.cancelling) {
      this.#settle(run, "abort", "Cancelled", { _tag: "Cancelled" }, now)
      return "Applied"
    }
    this.#take(run)
    run.token = undefined
    run.progress = undefined
    switch (change._tag) {
      case "Retry": {
        run.failures = change.failures
        const next = now + change.after
        this.#publish(run, { _tag: "Retrying", at: now, attempt: run.attempt, exit: change.exit, next })
        this.#place(run, "retry", next, now, false)
        break
      }
      case "Snooze":
        run.attempt--
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
    exit: string,
    successor: Settlement["successor"],
    now: number
  ): void {
    if (successor === undefined || run.cancelling) {
      this.#settle(run, transition, to, { _tag: "Exit", exit }, now)
      return
    }
    this.#take(run)
    this.#move(run, transition, to)
    this.#conclude(run, { _tag: "Exit", exit }, now)
    run.generation = ++this.#sequence
    run.attempt = 0
    run.lost = 0
    run.failures = undefined
    run.token = undefined
    run.progress = undefined
    run.payload = successor.payload
    run.group = this.#group(run.group.task, successor.version, run.group.lane)
    this.#place(run, "perpetuate", this.#due(successor.due, now), now, true)
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
    if (run.state === "Ready") group.ready--
    else if (run.state === "Running") group.running--
    else if (run.state === "Failed") group.failed.delete(run)
  }

  /** Puts a run where its due time says. */
  #place(run: Run, transition: Transition, due: number, now: number, announce: boolean): void {
    run.due = due
    if (due <= now) return this.#ready(run, transition, now)
    this.#move(run, transition, "Scheduled")
    run.group.scheduled++
    this.#schedule.add(run)
    this.#arm(due)
    if (announce) this.#publish(run, { _tag: "Scheduled", at: now, due })
  }

  #ready(run: Run, transition: Transition, now: number): void {
    const { group } = run
    this.#move(run, transition, "Ready")
    group.ready++
    const queue = group.queue(run.priority)
    if (transition === "release" || transition === "takeOver") {
      run.arrival = --this.#front
      queue.prepend(run)
    } else {
      run.arrival = ++this.#sequence
      queue.append(run)
    }
    if (this.#observed) this.#publish(run, { _tag: "Ready", at: now })
    if (group.paused === undefined) this.#wake(group, 1)
  }

  #takeOver(run: Run, now: number): void {
    if (run.cancelling) {
      this.#settle(run, "takeOver", "Cancelled", { _tag: "Cancelled" }, now)
      return
    }
    this.#take(run)
    run.lost++
    run.token = undefined
    run.progress = undefined
    this.#ready(run, "takeOver", now)
  }

  #settle(run: Run, transition: Transition, to: Stored, outcome: Docket.EncodedOutcome, now: number): void {
    const { group } = run
    this.#take(run)
    this.#move(run, transition, to)
    run.token = undefined
    run.progress = undefined
    run.settledAt = now
    if (to === "Failed") {
      group.failed.add(run)
    } else {
      // nobody reads these of a run that did not fail, and a settled run should cost little
      run.payload = ""
      run.failures = undefined
    }
    this.#conclude(run, outcome, now)
    const retention = to === "Failed" ? run.retention.failure : run.retention.success
    if (retention <= 0) this.#forget(run)
    else this.#keep(run, retention, now + retention)
    if (group.pending + group.running === 0) this.#wakeAll(group)
  }

  /** Writes the outcome and tells who waits for it. */
  #conclude(run: Run, outcome: Docket.EncodedOutcome, now: number): void {
    run.outcome = outcome
    run.outcomeGeneration = run.generation
    if (this.#observed) this.#publish(run, { _tag: "Finished", at: now, outcome })
    this.#tell(run.key, run.generation, outcome)
  }

  #tell(key: string, generation: number, outcome: Docket.EncodedOutcome): void {
    const waiters = this.#waiters.get(key)
    if (waiters === undefined) return
    for (const waiter of waiters) {
      if (waiter.generation > generation) continue
      waiters.delete(waiter)
      this.#outgoing.push(() => waiter.resume(outcome))
    }
    if (waiters.size === 0) this.#waiters.delete(key)
  }

  #forget(run: Run): void {
    this.#take(run)
    this.#move(run, "forget", "None")
    this.#runs.delete(run.key)
  }

  #lease(run: Run, session: Session, now: number): void {
    const { lease } = session.options
    run.until = now + lease
    listOf(this.#leases, lease).append(run)
    this.#arm(run.until)
  }

  #keep(run: Run, retention: number, until: number): void {
    run.until = until
    listOf(this.#retentions, retention).append(run)
    this.#arm(until)
  }

  #due(due: Docket.Due, now: number): number {
    return "at" in due ? due.at : now + due.after
  }

  // -------------------------------------------------------------------------------------------------------------------
  // groups, wake-ups, events
  // -------------------------------------------------------------------------------------------------------------------

  #group(task: string, version: number, lane: string): Group {
    let groups = this.#groups.get(task)
    if (groups === undefined) this.#groups.set(task, groups = [])
    for (const group of groups) {
      if (group.version === version && group.lane === lane) return group
    }
    const group = new Group(task, version, lane)
    groups.push(group)
    this.#orphans.add(group)
    group.paused = this.#pauseOf(group)
    for (const session of this.#sessions) {
      if (session.serves(group)) this.#serve(session, group)
    }
    return group
  }

  /** All groups: a few per task. */
  *#allGroups(): Iterable<Group> {
    for (const groups of this.#groups.values()) yield* groups
  }

  #serve(session: Session, group: Group): void {
    session.groups.push(group)
    group.sessions.push(session)
    this.#orphans.delete(group)
  }

  #isHeld(group: Group): boolean {
    return group.paused !== undefined || (group.sessions.length === 0 && this.#sessions.size > 0)
  }

  #unserved(): ReadonlyArray<Unserved> {
    let unserved: Array<Unserved> | undefined
    for (const { lane, ready, task, version } of this.#orphans) {
      if (ready > 0) (unserved ??= []).push({ task, version, lane, count: ready })
    }
    return unserved ?? nothing
  }

  /** Wakes workers with free slots for so many ready runs of a group: one run wakes one worker. */
  #wake(group: Group, count: number): void {
    for (const session of group.sessions) {
      if (count <= 0) return
      const taken = Math.min(count, session.roomFor(group))
      if (taken <= 0) continue
      session.free -= taken
      session.room?.set(group.lane, session.room.get(group.lane)! - taken)
      count -= taken
      this.#outgoing.push(session.options.onWake)
    }
  }

  /** Nothing of a group is left: a worker that runs until it is idle wants to know. */
  #wakeAll(group: Group): void {
    for (const session of group.sessions) this.#outgoing.push(session.options.onWake)
  }

  #arm(at: number): void {
    if (at >= this.#wakeAt) return
    this.#wakeAt = at
    this.#outgoing.push(this.onEarlier)
  }

  /** Whether anybody listens; events are made for observers only. */
  get #observed(): boolean {
    return this.#subscribers.size > 0
  }

  #publish(run: Run, event: Docket.EncodedEvent): void {
    for (const { key, offer } of this.#subscribers) {
      if (key === undefined || key === run.key) {
        offer({ task: run.group.task, key: run.key, generation: run.generation, event })
      }
    }
  }

  #encoded(run: Run): Docket.EncodedRun {
    return {
      task: run.group.task,
      version: run.group.version,
      key: run.key,
      generation: run.generation,
      // `None` is never in the map
      state: run.state === "Ready" && this.#isHeld(run.group) ? "Held" : run.state as Exclude<Stored, "None">,
      due: run.due,
      attempt: run.attempt,
      worker: run.state === "Running" ? run.worker : undefined,
      payload: run.payload,
      progress: run.progress
    }
  }
}

const nothing: ReadonlyArray<never> = []

const listOf = (lists: Map<number, RunList>, duration: number): RunList => {
  let list = lists.get(duration)
  if (list === undefined) lists.set(duration, list = new RunList())
  return list
}

const earliest = (lists: Map<number, RunList>): number => {
  let at = Infinity
  for (const { first } of lists.values()) {
    if (first !== undefined && first.until < at) at = first.until
  }
  return at
}
