/**
 * How runs are added in memory: what keeps, replaces, joins or refuses an addition.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Result from "effect/Result"
import { isSettled } from "../transitions.ts"
import type { Flows } from "./flows.ts"
import { Run } from "./run.ts"
import { dueOf, type Runs } from "./runs.ts"
import { type Strikes, struckBy } from "./strikes.ts"

/** Additions to a docket. */
export class Additions {
  readonly #runs: Runs
  readonly #flows: Flows
  readonly #strikes: Strikes

  constructor(runs: Runs, flows: Flows, strikes: Strikes) {
    this.#runs = runs
    this.#flows = flows
    this.#strikes = strikes
  }

  /** Fails with a key that is taken although its addition said `fail`, before anything is written. */
  add(
    additions: ReadonlyArray<Docket.EncodedAddition>,
    now: number
  ): Result.Result<ReadonlyArray<Docket.EncodedAdded>, string> {
    const before = new Set<string>()
    for (const { key, onExisting } of additions) {
      if (onExisting === "fail") {
        const run = this.#runs.get(key)
        if (before.has(key) || (run !== undefined && !isSettled(run.state))) return Result.fail(key)
      }
      // one addition comes before no other
      if (additions.length > 1) before.add(key)
    }
    return Result.succeed(additions.map((addition) => this.one(addition, now)))
  }

  /** Adds one, whatever is under its key. */
  one(addition: Docket.EncodedAddition, now: number): Docket.EncodedAdded {
    const known = this.#runs.get(addition.key)
    const parent = addition.thread?.parent
    if (parent !== undefined && !this.#flows.mayJoin(parent, addition.onExisting === "replace")) {
      return { disposition: "Existing", generation: 0, due: now }
    }
    const asked = dueOf(addition.due, now)
    const debounce = addition.redrive === undefined ? addition.gates?.debounce : undefined
    const due = debounce === undefined ? asked : Math.max(asked, now + debounce.for)
    const joined = debounce && this.#runs.gates.joined(debounce, now)
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
      if (known.state === "Running" && known.gates?.concurrency !== undefined) this.#runs.leave(known)
      else this.#runs.take(known)
      this.#runs.gates.settled(known)
    }
    const run = new Run(
      addition,
      this.#runs.groups.of(addition.task, addition.version, addition.lane),
      this.#runs.next(),
      due
    )
    run.state = replaces ? known.state : "None"
    this.#runs.set(run)
    if (known?.part !== undefined) this.#flows.expect(known.part, undefined)
    if (run.part !== undefined) {
      if (known?.part !== undefined && addition.redrive !== undefined) {
        run.part.gathered = known.part.gathered
        run.retention = known.retention
      }
      const { thread } = run.part
      if (thread.deadline !== undefined) run.part.thread = { ...thread, deadline: due + thread.deadline }
      this.#flows.expect(run.part, run.part.thread.deadline)
    }
    if (!isPlain) this.#runs.gates.settle(run, due > asked, now)
    if (replaces) {
      this.#runs.groups.left(known.group)
      this.#runs.observers.publish(run, { _tag: "Replaced", at: now, due })
    }
    this.#runs.place(run, replaces ? "replace" : "add", due, now, !replaces)
    return { disposition: replaces ? "Replaced" : "Added", generation: run.generation, due }
  }

  /** What would refuse these additions now. A key that is taken is not refused. */
  refused(
    additions: ReadonlyArray<Docket.EncodedAddition>,
    now: number
  ): ReadonlyArray<Docket.EncodedRefusal | undefined> {
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
    const strike = this.#strikes.find(task, payload, now)
    if (strike !== undefined) return { _tag: "Struck", ...struckBy(strike) }
    const cools = redrive === undefined && this.#runs.gates.isCooling(gates?.cooldown, now)
    return cools ? { _tag: "Limited", by: "cooldown" } : undefined
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
    this.#runs.take(run)
    if (!debounce!.keepsFirst) {
      // of a newer version, it may be for other workers
      run.group = this.#runs.groups.of(addition.task, addition.version, addition.lane)
      run.payload = addition.payload
      run.priority = addition.priority
      run.retention = addition.retention
      run.gates = addition.gates
      run.trace = addition.trace
    }
    this.#runs.gates.joins(run, settled > asked)
    // what is due stays so, though its time has not been told yet
    const due = run.due > now ? Math.max(asked, settled) : run.due
    if (state === "Scheduled") this.#runs.place(run, "join", due, now, true)
    else this.#runs.ready(run, "joinDue", now)
    const disposition = debounce!.keepsFirst ? "Existing" : "Replaced"
    return { disposition, generation: run.generation, due: run.due, key }
  }
}
