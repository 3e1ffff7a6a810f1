/**
 * The part of a flow in the record of a run: where it stands, whom it tells, and what its interpreter has to know.
 */
import type { Docket } from "@effect-docket/dsl"
import type { DocketStore } from "@effect-docket/runtime"
import { isUtf8 } from "node:buffer"
import { groupId, parseGroup } from "./layout.ts"
import { readTexts, struckBy, textsOf, timeOf } from "./texts.ts"

const read = (text: string | undefined): string | undefined =>
  text === undefined || text === "" ? undefined : text.slice(1)

/** The group in which runs of a flow wait for an interpreter. */
export const betweenOf = ({ flow, version }: Pick<Docket.EncodedThread, "flow" | "version">): string =>
  groupId(flow, version, "")

/** Arguments of where a run of a flow stands. */
export const headArgs = (thread: Docket.EncodedThread): ReadonlyArray<string | number> => [
  betweenOf(thread),
  thread.step ?? "",
  thread.state,
  thread.deadline ?? "",
  thread.onCancel
]

/** Arguments of whom a run of a flow reports to. */
export const parentArgs = (parent: Docket.EncodedParent | undefined): ReadonlyArray<string | number> =>
  parent === undefined
    ? ["", 0, "", 0, ""]
    : [parent.key, parent.generation, parent.gather, parent.index, flowText(parent.flow)]

const flowText = (flow: Docket.EncodedFlow | undefined): string =>
  flow === undefined ? "" : `${flow.generation}/${flow.key}`

/** The flow at the top, from a text of its generation and its key. */
export const readFlow = (text: string): Docket.EncodedFlow => {
  const slash = text.indexOf("/")
  return { key: text.slice(slash + 1), generation: Number(text.slice(0, slash)) }
}

/** What a run waits for. */
export const gatherText = ({ ended, failed, id, succeeded }: Docket.EncodedGather): string =>
  textsOf(id, succeeded, failed, ended)

/** The part of a flow that a run is. */
export interface Part extends Pick<DocketStore.ClaimedThread, "parent" | "gathered" | "exit" | "stopped"> {
  readonly thread: Docket.EncodedThread
  /** The group in which it waits for an interpreter. */
  readonly between: string
  /** It waits for members. */
  readonly gathers: boolean
  /** There is a hash of its gathers. */
  readonly owns: boolean
}

const rowOf = (text: string | undefined): ReadonlyArray<string> | undefined =>
  text === undefined || text === "" ? undefined : readTexts(Buffer.from(text))

const readStopped = ([tag, reason = "", author = ""]: ReadonlyArray<string>): Part["stopped"] =>
  tag === "Struck" ? { _tag: tag, ...struckBy(reason, author) } : { _tag: tag as "Cancelled" | "Expired" } // as `scripts/flows.ts` writes it

const onCancels = ["end", "interpret", "ignore"] as const

// where the lengths begin in a part, and what they measure
const lengthsAt = 22
const partHead = 46
const partTexts = 6

/** What is the same in the parts of many. */
interface Common {
  readonly bytes: Buffer
  readonly part: Part
  readonly isSound: boolean
}

/** Of the part that was read last: the members of a fan-out are read one after the other. */
let latest: Common | undefined

/** What is the same in parts of which one is between two places of a record. */
const commonOf = (bytes: Buffer, from: number, end: number): Common => {
  const same = from + 12
  return latest?.bytes.compare(bytes, same, end) === 0
    ? latest
    : latest = { bytes: Buffer.from(bytes.subarray(same, end)), ...readCommon(bytes, from, end) }
}

/** Whether it is a part that is between two places of a record. */
export const isSound = (bytes: Buffer, from: number, end: number): boolean =>
  end - from >= partHead && commonOf(bytes, from, end).isSound

/** Reads the part of a flow between two places of a record, as `scripts/parts.ts` packs it. */
export const readPart = (bytes: Buffer, from: number, end: number): Part => {
  const index = bytes.readUInt32BE(from)
  const at = bytes.readDoubleBE(from + 4)
  const deadline = at === Infinity ? undefined : timeOf(at)
  const { part } = commonOf(bytes, from, end)
  const { parent, thread } = part
  return {
    ...part,
    thread: deadline === thread.deadline ? thread : { ...thread, deadline },
    parent: parent && { ...parent, index }
  }
}

const readCommon = (bytes: Buffer, from: number, end: number): Omit<Common, "bytes"> => {
  const bits = bytes[from + 12]!
  let at = from + partHead
  const texts = Array.from({ length: partTexts }, (_, n) => {
    const start = at
    at += bytes.readUInt32BE(from + lengthsAt + n * 4)
    return bytes.subarray(start, at)
  })
  const [between = "", step, state = "", key = "", gather = "", flow] = texts.map(String)
  const [exit, stopped, waits = "", last] = readTexts(bytes.subarray(at, end))
  const [, succeeded, failed] = rowOf(last) ?? []
  const why = rowOf(stopped)
  const { task, version } = parseGroup(between)
  const part: Part = {
    thread: {
      flow: task,
      version,
      step: step || undefined,
      state,
      deadline: undefined,
      onCancel: onCancels[bytes[from + 13]! - 1] ?? "end"
    },
    between,
    parent: key === ""
      ? undefined
      : { key, generation: bytes.readDoubleBE(from + 14), gather, index: 0, ...flow && { flow: readFlow(flow) } },
    exit: read(exit),
    stopped: why && readStopped(why),
    gathers: waits !== "",
    owns: bits % 2 === 1,
    gathered: succeeded === undefined ? undefined : { succeeded: Number(succeeded), failed: Number(failed) }
  } // what cannot be named cannot be asked for: `scripts/parts.ts` agrees
  return { part, isSound: at <= end && /^\d+\/\/[!-~]+$/.test(between) && isUtf8(texts[3]!) } // there are six
}
