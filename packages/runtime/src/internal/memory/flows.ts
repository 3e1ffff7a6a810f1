/**
 * The runs of flows in memory: where they wait for an interpreter, what their gathers hear, and when their patience ends.
 */
import type { Docket } from "@effect-docket/dsl"
import { isSettled } from "../transitions.ts"
import { batch } from "./bounds.ts"
import { Heap } from "./heap.ts"
import type { Part } from "./part.ts"
import type { Runs } from "./runs.ts"

/** The runs of flows in a docket. */
export class Flows {
  readonly #runs: Runs
  /** Parts of flows whose patience ends. */
  readonly #patience = new Heap<Part>((a, b) => a.thread.deadline! < b.thread.deadline!)

  constructor(runs: Runs) {
    this.#runs = runs
  }

  /** Whether a member is to be added: its gather does not know how it ended. One that is tried again is forgotten. */
  mayJoin({ gather, generation, index, key }: Docket.EncodedParent, again: boolean): boolean {
    const part = this.#runs.get(key)?.part
    if (part === undefined || part.run.generation !== generation) return false
    // a request that was on its way for long
    if (isSettled(part.run.state)) return false
    const gathered = part.gathered?.get(gather)
    if (again) gathered?.forget(index)
    return gathered?.members.has(index) !== true
  }

  /** It waits for an interpreter, and passes no gate. */
  enterBetween({ run, thread }: Part): void {
    run.group = this.#runs.groups.of(thread.flow, thread.version, "")
    run.gates = undefined
    run.priority = 0
  }

  /** Hands a run to an interpreter, whatever it waits for. */
  interpret(part: Part, stopped: Part["stopped"], now: number): void {
    const { run } = part
    this.#runs.take(run)
    this.#runs.gates.settled(run)
    part.waitsFor = undefined
    // a limit that passes before its interpreter has come undoes no cancel
    if (part.stopped?._tag !== "Cancelled") part.stopped = stopped
    run.cancelling = false
    run.token = undefined
    run.progress = undefined
    run.heldIn = undefined
    this.enterBetween(part)
    this.#runs.ready(run, "interpret", now)
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
    this.#runs.take(part.run)
    part.waitsFor = undefined
    this.#runs.ready(part.run, "gather", now)
  }

  /** A run of a flow has ended. */
  left(part: Part, member: Docket.EncodedMember, now: number): void {
    this.expect(part, undefined)
    if (part.parent !== undefined) this.#report(part.parent, member, now)
  }

  /** It stands somewhere else. */
  become(part: Part, thread: Part["thread"]): void {
    // out of the heap before what it is ordered by changes
    this.expect(part, undefined)
    part.thread = thread
    this.expect(part, thread.deadline)
  }

  /** When its patience ends, or never. */
  expect(part: Part, deadline: number | undefined): void {
    if (part.heapIndex !== -1) this.#patience.remove(part)
    if (deadline === undefined) return
    this.#patience.add(part)
    this.#runs.arm(deadline)
  }

  /** When the first patience ends. */
  get patienceEnds(): number {
    return this.#patience.first?.thread.deadline ?? Infinity
  }

  /** Hands those whose patience has ended to interpreters, a batch of them. */
  expire(now: number): void {
    for (let n = 0; n < batch && this.patienceEnds <= now; n++) {
      const part = this.#patience.first!
      this.#patience.remove(part)
      // who runs it has a clock, and what it does then comes back here
      if (part.run.state !== "Running") this.interpret(part, { _tag: "Expired" }, now)
    }
  }

  /** Tells that its step has begun or ended, if it is at one. */
  publishStep(part: Part | undefined, state: "Started" | "Ended", at: number): void {
    const step = part?.thread.step
    if (part === undefined || step === undefined || !this.#runs.observers.isListening) return
    this.#runs.observers.publish(part.run, { _tag: "Step", at, step, state }, part.flow)
  }
}
