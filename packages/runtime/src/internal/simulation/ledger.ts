/**
 * What a store has been asked and has answered, in its order, held against what it promises: each generation ends once, a
 * run has one claim at a time, nothing is early, nothing late is applied, no gate lets through more than it may.
 *
 * It knows nothing of how a store works: it sees requests, answers and events, as an auditor would.
 */
import type { Docket } from "@effect-docket/dsl"
import type {
  Fence,
  Renewed,
  Settlement,
  StoredEvent,
  TurnReply,
  TurnRequest,
  WorkerOptions
} from "../../DocketStore.ts"
import {
  bodyKeyOf,
  type Claimed,
  claimState,
  type Generation,
  goOn,
  isCurrent,
  isHeld,
  nameOf,
  stateOf
} from "./books.ts"
import { Gates } from "./gates.ts"
import { Gathers } from "./gathers.ts"
import { Measures } from "./measures.ts"
import type { Trace } from "./trace.ts"

/** How much happened. */
export interface Figures {
  /** Generations that were accepted. */
  runs: number
  claims: number
  bodies: number
  /** Claims of runs whose claim before was lost. */
  redelivered: number
  settled: number
}

// A run is claimed and given back without a body when its worker stops, or when a gate drops it: not very often.
const mostIdle = 50

// The run of a tick that came while another one was running: nothing follows it.
const extra = /@[+-]?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

const dueOf = (due: Docket.Due, now: number): number => "at" in due ? due.at : now + due.after

const id = (key: string, generation: number) => `${generation}/${key}`

/** The books. */
export class Ledger {
  readonly figures: Figures = { runs: 0, claims: 0, bodies: 0, redelivered: 0, settled: 0 }
  readonly violations: Array<string> = []
  readonly generations = new Map<string, Generation>()
  /** The latest generation of each key. */
  readonly current = new Map<string, Generation>()
  /** Every addition that was accepted, by key: to add it again, or another in its place. */
  readonly additions = new Map<string, Docket.EncodedAddition>()
  readonly claims = new Map<string, Claimed>()
  /** What operators have stopped. */
  readonly measures = new Measures()
  /** Nothing goes wrong, and has not for longer than a lease: no claim may be lost. */
  isCalm = false
  /** The longest time that anything is kept. */
  retention = 0
  readonly #trace: Trace
  readonly #gates = new Gates()
  readonly #gathers = new Gathers()
  readonly #ofProcess = new Map<string, Array<Claimed>>()
  /** Successors that were written, by key, until the event that shows them. */
  readonly #written = new Map<string, { readonly gates: Docket.EncodedGates | undefined; readonly due: number }>()
  /** The latest run that settles, by what it is about: additions join it until it is claimed. */
  readonly #settling = new Map<string, Generation>()
  /** Members of gathers that were written with a settlement, and when they are due: events show their generations. */
  readonly #members = new Map<string, number>()

  /** Tasks whose runs have a successor, unless their handler says otherwise. */
  readonly #perpetual: ReadonlySet<string>

  constructor(trace: Trace, perpetual: ReadonlySet<string>) {
    this.#trace = trace
    this.#perpetual = perpetual
  }

  /** Something is not as promised. */
  violation(text: string): void {
    this.#trace.add("!", text)
    this.violations.push(text)
  }

  #check(holds: boolean, text: () => string): void {
    if (!holds) this.violation(text())
  }

  // -------------------------------------------------------------------------------------------------------------------
  // producers and operators
  // -------------------------------------------------------------------------------------------------------------------

  added(
    additions: ReadonlyArray<Docket.EncodedAddition>,
    answers: ReadonlyArray<Docket.EncodedAdded>,
    now: number
  ): void {
    for (const [index, addition] of additions.entries()) this.#added(addition, answers[index]!, now)
  }

  #added(addition: Docket.EncodedAddition, answer: Docket.EncodedAdded, now: number): void {
    const { gates, key, task, thread } = addition
    const { disposition, due, generation } = answer
    // a member whose gather has heard of it already
    if (thread?.parent !== undefined && addition.onExisting === "replace") this.#gathers.again(thread.parent)
    if ((thread?.parent !== undefined && generation === 0) || this.#members.has(key)) return
    const known = this.current.get(answer.key ?? key)
    if (disposition === "Struck") {
      this.#check(
        this.measures.isStruck(task, addition.payload, now) !== false,
        () => `${key} was refused although nothing strikes it`
      )
      return
    }
    if (disposition === "Limited") return
    const asked = dueOf(addition.due, now)
    if (answer.key !== undefined) {
      if (known === undefined || known.generation !== generation || known.ended !== undefined) {
        return this.violation(`${key} joined ${answer.key}, generation ${generation}, which is not pending`)
      }
      this.#check(
        due >= asked || known.notBefore <= now,
        () => `${key} joined ${answer.key}, and that is due ${asked - due} ms too early`
      )
      known.notBefore = due
      if (disposition === "Replaced") known.gates = gates
      return
    }
    if (disposition === "Existing") {
      // what it would redrive was forgotten
      if (addition.redrive !== undefined && generation === 0) return
      this.#check(
        known?.generation === generation && (addition.redrive !== undefined || known.ended === undefined),
        () => `${key} found generation ${generation}, but ${stateOf(known)}`
      )
      return
    }
    this.#check(due >= asked, () => `${key} is due ${asked - due} ms too early`)
    if (known !== undefined) {
      this.#check(
        (known.ended === undefined) === (disposition === "Replaced"),
        () => `${key} was ${disposition}, but ${stateOf(known)}`
      )
      known.ended ??= "Replaced"
    } else this.#check(disposition === "Added", () => `${key} was ${disposition}, but nothing was there`)
    this.retention = Math.max(this.retention, addition.retention.success, addition.retention.failure)
    if (addition.redrive === undefined) {
      this.additions.set(key, addition)
      const problem = this.#gates.added(gates, due, now)
      if (problem !== undefined) this.violation(`${key}: ${problem}`)
    }
    const opened = this.#open({ task, key, generation }, gates, due, thread)
    if (addition.redrive !== undefined) this.#gathers.carry(key, addition.redrive, generation)
    const about = addition.redrive === undefined ? gates?.debounce?.about : undefined
    if (about === undefined) return
    const joinable = disposition === "Added" ? this.#settling.get(about) : undefined
    this.#check(
      joinable === undefined || joinable.ended !== undefined || joinable.latest !== undefined,
      () => `${key} did not join ${joinable!.key}, which settles`
    )
    this.#settling.set(about, opened)
  }

  #open(
    { generation, key, task }: Pick<Generation, "task" | "key" | "generation">,
    gates: Docket.EncodedGates | undefined,
    notBefore: number,
    thread: Docket.EncodedAddition["thread"]
  ): Generation {
    const latest = this.current.get(key)
    this.#check(
      latest === undefined || latest.generation < generation,
      () => `${key} has generation ${generation} after ${latest!.generation}`
    )
    const opened: Generation = {
      task,
      key,
      generation,
      gates,
      notBefore,
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
      ended: undefined
    }
    this.generations.set(id(key, generation), opened)
    this.current.set(key, opened)
    this.figures.runs++
    return opened
  }

  /** A cancel was answered: whether there was something to cancel. */
  cancelled(key: string, answer: boolean): void {
    // a gate may hold a member from the beginning, and nobody is told that it is there
    if (this.#members.has(key)) return
    const known = this.current.get(key)
    const isOpen = known !== undefined && known.ended === undefined
    this.#check(isOpen === answer, () => `cancelling ${key} was answered with ${answer}, but ${stateOf(known)}`)
    if (known !== undefined && answer && known.onCancel !== "ignore") known.cancelling = true
  }

  // -------------------------------------------------------------------------------------------------------------------
  // workers
  // -------------------------------------------------------------------------------------------------------------------

  /** What a turn settled; its events come before what it claimed. */
  settled({ settle }: TurnRequest, { settled }: TurnReply, now: number): void {
    for (const [index, settlement] of settle.entries()) {
      const { change, key, successor, token } = settlement
      const claim = this.claims.get(token)
      const answer = settled[index]!
      if (claim === undefined) {
        this.violation(`${key} is settled with token ${token}, which nobody was given`)
        continue
      }
      const run = this.generations.get(id(key, claim.generation))!
      if (answer === "Lost") this.#refused(run, claim, now)
      this.#check(
        isCurrent(run, claim) === (answer === "Applied"),
        () => `${change._tag} of ${nameOf(claim)} was ${answer}, but ${claimState(claim, run)}`
      )
      // as long as nothing has happened to the run since, the store knows what it has applied
      const isRepeated = claim.settled !== undefined && run.latest === claim && run.ended === undefined
      this.#check(
        answer === "Duplicate" ? claim.settled !== undefined : !isRepeated,
        () => `${change._tag} of ${nameOf(claim)} was ${answer}, but ${claimState(claim, run)}`
      )
      if (answer !== "Applied") {
        // a replaced run keeps its slot until then
        claim.until = Math.min(claim.until, now)
        continue
      }
      claim.settled = change._tag
      this.figures.settled++
      this.#check(
        change._tag !== "Cancelled" || run.cancelling || claim.thread !== undefined,
        () => `${nameOf(claim)} is cancelled, and nobody had asked for it`
      )
      run.notBefore = change._tag === "Retry" || change._tag === "Snooze"
        ? now + change.after
        : change._tag === "Continue" && change.to._tag !== "Gather"
        ? dueOf(change.to.due, now)
        : now
      // of what somebody has cancelled nothing more is written
      if (!run.cancelling || (change._tag === "Continue" && change.thread.onCancel === "ignore")) {
        this.#writes(run, settlement, now)
      } else if (change._tag === "Continue") run.onCancel = change.thread.onCancel
      const isFinal = change._tag === "Completed" || change._tag === "Failed"
      if (change._tag === "Completed" && claim.thread === undefined) {
        this.#check(claim.result === "Success", () => `${nameOf(claim)} is completed, but its body did not succeed`)
      }
      this.#check(
        !isFinal || successor !== undefined || claim.endsChain || extra.test(key) || !this.#perpetual.has(claim.task),
        () => `${nameOf(claim)} is ${change._tag}, and nothing follows it`
      )
      if (isFinal && successor !== undefined && !run.cancelling) {
        this.#written.set(key, { gates: successor.gates ?? run.gates, due: dueOf(successor.due, now) })
      }
      // what undoes or waits for others hears of no cancel any more
      if (run.onCancel === "ignore") run.cancelling = false
    }
  }

  /** What a settlement says of how its run goes on, and the members that come with it. */
  #writes(run: Generation, { change, members }: Settlement, now: number): void {
    goOn(run, change)
    if (change._tag === "Continue" && change.forget !== undefined) {
      this.#gathers.forget(run.key, run.generation, change.forget)
    }
    for (const member of members ?? []) {
      this.#members.set(member.key, dueOf(member.due, now))
      if (member.thread?.parent !== undefined && member.onExisting === "replace") {
        this.#gathers.again(member.thread.parent)
      }
      this.additions.set(member.key, member)
      this.retention = Math.max(this.retention, member.retention.success, member.retention.failure)
    }
  }

  /** Something with a claim was refused, and nobody may have been told why. */
  #refused(run: Generation, claim: Claimed, now: number): void {
    // a member that was written again is seen when it is ready, and not while a gate holds it
    if (this.#members.has(run.key) && this.current.get(run.key) === run) run.ended ??= "Replaced"
    // the same of what was taken back
    if (isCurrent(run, claim) && claim.until <= now) this.#lose(claim)
  }

  /** What a turn claimed. */
  claimed(process: string, { gates, lease }: WorkerOptions, { claimed }: TurnReply, now: number): void {
    for (const [key] of this.#written) this.violation(`the successor of ${key} is missing`)
    this.#written.clear()
    for (const claim of claimed) {
      const { due, generation, key, task, thread, token } = claim
      const run = this.generations.get(id(key, generation))
      if (run === undefined) {
        this.violation(`${nameOf(claim)} is claimed, and nobody added it`)
        continue
      }
      this.#check(
        run.ended === undefined,
        () => `${nameOf(claim)} is claimed, but ${stateOf(run)}`
      )
      this.#check(
        !run.cancelling || thread?.stopped?._tag === "Cancelled",
        () => `${nameOf(claim)} is claimed after somebody had cancelled it`
      )
      run.cancelling = false
      for (const text of this.#gathers.claimed(run, thread)) this.violation(`${nameOf(claim)} ${text}`)
      run.idle = run.latest?.starts === 0 && run.latest.thread === undefined ? run.idle + 1 : 0
      this.#check(run.idle !== mostIdle, () => `${nameOf(claim)} is claimed ${mostIdle} times, and never begins`)
      const before = run.latest
      // a gate may have held what was taken back
      if (before !== undefined && isCurrent(run, before) && before.until <= now) this.#lose(before)
      this.#check(
        before === undefined || before.settled !== undefined || before.lost,
        () => `${nameOf(claim)} is claimed while ${before!.process} holds it until ${before!.until}`
      )
      if (claim.lost > 0) this.figures.redelivered++
      this.#check(!this.claims.has(token), () => `token ${token} is given out twice`)
      this.#check(
        // one that was cancelled, or took too long, does not wait for its time
        ((thread?.between === true || due <= now) && run.notBefore <= now) || thread?.stopped !== undefined,
        () => `${nameOf(claim)} is claimed ${Math.max(due, run.notBefore) - now} ms early`
      )
      if (thread === undefined) {
        this.#check(
          this.measures.isStruck(task, claim.payload, now) !== true,
          () => `${nameOf(claim)} is claimed while it is struck`
        )
      }
      // an interpreter gets what is cancelled or late as it is
      const isCounted = thread?.stopped === undefined || thread.stopped._tag === "Struck"
      this.#check(
        !isCounted || (claim.attempt === run.attempt + 1 && claim.lost === run.lost),
        () =>
          `${nameOf(claim)} has lost ${claim.lost} claims, after attempt ${run.attempt} and ${run.lost} that were lost`
      )
      run.attempt = claim.attempt
      run.lost = claim.lost
      run.onCancel = thread?.onCancel
      const lane = this.additions.get(key)?.lane
      const stops = this.measures.isPaused(task, lane)
      this.#check(!stops || thread !== undefined, () => `${nameOf(claim)} is claimed while it is paused`)
      const made: Claimed = {
        ...claim,
        process,
        lease,
        until: now + lease,
        settled: undefined,
        lost: false,
        starts: 0,
        result: undefined,
        endsChain: false
      }
      // an interpreter passes no gate, and nor does a step that will not run
      const passed = thread?.between === true || thread?.stopped !== undefined ? undefined : run.gates
      const isFirst = claim.attempt === 1 && claim.lost === 0
      const problem = this.#gates.claimed(made, passed, gates?.get(task), isFirst, now)
      if (problem !== undefined) this.violation(`${nameOf(claim)}: ${problem}`)
      run.latest = made
      this.claims.set(token, made)
      const all = this.#ofProcess.get(process)
      if (all === undefined) this.#ofProcess.set(process, [made])
      else all.push(made)
      this.figures.claims++
    }
  }

  renewed(fences: ReadonlyArray<Fence>, answers: ReadonlyArray<Renewed>, now: number): void {
    for (const [index, { generation, key, token }] of fences.entries()) {
      const answer = answers[index]!
      const claim = this.claims.get(token)!
      const run = this.generations.get(id(key, generation))!
      const isKept = answer === "Renewed" || answer === "Cancelled"
      if (!isKept) this.#refused(run, claim, now)
      const isOpen = isCurrent(run, claim)
      this.#check(
        isOpen === isKept && (answer === "Cancelled") === (isOpen && run.cancelling),
        () => `renewing ${nameOf(claim)} was answered with ${answer}, but ${claimState(claim, run)}`
      )
      if (isKept) claim.until = now + claim.lease
    }
  }

  /** Everything that was written has been seen. */
  caughtUp(): void {
    for (const text of this.#gathers.late()) this.violation(text)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // events and bodies
  // -------------------------------------------------------------------------------------------------------------------

  event({ event, generation, key, task }: StoredEvent): void {
    let run = this.generations.get(id(key, generation))
    if (run === undefined) {
      const before = this.current.get(key)
      this.#check(
        this.#written.has(key) || this.#members.has(key),
        () => `${key} has generation ${generation}, and nobody added it`
      )
      this.#check(
        before === undefined || before.ended !== undefined || this.#members.has(key),
        () => `${key} has generation ${generation} beside ${before!.generation}`
      )
      if (before !== undefined) before.ended ??= "Replaced"
      const written = this.#written.get(key)
      const addition = this.additions.get(key)
      const wanted = written?.due ?? this.#members.get(key) ?? 0
      const due = "due" in event ? event.due : event.at
      this.#check(due >= wanted, () => `${key}#${generation} is due ${wanted - due} ms too early`)
      run = this.#open(
        { task, key, generation },
        written === undefined ? addition?.gates : written.gates,
        due,
        addition?.thread
      )
      this.#written.delete(key)
      this.#members.delete(key)
    }
    this.#check(run.ended === undefined, () => `${event._tag} of ${key}#${generation}, but ${stateOf(run)}`)
    const { latest } = run
    // it goes on, or has ended
    if (event._tag === "Ready" || event._tag === "Finished") {
      this.#gathers.goesOn(run)
    }
    if (event._tag === "Finished") {
      run.ended = event.outcome._tag
      if (run.parent !== undefined) {
        const { generation, key } = run.parent
        this.#gathers.reported(this.generations.get(id(key, generation)), run.parent, event.outcome)
      }
    }
    // the store took it back
    if ((event._tag === "Ready" || event._tag === "Finished") && latest !== undefined && isHeld(run)) {
      this.#check(
        latest.until <= event.at,
        () => `${nameOf(latest)} was taken from ${latest.process}, which holds it until ${latest.until}`
      )
      this.#lose(latest)
    }
  }

  #lose(claim: Claimed): void {
    claim.lost = true
    this.generations.get(id(claim.key, claim.generation))!.lost++
    this.#check(!this.isCalm, () => `${nameOf(claim)} was lost by ${claim.process}, and nothing had gone wrong`)
  }

  /** A body begins. */
  begin(process: string, key: string, attempt: number, startedAt: number): Claimed | undefined {
    const claims =
      this.#ofProcess.get(process)?.filter((claim) =>
        bodyKeyOf(claim) === key && claim.attempt === attempt && claim.startedAt === startedAt
      ) ?? []
    const claim = claims.find(({ settled, starts }) => starts === 0 && settled === undefined) ?? claims.at(-1)
    this.figures.bodies++
    if (claim === undefined) {
      this.violation(`${process} runs ${key}, attempt ${attempt}, which it was not given`)
      return undefined
    }
    claim.starts++
    this.#check(claim.starts === 1, () => `${nameOf(claim)} began twice`)
    this.#check(claim.settled === undefined, () => `${nameOf(claim)} began after it was settled`)
    return claim
  }
}
