/**
 * Lines of a trace: what was asked of a store, and what it answered.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Change, Fence, Renewed, TurnReply, TurnRequest } from "../../DocketStore.ts"

export const added = (
  additions: ReadonlyArray<Docket.EncodedAddition>,
  answers: ReadonlyArray<Docket.EncodedAdded>,
  now: number
): string =>
  additions.map(({ key, onExisting, task }, index) => {
    const { disposition, due, generation, key: joined } = answers[index]!
    const how = onExisting === "keep" ? "" : ` (${onExisting})`
    const run = disposition === "Struck" || disposition === "Limited"
      ? ""
      : ` ${joined === undefined ? "" : `${joined} `}#${generation} due in ${due - now}`
    return `${task} ${key}${how}: ${disposition}${run}`
  }).join(", ")

const changeOf = (change: Change): string => change._tag === "Continue" ? `Continue to ${change.to._tag}` : change._tag

export const turn = ({ capacity, settle }: TurnRequest, { claimed, settled }: TurnReply): string =>
  [
    ...settle.map(({ change, key, successor, token }, index) => {
      const next = successor === undefined ? "" : "+"
      return `${changeOf(change)}${next} ${key} (${token}): ${settled[index]}`
    }),
    ...claimed.map(({ attempt, droppedBy, generation, key, thread, token }) => {
      const why = droppedBy === undefined
        ? thread?.stopped === undefined ? "" : `, ${thread.stopped._tag}`
        : " to drop it"
      return `claims ${key}#${generation} (${token}) attempt ${attempt}${why}`
    }),
    `of ${capacity}`
  ].join(", ")

export const renewed = (fences: ReadonlyArray<Fence>, answers: ReadonlyArray<Renewed>): string =>
  fences.map(({ key, token }, index) => `${key} (${token}): ${answers[index]}`).join(", ")
