/**
 * What readers see of a docket in memory.
 */
import type { Docket } from "@effect-docket/dsl"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import { isSettled, type Stored } from "../transitions.ts"
import type { Groups } from "./groups.ts"
import type { Run } from "./run.ts"

/** A run as readers see it. */
export const encode = (run: Run, groups: Groups): Docket.EncodedRun => ({
  task: run.group.task,
  version: run.group.version,
  key: run.key,
  generation: run.generation,
  // a run that is known is never in the state `None`
  state: run.state === "Ready" && groups.isHeld(run.group) ? "Held" : run.state as Exclude<Stored, "None">,
  due: run.due,
  attempt: run.attempt,
  worker: run.state === "Running" ? run.worker : undefined,
  payload: run.payload,
  progress: run.progress,
  ...run.part && { thread: run.part.thread }
})

/** Why a run does not run right now; `strike` is the one that stops it, `isSettling` says that a debounce does. */
export const explain = (
  run: Run,
  strike: Docket.EncodedStrike | undefined,
  isSettling: boolean
): Docket.Explanation => {
  const time = DateTime.makeUnsafe
  if (isSettled(run.state)) return { _tag: "Finished", at: time(run.settledAt) }
  if (run.state === "Running") return { _tag: "Running", worker: run.worker!, since: time(run.startedAt) }
  if (strike !== undefined) {
    const until = strike.until === undefined ? Option.none() : Option.some(time(strike.until))
    return { _tag: "Struck", reason: strike.reason, author: Option.fromUndefinedOr(strike.author), until }
  }
  if (run.state === "Scheduled") {
    if (isSettling) return { _tag: "Limited", by: "debounce", position: 0 }
    return run.failures === undefined
      ? { _tag: "NotDue", at: time(run.due) }
      : { _tag: "Retrying", attempt: run.attempt, next: time(run.due) }
  }
  const { isBetween, lane, paused, ready, sessions, task, version } = run.group
  if (paused !== undefined) return { _tag: "Paused", reason: paused }
  if (run.part?.waitsFor !== undefined) {
    const { deadline, step } = run.part.thread
    const until = deadline === undefined ? Option.none() : Option.some(time(deadline))
    return { _tag: "Gathering", step: step ?? "", ...run.part.counts!, until }
  }
  if (run.heldIn !== undefined) {
    const { at } = run.heldIn
    return { _tag: "Limited", by: at.gate.kind, position: at.before(run) }
  }
  if (sessions.length === 0 && isBetween) return { _tag: "NoInterpreter", flow: task, version }
  return sessions.length === 0 ? { _tag: "NoWorker", lane } : { _tag: "Waiting", lane, ready }
}

/** Pending and running runs per task and lane. */
export const counts = (groups: Groups): ReadonlyArray<Docket.Counts> => {
  const counts = new Map<string, { -readonly [K in keyof Docket.Counts]: Docket.Counts[K] }>()
  for (const group of groups) {
    if (group.pending + group.running === 0) continue
    const id = JSON.stringify([group.task, group.lane])
    let count = counts.get(id)
    if (count === undefined) {
      counts.set(id, count = { task: group.task, lane: group.lane, scheduled: 0, ready: 0, held: 0, running: 0 })
    }
    count.scheduled += group.scheduled
    count[groups.isHeld(group) ? "held" : "ready"] += group.ready
    count.held += group.held
    count.running += group.running
  }
  return Array.from(counts.values())
}

/** The failed runs of a task that are still kept, oldest first. */
export const deadLetters = (task: string, groups: Groups): ReadonlyArray<Docket.EncodedDeadLetter> => {
  const letters: Array<Docket.EncodedDeadLetter> = []
  for (const group of groups.ofTask(task)) {
    for (const run of group.failed) {
      if (run.outcome?._tag === "Exit") {
        letters.push({ ...encode(run, groups), exit: run.outcome.exit, failedAt: run.settledAt })
      }
    }
  }
  return letters.toSorted((a, b) => a.failedAt - b.failedAt || a.generation - b.generation)
}
