/**
 * The gathers of a simulated docket as an auditor sees them: which members have ended, and how.
 */
import type { Docket } from "@effect-docket/dsl"
import type { ClaimedThread } from "../../DocketStore.ts"
import type { Generation } from "./books.ts"

const runOf = (key: string, generation: number): string => JSON.stringify([key, generation])

/** Whether an outcome is a value. */
const isSuccess = (outcome: Docket.EncodedOutcome): boolean =>
  outcome._tag === "Exit" && Reflect.get(JSON.parse(outcome.exit) as object, "_tag") === "Success" // as `Schema.Exit` writes it

/** The members of one gather that have ended: whether each has succeeded, by its index. */
type Ended = Map<number, boolean>

/** How members have ended. */
export class Gathers {
  /** By the run that waits for them, and by gather. */
  readonly #runs = new Map<string, Map<string, Ended>>()
  /** Runs that have what they wait for, until the event that shows that they go on. */
  readonly #complete = new Set<Generation>()

  #of(key: string, generation: number, gather: string): Ended {
    const id = runOf(key, generation)
    let gathers = this.#runs.get(id)
    if (gathers === undefined) this.#runs.set(id, gathers = new Map())
    let ended = gathers.get(gather)
    if (ended === undefined) gathers.set(gather, ended = new Map())
    return ended
  }

  /**
   * A member tells the run that waits for it how it ended. The first word counts. One that has ended listens as far as it
   * knows the gather: what has succeeded is not run again when it is redriven.
   */
  reported(
    run: Generation,
    { gather, generation, index, key }: Docket.EncodedParent,
    outcome: Docket.EncodedOutcome
  ): void {
    const isKnown = this.#runs.get(runOf(key, generation))?.has(gather) === true
    if (run.ended !== undefined && (!isKnown || outcome._tag === "Gone")) return
    const members = this.#of(key, generation, gather)
    if (!members.has(index)) members.set(index, isSuccess(outcome))
    if (run.waitsFor?.id === gather && !run.isReady && this.#isComplete(run, run.waitsFor)) this.#complete.add(run)
  }

  /** A run need not wait any more, or has ended. */
  goesOn(run: Generation): void {
    run.isReady = true
    this.#complete.delete(run)
  }

  /** When everything that was written has been seen: who should have gone on. */
  late(): ReadonlyArray<string> {
    const late = Array.from(
      this.#complete,
      ({ generation, key }) => `${key}#${generation} has what it waits for, and does not go on`
    )
    this.#complete.clear()
    return late
  }

  /** What is wrong with going on now: something is missing, or the counts do not agree. */
  claimed(run: Generation, thread: ClaimedThread | undefined): ReadonlyArray<string> {
    const { lastGather, waitsFor } = run
    if (thread === undefined || lastGather === undefined) return []
    const { gathered, stopped } = thread
    const { failed, succeeded } = this.#counts(run, lastGather)
    const text = `${succeeded} that have succeeded and ${failed} that have not`
    const isEarly = waitsFor !== undefined && stopped === undefined && !this.#isComplete(run, waitsFor)
    const agrees = gathered === undefined || (gathered.failed === failed && gathered.succeeded === succeeded)
    return [
      ...isEarly ? [`goes on with ${text}, and waits for ${JSON.stringify(waitsFor)}`] : [],
      ...agrees ? [] : [`is told of ${JSON.stringify(gathered)}, and there are ${text}`]
    ]
  }

  /** A member that has not succeeded is tried again. */
  again({ gather, generation, index, key }: Docket.EncodedParent): void {
    const members = this.#runs.get(runOf(key, generation))?.get(gather)
    if (members?.get(index) === false) members.delete(index)
  }

  /** The gathers in a chain are forgotten, or all. */
  forget(key: string, generation: number, chain: string): void {
    const gathers = this.#runs.get(runOf(key, generation))
    for (const id of gathers?.keys() ?? []) {
      if (chain === "" || id.startsWith(`${chain}/`)) gathers!.delete(id)
    }
  }

  /** A flow goes on where it failed, as another generation: what has succeeded is kept. */
  carry(key: string, from: number, to: number): void {
    const gathers = this.#runs.get(runOf(key, from))
    if (gathers !== undefined) this.#runs.set(runOf(key, to), gathers)
  }

  #counts({ generation, key }: Generation, gather: string): { readonly succeeded: number; readonly failed: number } {
    const members = Array.from(this.#runs.get(runOf(key, generation))?.get(gather)?.values() ?? [])
    const succeeded = members.filter((isGood) => isGood).length
    return { succeeded, failed: members.length - succeeded }
  }

  #isComplete(run: Generation, { ended, failed, id, succeeded }: Docket.EncodedGather): boolean {
    const counts = this.#counts(run, id)
    return counts.succeeded >= succeeded || counts.failed >= failed || counts.succeeded + counts.failed >= ended
  }
}
