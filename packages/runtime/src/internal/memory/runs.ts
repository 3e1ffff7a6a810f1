/**
 * The runs of a docket in memory, and what orders them: by key, by due time, by lease, by retention, by group.
 *
 * It is the only writer of their states: whoever changes one takes it out of the structure of its state, and puts it where the
 * new one belongs.
 */
import type { Docket } from "@effect-docket/dsl"
import { isAllowed, type Stored, type Transition } from "../transitions.ts"
import { Gates } from "./gates.ts"
import { Groups } from "./groups.ts"
import { Heap } from "./heap.ts"
import { Observers } from "./observers.ts"
import { Deadlines, type Run } from "./run.ts"
import type { Session } from "./session.ts"

/** Steps that keep the place of a run before later arrivals. */
const givesBack: ReadonlySet<Transition> = new Set<Transition>(["release", "takeOver", "admit", "joinDue"])

// the generation breaks ties, so that runs due at one instant start in the order in which they were added
const isDueBefore = (a: Run, b: Run): boolean => a.due < b.due || (a.due === b.due && a.generation < b.generation)

/** When something is due. */
export const dueOf = (due: Docket.Due, now: number): number => "at" in due ? due.at : now + due.after

/** The runs of a docket. */
export class Runs {
  /** Called when something is due earlier than it was before. */
  onEarlier: () => void = () => {}
  /** When the timer wakes. */
  wakeAt = Infinity
  readonly #byKey = new Map<string, Run>()
  readonly schedule = new Heap<Run>(isDueBefore)
  readonly leases = new Deadlines()
  readonly retentions = new Deadlines()
  readonly observers = new Observers()
  readonly groups = new Groups(this.observers)
  readonly gates = new Gates()
  /** Runs that were replaced while they were running, by token: those that have a slot of a gate. */
  readonly replaced = new Map<string, Run>()
  /** Generations and arrivals come from one sequence, so a later generation of a key is always greater. */
  #sequence = 0

  /** The next of the sequence. */
  next(): number {
    return ++this.#sequence
  }

  get size(): number {
    return this.#byKey.size
  }

  get(key: string): Run | undefined {
    return this.#byKey.get(key)
  }

  set(run: Run): void {
    this.#byKey.set(run.key, run)
  }

  delete(run: Run): void {
    this.#byKey.delete(run.key)
  }

  values(): Iterable<Run> {
    return this.#byKey.values()
  }

  /** A running run is replaced: its claim keeps its slot until it is settled, or its lease is over. */
  leave(run: Run): void {
    run.group.running--
    this.replaced.set(run.token!, run)
  }

  /** The slot of a claim whose run has been replaced is free. */
  free(token: string | undefined): boolean {
    const run = token === undefined ? undefined : this.replaced.get(token)
    if (run === undefined) return false
    this.replaced.delete(run.token!)
    run.list!.remove(run)
    this.gates.leftRunning(run)
    return true
  }

  /** The only writer of `state`. */
  move(run: Run, transition: Transition, to: Stored): void {
    if (!isAllowed(transition, run.state, to)) {
      throw new Error(`bug: "${transition}" of ${JSON.stringify(run.key)} from ${run.state} to ${to}`)
    }
    run.state = to
  }

  /** Takes a run out of the structure of its state, and out of the count of its group. */
  take(run: Run): void {
    const { group } = run
    if (run.state === "Scheduled") {
      this.schedule.remove(run)
      group.scheduled--
      return
    }
    run.list?.remove(run)
    if (run.state === "Ready") {
      group.ready--
      if (run.gates !== undefined) this.gates.leftReady(run)
    } else if (run.state === "Running") {
      group.running--
      if (run.gates !== undefined) this.gates.leftRunning(run)
    } else if (run.state === "Held") {
      group.held--
      if (run.heldIn !== undefined) this.gates.leftHeld(run)
    } else if (run.state === "Failed") group.failed.delete(run)
  }

  /** Puts a run where its due time says. */
  place(run: Run, transition: Transition, due: number, now: number, announce: boolean): void {
    run.due = due
    if (due <= now) return this.ready(run, transition, now)
    this.move(run, transition, "Scheduled")
    run.group.scheduled++
    this.schedule.add(run)
    this.arm(due)
    if (announce) this.observers.publish(run, { _tag: "Scheduled", at: now, due })
  }

  /** Makes a run ready, or held if a gate has no room for it. */
  ready(run: Run, transition: Transition, now: number): void {
    const { group } = run
    this.move(run, transition, "Ready")
    // one that is given back keeps its place before later arrivals
    if (!givesBack.has(transition)) run.arrival = this.next()
    const isBack = transition === "release" || transition === "takeOver"
    if (run.gates !== undefined && !this.gates.enter(run, isBack, now)) return this.held(run)
    group.ready++
    group.queue(run.priority).insert(run)
    if (this.observers.isListening) this.observers.publish(run, { _tag: "Ready", at: now })
    this.groups.wake(group, 1)
  }

  /** Counts a run as held that a gate has taken. */
  held(run: Run): void {
    this.move(run, "hold", "Held")
    run.group.held++
  }

  /** Writes the outcome and tells who waits for it. */
  conclude(run: Run, outcome: Docket.EncodedOutcome, now: number): void {
    run.outcome = outcome
    run.outcomeGeneration = run.generation
    if (this.observers.isListening) this.observers.publish(run, { _tag: "Finished", at: now, outcome })
    this.observers.tell(run.key, run.generation, outcome)
  }

  /** Its retention is over. */
  forget(run: Run): void {
    this.take(run)
    this.move(run, "forget", "None")
    this.delete(run)
  }

  lease(run: Run, session: Session, now: number): void {
    this.leases.add(run, session.options.lease, now)
    this.arm(run.until)
  }

  /** Renews a lease. */
  extend(run: Run, session: Session, now: number): void {
    run.list!.remove(run)
    this.lease(run, session, now)
  }

  /** Has the timer wake at a time, or earlier. */
  arm(at: number): void {
    if (at >= this.wakeAt) return
    this.wakeAt = at
    this.observers.call(this.onEarlier)
  }
}
