/**
 * What the ledger of an act says: each run that was wanted, each claim with all that was done with it, and when a process or a
 * server stood still though nobody had planned it.
 */
import type { DocketStore } from "@effect-docket/runtime"
import type { Claimed, Ending, Written } from "./book.ts"

/** A settlement that was sent; `Unanswered`: it may have been applied. */
export interface Settlement {
  readonly change: DocketStore.Change["_tag"]
  readonly at: number
  readonly after: number
  answer: DocketStore.Settled | "Unanswered"
}

/** A claim, and all that was done with it. */
export interface Claim extends Omit<Claimed, "tag" | "token"> {
  readonly by: string
  readonly token: number
  readonly settlements: Array<Settlement>
  begin: number | undefined
  end: number | undefined
  gate: string | undefined
  /** The store had given it, or renewed it, at this time or later. */
  alive: number
  /** When the worker heard of that. */
  heard: number
}

/** A run that a producer wanted. */
export interface Intent {
  readonly at: number
  readonly after: number
  readonly ends: Ending
  additions: number
  added: boolean
  /** Somebody was about to cancel it. */
  cancelling: boolean
  cancelled: number | undefined
}

/** A worker or the servers did not come to their turn for a while. */
export interface Pause {
  readonly target: string
  readonly from: number
  readonly to: number
}

/** What the ledger says. */
export interface History {
  readonly intents: ReadonlyMap<string, Intent>
  /** In the order in which they were given. */
  readonly claims: ReadonlyArray<Claim>
  /** Where the code of each process is, by its name. */
  readonly code: ReadonlyMap<string, ReadonlySet<string>>
  readonly pausesOf: (least: number) => ReadonlyArray<Pause>
  /** What the ledger may not say at all. */
  readonly problems: ReadonlyArray<string>
}

const final = new Set<Settlement["change"]>(["Completed", "Failed", "Cancelled", "Skipped"])

/** Whether it ends its run. */
export const isFinal = ({ change }: Settlement): boolean => final.has(change)

/** Whether the store has said that it is there. */
export const isAccepted = ({ answer }: Settlement): boolean => answer === "Applied" || answer === "Duplicate"

/** Reads a ledger. */
export const read = (lines: ReadonlyArray<Written>): History => {
  const intents = new Map<string, Intent>()
  const claims = new Map<string, Claim>()
  const code = new Map<string, Set<string>>()
  const awake = new Map<string, Array<number>>()
  const problems: Array<string> = []
  for (const line of lines) {
    switch (line.tag) {
      case "code":
        code.set(line.by, (code.get(line.by) ?? new Set()).add(line.from))
        break
      case "awake":
        awake.set(line.by, [...awake.get(line.by) ?? [], line.at])
        break
      case "intend": {
        const { after, at, ends, key } = line
        if (intents.has(key)) problems.push(`${key}: intended twice`)
        intents.set(key, { at, after, ends, additions: 1, added: false, cancelling: false, cancelled: undefined })
        break
      }
      case "again":
        intents.get(line.key)!.additions++
        break
      case "added":
        intents.get(line.key)!.added = true
        break
      case "cancelling":
        intents.get(line.key)!.cancelling = true
        break
      case "cancelled":
        intents.get(line.key)!.cancelled = line.at
        break
      case "claim": {
        const { tag: _, token, ...claim } = line
        if (claims.has(token)) problems.push(`${line.key}: token ${token} was given twice`)
        claims.set(token, {
          ...claim,
          token: Number(token),
          settlements: [],
          begin: undefined,
          end: undefined,
          gate: undefined,
          alive: line.startedAt,
          heard: line.at
        })
        break
      }
      case "renewed": {
        const claim = claims.get(line.token)!
        claim.alive = Math.max(claim.alive, line.asked)
        claim.heard = Math.max(claim.heard, line.at)
        break
      }
      case "begin": {
        const claim = claims.get(line.token)!
        if (claim.begin !== undefined) problems.push(`${claim.key}: claim ${line.token} began twice`)
        claim.begin = line.at
        claim.gate = line.gate
        break
      }
      case "end":
        claims.get(line.token)!.end = line.at
        break
      case "settle":
        claims.get(line.token)!.settlements.push({
          change: line.change,
          at: line.at,
          after: line.after,
          answer: "Unanswered"
        })
        break
      case "settled":
        claims.get(line.token)!.settlements.findLast(({ answer }) => answer === "Unanswered")!.answer = line.answer
        break
    }
  }
  return {
    intents,
    claims: Array.from(claims.values()).toSorted((a, b) => a.token - b.token),
    code,
    pausesOf: (least) =>
      Array.from(awake).flatMap(([target, all]) => {
        const times = all.toSorted((a, b) => a - b)
        return times.flatMap((to, index) => {
          const from = times[index - 1] ?? to
          return to - from >= least ? [{ target, from, to }] : []
        })
      }),
    problems
  }
}

/** A claim, for people. */
export const textOf = ({ attempt, begin, by, generation, key, lost, settlements, task, token }: Claim): string =>
  `${task} ${key} (generation ${generation}, claim ${token} of ${by}, attempt ${attempt}, lost ${lost}, ${
    begin === undefined ? "not begun" : "begun"
  }, ${settlements.map(({ answer, change }) => `${change} ${answer}`).join(", ") || "not settled"})`
