/**
 * What the seam means, as a function of state and command: a store is compared with it, command by command.
 *
 * It has one task per way of being served: two workers serve "a", one serves "b", nobody serves "c". A payload is its
 * field `n`, a token is the number of the claim. Runs that were given back keep their place before later arrivals.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Change, Renewed, Settled } from "../src/DocketStore.ts"
import type { Stored, Transition } from "../src/internal/transitions.ts"

export type TaskName = "a" | "b" | "c"

/** The workers: what they serve, and how long their leases are. */
export const workers = [{ tasks: ["a", "b"], lease: 50 }, { tasks: ["a"], lease: 80 }] as const

export type Command =
  | { readonly _tag: "Add"; readonly addition: Addition }
  | { readonly _tag: "Cancel"; readonly key: string }
  | {
    readonly _tag: "Turn"
    readonly worker: number
    readonly settle: ReadonlyArray<Settle>
    readonly capacity: number
  }
  | { readonly _tag: "Renew" | "Progress"; readonly claim: number }
  | { readonly _tag: "Advance"; readonly millis: number }
  | {
    readonly _tag: "Strike"
    readonly task: TaskName
    readonly n: number | undefined
    readonly until: number | undefined
  }
  | { readonly _tag: "Restore"; readonly task: TaskName; readonly n: number | undefined }
  | { readonly _tag: "Pause" | "Resume"; readonly task: TaskName | undefined }
  | { readonly _tag: "Clear" }

export interface Addition {
  readonly key: string
  readonly task: TaskName
  readonly n: number
  readonly after: number
  readonly onExisting: "keep" | "replace" | "fail"
  readonly priority: number
  readonly retention: { readonly success: number; readonly failure: number }
  /** Only if the latest generation of the key has failed and nobody has added it again since. */
  readonly redrive: boolean
}

export interface Settle {
  /** Which claim, counted from the first of the sequence. */
  readonly claim: number
  readonly change: Change
  readonly successor: { readonly after: number; readonly n: number } | undefined
}

/** A claim that was made, as a command refers to it. */
export interface Claimed {
  readonly key: string
  readonly generation: number
  readonly worker: number
}

export interface Run extends Omit<Addition, "after" | "onExisting" | "redrive"> {
  readonly generation: number
  readonly state: Stored
  readonly due: number
  /** Smaller is earlier; what was given back has zero. */
  readonly arrival: number
  readonly attempt: number
  readonly lost: number
  readonly failures: string | undefined
  readonly progress: string | undefined
  readonly token: number | undefined
  readonly settled: number | undefined
  readonly worker: number
  /** The end of the lease, or of the retention. */
  readonly until: number
  readonly cancelling: boolean
  readonly outcome: Docket.EncodedOutcome | undefined
  readonly outcomeGeneration: number
  /** The end of the retention of the outcome. */
  readonly outcomeUntil: number
}

export interface State {
  now: number
  sequence: number
  readonly runs: Map<string, Run>
  readonly claims: Array<Claimed>
  readonly strikes: Map<
    string,
    { readonly task: TaskName; readonly n: number | undefined; readonly until: number | undefined }
  >
  readonly pauses: Set<TaskName | undefined>
  /** Claims of each worker that somebody asked to cancel since its last turn. */
  cancelled: ReadonlyArray<ReadonlySet<number>>
  /**
   * Nothing runs in the store: a run whose lease is over while it is to be cancelled waits for a claim to be settled.
   */
  readonly isLazy: boolean
  /** Every step that was made. */
  readonly steps: Set<`${Transition}: ${Stored} -> ${Stored}`>
}

export type Answer =
  | {
    readonly disposition: "Added" | "Existing" | "Replaced" | "Struck"
    readonly generation: number
    readonly due: number
  }
  | { readonly exists: string }
  | {
    readonly settled: ReadonlyArray<Settled>
    readonly claimed: ReadonlyArray<number>
    readonly cancelled: ReadonlySet<number>
    readonly unserved: number
  }
  | Renewed
  | boolean
  | number
  | undefined

export const initial = (now: number, isLazy = false): State => ({
  now,
  sequence: 0,
  runs: new Map(),
  claims: [],
  strikes: new Map(),
  pauses: new Set(),
  cancelled: [new Set(), new Set()],
  isLazy,
  steps: new Set()
})

const isSettled = ({ state }: Run) => state !== "Scheduled" && state !== "Ready" && state !== "Running"
const isServed = (task: TaskName) => task !== "c"
export const isPaused = ({ pauses }: State, task: TaskName) => pauses.has(undefined) || pauses.has(task)
export const isStruck = ({ now, strikes }: State, { n, task }: Pick<Run, "n" | "task">) =>
  Array.from(strikes.values()).some((strike) =>
    strike.task === task && (strike.n === undefined || strike.n === n) &&
    (strike.until === undefined || strike.until > now)
  )

/** Answers a command. */
export const step = (before: State, command: Command): [State, Answer] => {
  const state: State = {
    ...before,
    runs: new Map(before.runs),
    claims: [...before.claims],
    strikes: new Map(before.strikes),
    pauses: new Set(before.pauses),
    steps: new Set(before.steps)
  }
  const { claims, runs } = state

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

  const add = ({ after, key, onExisting, redrive, ...rest }: Addition): Answer => {
    const known = runs.get(key)
    const due = state.now + after
    if (known !== undefined && !isSettled(known) && onExisting === "fail") return { exists: key }
    const taken = known !== undefined &&
      (redrive ? known.state !== "Failed" : !isSettled(known) && onExisting !== "replace")
    if (taken) return { disposition: "Existing", generation: known.generation, due: known.due }
    if (isStruck(state, rest)) return { disposition: "Struck", generation: 0, due }
    const replaces = known !== undefined && !isSettled(known)
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
    return { disposition: replaces ? "Replaced" : "Added", generation, due }
  }

  const apply = ({ change, claim, successor }: Settle): Settled => {
    const { generation, key } = claims[claim]!
    const run = runs.get(key)
    if (run === undefined || run.generation !== generation || run.token !== claim) {
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
    }
    if (run.cancelling) settle(settled, "abort", "Cancelled", { _tag: "Cancelled" })
    else if (change._tag === "Retry") place(settled, "retry", change.after, { failures: change.failures, lost: 0 })
    else if (change._tag === "Snooze") place(settled, "snooze", change.after, { attempt: run.attempt - 1, lost: 0 })
    else giveBack(settled, "release", { attempt: run.attempt - 1 })
    return "Applied"
  }

  const claim = (worker: number, capacity: number): ReadonlyArray<number> => {
    const claimed: Array<number> = []
    const rank = (run: Run) => [-run.priority, run.arrival]
    while (claimed.length < capacity) {
      const [first] = Array.from(runs.values())
        .filter(({ state: at, task }) =>
          at === "Ready" && !isPaused(state, task) && (workers[worker]!.tasks as ReadonlyArray<string>).includes(task)
        )
        .toSorted((a, b) => rank(a).map((part, i) => part - rank(b)[i]!).find((difference) => difference !== 0) ?? 0)
      if (first === undefined) break
      if (isStruck(state, first)) {
        settle(first, "skip", "Skipped", struckOutcome)
        continue
      }
      if (first.cancelling) {
        settle(first, "takeOver", "Cancelled", { _tag: "Cancelled" })
        continue
      }
      const token = claims.push({ key: first.key, generation: first.generation, worker }) - 1
      claimed.push(token)
      const until = state.now + workers[worker]!.lease
      move(first, "claim", "Running", { token, attempt: first.attempt + 1, worker, until })
    }
    return claimed
  }

  /** Moves time to its next event, and what is due then. */
  const advance = (end: number) => {
    while (true) {
      const all = Array.from(runs.values())
      const next = Math.min(
        ...all.map((run) => run.state === "Scheduled" ? run.due : run.state === "Ready" ? Infinity : run.until)
      )
      if (next > end) break
      state.now = next
      const due = all.filter((run) => run.state === "Scheduled" && run.due <= next)
      for (const run of due.toSorted((a, b) => a.due - b.due || a.generation - b.generation)) {
        move(run, "due", "Ready", { arrival: ++state.sequence })
      }
      for (const run of all) {
        if (run.state === "Scheduled" || run.state === "Ready" || run.until > next) continue
        if (run.state !== "Running") move(run, "forget", "None")
        else if (run.cancelling && !state.isLazy) settle(run, "takeOver", "Cancelled", { _tag: "Cancelled" })
        else giveBack(run, "takeOver", { lost: run.lost + 1 })
      }
    }
    state.now = end
  }

  switch (command._tag) {
    case "Add":
      return [state, add(command.addition)]
    case "Cancel": {
      const run = runs.get(command.key)
      if (run === undefined || isSettled(run)) return [state, false]
      if (run.state !== "Running") settle(run, "cancel", "Cancelled", { _tag: "Cancelled" })
      else {
        runs.set(run.key, { ...run, cancelling: true })
        state.cancelled = state.cancelled.map((tokens, worker) =>
          worker === run.worker ? new Set([...tokens, run.token!]) : tokens
        )
      }
      return [state, true]
    }
    case "Turn": {
      const settled = command.settle.filter(({ claim }) => claim < claims.length).map(apply)
      const claimed = claim(command.worker, command.capacity)
      const unserved = Array.from(runs.values()).filter((run) => run.state === "Ready" && !isServed(run.task)).length
      const cancelled = state.cancelled[command.worker]!
      state.cancelled = state.cancelled.map((tokens, worker) => worker === command.worker ? new Set() : tokens)
      return [state, { settled, claimed, cancelled, unserved }]
    }
    case "Renew":
    case "Progress": {
      const fence = claims[command.claim]
      if (fence === undefined) return [state, undefined]
      const run = runs.get(fence.key)
      const current = run !== undefined && run.generation === fence.generation && run.token === command.claim
      if (command._tag === "Progress") {
        if (current) runs.set(run.key, { ...run, progress: "1" })
        return [state, current]
      }
      if (run === undefined || run.generation > fence.generation) return [state, "Replaced"]
      if (!current) return [state, "Lost"]
      runs.set(run.key, { ...run, until: state.now + workers[fence.worker]!.lease })
      return [state, run.cancelling ? "Cancelled" : "Renewed"]
    }
    case "Advance":
      advance(state.now + command.millis)
      return [state, undefined]
    case "Strike": {
      const { n, task, until } = command
      state.strikes.set(`${task} ${n}`, { task, n, until: until === undefined ? undefined : state.now + until })
      return [state, undefined]
    }
    case "Restore":
      state.strikes.delete(`${command.task} ${command.n}`)
      return [state, undefined]
    case "Pause":
      state.pauses.add(command.task)
      return [state, undefined]
    case "Resume":
      state.pauses.delete(command.task)
      return [state, undefined]
    case "Clear": {
      const pending = Array.from(runs.values()).filter((run) => run.state === "Scheduled" || run.state === "Ready")
      for (const run of pending) move(run, "clear", "None")
      return [state, pending.length]
    }
  }
}
