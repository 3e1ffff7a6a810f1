/**
 * What a random flow means, evaluated directly: how it ends and when, and which bodies begin when. It knows nothing of runs,
 * claims, messages or states; a chain is a recursion over its steps, and a fan-out a list of evaluations that know when they
 * end. Workers have as many slots as they need, and all times are different (`timeOf`), so there is one answer.
 */
import { TaskFailure } from "@effect-docket/dsl"
import { Duration, Option } from "effect"
import {
  Bang,
  type Bodies,
  bodyText,
  Boom,
  durationOf,
  fateOf,
  holds,
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
import { evalBranches, evalForEach } from "./fans.ts"
import type { Chain, Spec, Start, Step } from "./spec.ts"

/** Something that stops what runs: somebody who cancels it, or a limit. */
export interface Halt {
  readonly at: number
  readonly by: object
}

export type End =
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
export interface Thread {
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

export const join = (log: Log, other: Log): void => {
  log.bodies.push(...other.bodies)
  log.succeeded += other.succeeded
  log.failed += other.failed
  log.retried += other.retried
  log.letters += other.letters
}

/** How a thread ended. */
export type Outcome =
  | { readonly _tag: "Done"; readonly value: unknown; readonly undo: ReadonlyArray<Undo> }
  | { readonly _tag: "Failed"; readonly error: unknown }
  | { readonly _tag: "Cancelled" }

export interface Ended {
  readonly outcome: Outcome
  readonly at: number
  readonly log: Log
}

export const cancel = {}

export const earlier = (a: Halt, b: Halt): Halt => b.at < a.at ? b : a

export const failure = (reason: TaskFailure.Reason) => new TaskFailure.TaskFailure({ task: "", key: "", reason })
const defect = failure(new TaskFailure.Defect({ defect: "" }))
export const timeout = (millis: number) => failure(new TaskFailure.Timeout({ limit: Duration.millis(millis) }))

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
export const evalThread = (bodies: Bodies, chain: Chain, value: unknown, at: number, cancelAt: number): Ended => {
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
