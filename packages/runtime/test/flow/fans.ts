/**
 * What fan-outs of random flows mean: the part of `FlowModel.ts` that knows of members.
 */
import { TaskFailure } from "@effect-docket/dsl"
import { DateTime, Result } from "effect"
import { itemsOf } from "./definition.ts"
import {
  cancel,
  chance,
  earlier,
  type End,
  type Ended,
  evalThread,
  failure,
  type Halt,
  join,
  type Outcome,
  type Thread,
  timeout
} from "./FlowModel.ts"
import type { Chain, ForEach, Step } from "./spec.ts"

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

/** Runs every branch. */
export const evalBranches = (
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

/** Runs the chain once per item. */
export const evalForEach = (thread: Thread, step: ForEach, value: unknown, at: number, halt: Halt): End => {
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
