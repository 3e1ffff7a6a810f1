/**
 * What a store has been asked and has answered, in its order, held against what it promises: each generation ends once, a
 * run has one claim at a time, nothing is early, nothing late is applied, no gate lets through more than it may.
 *
 * It knows nothing of how a store works: it sees requests, answers and events, as an auditor would. What each of these
 * says, and has to say, is in files of their own: `additions.ts`, `claims.ts`, `settlements.ts`, `events.ts`; and in
 * `expected.ts` what nobody has to ask for, because it comes with time.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Fence } from "../../DocketStore.ts"
import { type Claimed, type Generation, isCurrent, nameOf, type Unseen } from "./books.ts"
import * as expected from "./expected.ts"
import { Gates } from "./gates.ts"
import { Gathers } from "./gathers.ts"
import { Measures } from "./measures.ts"
import { Timers } from "./timers.ts"
import type { Trace } from "./trace.ts"

/** How much happened. */
export interface Figures {
  /** Generations that were accepted. */
  runs: number
  claims: number
  bodies: number
  /** Claims of runs whose claim before was lost. */
  redelivered: number
}

const id = (key: string, generation: number) => `${generation}/${key}`

/** When something is due that was asked for at a time of the store. */
export const dueOf = (due: Docket.Due, now: number): number => "at" in due ? due.at : now + due.after

/** The books. */
export class Ledger {
  readonly figures: Figures = { runs: 0, claims: 0, bodies: 0, redelivered: 0 }
  readonly violations: Array<string> = []
  readonly generations = new Map<string, Generation>()
  /** The latest generation of each key. */
  readonly current = new Map<string, Generation>()
  /** Every addition that was accepted, by key: to add it again, or another in its place. */
  readonly additions = new Map<string, Docket.EncodedAddition>()
  /** What was written with a settlement and no event has shown yet, by key. */
  readonly unseen = new Map<string, Unseen>()
  /** Every claim, by its token. */
  readonly claims = new Map<string, Claimed>()
  /** The claims of each process. */
  readonly claimsOf = new Map<string, Array<Claimed>>()
  /** The latest run that settles, by what it is about: additions join it until it is claimed. */
  readonly settling = new Map<string, Generation>()
  /** What operators have stopped. */
  readonly measures = new Measures()
  readonly gates = new Gates()
  readonly gathers = new Gathers()
  /** What time has to bring about. */
  readonly timers = new Timers()
  /**
   * Tasks whose runs have a successor, unless their handler says otherwise, and how long after the run it is due at the
   * earliest.
   */
  readonly perpetual: ReadonlyMap<string, number>
  /** Nothing goes wrong, and has not for longer than a lease: no claim may be lost. */
  isCalm = false
  /** The longest time that anything is kept. */
  retention = 0
  readonly #trace: Trace

  constructor(trace: Trace, perpetual: ReadonlyMap<string, number>) {
    this.#trace = trace
    this.perpetual = perpetual
  }

  /** Something is not as promised. */
  violation(text: string): void {
    this.#trace.add("!", text)
    this.violations.push(text)
  }

  check(holds: boolean, text: () => string): void {
    if (!holds) this.violation(text())
  }

  find({ generation, key }: Pick<Fence, "key" | "generation">): Generation | undefined {
    return this.generations.get(id(key, generation))
  }

  /** A generation begins. `latestDue`: a debounce lets it wait no longer. */
  open(
    { generation, key, task }: Pick<Generation, "task" | "key" | "generation">,
    { due, gates, payload, retention, thread }: Omit<Unseen, "isMember">,
    notBefore: number,
    latestDue = Infinity
  ): Generation {
    const latest = this.current.get(key)
    this.check(
      latest === undefined || latest.generation < generation,
      () => `${key} has generation ${generation} after ${latest!.generation}`
    )
    const opened: Generation = {
      task,
      key,
      generation,
      gates,
      payload,
      retention,
      due,
      notBefore,
      latestDue,
      failures: undefined,
      state: thread?.state,
      deadline: thread?.deadline === undefined ? undefined : notBefore + thread.deadline,
      latest: undefined,
      parent: thread?.parent,
      waitsFor: undefined,
      lastGather: undefined,
      isReady: false,
      onCancel: thread?.onCancel,
      cancelling: false,
      attempt: 0,
      lost: 0,
      idle: 0,
      ended: undefined,
      outcome: undefined
    }
    this.generations.set(id(key, generation), opened)
    this.current.set(key, opened)
    this.retention = Math.max(this.retention, retention.success, retention.failure)
    this.figures.runs++
    expected.waits(this, opened)
    return opened
  }

  /** The store took a claim back, or was allowed to. */
  lose(run: Generation, claim: Claimed): void {
    claim.lost = true
    run.lost++
    this.check(!this.isCalm, () => `${nameOf(claim)} was lost by ${claim.process}, and nothing had gone wrong`)
  }

  /** Something with a claim was refused, and nobody may have been told why. */
  refused(run: Generation, claim: Claimed, now: number): void {
    // a member that was written again is seen when it is ready, and not while a gate holds it
    if (this.unseen.get(run.key)?.isMember === true && this.current.get(run.key) === run) run.ended ??= "Replaced"
    // the same of what was taken back
    if (isCurrent(run, claim) && claim.until <= now) this.lose(run, claim)
  }
}
