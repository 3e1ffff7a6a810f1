/**
 * The layout of a docket in Redis: the names of its keys. What is in them: `records.ts`, `parts.ts`, `outcomes.ts`.
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
 * A run that waits for members of a gather is in no index: they lead to it. Entries of the indexes that do not agree with the
 * record of their run are skipped and removed. One of `ready` and `prio` is the arrival of a run (8 bytes) and its key, one of
 * `due` its generation and its key.
 */
import * as Result from "effect/Result"

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
