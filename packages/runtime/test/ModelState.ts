/**
 * What the model of a store knows: commands, runs, claims and gates.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Change, Renewed, Settled } from "../src/DocketStore.ts"
import type { Stored, Transition } from "../src/internal/transitions.ts"

export type TaskName = "a" | "b" | "c"

/** The gates of an addition. */
export type GateName = "none" | "slot" | "rate" | "both" | "cooldown" | "first" | "last"

/** How much the gates of a task let through. */
export const limits = {
  a: { concurrency: 1, rateLimit: { limit: 1, window: 60, drops: false }, cooldown: 40 },
  b: { concurrency: 2, rateLimit: { limit: 2, window: 60, drops: true }, cooldown: 30 }
} as const

const slot = { concurrency: "slot" }
const rate = { rateLimit: "rate" }

/** The gates of an addition, as a store is given them. */
export const gatesOf = ({ gates, task }: Pick<Addition, "gates" | "task">): Docket.EncodedGates | undefined => {
  switch (gates) {
    case "none":
      return undefined
    case "slot":
      return slot
    case "rate":
      return rate
    case "both":
      return { ...slot, ...rate }
    case "cooldown":
      return { cooldown: "cooldown" }
    case "first":
    case "last":
      return { ...slot, debounce: { about: task, for: 30, max: 40, keepsFirst: gates === "first" } }
  }
}

/** The kinds of workers: what they serve, and how long their leases are. */
export const kinds = [{ tasks: ["a", "b"], lease: 50 }, { tasks: ["a"], lease: 80 }] as const

/** Which kind of worker. */
export type Kind = 0 | 1

export type Command =
  | { readonly _tag: "Add"; readonly addition: Addition }
  | { readonly _tag: "Cancel"; readonly key: string }
  | {
    readonly _tag: "Turn"
    /** Which worker, counted from the first that was attached. */
    readonly worker: number
    readonly settle: ReadonlyArray<Settle>
    readonly capacity: number
    /** What the store claimed, in its order, and which keys it skipped. */
    readonly done?: { readonly claimed: ReadonlyArray<string>; readonly skipped: ReadonlyArray<string> } | undefined
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
  /** A worker of the kind is gone, or its store hears no more of it, and another one takes its place. */
  | { readonly _tag: "Crash"; readonly kind: Kind; readonly silent: boolean }

export interface Addition {
  readonly key: string
  readonly task: TaskName
  readonly n: number
  readonly after: number
  readonly onExisting: "keep" | "replace" | "fail"
  readonly priority: number
  readonly gates: GateName
  readonly retention: { readonly success: number; readonly failure: number }
  /** Only if this generation is the latest of the key, and has settled. */
  readonly redrive: number | undefined
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
  /** Smaller is earlier; what is given back keeps it. */
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
  /** The kinds of the workers, those that have crashed among them. */
  workers: ReadonlyArray<Kind>
  readonly strikes: Map<
    string,
    { readonly task: TaskName; readonly n: number | undefined; readonly until: number | undefined }
  >
  readonly pauses: Set<TaskName | undefined>
  /** Claims whose run was replaced while it was running: they have their slots until then. */
  readonly replaced: Map<number, number>
  /** When runs with a rate started. */
  readonly starts: Array<number>
  /** The end of the cooldown. */
  coolUntil: number
  /** The pending runs that additions of a task join, when the first of them came, and whether it waits for that alone. */
  readonly settling: Map<TaskName, { readonly key: string; readonly since: number; readonly waits: boolean }>
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
    readonly disposition: "Added" | "Existing" | "Replaced" | "Struck" | "Limited"
    readonly generation: number
    readonly due: number
    /** The run that was joined. */
    readonly key?: string
  }
  | { readonly exists: string }
  | {
    readonly settled: ReadonlyArray<Settled>
    readonly claimed: ReadonlyArray<number>
    /** Those of them that a gate drops. */
    readonly dropped: ReadonlySet<number>
    /** Whether there is more to claim, if slots are left. */
    readonly isFull: boolean
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
  workers: [0, 1],
  strikes: new Map(),
  pauses: new Set(),
  replaced: new Map(),
  starts: [],
  coolUntil: 0,
  settling: new Map(),
  cancelled: [new Set(), new Set()],
  isLazy,
  steps: new Set()
})

export const isDue = ({ state }: Run) => state === "Ready" || state === "Held"
export const isSettled = (run: Run) => run.state !== "Scheduled" && run.state !== "Running" && !isDue(run)
/** Whether it is due, and a gate may hold it. */
export const mayBeHeld = (run: Run) => isDue(run) && run.gates !== "none" && run.gates !== "cooldown"
export const isServed = (task: TaskName) => task !== "c"
export const isPaused = ({ pauses }: State, task: TaskName) => pauses.has(undefined) || pauses.has(task)
export const isStruck = ({ now, strikes }: State, { n, task }: Pick<Run, "n" | "task">) =>
  Array.from(strikes.values()).some((strike) =>
    strike.task === task && (strike.n === undefined || strike.n === n) &&
    (strike.until === undefined || strike.until > now)
  )
