/**
 * The layout of a docket in Redis: the names of its keys, and the record of a run.
 *
 * All keys of a docket carry the hash tag `{name}`, so they lie in one slot of a cluster. Runs that the same workers can
 * serve form a group (a task, a version of it, a lane), and what orders them is kept per group: a worker names the keys of
 * the groups that it serves, and no script touches a key that it was not given.
 *
 * | Key | Type | Holds | Lives |
 * |---|---|---|---|
 * | `meta` | hash | sequence, tokens, number of held runs, whether there are deadlines, format, limits of groups | for ever |
 * | `runs` | hash | the record of each pending and running run: the truth | its fields, while pending or running |
 * | `notes` | hash | failures, progress and trace of those that have any | like `runs` |
 * | `counts` | hash | how many are scheduled, ready, held and running, per group | for ever |
 * | `gates` | hash | how many run per gate, and are ready per gate and group; pending runs that additions join; where lines wait | while there are any |
 * | `held` | sorted set | held runs by gate or line, group and arrival; lines by gate | while there are any |
 * | `starts` | sorted set | starts of the current windows, by gate and time | the longest window |
 * | `ends` | sorted set | gates by when their last start is out of the window, or their cooldown is over | the longest window |
 * | `looks` | sorted set | gates and groups by when they are to be looked at | while there are any |
 * | `deadlines` | sorted set | runs of flows by when their patience ends | while there are any |
 * | `flow:<key>` | hash | how the members of the gathers of a flow ended | like its run, then its retention |
 * | `strikes`, `pauses` | hash | what an operator has said | until it is undone |
 * | `workers` | hash | attached workers: what they serve, until when they were heard | a day after the last |
 * | `watch` | string | somebody listens to events | half a minute |
 * | `waits` | string | somebody waits for an outcome | half a minute |
 * | `g:<group>:ready` | list | ready runs of priority 0, in order of arrival | while there are any |
 * | `g:<group>:prio` | sorted set | ready runs of other priorities, and those given back | while there are any |
 * | `g:<group>:due` | sorted set | scheduled runs by due time | while there are any |
 * | `g:<group>:lease` | sorted set | running runs by the end of their lease | while there are any |
 * | `g:<group>:wake` | list | a token for one idle worker | a minute |
 * | `done:<key>` | string | the latest outcome of a key | its retention |
 * | `failed:<task>` | sorted set | keys of failed runs by time | the retention of the latest |
 *
 * A run that waits for members of a gather is in no index: they lead to it. Entries of the indexes that do not agree with the record of their run are skipped and removed. One of `ready` and `prio` is
 * the arrival of a run (8 bytes) and its key, one of `due` its generation and its key.
 */
import type { Docket, Execution } from "@effect-docket/dsl"
import type { DocketStore } from "@effect-docket/runtime"
import * as Result from "effect/Result"
import { isUtf8 } from "node:buffer"

/** Format of what is written; another one is refused. */
export const format = "3"

/** A task, a version of it, and a lane, as a part of a key. */
export const groupId = (task: string, version: number, lane: string): string =>
  `${version}/${encodeURIComponent(lane)}/${encodeURIComponent(task)}`

/** What a group is of. */
export interface Group {
  readonly task: string
  readonly version: number
  readonly lane: string
}

// a text that was never encoded is shown as it is
const decodeName = (text: string): string => Result.getOrElse(Result.try(() => decodeURIComponent(text)), () => text)

const parse = (id: string): Group => {
  const [version = "0", lane = "", task = ""] = id.split("/")
  return { task: decodeName(task), version: Number(version), lane: decodeName(lane) }
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
  readonly looks: string
  readonly gates: string
  readonly runs: string
  readonly notes: string
  readonly counts: string
  readonly strikes: string
  readonly pauses: string
  readonly workers: string
  readonly watch: string
  readonly waits: string
  readonly flow: (key: string) => string
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
      "ends",
      "deadlines",
      "waits"
    ].map((key) => root + key),
    one: ["meta", "runs", "notes", "counts", "strikes", "watch"].map((key) => root + key),
    held: `${root}held`,
    looks: `${root}looks`,
    gates: `${root}gates`,
    runs: `${root}runs`,
    notes: `${root}notes`,
    counts: `${root}counts`,
    strikes: `${root}strikes`,
    pauses: `${root}pauses`,
    workers: `${root}workers`,
    watch: `${root}watch`,
    waits: `${root}waits`,
    flow: (key) => `${root}flow:${key}`,
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

/** What a script is told that it may touch. */
export interface Named {
  readonly groups: ReadonlyArray<string>
  /** Keys of flows whose gathers are concerned. */
  readonly flows?: ReadonlyArray<string>
}

const nothing: ReadonlyArray<never> = []

/** The keys that every script begins with. */
export const keysOf = (keys: Keys, { flows = nothing, groups }: Named): ReadonlyArray<string> => [
  ...keys.base,
  ...groups.flatMap((group) => keys.group(group)),
  ...flows.map(keys.flow)
]

/** The arguments that every script begins with, after its keys. */
export const prefixOf = (keys: Keys, { flows = nothing, groups }: Named): ReadonlyArray<string | number> => [
  keys.events,
  keys.cancels,
  groups.length,
  ...groups,
  flows.length
]

/** What a script has to be told besides, if it says so: `more`, then groups (`g`) and flows (`f`). */
export const readMore = (
  reply: unknown
): { readonly groups: ReadonlyArray<string>; readonly flows: ReadonlyArray<string> } | undefined => {
  const [word, ...names] = Array.isArray(reply) ? reply.map(String) : []
  if (word !== "more") return undefined
  const of = (letter: string) => names.filter((name) => name.startsWith(letter)).map((name) => name.slice(1))
  return { groups: of("g"), flows: of("f") }
}

/** Names what a script asks for. `false` if it was named already: then no name leads there, and asking again is in vain. */
export const nameMore = (
  named: { readonly groups: Set<string>; readonly flows: Set<string> },
  more: NonNullable<ReturnType<typeof readMore>>
): boolean => {
  const before = named.groups.size + named.flows.size
  for (const group of more.groups) named.groups.add(group)
  for (const flow of more.flows) named.flows.add(flow)
  return named.groups.size + named.flows.size > before
}

const states: ReadonlyArray<Execution.State> = [
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

// the end of a text that begins with its length; `NaN` if there is none
const gatesEnd = (bytes: Buffer, at: number): number => {
  const colon = bytes.indexOf(58, at)
  const length = colon === -1 ? Number.NaN : Number(bytes.toString("latin1", at, colon))
  return length >= 0 ? colon + 1 + length : Number.NaN
}

// the gate with a letter among those that begin at a place
const gateAt = (bytes: Buffer, at: number, letter: string): Buffer | undefined => {
  const end = gatesEnd(bytes, at)
  for (let from = bytes.indexOf(58, at) + 1; from < end;) {
    const to = gatesEnd(bytes, from + 1)
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
  const first = gatesEnd(member, isOfLine ? 2 : 1)
  const group = (isOfLine ? gatesEnd(member, first + 1) : first) + 1
  const end = member.indexOf(10, group)
  return member[end + 9] === 255
    ? undefined
    : { group: member.toString("latin1", group, end), key: member.toString("utf8", end + 9) }
}

const textOf = (text: string | number): string => `${Buffer.byteLength(String(text))}:${text}`

/** A row of texts, as `readTexts` reads it. */
const textsOf = (...texts: ReadonlyArray<string | number>): string => texts.map(textOf).join("")

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
  tag === "Struck" ? { _tag: tag, ...struckBy(reason, author) } : { _tag: tag as "Cancelled" | "Expired" } // as `flows.ts` writes it

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

/** Reads the part of a flow between two places of a record, as `flows.ts` packs it. */
const readPart = (bytes: Buffer, from: number, end: number): Part => {
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
  } // what cannot be named cannot be asked for: `flows.ts` agrees
  return { part, isSound: at <= end && /^\d+\/\/[!-~]+$/.test(between) && isUtf8(texts[3]!) } // there are six
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

// The furthest that a date can be from the epoch. What is further is no time.
const longest = 8.64e15
const timeOf = (value: number): number => Math.abs(value) <= longest ? value : 0

/** Whether bytes are a record, and not what something else has written, or has cut short. `sound` of `prelude.ts` agrees. */
const isRecord = (bytes: Buffer): boolean => {
  if (bytes.length < 86 || states[bytes[0]! - 1] === undefined) return false
  const flags = bytes[1]!
  let at = 86 + bytes.readUInt16BE(84)
  if ((flags & hasGates) !== 0) at = gatesEnd(bytes, at)
  if ((flags & isPart) === 0) return at <= bytes.length
  // its length, which is at least that of its numbers
  const length = at + 4 <= bytes.length ? bytes.readUInt32BE(at) : 0
  return length >= partHead && at + 4 + length <= bytes.length && commonOf(bytes, at + 4, at + 4 + length).isSound
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
  const gates = (flags & hasGates) === 0 ? groupEnd : gatesEnd(bytes, groupEnd)
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

/** Reads a row of texts, each written as its length in bytes, a colon, and itself. */
export const readTexts = (bytes: Buffer): ReadonlyArray<string> => {
  const texts: Array<string> = []
  let at = 0
  while (at < bytes.length) {
    const end = gatesEnd(bytes, at)
    // the rest is no row
    if (Number.isNaN(end)) break
    texts.push(bytes.toString("utf8", bytes.indexOf(58, at) + 1, end))
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
  readonly thread: Docket.EncodedThread | undefined
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
  const end = bytes[1]! >= hasThread ? gatesEnd(bytes, payload) : payload
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
    onCancel: onCancel as Docket.EncodedThread["onCancel"] // written by `kept` of `flows.ts`
  }
}

const readOutcomeOf = (bytes: Buffer): Done => {
  const text = 44 + bytes.readUInt16BE(38)
  const payload = text + bytes.readUInt32BE(40)
  const isOfFlow = bytes[1]! >= hasThread
  const restAt = isOfFlow ? gatesEnd(bytes, payload) : payload
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
