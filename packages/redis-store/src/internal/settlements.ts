/**
 * Settlements as a script takes them: their arguments, and the keys that they concern.
 */
import type { DocketStore } from "@effect-docket/runtime"
import { dueOf, membersOf } from "./additions.ts"
import { groupId, type Keys, parseGroup } from "./layout.ts"
import { betweenOf, gatherText, headArgs, type Part } from "./parts.ts"
import { gatesText } from "./records.ts"

/** The part of a flow that a claimed run is: what its settlement concerns. */
export interface Held {
  readonly between: string
  readonly parent: string | undefined
  readonly owns: boolean
}

/** Settlements as a script takes them: plain completions, which are most, before the others. */
export interface Settle {
  readonly keys: Array<string>
  readonly args: Array<string | number>
  readonly groups: Set<string>
  /** Keys of flows whose gathers are concerned. */
  readonly flows: Set<string>
  /** Which settlement each answer is for. */
  readonly order: Array<number>
  /** Whether it may need what is not named here: the script looks before it writes. */
  wary: boolean
}

/** Settlements that are none, of a call that concerns groups. */
export const nothingToSettle = (groups = new Set<string>()): Settle => ({
  keys: [],
  args: [0],
  groups,
  flows: new Set(),
  order: [],
  wary: false
})

/** Names what the settlement of a run of a flow concerns: itself, and whom it reports to, which has the same flow. */
export const concern = (settle: Settle, key: string, { between, owns, parent }: Held): void => {
  settle.wary = true
  settle.groups.add(between)
  if (owns) settle.flows.add(key)
  if (parent !== undefined) settle.flows.add(parent)
}

/** Arguments of where a run of a flow goes. */
const destinationArgs = (settle: Settle, to: DocketStore.Destination): ReadonlyArray<string | number> => {
  switch (to._tag) {
    case "Gather":
      return [to._tag, gatherText(to.gather)]
    case "Between":
      return [to._tag, dueOf(to.due)]
    case "Step": {
      const group = groupId(to.task, to.version, to.lane)
      settle.groups.add(group)
      return [to._tag, dueOf(to.due), group, to.priority, to.payload, gatesText(to.gates)]
    }
  }
}

/** Arguments of a change. */
const changeArgs = (
  settle: Settle,
  keys: Keys,
  { change, key, members, successor }: DocketStore.Settlement,
  group: string
): ReadonlyArray<string | number> => {
  switch (change._tag) {
    case "Completed":
    case "Failed": {
      if (successor === undefined) return [change._tag, change.exit, "0"]
      const { lane, task } = parseGroup(group)
      const to = groupId(task, successor.version, lane)
      settle.groups.add(to)
      return [
        change._tag,
        change.exit,
        "1",
        dueOf(successor.due),
        successor.payload,
        to,
        gatesText(successor.gates)
      ]
    }
    case "Retry":
      return [change._tag, change.after, change.exit, change.failures]
    case "Snooze":
      return [change._tag, change.after]
    case "Skipped":
      return ["Dropped", change.by]
    case "Cancelled":
    case "Released":
      return [change._tag]
    case "HandOver":
      return [change._tag, change.exit === undefined ? "" : `=${change.exit}`, change.expired ? "1" : "0"]
    case "Continue": {
      concern(settle, key, { between: betweenOf(change.thread), parent: undefined, owns: false })
      const args = [
        change._tag,
        ...headArgs(change.thread),
        change.forget === undefined ? "" : `=${change.forget}`,
        ...destinationArgs(settle, change.to)
      ]
      if (members === undefined || members.length === 0) return [...args, "0"]
      const added = membersOf(keys, members)
      for (const group of added.groups) settle.groups.add(group)
      for (const flow of added.flows) settle.flows.add(flow)
      return [...args, "1", ...added.args]
    }
  }
}

/** What a session knows of its claims, by token. */
export class Holding {
  /** Their groups. */
  readonly groups = new Map<string, string>()
  /** The flows that they are parts of. */
  readonly parts = new Map<string, Held>()

  add(token: string, group: string, part: Held | undefined): void {
    this.groups.set(token, group)
    if (part !== undefined) this.parts.set(token, part)
  }

  delete(token: string): void {
    this.groups.delete(token)
    this.parts.delete(token)
  }

  /** What the settlement of a claim concerns; its group. */
  concerns(settle: Settle, key: string, token: string, otherwise: string): string {
    const group = this.groups.get(token)
    const part = this.parts.size === 0 ? undefined : this.parts.get(token)
    if (part !== undefined) concern(settle, key, part)
    // the claim of another session
    if (group === undefined) settle.wary = true
    else settle.groups.add(group)
    return group ?? otherwise
  }
}

/** Settlements of claims. */
export const settleOf = (
  keys: Keys,
  settlements: ReadonlyArray<DocketStore.Settlement>,
  holding: Holding,
  otherwise: string
): Settle => {
  const settle = nothingToSettle()
  const others: Array<number> = []
  for (const [index, { change, key, successor, token }] of settlements.entries()) {
    if (change._tag !== "Completed" || successor !== undefined) {
      others.push(index)
      continue
    }
    settle.order.push(index)
    settle.keys.push(key)
    settle.args.push(token, change.exit)
    holding.concerns(settle, key, token, otherwise)
  }
  settle.args[0] = settle.order.length
  for (const index of others) {
    const settlement = settlements[index]!
    const group = holding.concerns(settle, settlement.key, settlement.token, otherwise)
    settle.order.push(index)
    settle.keys.push(settlement.key)
    settle.args.push(settlement.token, ...changeArgs(settle, keys, settlement, group))
  }
  return settle
}

/** What the settlement of a claim concerns. */
export const heldOf = ({ between, owns, parent }: Part): Held => ({ between, parent: parent?.key, owns })
