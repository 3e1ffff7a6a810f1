/**
 * What Redis says of runs that have ended, and of additions.
 */
import type { Docket, Execution } from "@effect-docket/dsl"
import { groupId, parseGroup } from "./layout.ts"
import { states } from "./records.ts"
import { readTexts, struckBy, textEnd, timeOf } from "./texts.ts"

/** What `done:<key>` holds. */
export interface Done {
  readonly group: string
  readonly state: Execution.State
  readonly generation: number
  readonly settledAt: number
  readonly attempt: number
  readonly due: number
  readonly outcome: Docket.EncodedOutcome
  readonly thread: Docket.EncodedThread | undefined
  /** Of a failed run. */
  readonly payload: string
}

/** Reads an outcome: a tag, a text, and who struck it, if it was. */
export const readOutcome = (tag: string, text: string, author: string): Docket.EncodedOutcome => {
  switch (tag) {
    case "Exit":
      return { _tag: "Exit", exit: text }
    case "Struck":
      return { _tag: "Struck", ...struckBy(text, author) }
    case "Cancelled":
      return { _tag: "Cancelled" }
    case "Limited":
      return { _tag: "Limited", by: text as "rateLimit" } // written by `turn`
    default:
      return { _tag: "Gone" }
  }
}

// added to the tag of an outcome of a flow
const hasThread = 16

const outcomeTags = ["Exit", "Struck", "Cancelled", "Limited"]

const ends: Readonly<{ [letter: string]: "Done" | "Failed" | "Cancelled" | "Gone" }> = {
  D: "Done",
  F: "Failed",
  C: "Cancelled",
  G: "Gone"
}

/** Reads how a member of a gather has ended: a letter and a text. */
export const readMember = (bytes: Buffer | null): Docket.EncodedMember | undefined => {
  if (bytes === null) return undefined
  const tag = ends[bytes.toString("latin1", 0, 1)]!
  return tag === "Done" || tag === "Failed" ? { _tag: tag, text: bytes.toString("utf8", 1) } : { _tag: tag }
}

const isDone = (bytes: Buffer): boolean => {
  if (bytes.length < 44 || states[bytes[0]! - 1] === undefined) return false
  const payload = 44 + bytes.readUInt16BE(38) + bytes.readUInt32BE(40)
  const end = bytes[1]! >= hasThread ? textEnd(bytes, payload) : payload
  return end <= bytes.length
}

/**
 * Reads the latest outcome of a key: what `outcomeOf` of the prelude wrote. Of anything else it is only known that something
 * has ended: an outcome whose text does not decode.
 */
export const readDone = (bytes: Buffer): Done =>
  isDone(bytes) ? readOutcomeOf(bytes) : {
    state: "Failed",
    generation: Number.MAX_SAFE_INTEGER,
    settledAt: 0,
    attempt: 0,
    due: 0,
    group: groupId("(unreadable)", 0, "(unreadable)"),
    outcome: { _tag: "Exit", exit: "" },
    thread: undefined,
    payload: ""
  }

/** What an outcome keeps of the part of a flow that a run was. */
const readKept = (
  [between = "", step = "", state = "", deadline = "", onCancel]: ReadonlyArray<string>
): Docket.EncodedThread => {
  const { task, version } = parseGroup(between)
  return {
    flow: task,
    version,
    step: step === "" ? undefined : step,
    state,
    deadline: deadline === "" ? undefined : Number(deadline),
    onCancel: onCancel as Docket.EncodedThread["onCancel"] // written by `kept` of `scripts/flows.ts`
  }
}

const readOutcomeOf = (bytes: Buffer): Done => {
  const text = 44 + bytes.readUInt16BE(38)
  const payload = text + bytes.readUInt32BE(40)
  const isOfFlow = bytes[1]! >= hasThread
  const restAt = isOfFlow ? textEnd(bytes, payload) : payload
  const rest = bytes.toString("utf8", restAt)
  const tag = outcomeTags[bytes[1]! % hasThread - 1]!
  return {
    state: states[bytes[0]! - 1]!,
    generation: bytes.readDoubleBE(10),
    settledAt: timeOf(bytes.readDoubleBE(18)),
    attempt: bytes.readUInt32BE(26),
    due: timeOf(bytes.readDoubleBE(30)),
    group: bytes.toString("utf8", 44, text),
    outcome: readOutcome(tag, bytes.toString("utf8", text, payload), rest),
    thread: isOfFlow ? readKept(readTexts(bytes.subarray(bytes.indexOf(58, payload) + 1, restAt))) : undefined,
    payload: tag === "Struck" ? "" : rest
  }
}

const added: ReadonlyArray<Docket.EncodedAdded["disposition"]> = [
  "Added",
  "Existing",
  "Replaced",
  "Struck",
  "Limited",
  // with the key of the run that was joined
  "Existing",
  "Replaced"
]
const joined = 6

/** Reads what became of additions. */
export const readAdded = (bytes: Buffer, texts: ReadonlyArray<Buffer>): ReadonlyArray<Docket.EncodedAdded> => {
  const all: Array<Docket.EncodedAdded> = []
  let text = 0
  for (let at = 0; at < bytes.length; at += 21) {
    const disposition = added[bytes[at]! - 1]!
    const generation = bytes.readDoubleBE(at + 5)
    const due = bytes.readDoubleBE(at + 13)
    for (let n = 0; n < bytes.readUInt32BE(at + 1); n++) {
      if (disposition === "Struck") {
        const [reason, author] = [texts[text++]!.toString(), texts[text++]!.toString()]
        all.push({ disposition, generation, due, ...struckBy(reason, author) })
      } else if (bytes[at]! >= joined) all.push({ disposition, generation, due, key: texts[text++]!.toString() })
      else all.push({ disposition, generation: generation + n, due })
    }
  }
  return all
}

/** Reads which additions are refused: of each its place, and why. */
export const readRefused = (
  texts: ReadonlyArray<Buffer>
): ReadonlyArray<{ readonly index: number; readonly refusal: Docket.EncodedRefusal }> =>
  Array.from({ length: texts.length / 4 }, (_, n) => {
    const [number, disposition, reason = "", author = ""] = texts.slice(n * 4, n * 4 + 4).map(String)
    return {
      index: Number(number) - 1,
      refusal: added[Number(disposition) - 1] === "Struck"
        ? { _tag: "Struck", ...struckBy(reason, author) }
        : { _tag: "Limited", by: "cooldown" }
    }
  })
