/**
 * What a random flow means, evaluated directly: how it ends and when, and which bodies begin when. It knows nothing of runs,
 * claims, messages or states; a chain is a recursion over its steps, and a fan-out a list of evaluations that know when they
 * end. Workers have as many slots as they need, and all times are different (`timeOf`), so there is one answer.
 */
import { TaskFailure } from "@effect-docket/dsl"
import { DateTime, Duration, Option, Result } from "effect"
import {
  Bang,
  type Bodies,
  bodyText,
  Boom,
  durationOf,
  fateOf,
  holds,
  itemsOf,
  lessOne,
  mapped,
  rawOf,
  retries,
  rounds,
  successOf,
  tagged,
  toValue,
  type Value,
  waitOf
} from "./definition.ts"
import type { Chain, ForEach, Spec, Start, Step } from "./spec.ts"

/** Something that stops what runs: somebody who cancels it, or a limit. */
interface Halt {
  readonly at: number
  readonly by: object
}

type End =
  | { readonly _tag: "Value"; readonly value: unknown; readonly at: number }
  | { readonly _tag: "Error"; readonly error: unknown; readonly at: number }
  /** Stopped, and everything in it has ended at this time. */
  | { readonly _tag: "Halted"; readonly by: object; readonly at: number }
  | {
    readonly _tag: "Again"
    readonly input: { readonly value: unknown } | undefined
    readonly after: number
    readonly at: number
  }

/** Something to undo. */
interface Undo {
  readonly chain: Chain
  readonly value: unknown
}

/** What runs by itself: a flow, a member of a gather, a compensation. */
interface Thread {
  readonly bodies: Bodies
  readonly log: Log
  readonly cancelAt: number
  undo: Array<Undo>
  /** How often a task that decides about another round was asked. */
  readonly polled: Map<number, number>
}

/** What happens in an evaluation, and in those inside of it that count. */
interface Log {
  bodies: Array<string>
  succeeded: number
  failed: number
  retried: number
  /** Compensations that failed. */
  letters: number
}

const noLog = (): Log => ({ bodies: [], succeeded: 0, failed: 0, retried: 0, letters: 0 })

const join = (log: Log, other: Log): void => {
  log.bodies.push(...other.bodies)
  log.succeeded += other.succeeded
  log.failed += other.failed
  log.retried += other.retried
  log.letters += other.letters
}

/** How a thread ended. */
type Outcome =
  | { readonly _tag: "Done"; readonly value: unknown; readonly undo: ReadonlyArray<Undo> }
  | { readonly _tag: "Failed"; readonly error: unknown }
  | { readonly _tag: "Cancelled" }

interface Ended {
  readonly outcome: Outcome
  readonly at: number
  readonly log: Log
}

const cancel = {}

const earlier = (a: Halt, b: Halt): Halt => b.at < a.at ? b : a

const failure = (reason: TaskFailure.Reason) => new TaskFailure.TaskFailure({ task: "", key: "", reason })
const defect = failure(new TaskFailure.Defect({ defect: "" }))
const timeout = (millis: number) => failure(new TaskFailure.Timeout({ limit: Duration.millis(millis) }))

/** What `Random` says in these tests. */
export const chance = 0.25

// ---------------------------------------------------------------------------------------------------------------------
// chains
// ---------------------------------------------------------------------------------------------------------------------

const evalChain = (thread: Thread, chain: Chain, value: unknown, at: number, halt: Halt): End =>
  evalSteps(thread, chain, chain.steps.length, value, at, halt)

/** The start of a chain and its first `n` steps. */
const evalSteps = (thread: Thread, chain: Chain, n: number, value: unknown, at: number, halt: Halt): End => {
  if (n === 0) return evalStart(thread, chain.start, value, at, halt)
  const step = chain.steps[n - 1]!
  const self = (halt: Halt): End => evalSteps(thread, chain, n - 1, value, at, halt)
  if (step._tag === "Deadline") {
    const by = {}
    const end = self(earlier(halt, { at: at + step.limit, by }))
    return end._tag === "Halted" && end.by === by ? { _tag: "Error", error: timeout(step.limit), at: end.at } : end
  }
  const end = self(halt)
  if (step._tag === "Catch" && end._tag === "Error") {
    const tag: unknown = Reflect.get(end.error as object, "_tag") // errors are objects here
    const handler = step.handlers.find(([name]) => name === tag)
    const isMapped = step.mapped && step.handlers.length === 1
    return handler === undefined
      ? end
      : evalChain(thread, handler[1], isMapped ? toValue(end.error, step.id) : end.error, end.at, halt)
  }
  return end._tag === "Value" ? evalStep(thread, step, end.value, end.at, halt) : end
}

const evalStart = (thread: Thread, start: Start, value: unknown, at: number, halt: Halt): End => {
  switch (start._tag) {
    case "Input":
      return { _tag: "Value", value: toValue(value, start.id), at }
    case "Named":
      return evalNamed(thread, start.chain, value, at, halt)
    case "Task": {
      const input = start.raw ? rawOf(value, start.id) : toValue(value, start.id)
      const { id, n, r } = input as Value // made above
      return evalTask(thread, start.task, { n, r, id }, at, halt)
    }
  }
}

const evalNamed = (thread: Thread, chain: Chain, first: unknown, at: number, halt: Halt): End => {
  let input = first
  let begin = at
  const undo = thread.undo.slice()
  while (true) {
    const end = evalChain(thread, chain, input, begin, halt)
    if (end._tag !== "Again") return end
    // nothing of an earlier round is undone
    thread.undo = undo.slice()
    begin = end.at + end.after
    if (halt.at < begin) return { _tag: "Halted", by: halt.by, at: Math.max(halt.at, end.at) }
    input = end.input === undefined ? first : end.input.value
  }
}

const evalTask = (thread: Thread, task: "Work" | "Flaky" | "Decide", value: Value, at: number, halt: Halt): End => {
  const { bodies, log } = thread
  let begin = at
  for (let attempt = 1;; attempt++) {
    if (halt.at <= begin) return { _tag: "Halted", by: halt.by, at: begin }
    log.bodies.push(bodyText(begin, task, value, attempt))
    const end = begin + durationOf(bodies, value, attempt)
    if (halt.at < end) return { _tag: "Halted", by: halt.by, at: halt.at }
    const fate = fateOf(bodies, task, value, attempt)
    if (fate === "ok") {
      log.succeeded++
      return { _tag: "Value", value: successOf(task, value), at: end }
    }
    const retry = fate === "defect" ? retries.defect : task === "Flaky" ? retries.error : { after: 0, times: 0 }
    if (attempt > retry.times) {
      log.failed++
      const error = fate === "defect" ? defect : fate === "Boom" ? new Boom(value) : new Bang(value)
      return { _tag: "Error", error, at: end }
    }
    log.retried++
    begin = end + retry.after
    if (halt.at < begin) return { _tag: "Halted", by: halt.by, at: halt.at }
  }
}

const evalPoll = (
  thread: Thread,
  step: Extract<Step, { _tag: "Poll" }>,
  from: unknown,
  at: number,
  halt: Halt
): End => {
  const value = toValue(from, step.id)
  if (halt.at <= at) return { _tag: "Halted", by: halt.by, at }
  thread.log.bodies.push(bodyText(at, "Poll", value, 1))
  const end = at + durationOf(thread.bodies, value, 1)
  if (halt.at < end) return { _tag: "Halted", by: halt.by, at: halt.at }
  thread.log.succeeded++
  const asked = thread.polled.get(step.id) ?? 0
  thread.polled.set(step.id, asked + 1)
  return asked < step.times
    ? { _tag: "Again", input: undefined, after: waitOf({ ...step.wait, computed: false }, undefined), at: end }
    : { _tag: "Value", value, at: end }
}

const evalStep = (
  thread: Thread,
  step: Exclude<Step, { readonly _tag: "Deadline" }>,
  value: unknown,
  at: number,
  halt: Halt
): End => {
  const done = (value: unknown, time = at): End => ({ _tag: "Value", value, at: time })
  switch (step._tag) {
    case "Catch":
      return done(value)
    case "Then":
      return evalChain(thread, step.chain, step.mapped ? toValue(value, step.id) : value, at, halt)
    case "Map":
      return step.throws ? { _tag: "Error", error: defect, at } : done(mapped(step.id, false, value))
    case "Sleep": {
      const end = at + waitOf(step.wait, value)
      return halt.at < end ? { _tag: "Halted", by: halt.by, at: Math.max(at, halt.at) } : done(value, end)
    }
    case "Match": {
      const chosen = tagged(step.id, value)
      return evalChain(thread, chosen._tag === "Even" ? step.even : step.odd, chosen, at, halt)
    }
    case "When": {
      if (!holds(step.id, value)) return done(Option.none())
      const end = evalChain(thread, step.chain, value, at, halt)
      return end._tag === "Value" ? done(Option.some(end.value), end.at) : end
    }
    case "Compensate":
      thread.undo.push({ chain: step.chain, value: step.mapped ? toValue(value, step.id) : value })
      return done(value)
    case "Rounds": {
      const { _tag, ...made } = rounds(step.wait.id, value)
      return _tag === "More"
        ? { _tag: "Again", input: { value: lessOne(made) }, after: waitOf(step.wait, made), at }
        : done(made)
    }
    case "Poll":
      return evalPoll(thread, step, value, at, halt)
    case "All":
    case "Outcomes":
      return evalBranches(thread, step, value, at, halt)
    case "ForEach":
      return evalForEach(thread, step, value, at, halt)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// threads
// ---------------------------------------------------------------------------------------------------------------------

/** Evaluates what runs by itself, until it has ended and has undone what it has to undo. */
const evalThread = (bodies: Bodies, chain: Chain, value: unknown, at: number, cancelAt: number): Ended => {
  const thread: Thread = { bodies, log: noLog(), cancelAt, undo: [], polled: new Map() }
  if (cancelAt <= at) return { outcome: { _tag: "Cancelled" }, at: cancelAt, log: thread.log }
  const end = evalNamed(thread, chain, value, at, { at: cancelAt, by: cancel })
  const { log } = thread
  if (end._tag === "Value") return { outcome: { _tag: "Done", value: end.value, undo: thread.undo }, at: end.at, log }
  let time = end.at
  for (const { chain, value } of thread.undo.toReversed()) {
    const undone = evalThread(bodies, chain, value, time, Infinity)
    join(log, undone.log)
    if (undone.outcome._tag !== "Done") log.letters++
    time = undone.at
  }
  const outcome: Outcome = end._tag === "Error" ? { _tag: "Failed", error: end.error } : { _tag: "Cancelled" }
  return { outcome, at: time, log }
}

// ---------------------------------------------------------------------------------------------------------------------
// fan-out and fan-in
// ---------------------------------------------------------------------------------------------------------------------

interface Fan {
  readonly members: ReadonlyArray<{ readonly chain: Chain; readonly value: unknown; readonly delay: number }>
  /** How many run at once. */
  readonly window: number
  /** How many have to succeed, and how many may not, for it to be over. */
  readonly succeeded: number
  readonly failed: number
  readonly deadline: number
  readonly cancelsRest: boolean
  /** A failure, or a deadline, is one of the flow. */
  readonly isStrict: boolean
}

/** What a gather knew when it was over: `undefined` of members that had not ended. */
type Known = ReadonlyArray<Outcome | undefined>

const evalFan = (
  thread: Thread,
  { cancelsRest, deadline, failed, isStrict, members, succeeded, window }: Fan,
  at: number,
  halt: Halt,
  result: (known: Known, isLate: boolean, at: number) => unknown
): End => {
  const { bodies, log } = thread
  const n = members.length
  if (n === 0) return { _tag: "Value", value: result([], false, at), at }
  const begins: Array<number> = []
  const ends: Array<Ended> = []
  const begin = (upTo: number, time: number): void => {
    while (begins.length < upTo) {
      const { chain, delay, value } = members[begins.length]!
      // they are scattered from the fan-out on, and one that comes later than its time begins at once
      const begun = Math.max(time, at + delay)
      begins.push(begun)
      ends.push(evalThread(bodies, chain, value, begun, Infinity))
    }
  }
  begin(Math.min(n, window), at)
  const own = {}
  const limit = earlier(halt, { at: at + deadline, by: own })
  // ends one by one, until it is over
  const seen = new Set<number>()
  let over: number | undefined = failed === 0 ? at : undefined
  let good = 0
  while (over === undefined) {
    const time = Math.min(...ends.map(({ at }, i) => seen.has(i) ? Infinity : at))
    if (time === Infinity || time > limit.at) break
    // members that began together may have the same limit
    ends.forEach(({ at, outcome }, i) => {
      if (at !== time || seen.has(i)) return
      seen.add(i)
      if (outcome._tag === "Done") good++
    })
    if (good >= succeeded || seen.size - good >= failed || seen.size === n) over = time
    // more begin when half of those that may run at once have ended
    else if (begins.length < n && seen.size >= begins.length - Math.floor(window / 2)) {
      begin(Math.min(n, seen.size + window), time)
    }
  }
  const time = over ?? Math.max(at, limit.at)
  /** Takes the members as they were, or as they are when the rest is cancelled; when the last of them has ended. */
  const close = (cancels: boolean): number => {
    let last = time
    ends.forEach((ended, i) => {
      const { chain, value } = members[i]!
      const final = seen.has(i) || !cancels ? ended : evalThread(bodies, chain, value, begins[i]!, time)
      join(log, final.log)
      ends[i] = final
      if (cancels) last = Math.max(last, final.at)
    })
    return last
  }
  const collect = (which: (index: number) => boolean): void => {
    ends.forEach(({ outcome }, i) => {
      if (which(i) && outcome._tag === "Done") thread.undo.push(...outcome.undo)
    })
  }
  /** What comes when its members have ended: a cancel that comes before that wins. */
  const drained = (end: End): End =>
    time < thread.cancelAt && thread.cancelAt < end.at ? { _tag: "Halted", by: cancel, at: end.at } : end
  const known: Known = members.map((_, i) => seen.has(i) ? ends[i]!.outcome : undefined)
  if (over === undefined && (limit.by !== own || isStrict)) {
    const last = close(true)
    collect(() => true)
    return drained(
      limit.by === own
        ? { _tag: "Error", error: timeout(deadline), at: last }
        : { _tag: "Halted", by: limit.by, at: last }
    )
  }
  const cancels = cancelsRest && seen.size < n
  const bad = known.find((outcome) => outcome !== undefined && outcome._tag !== "Done")
  if (isStrict && bad !== undefined) {
    const last = close(cancels)
    collect((i) => cancels || seen.has(i))
    const error = bad._tag === "Failed" ? bad.error : failure(new TaskFailure.Cancelled())
    return cancels ? drained({ _tag: "Error", error, at: last }) : { _tag: "Error", error, at: time }
  }
  close(cancels)
  collect((i) => seen.has(i))
  return { _tag: "Value", value: result(known, over === undefined, time), at: time }
}

const evalBranches = (
  thread: Thread,
  { _tag, branches }: Extract<Step, { readonly _tag: "All" | "Outcomes" }>,
  value: unknown,
  at: number,
  halt: Halt
): End => {
  const n = branches.length
  const isStrict = _tag === "All"
  const members = branches.map((chain) => ({ chain, value, delay: 0 }))
  const fan = {
    members,
    window: n,
    succeeded: n,
    failed: isStrict ? 1 : n,
    deadline: Infinity,
    cancelsRest: isStrict,
    isStrict
  }
  return evalFan(thread, fan, at, halt, (known) =>
    Object.fromEntries(known.map((outcome, i) => [
      `b ${i}`,
      isStrict
        ? outcome?._tag === "Done" && outcome.value
        : outcome?._tag === "Done"
        ? Result.succeed(outcome.value)
        : Result.fail(outcome?._tag === "Failed" ? outcome.error : undefined)
    ])))
}

const evalForEach = (thread: Thread, step: ForEach, value: unknown, at: number, halt: Halt): End => {
  const { chain, concurrency, count: n, deadline = Infinity, id, jitter = 0, onRelease, over, policy } = step
  const delayOf = (i: number): number => {
    if (over === undefined) return 0
    const base = n === 1 ? over / 2 : (i * over) / (n - 1)
    const from = Math.max(0, base - jitter)
    return Math.round(from + chance * (Math.min(over, base + jitter) - from))
  }
  const isQuorum = policy._tag === "Quorum"
  const isStrict = policy._tag === "AllSucceed"
  const least = isQuorum ? policy.atLeast : n
  const fan: Fan = {
    members: itemsOf(id, n, value).map((value, i) => ({ chain, value, delay: delayOf(i) })),
    window: concurrency ?? n,
    succeeded: least,
    failed: isQuorum ? Math.max(0, n - least + 1) : isStrict ? 1 : n,
    deadline,
    cancelsRest: onRelease === "cancelRest",
    isStrict
  }
  return evalFan(thread, fan, at, halt, (known, isLate, time) => {
    if (isStrict) return known.map((outcome) => outcome?._tag === "Done" && outcome.value)
    const good = known.filter((outcome) => outcome?._tag === "Done").length
    const reason = isLate
      ? "DeadlinePassed"
      : !isQuorum || n === 0
      ? "AllSettled"
      : good >= least
      ? "QuorumMet"
      : "QuorumImpossible"
    const children = known.map((outcome, index) => {
      if (outcome === undefined) return { _tag: "Pending", index }
      if (outcome._tag === "Done") return { _tag: "Done", index, value: outcome.value }
      if (outcome._tag === "Cancelled") return { _tag: "Cancelled", index }
      return outcome.error instanceof TaskFailure.TaskFailure
        ? { _tag: "Died", index, failure: outcome.error }
        : { _tag: "Failed", index, error: outcome.error }
    })
    return { reason, releasedAt: DateTime.makeUnsafe(time), children }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// flows
// ---------------------------------------------------------------------------------------------------------------------

/** What a flow that starts at this time is to do. */
export const evaluate = (spec: Spec, bodies: Bodies, at: number): Ended =>
  evalThread(
    bodies,
    spec.chain,
    { ...spec.input, id: spec.base },
    at,
    spec.cancelAt === undefined ? Infinity : at + spec.cancelAt
  )
