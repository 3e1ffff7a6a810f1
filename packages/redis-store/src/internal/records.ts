/**
 * The record of a pending or running run, and the gates that are in it.
 */
import type { Docket, Execution } from "@effect-docket/dsl"
import { groupId } from "./layout.ts"
import { isSound, type Part, readPart } from "./parts.ts"
import { textEnd, timeOf } from "./texts.ts"

/** The states of runs, as records and outcomes number them from 1. */
export const states: ReadonlyArray<Execution.State> = [
  "Scheduled",
  "Ready",
  "Running",
  "Completed",
  "Failed",
  "Cancelled",
  "Skipped",
  // by a concurrency limit, by a rate limit, for members, by one of two gates
  "Held",
  "Held",
  "Held",
  "Held"
]

/** The gates that hold runs, and the state of a run that they hold. */
const holders = [
  { letter: "c", kind: "concurrency", state: 8 },
  { letter: "r", kind: "rateLimit", state: 9 }
] as const

// what lines begin with
const plus = Buffer.from("+")

const gateText = (letter: string, text: string | undefined): string =>
  text === undefined ? "" : `${letter}${Buffer.byteLength(text)}:${text}`

/** Gates in a record: per gate the letter of its kind, the length of its text, and its text. */
export const gatesText = (gates: Docket.EncodedGates | undefined): string =>
  gates === undefined
    ? ""
    : gateText("c", gates.concurrency) + gateText("r", gates.rateLimit) + gateText("k", gates.cooldown) +
      gateText("d", gates.debounce?.about)

/** The gate that holds a run: as it begins the members of `held`. */
export interface Holder {
  readonly kind: "concurrency" | "rateLimit"
  readonly id: Buffer
}

/** Where a run is held: by its gate, or in a line that waits at one of two, and the hash `gates` says at which. */
export interface Held {
  readonly arrival: Buffer
  readonly gates: ReadonlyArray<Holder>
  readonly line: Buffer | undefined
}

// flags of a record that has gates, and that is a part of a flow; the first state of one that is held
const hasGates = 4
const isPart = 8
const heldFrom = 8
const lined = 11

// the gate with a letter among those that begin at a place
const gateAt = (bytes: Buffer, at: number, letter: string): Buffer | undefined => {
  const end = textEnd(bytes, at)
  for (let from = bytes.indexOf(58, at) + 1; from < end;) {
    const to = textEnd(bytes, from + 1)
    if (bytes.toString("latin1", from, from + 1) === letter) return bytes.subarray(from, to)
    from = to
  }
  return undefined
}

const heldOf = (bytes: Buffer, at: number): Held | undefined => {
  const isLined = bytes[0] === lined
  const gates = holders.flatMap(({ kind, letter, state }): ReadonlyArray<Holder> => {
    const id = isLined || bytes[0] === state ? gateAt(bytes, at, letter) : undefined
    return id === undefined ? [] : [{ kind, id }]
  })
  const line = isLined ? Buffer.concat([plus, ...gates.map(({ id }) => id)]) : undefined
  return gates.length === 0 ? undefined : { arrival: bytes.subarray(36, 44), gates, line }
}

/** The group and the key of a member of `held`; nothing for the entry of a line. */
export const readHeld = (member: Buffer): { readonly group: string; readonly key: string } | undefined => {
  const isOfLine = member[0] === plus[0]
  const first = textEnd(member, isOfLine ? 2 : 1)
  const group = (isOfLine ? textEnd(member, first + 1) : first) + 1
  const end = member.indexOf(10, group)
  return member[end + 9] === 255
    ? undefined
    : { group: member.toString("latin1", group, end), key: member.toString("utf8", end + 9) }
}

/** The record of a pending or running run, as far as readers need it. */
export interface Record {
  readonly state: Execution.State
  readonly attempt: number
  readonly lost: number
  readonly token: number
  readonly generation: number
  readonly due: number
  readonly startedAt: number
  readonly group: string
  readonly worker: string
  readonly payload: string
  /** What holds it. */
  readonly held: Held | undefined
  /** The gate that debounces it. */
  readonly debounce: Buffer | undefined
  readonly part: Part | undefined
}

/** Whether bytes are a record, and not what something else has written, or has cut short. `sound` of `prelude.ts` agrees. */
const isRecord = (bytes: Buffer): boolean => {
  if (bytes.length < 86 || states[bytes[0]! - 1] === undefined) return false
  const flags = bytes[1]!
  let at = 86 + bytes.readUInt16BE(84)
  if ((flags & hasGates) !== 0) at = textEnd(bytes, at)
  if ((flags & isPart) === 0) return at <= bytes.length
  const end = at + 4 <= bytes.length ? at + 4 + bytes.readUInt32BE(at) : Number.NaN
  return end <= bytes.length && isSound(bytes, at + 4, end)
}

/** What is shown of a run whose record is none: nothing runs it, and adding its key again writes a new one. */
const unreadable = (bytes: Buffer): Record => ({
  state: "Held",
  attempt: 0,
  lost: 0,
  token: 0,
  startedAt: 0,
  due: 0,
  generation: 0,
  group: groupId("(unreadable)", 0, "(unreadable)"),
  held: undefined,
  debounce: undefined,
  part: undefined,
  payload: bytes.toString("utf8"),
  worker: ""
})

/** Reads a record: the numbers that `prelude.ts` packs, then group, gates, part of a flow, payload and worker. */
export const readRecord = (bytes: Buffer): Record => isRecord(bytes) ? readSound(bytes) : unreadable(bytes)

const readSound = (bytes: Buffer): Record => {
  const groupEnd = 86 + bytes.readUInt16BE(84)
  const flags = bytes[1]!
  const gates = (flags & hasGates) === 0 ? groupEnd : textEnd(bytes, groupEnd)
  const payload = (flags & isPart) === 0 ? gates : gates + 4 + bytes.readUInt32BE(gates)
  const worker = bytes.length - bytes.readUInt16BE(34)
  return {
    state: states[bytes[0]! - 1]!,
    attempt: bytes.readUInt32BE(2),
    lost: bytes.readUInt32BE(6),
    token: bytes.readDoubleBE(10),
    startedAt: timeOf(bytes.readDoubleBE(26)),
    due: timeOf(bytes.readDoubleBE(44)),
    generation: bytes.readDoubleBE(52),
    group: bytes.toString("utf8", 86, groupEnd),
    held: bytes[0]! < heldFrom ? undefined : heldOf(bytes, groupEnd),
    debounce: (flags & hasGates) === 0 ? undefined : gateAt(bytes, groupEnd, "d"),
    part: payload === gates ? undefined : readPart(bytes, gates + 4, payload),
    payload: bytes.toString("utf8", payload, worker),
    worker: bytes.toString("utf8", worker)
  }
}
