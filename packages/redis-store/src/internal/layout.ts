/**
 * The layout of a docket in Redis: the names of its keys, and the record of a run.
 *
 * All keys of a docket carry the hash tag `{name}`, so they lie in one slot of a cluster. Runs that the same workers can
 * serve form a group (a task, a version of it, a lane), and what orders them is kept per group: a worker names the keys of
 * the groups that it serves, and no script touches a key that it was not given.
 *
 * | Key | Type | Holds | Lives |
 * |---|---|---|---|
 * | `meta` | hash | sequence, tokens, number of held runs, format | for ever |
 * | `runs` | hash | the record of each pending and running run: the truth | its fields, while pending or running |
 * | `notes` | hash | failures, progress and trace of those that have any | like `runs` |
 * | `counts` | hash | how many are scheduled, ready, held and running, per group | for ever |
 * | `gates` | hash | how many run per gate, and are ready per gate and group; pending runs that additions join | while there are any |
 * | `held` | sorted set | held runs by gate, group and arrival | while there are any |
 * | `starts` | sorted set | starts of the current windows, by gate and time | the longest window |
 * | `ends` | sorted set | gates by when their last start is out of the window, or their cooldown is over | the longest window |
 * | `looks` | sorted set | gates and groups by when they are to be looked at | while there are any |
 * | `strikes`, `pauses` | hash | what an operator has said | until it is undone |
 * | `workers` | hash | attached workers: what they serve, until when they were heard | a day after the last |
 * | `watch` | string | somebody listens to events | half a minute |
 * | `g:<group>:ready` | list | ready runs of priority 0, in order of arrival | while there are any |
 * | `g:<group>:prio` | sorted set | ready runs of other priorities, and those given back | while there are any |
 * | `g:<group>:due` | sorted set | scheduled runs by due time | while there are any |
 * | `g:<group>:lease` | sorted set | running runs by the end of their lease | while there are any |
 * | `g:<group>:wake` | list | a token for one idle worker | a minute |
 * | `done:<key>` | string | the latest outcome of a key | its retention |
 * | `failed:<task>` | sorted set | keys of failed runs by time | the retention of the latest |
 *
 * Entries of the indexes that do not agree with the record of their run are skipped and removed. One of `ready` and `prio` is
 * the arrival of a run (8 bytes) and its key, one of `due` its generation and its key.
 */
import type { Docket, Execution } from "@effect-docket/dsl"

/** Format of what is written; another one is refused. */
export const format = "1"

/** A task, a version of it, and a lane, as a part of a key. */
export const groupId = (task: string, version: number, lane: string): string =>
  `${version}/${encodeURIComponent(lane)}/${encodeURIComponent(task)}`

/** What a group is of. */
export interface Group {
  readonly task: string
  readonly version: number
  readonly lane: string
}

const parse = (id: string): Group => {
  const [version = "0", lane = "", task = ""] = id.split("/")
  return { task: decodeURIComponent(task), version: Number(version), lane: decodeURIComponent(lane) }
}

// a process meets few groups, and each of them with every run
const parsed = new Map<string, Group>()
const mostParsed = 10_000

/** What `groupId` was made of. */
export const parseGroup = (id: string): Group => {
  let group = parsed.get(id)
  if (group === undefined) {
    if (parsed.size === mostParsed) parsed.clear()
    parsed.set(id, group = parse(id))
  }
  return group
}

/** The keys of a docket. */
export interface Keys {
  /** Keys that every script gets, in their order. */
  readonly base: ReadonlyArray<string>
  /** Keys that the script for one addition gets, before those of its group. */
  readonly one: ReadonlyArray<string>
  readonly held: string
  readonly runs: string
  readonly notes: string
  readonly counts: string
  readonly strikes: string
  readonly pauses: string
  readonly workers: string
  readonly watch: string
  readonly events: string
  readonly cancels: string
  /** The keys of a group, in their order. */
  readonly group: (id: string) => ReadonlyArray<string>
  readonly done: (key: string) => string
  readonly failed: (task: string) => string
}

/** The keys of the docket `name`. */
export const makeKeys = (prefix: string, name: string): Keys => {
  const root = `${prefix}:{${encodeURIComponent(name)}}:`
  const failed = (task: string) => `${root}failed:${encodeURIComponent(task)}`
  const groups = new Map<string, ReadonlyArray<string>>()
  return {
    base: [
      "meta",
      "runs",
      "notes",
      "counts",
      "strikes",
      "pauses",
      "watch",
      "gates",
      "held",
      "looks",
      "starts",
      "ends"
    ].map((key) => root + key),
    one: ["meta", "runs", "notes", "counts", "strikes", "watch"].map((key) => root + key),
    held: `${root}held`,
    runs: `${root}runs`,
    notes: `${root}notes`,
    counts: `${root}counts`,
    strikes: `${root}strikes`,
    pauses: `${root}pauses`,
    workers: `${root}workers`,
    watch: `${root}watch`,
    events: `${root}events`,
    cancels: `${root}cancels`,
    group: (id) => {
      let keys = groups.get(id)
      if (keys === undefined) {
        keys = [
          ...["ready", "prio", "due", "lease", "wake"].map((key) => `${root}g:${id}:${key}`),
          failed(parseGroup(id).task)
        ]
        groups.set(id, keys)
      }
      return keys
    },
    done: (key) => `${root}done:${key}`,
    failed
  }
}

/** The keys that every script begins with. */
export const keysOf = (keys: Keys, groups: ReadonlyArray<string>): ReadonlyArray<string> => [
  ...keys.base,
  ...groups.flatMap((group) => keys.group(group))
]

/** The arguments that every script begins with, after its keys. */
export const prefixOf = (keys: Keys, groups: ReadonlyArray<string>): ReadonlyArray<string | number> => [
  keys.events,
  keys.cancels,
  groups.length,
  ...groups
]

const states: ReadonlyArray<Execution.State> = [
  "Scheduled",
  "Ready",
  "Running",
  "Completed",
  "Failed",
  "Cancelled",
  "Skipped",
  // by a concurrency limit, by a rate limit
  "Held",
  "Held"
]

/** The gates that hold runs, and the state of a run that they hold. */
const holders = [
  { letter: "c", kind: "concurrency", state: 8 },
  { letter: "r", kind: "rateLimit", state: 9 }
] as const

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
  readonly arrival: Buffer
}

// flag of a record that has gates, and the first state of one that is held
const hasGates = 4
const heldFrom = 8

// the end of a text that begins with its length
const gatesEnd = (bytes: Buffer, at: number): number => {
  const colon = bytes.indexOf(58, at)
  return colon + 1 + Number(bytes.toString("latin1", at, colon))
}

const holderOf = (bytes: Buffer, at: number): Holder | undefined => {
  const holder = holders.find(({ state }) => state === bytes[0])
  if (holder === undefined) return undefined
  const end = gatesEnd(bytes, at)
  for (let from = bytes.indexOf(58, at) + 1; from < end;) {
    const to = gatesEnd(bytes, from + 1)
    if (bytes.toString("latin1", from, from + 1) === holder.letter) {
      return { kind: holder.kind, id: bytes.subarray(from, to), arrival: bytes.subarray(36, 44) }
    }
    from = to
  }
  return undefined
}

/** The group and the key of a member of `held`. */
export const readHeld = (member: Buffer): { readonly group: string; readonly key: string } => {
  const gate = member.indexOf(58)
  const group = gate + 2 + Number(member.toString("latin1", 1, gate))
  const end = member.indexOf(10, group)
  return { group: member.toString("latin1", group, end), key: member.toString("utf8", end + 9) }
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
  /** The gate that holds it. */
  readonly holder: Holder | undefined
}

/** Reads a record: the numbers that `prelude.ts` packs, then group, gates, payload and worker. */
export const readRecord = (bytes: Buffer): Record => {
  const groupEnd = 86 + bytes.readUInt16BE(84)
  const payload = bytes[1]! < hasGates ? groupEnd : gatesEnd(bytes, groupEnd)
  const worker = bytes.length - bytes.readUInt16BE(34)
  return {
    state: states[bytes[0]! - 1]!,
    attempt: bytes.readUInt32BE(2),
    lost: bytes.readUInt32BE(6),
    token: bytes.readDoubleBE(10),
    startedAt: bytes.readDoubleBE(26),
    due: bytes.readDoubleBE(44),
    generation: bytes.readDoubleBE(52),
    group: bytes.toString("utf8", 86, groupEnd),
    holder: bytes[0]! < heldFrom ? undefined : holderOf(bytes, groupEnd),
    payload: bytes.toString("utf8", payload, worker),
    worker: bytes.toString("utf8", worker)
  }
}

/** Reads a row of texts, each written as its length in bytes, a colon, and itself. */
export const readTexts = (bytes: Buffer): ReadonlyArray<string> => {
  const texts: Array<string> = []
  let at = 0
  while (at < bytes.length) {
    const colon = bytes.indexOf(58, at)
    const end = colon + 1 + Number(bytes.toString("latin1", at, colon))
    texts.push(bytes.toString("utf8", colon + 1, end))
    at = end
  }
  return texts
}

/** What `done:<key>` holds. */
export interface Done {
  readonly group: string
  readonly state: Execution.State
  readonly generation: number
  readonly settledAt: number
  readonly attempt: number
  readonly due: number
  readonly outcome: Docket.EncodedOutcome
  /** Of a failed run. */
  readonly payload: string
}

/** Why something is struck, and by whom if that is known. */
const struckBy = (reason: string, author: string) => ({ reason, ...author !== "" && { author } })

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

const outcomeTags = ["Exit", "Struck", "Cancelled", "Limited"]

/** Reads the latest outcome of a key: what `outcomeOf` of the prelude wrote. */
export const readDone = (bytes: Buffer): Done => {
  const text = 44 + bytes.readUInt16BE(38)
  const payload = text + bytes.readUInt32BE(40)
  const rest = bytes.toString("utf8", payload)
  const tag = outcomeTags[bytes[1]! - 1]!
  return {
    state: states[bytes[0]! - 1]!,
    generation: bytes.readDoubleBE(10),
    settledAt: bytes.readDoubleBE(18),
    attempt: bytes.readUInt32BE(26),
    due: bytes.readDoubleBE(30),
    group: bytes.toString("utf8", 44, text),
    outcome: readOutcome(tag, bytes.toString("utf8", text, payload), rest),
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
