/**
 * Lines of a trace: what was asked of a store, and what it answered.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Fence, Renewed, TurnReply, TurnRequest } from "../../DocketStore.ts"

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

export const turn = ({ capacity, settle }: TurnRequest, { claimed, settled }: TurnReply): string =>
  [
    ...settle.map(({ change, key, successor, token }, index) => {
      const next = successor === undefined ? "" : "+"
      return `${change._tag}${next} ${key} (${token}): ${settled[index]}`
    }),
    ...claimed.map(({ attempt, droppedBy, generation, key, token }) =>
      `claims ${key}#${generation} (${token}) attempt ${attempt}${droppedBy === undefined ? "" : " to drop it"}`
    ),
    `of ${capacity}`
  ].join(", ")

export const renewed = (fences: ReadonlyArray<Fence>, answers: ReadonlyArray<Renewed>): string =>
  fences.map(({ key, token }, index) => `${key} (${token}): ${answers[index]}`).join(", ")
