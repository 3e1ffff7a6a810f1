/**
 * What the seam means, as a function of state and command: a store is compared with it, command by command.
 *
 * It has one task per way of being served: two kinds of workers serve "a", one serves "b", nobody serves "c". A payload is its
 * field `n`, a token is the number of the claim. Runs that were given back keep their place before later arrivals.
 *
 * Runs of "a" and "b" may have gates, which the tasks share, as tasks that name a scope do. What a gate lets through is ready,
 * what it does not is held. Stores may find out later than the model, so a turn may name what the store has done: the model
 * then says whether that was allowed, and what was left.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Settled } from "../src/DocketStore.ts"
import type { Stored, Transition } from "../src/internal/transitions.ts"
import {
  type Addition,
  type Answer,
  type Command,
  gatesOf,
  isDue,
  isPaused,
  isServed,
  isSettled,
  isStruck,
  kinds,
  limits,
  mayBeHeld,
  type Run,
  type Settle,
  type State,
  type TaskName
} from "./ModelState.ts"

/** Answers a command. */
export const step = (before: State, command: Command): [State, Answer] => {
  const state: State = {
    ...before,
    runs: new Map(before.runs),
    claims: [...before.claims],
    strikes: new Map(before.strikes),
    pauses: new Set(before.pauses),
    replaced: new Map(before.replaced),
    starts: [...before.starts],
    settling: new Map(before.settling),
    steps: new Set(before.steps)
  }
  const { claims, replaced, runs, settling, starts, workers } = state

  const move = (run: Run, transition: Transition, to: Stored, changes: Partial<Run> = {}): Run => {
    state.steps.add(`${transition}: ${run.state} -> ${to}`)
    const moved = { ...run, token: undefined, progress: undefined, ...changes, state: to }
    if (to === "None") runs.delete(run.key)
    else runs.set(run.key, moved)
    return moved
  }
  const place = (run: Run, transition: Transition, after: number, changes: Partial<Run> = {}) => {
    const due = state.now + after
    return move(run, transition, after > 0 ? "Scheduled" : "Ready", { ...changes, due, arrival: ++state.sequence })
  }
  /** When a lease ends that begins now. */
  const leaseOf = (worker: number) => state.now + kinds[workers[worker]!].lease
  const endOf = ({ retention }: Run, to: Stored) =>
    state.now + (to === "Failed" ? retention.failure : retention.success)
  const settle = (run: Run, transition: Transition, to: Stored, outcome: Docket.EncodedOutcome) => {
    const until = endOf(run, to)
    const settled = move(run, transition, to, {
      until,
      outcome,
      outcomeGeneration: run.generation,
      outcomeUntil: until
    })
    if (until === state.now) move(settled, "forget", "None")
  }
  const giveBack = (run: Run, transition: Transition, changes: Partial<Run>) => move(run, transition, "Ready", changes)
  const struckOutcome = { _tag: "Struck", reason: "struck" } as const

  /** A run has begun, or is gone: the next addition is one of its own. */
  const unsettle = (run: Run) => {
    if (settling.get(run.task)?.key === run.key) settling.delete(run.task)
  }
  const join = (run: Run, { after, gates, n, priority, retention }: Addition, due: number): Answer => {
    const changes = gates === "first" ? {} : { gates, n, priority, retention }
    settling.set(run.task, { ...settling.get(run.task)!, waits: due > state.now + after })
    const joined = isDue(run)
      ? move(run, "joinDue", "Ready", changes)
      : place(run, "join", Math.max(after, due - state.now), changes)
    const disposition = gates === "first" ? "Existing" : "Replaced"
    return { disposition, generation: run.generation, due: joined.due, key: run.key }
  }

  const add = (addition: Addition): Answer => {
    const { after: wanted, key, onExisting, redrive, ...rest } = addition
    const known = runs.get(key)
    const debounce = redrive === undefined ? gatesOf(addition)?.debounce : undefined
    const after = Math.max(wanted, debounce?.for ?? 0)
    const due = state.now + after
    const pending = debounce && settling.get(rest.task)
    const joins = pending !== undefined && (pending.key !== key || onExisting !== "replace")
    if (known !== undefined && !isSettled(known) && onExisting === "fail") return { exists: key }
    if (redrive !== undefined && known === undefined) return { disposition: "Existing", generation: 0, due: 0 }
    const taken = known !== undefined && !(joins && pending.key === key) && (redrive === undefined
      ? !isSettled(known) && onExisting !== "replace"
      : !isSettled(known) || known.generation !== redrive)
    if (taken) return { disposition: "Existing", generation: known.generation, due: known.due }
    if (isStruck(state, rest)) return { disposition: "Struck", generation: 0, due }
    if (rest.gates === "cooldown" && redrive === undefined && state.coolUntil > state.now) {
      return { disposition: "Limited", generation: 0, due }
    }
    if (joins) {
      return join(runs.get(pending.key)!, addition, Math.min(state.now + debounce!.for, pending.since + debounce!.max!))
    }
    const replaces = known !== undefined && !isSettled(known)
    if (replaces) {
      unsettle(known)
      if (known.state === "Running" && gatesOf(known)?.concurrency !== undefined) {
        replaced.set(known.token!, known.until)
      }
    }
    const generation = ++state.sequence
    place(
      {
        ...rest,
        key,
        generation,
        due,
        state: known?.state ?? "None",
        arrival: 0,
        attempt: 0,
        lost: 0,
        failures: undefined,
        progress: undefined,
        token: undefined,
        settled: undefined,
        worker: 0,
        until: 0,
        cancelling: false,
        outcome: undefined,
        outcomeGeneration: 0,
        outcomeUntil: 0
      },
      replaces ? "replace" : "add",
      after
    )
    if (debounce !== undefined) settling.set(rest.task, { key, since: state.now, waits: after > wanted })
    return { disposition: replaces ? "Replaced" : "Added", generation, due }
  }

  const apply = ({ change, claim, successor }: Settle): Settled => {
    const { generation, key } = claims[claim]!
    const run = runs.get(key)
    if (run === undefined || run.generation !== generation || run.token !== claim) {
      replaced.delete(claim)
      return run?.settled === claim ? "Duplicate" : "Lost"
    }
    const settled = { ...run, settled: claim }
    switch (change._tag) {
      case "Completed":
      case "Failed": {
        const [transition, to] = change._tag === "Completed"
          ? ["complete", "Completed"] as const
          : ["fail", "Failed"] as const
        const outcome = { _tag: "Exit", exit: change.exit } as const
        if (successor === undefined || run.cancelling) settle(settled, transition, to, outcome)
        else {
          const outcomeUntil = endOf(run, to)
          const done = move(settled, transition, to, { outcome, outcomeGeneration: generation, outcomeUntil })
          const fresh = { generation: ++state.sequence, n: successor.n, attempt: 0, lost: 0, failures: undefined }
          place(done, "perpetuate", successor.after, fresh)
        }
        return "Applied"
      }
      case "Cancelled":
        settle(settled, "abort", "Cancelled", { _tag: "Cancelled" })
        return "Applied"
      case "Skipped":
        settle(settled, "drop", "Skipped", { _tag: "Limited", by: change.by })
        return "Applied"
    }
    if (run.cancelling) settle(settled, "abort", "Cancelled", { _tag: "Cancelled" })
    else if (change._tag === "Retry") place(settled, "retry", change.after, { failures: change.failures, lost: 0 })
    else if (change._tag === "Snooze") place(settled, "snooze", change.after, { attempt: run.attempt - 1, lost: 0 })
    else giveBack(settled, "release", { attempt: run.attempt - 1 })
    return "Applied"
  }

  /** How many more runs a gate lets through. */
  const room = (task: TaskName, kind: "concurrency" | "rateLimit") => {
    if (task === "c") return Infinity
    const { concurrency, rateLimit: { limit, window } } = limits[task]
    if (kind === "rateLimit") return limit - starts.filter((at) => at > state.now - window).length
    const running = Array.from(runs.values()).filter((run) => run.state === "Running" && gatesOf(run)?.concurrency)
    return concurrency - running.length - replaced.size
  }
  const drops = ({ task }: Run) => task !== "c" && limits[task].rateLimit.drops
  const isRefused = (run: Run, taken = { concurrency: 0, rateLimit: 0 }) => {
    const gates = gatesOf(run)
    return gates?.concurrency !== undefined && room(run.task, "concurrency") <= taken.concurrency ||
      gates?.rateLimit !== undefined && !drops(run) && room(run.task, "rateLimit") <= taken.rateLimit
  }
  const inOrder = (all: Iterable<Run>) =>
    Array.from(all).filter(isDue).toSorted((a, b) => b.priority - a.priority || a.arrival - b.arrival)

  /** What a worker may claim, in the order in which it should. */
  const claimable = (worker: number) =>
    inOrder(runs.values()).filter((run) =>
      !isPaused(state, run.task) && (kinds[workers[worker]!].tasks as ReadonlyArray<string>).includes(run.task) &&
      (run.cancelling || !isRefused(run))
    )
  const admit = (run: Run) => run.state === "Held" ? move(run, "admit", "Ready") : run
  const isEnding = (run: Run) => run.cancelling || isStruck(state, run)
  /** Ends what is not to run, and says so. */
  const skips = (run: Run): boolean => {
    if (isStruck(state, run)) {
      unsettle(run)
      settle(run, "skip", "Skipped", struckOutcome)
    } else if (run.cancelling) settle(run, "takeOver", "Cancelled", { _tag: "Cancelled" })
    else return false
    return true
  }
  const claimOne = (run: Run, worker: number, dropped: Set<number>): number => {
    const token = claims.push({ key: run.key, generation: run.generation, worker }) - 1
    const gates = gatesOf(run)
    const isDropped = gates?.rateLimit !== undefined && room(run.task, "rateLimit") <= 0
    if (isDropped) dropped.add(token)
    else if (gates?.rateLimit !== undefined) starts.push(state.now)
    if (gates?.cooldown !== undefined && run.attempt + run.lost === 0) {
      state.coolUntil = state.now + limits[run.task as "a" | "b"].cooldown // nobody serves "c"
    }
    unsettle(run)
    const until = leaseOf(worker)
    move(run, "claim", "Running", { token, attempt: run.attempt + 1, worker, until })
    return token
  }
  const isWith = (one: Run, other: Run) => one.task === other.task && one.gates === other.gates
  const claim = ({ capacity, done, worker }: Extract<Command, { readonly _tag: "Turn" }>) => {
    const claimed: Array<number> = []
    const dropped = new Set<number>()
    while (claimed.length < capacity) {
      const [first] = claimable(worker)
      if (first === undefined) break
      const wanted = done === undefined ? first.key : done.claimed[claimed.length]
      // a store may be later than the model with what was held: it takes what comes next, but nothing with the same gates
      const chosen = claimable(worker).find((run) =>
        run.key === wanted || !mayBeHeld(run) ||
        claimable(worker).some((other) => other.key === wanted && isWith(run, other))
      )
      if (chosen === undefined) break
      if (!skips(admit(chosen))) claimed.push(claimOne(admit(chosen), worker, dropped))
    }
    for (const run of inOrder(runs.values())) {
      if (done?.skipped.includes(run.key) === true && mayBeHeld(run) && isEnding(run)) skips(admit(run))
    }
    return { claimed, dropped, isFull: claimed.length === capacity || claimable(worker).length === 0 }
  }

  /** Holds what is due and not let through, in the order of arrival. */
  const hold = () => {
    const taken = { a: { concurrency: 0, rateLimit: 0 }, b: { concurrency: 0, rateLimit: 0 } }
    for (const run of Array.from(runs.values()).filter(mayBeHeld).toSorted((a, b) => a.arrival - b.arrival)) {
      if (run.task === "c") continue
      const isHeld = isRefused(run, taken[run.task])
      if (isHeld !== (run.state === "Held")) move(run, isHeld ? "hold" : "admit", isHeld ? "Held" : "Ready")
      if (isHeld) continue
      if (gatesOf(run)?.concurrency !== undefined) taken[run.task].concurrency++
      if (gatesOf(run)?.rateLimit !== undefined) taken[run.task].rateLimit++
    }
  }

  /** Moves time to its next event, and what is due then. */
  const advance = (end: number) => {
    while (true) {
      const all = Array.from(runs.values())
      const next = Math.min(
        ...all.map((run) => run.state === "Scheduled" ? run.due : isDue(run) ? Infinity : run.until),
        ...replaced.values()
      )
      if (next > end) break
      state.now = next
      const due = all.filter((run) => run.state === "Scheduled" && run.due <= next)
      for (const run of due.toSorted((a, b) => a.due - b.due || a.generation - b.generation)) {
        move(run, "due", "Ready", { arrival: ++state.sequence })
      }
      for (const run of all) {
        if (run.state === "Scheduled" || isDue(run) || run.until > next) continue
        if (run.state !== "Running") move(run, "forget", "None")
        else if (run.cancelling && !state.isLazy) settle(run, "takeOver", "Cancelled", { _tag: "Cancelled" })
        else giveBack(run, "takeOver", { lost: run.lost + 1 })
      }
      for (const [token, until] of replaced) {
        if (until <= next) replaced.delete(token)
      }
    }
    state.now = end
  }

  const perform = (): Answer => {
    switch (command._tag) {
      case "Add":
        return add(command.addition)
      case "Cancel": {
        const run = runs.get(command.key)
        if (run === undefined || isSettled(run)) return false
        unsettle(run)
        if (run.state !== "Running") settle(run, "cancel", "Cancelled", { _tag: "Cancelled" })
        else {
          runs.set(run.key, { ...run, cancelling: true })
          state.cancelled = state.cancelled.map((tokens, worker) =>
            worker === run.worker ? new Set([...tokens, run.token!]) : tokens
          )
        }
        return true
      }
      case "Turn": {
        const settled = command.settle.filter(({ claim }) => claim < claims.length).map(apply)
        const claimed = claim(command)
        const unserved = Array.from(runs.values()).filter((run) => isDue(run) && !isServed(run.task)).length
        const cancelled = state.cancelled[command.worker]!
        state.cancelled = state.cancelled.map((tokens, worker) => worker === command.worker ? new Set() : tokens)
        return { settled, ...claimed, cancelled, unserved }
      }
      case "Renew":
      case "Progress": {
        const fence = claims[command.claim]
        if (fence === undefined) return undefined
        const run = runs.get(fence.key)
        const current = run !== undefined && run.generation === fence.generation && run.token === command.claim
        if (command._tag === "Progress") {
          if (current) runs.set(run.key, { ...run, progress: "1" })
          return current
        }
        if (run === undefined || run.generation > fence.generation) {
          if (replaced.has(command.claim)) replaced.set(command.claim, leaseOf(fence.worker))
          return "Replaced"
        }
        if (!current) return "Lost"
        runs.set(run.key, { ...run, until: leaseOf(fence.worker) })
        return run.cancelling ? "Cancelled" : "Renewed"
      }
      case "Advance":
        advance(state.now + command.millis)
        return undefined
      case "Strike": {
        const { n, task, until } = command
        state.strikes.set(`${task} ${n}`, { task, n, until: until === undefined ? undefined : state.now + until })
        return undefined
      }
      case "Restore":
        state.strikes.delete(`${command.task} ${command.n}`)
        return undefined
      case "Pause":
        state.pauses.add(command.task)
        return undefined
      case "Resume":
        state.pauses.delete(command.task)
        return undefined
      case "Clear": {
        const pending = Array.from(runs.values()).filter((run) => run.state === "Scheduled" || isDue(run))
        for (const run of pending) {
          unsettle(run)
          move(run, "clear", "None")
        }
        return pending.length
      }
      case "Crash":
        state.workers = [...workers, command.kind]
        state.cancelled = [...state.cancelled, new Set()]
        return undefined
    }
  }
  const answer = perform()
  hold()
  return [state, answer]
}
