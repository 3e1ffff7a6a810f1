/**
 * One docket in Redis: the seam of `DocketStore`, an operation a script or a few commands.
 */
import type { Docket, DocketError } from "@effect-docket/dsl"
import type { DocketStore } from "@effect-docket/runtime"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as additions from "./additions.ts"
import { type Connection, script } from "./connection.ts"
import { type Keys, keysOf, nameMore, parseGroup, prefixOf, readMore } from "./layout.ts"
import type { Listener } from "./listener.ts"
import { readDone, readMember } from "./outcomes.ts"
import { betweenOf } from "./parts.ts"
import { type Held, readHeld, readRecord, type Record } from "./records.ts"
import { cancel, clear, forget, members, progress, strikeOf } from "./scripts/small.ts"
import { attach, groupsIn, isServed, readCounts, type Registered, registered } from "./session.ts"
import { readTexts } from "./texts.ts"

const scripts = {
  cancel: script(cancel),
  clear: script(clear),
  forget: script(forget),
  members: script(members),
  progress: script(progress),
  strikeOf: script(strikeOf)
}

// Runs of a page of a snapshot, of dead letters, and of what `clear` removes at a time.
const page = 500

/** Everything of an open docket. */
export interface Env {
  readonly name: string
  readonly keys: Keys
  readonly connection: Connection
  readonly listener: Listener
}

const readAll = Effect.fnUntraced(function*({ connection, keys }: Env, key: string) {
  const [run, note, done] = yield* connection.use(
    "get",
    (client) =>
      Promise.all([
        client.hgetBuffer(keys.runs, key),
        client.hgetBuffer(keys.notes, key),
        client.getBuffer(keys.done(key))
      ])
  )
  return { run: run === null ? undefined : readRecord(run), note, done: done === null ? undefined : readDone(done) }
})

const pausesOf = ({ connection, keys }: Env) =>
  Effect.map(
    connection.use("get", (client) => client.hvals(keys.pauses)),
    (texts) =>
      texts.map((text) =>
        JSON.parse(text) as { readonly task: string | null; readonly lane: string | null; readonly reason: string } // written below
      )
  )

const pauseOf = (pauses: Effect.Success<ReturnType<typeof pausesOf>>, group: string) => {
  const { lane, task } = parseGroup(group)
  return pauses.find((pause) =>
    (pause.task === null || pause.task === task) && (pause.lane === null || pause.lane === lane)
  )
}

/** What the state of a run depends on besides its record. */
interface Surroundings {
  readonly now: number
  readonly workers: ReadonlyArray<Registered>
  readonly pauses: Effect.Success<ReturnType<typeof pausesOf>>
}

const surroundings = (env: Env): Effect.Effect<Surroundings, DocketError.DocketError> =>
  Effect.map(Effect.all([registered(env), pausesOf(env)]), ([{ now, workers }, pauses]) => ({ now, workers, pauses }))

const isHeld = ({ pauses, workers }: Surroundings, group: string): boolean =>
  pauseOf(pauses, group) !== undefined || (workers.length > 0 && !workers.some((worker) => isServed(worker, group)))

/** What is due is ready, though nothing happens in the server until a worker of the task takes a turn. */
const isDue = ({ due, state }: Record, now: number): boolean => state === "Scheduled" && due <= now

const stateOf = (record: Record, around: Surroundings): Record["state"] => {
  if (record.state !== "Ready" && !isDue(record, around.now)) return record.state
  return isHeld(around, record.group) ? "Held" : "Ready"
}

const encoded = (key: string, record: Record, note: Buffer | null, around: Surroundings): Docket.EncodedRun => {
  const { task, version } = parseGroup(record.group)
  const progress = note === null ? "" : readTexts(note)[1]
  return {
    task,
    version,
    key,
    generation: record.generation,
    state: stateOf(record, around),
    due: record.due,
    attempt: record.attempt,
    worker: record.state === "Running" ? record.worker : undefined,
    payload: record.payload,
    progress: progress === "" ? undefined : progress,
    ...record.part && { thread: record.part.thread }
  }
}

/** By what a run is held, and how many are before it: of other lines, their first ones. Nothing if it has just left. */
const heldBy = Effect.fnUntraced(function*(
  { connection, keys }: Env,
  group: string,
  { arrival, gates, line }: Held
): Effect.fn.Return<Docket.Explanation | undefined, DocketError.DocketError> {
  const begins = (id: Buffer) => Buffer.concat([id, Buffer.from(`\n${group}\n`)])
  const before = (first: Buffer) =>
    connection.use(
      "explain",
      (client) => client.zlexcount(keys.held, lexBound("[", first), lexBound("(", Buffer.concat([first, arrival])))
    )
  const place = line && (yield* connection.use("explain", (client) => client.hget(keys.gates, begins(line))))
  const gate = line === undefined ? gates[0] : gates.find(({ id }) => place?.charCodeAt(0) === id[0])
  if (gate === undefined) return undefined
  const atGate = yield* before(begins(gate.id))
  const inLine = line === undefined ? 0 : yield* before(begins(line))
  // the first of the line is what waits at the gate
  return { _tag: "Limited", by: gate.kind, position: atGate + inLine - Math.min(1, inLine) }
})

const explainWith = Effect.fnUntraced(function*(
  env: Env,
  key: string
): Effect.fn.Return<Docket.Explanation, DocketError.DocketError> {
  const { done, note, run } = yield* readAll(env, key)
  const time = DateTime.makeUnsafe
  if (run === undefined) {
    return done === undefined
      ? { _tag: "Unknown" }
      : { _tag: "Finished", at: time(done.settledAt) }
  }
  if (run.state === "Running") return { _tag: "Running", worker: run.worker, since: time(run.startedAt) }
  const { lane, task, version } = parseGroup(run.group)
  const { connection, keys } = env
  const [reason, author, until] = (yield* connection.call("explain", scripts.strikeOf, keysOf(keys, none), [
    ...prefixOf(keys, none),
    task,
    run.payload
  ])) as ReadonlyArray<Buffer> // what the script replies
  if (reason !== undefined) {
    return {
      _tag: "Struck",
      reason: reason.toString(),
      author: author!.length === 0 ? Option.none() : Option.some(author!.toString()),
      until: until!.length === 0 ? Option.none() : Option.some(time(Number(until)))
    }
  }
  const { now, pauses, workers } = yield* surroundings(env)
  if (run.state === "Scheduled" && !isDue(run, now)) {
    const settling = run.debounce && (yield* connection.use(
      "explain",
      (client) => client.hget(keys.gates, run.debounce!)
    ))
    // when the first addition came, a mark, and the key
    if (settling?.replace(/^\d+/, "") === `!${key}`) return { _tag: "Limited", by: "debounce", position: 0 }
    return note === null || readTexts(note)[0] === ""
      ? { _tag: "NotDue", at: time(run.due) }
      : { _tag: "Retrying", attempt: run.attempt, next: time(run.due) }
  }
  const pause = pauseOf(pauses, run.group)
  if (pause !== undefined) return { _tag: "Paused", reason: pause.reason }
  if (run.part?.gathers === true) {
    const { gathered, thread: { deadline, step = "" } } = run.part
    const until = deadline === undefined ? Option.none() : Option.some(time(deadline))
    return { _tag: "Gathering", step, succeeded: 0, failed: 0, ...gathered, until }
  }
  const limited = run.held && (yield* heldBy(env, run.group, run.held))
  if (limited !== undefined) return limited
  if (!workers.some((worker) => isServed(worker, run.group))) {
    return lane === "" ? { _tag: "NoInterpreter", flow: task, version } : { _tag: "NoWorker", lane }
  }
  const counts = yield* readCounts(env, now, (group) => group === run.group)
  return { _tag: "Waiting", lane, ready: counts.get(run.group)?.ready ?? 0 }
})

const none = { groups: [] }

const lexBound = (sign: "[" | "(", member: Buffer) => Buffer.concat([Buffer.from(sign), member])

const readRuns = ({ connection, keys }: Env, page: ReadonlyArray<string>) =>
  connection.use(
    "snapshot",
    (client) => Promise.all([client.hmgetBuffer(keys.runs, ...page), client.hmgetBuffer(keys.notes, ...page)])
  )

/** Keys of all pending and running runs, by due time: references, so that a page is read as it is when it is asked for. */
const snapshotKeys = Effect.fnUntraced(function*({ connection, keys }: Env) {
  const found: Array<{ readonly key: string; readonly due: number; readonly generation: number }> = []
  let cursor = "0"
  do {
    const [next, fields] = yield* connection.use(
      "snapshot",
      (client) => client.hscanBuffer(keys.runs, cursor, "COUNT", String(page))
    )
    cursor = next.toString()
    for (let i = 0; i < fields.length; i += 2) {
      const { due, generation } = readRecord(fields[i + 1]!)
      found.push({ key: fields[i]!.toString(), due, generation })
    }
  } while (cursor !== "0")
  // a scan may meet a field twice
  return Array.from(new Map(found.map((one) => [one.key, one])).values())
    .toSorted((a, b) => a.due - b.due || a.generation - b.generation)
    .map(({ key }) => key)
})

const snapshotPage = Effect.fnUntraced(function*(env: Env, page: ReadonlyArray<string>) {
  const [records, notes] = yield* readRuns(env, page)
  const around = yield* surroundings(env)
  return page.flatMap((key, index): ReadonlyArray<Docket.EncodedRun> => {
    const bytes = records[index]
    return bytes === null || bytes === undefined ? [] : [encoded(key, readRecord(bytes), notes[index]!, around)]
  })
})

const groupsOf = ({ connection, keys }: Env) =>
  Effect.map(connection.use("groups", (client) => client.hgetall(keys.counts)), groupsIn)

const countsOf = Effect.fnUntraced(function*(env: Env) {
  const around = yield* surroundings(env)
  const counts = new Map<string, { -readonly [K in keyof Docket.Counts]: Docket.Counts[K] }>()
  for (const [id, { held, ready, running, scheduled }] of yield* readCounts(env, around.now, () => true)) {
    if (scheduled + ready + held + running === 0) continue
    const { lane, task } = parseGroup(id)
    const at = JSON.stringify([task, lane])
    let count = counts.get(at)
    if (count === undefined) counts.set(at, count = { task, lane, scheduled: 0, ready: 0, held: 0, running: 0 })
    count.scheduled += scheduled
    count[isHeld(around, id) ? "held" : "ready"] += ready
    count.held += held
    count.running += running
  }
  return Array.from(counts.values())
})

const deadLetterPage = Effect.fnUntraced(function*(env: Env, task: string, from: number) {
  const { connection, keys } = env
  const found = yield* connection.use(
    "deadLetters",
    (client) => client.zrange(keys.failed(task), String(from), String(from + page - 1))
  )
  if (found.length === 0) return [[] as ReadonlyArray<Docket.EncodedDeadLetter>, Option.none<number>()] as const
  const [dones, records] = yield* connection.use("deadLetters", (client) =>
    Promise.all([
      Promise.all(found.map((key) => client.getBuffer(keys.done(key)))),
      client.hmgetBuffer(keys.runs, ...found)
    ]))
  const letters = found.flatMap((key, index): ReadonlyArray<Docket.EncodedDeadLetter> => {
    const bytes = dones[index]
    if (bytes === null || bytes === undefined || records[index] !== null) return []
    const done = readDone(bytes)
    const { task: of, version } = parseGroup(done.group)
    if (done.state !== "Failed" || done.outcome._tag !== "Exit" || of !== task) return []
    return [{
      task,
      version,
      key,
      generation: done.generation,
      state: "Failed",
      due: done.due,
      attempt: done.attempt,
      worker: undefined,
      payload: done.payload,
      progress: undefined,
      ...done.thread && { thread: done.thread },
      exit: done.outcome.exit,
      failedAt: done.settledAt
    }]
  })
  return [letters, found.length < page ? Option.none<number>() : Option.some(from + page)] as const
})

const strikeField = ({ task, where }: Pick<Docket.EncodedStrike, "task" | "where">): string =>
  JSON.stringify([task, where])

const pauseField = ({ lane, task }: DocketStore.Pause): string => JSON.stringify([task ?? null, lane ?? null])

/** Cancels a run, with what it is in and who is told; that may change meanwhile. */
const cancelWith = Effect.fnUntraced(
  function*(
    env: Env,
    key: string,
    of: Docket.EncodedFlow | undefined
  ): Effect.fn.Return<boolean, DocketError.DocketError> {
    const { connection, keys } = env
    const bytes = yield* connection.use("cancel", (client) => client.hgetBuffer(keys.runs, key))
    if (bytes === null) return false
    const { group, part } = readRecord(bytes)
    const groups = new Set([group])
    const flows = new Set<string>()
    if (part !== undefined) {
      // the gather that is told belongs to the same flow
      groups.add(betweenOf(part.thread))
      if (part.owns) flows.add(key)
      if (part.parent !== undefined) flows.add(part.parent.key)
    }
    while (true) {
      const named = { groups: Array.from(groups), flows: Array.from(flows) }
      const answer = yield* connection.call("cancel", scripts.cancel, [...keysOf(keys, named), keys.done(key)], [
        ...prefixOf(keys, named),
        key,
        of?.key ?? "",
        of?.generation ?? 0
      ])
      const more = readMore(answer)
      if (more === undefined) return answer === 1
      if (!nameMore({ groups, flows }, more)) return false
    }
  }
)

/** Removes runs of a group: at most so many of each index, and these that are held. */
const clearSome = Effect.fnUntraced(function*(
  { connection, keys }: Env,
  group: string,
  most: number,
  held: ReadonlyArray<string>
) {
  const call = (flows: ReadonlyArray<string>) => {
    const named = { groups: [group], flows }
    return connection.call("clear", scripts.clear, keysOf(keys, named), [...prefixOf(keys, named), most, ...held])
  }
  const flows = new Set<string>()
  let reply = yield* call([])
  for (let more = readMore(reply); more !== undefined; more = readMore(reply)) {
    for (const flow of more.flows) flows.add(flow)
    reply = yield* call(Array.from(flows))
  }
  const [more, ...removed] = reply as readonly [number, ...ReadonlyArray<Buffer>] // what the script replies
  const texts = removed.map(String)
  const names = texts.filter((_, index) => index % 2 === 0)
  const generations = texts.filter((_, index) => index % 2 === 1)
  if (names.length > 0) yield* connection.call("clear", scripts.forget, names.map(keys.done), generations)
  return { more: more === 1, count: names.length }
})

/** Keys of runs that wait for members: no index has them. */
const gatheringKeys = Effect.fnUntraced(function*({ connection, keys }: Env) {
  const found = new Map<string, Array<string>>()
  let cursor = "0"
  do {
    const [next, fields] = yield* connection.use(
      "clear",
      (client) => client.hscanBuffer(keys.runs, cursor, "COUNT", String(page))
    )
    cursor = next.toString()
    for (let i = 0; i < fields.length; i += 2) {
      const { group, part } = readRecord(fields[i + 1]!)
      if (part?.gathers !== true) continue
      const key = fields[i]!.toString()
      const ofGroup = found.get(group)
      if (ofGroup === undefined) found.set(group, [key])
      else ofGroup.push(key)
    }
  } while (cursor !== "0")
  return found
})

const clearAll = Effect.fnUntraced(function*(env: Env) {
  const { connection, keys } = env
  let count = 0
  // first what is held, so that nobody takes the place of those that are ready
  let before: number
  do {
    before = count
    const members = yield* connection.use("clear", (client) => client.zrangeBuffer(keys.held, "0", String(page - 1)))
    const runs = members.map(readHeld).filter((held) => held !== undefined)
    for (const [group, held] of Map.groupBy(runs, ({ group }) => group)) {
      // the first of a line is the last: each that is removed would have another one wait in its place
      count += (yield* clearSome(env, group, 0, held.map(({ key }) => key).toReversed())).count
    }
  } while (count > before)
  const counts = yield* connection.use("clear", (client) => client.hgetall(keys.counts))
  // those that wait for members before these, or they would be told
  if (Object.entries(counts).some(([field, n]) => field.endsWith(":h") && n !== "0")) {
    for (const [group, waiting] of yield* gatheringKeys(env)) {
      for (let at = 0; at < waiting.length; at += page) {
        count += (yield* clearSome(env, group, 0, waiting.slice(at, at + page))).count
      }
    }
  }
  for (const group of groupsIn(counts)) {
    let more = true
    while (more) {
      const cleared = yield* clearSome(env, group, page, [])
      count += cleared.count
      more = cleared.more
    }
  }
  return count
})

const membersOf = Effect.fnUntraced(function*(
  { connection, keys }: Env,
  key: string,
  gather: string,
  from: number,
  to: number
): Effect.fn.Return<ReadonlyArray<Docket.EncodedMember | undefined>, DocketError.DocketError> {
  const all: Array<Docket.EncodedMember | undefined> = []
  for (let at = from; at < to; at += page) {
    const n = Math.min(page, to - at)
    const reply = (yield* connection.call("members", scripts.members, [keys.runs, keys.done(key), keys.flow(key)], [
      key,
      gather,
      at,
      n
    ])) as ReadonlyArray<Buffer | null> // what the script replies
    for (let i = 0; i < n; i++) all.push(readMember(reply[i] ?? null))
  }
  return all
})

/** The docket of an environment. */
export const make = (env: Env): DocketStore.StoredDocket => {
  const { connection, keys, listener } = env
  const { add, refused } = additions.make(connection, keys)
  const outcome = (key: string, generation: number) =>
    Effect.map(readAll(env, key), ({ done, run }): Docket.EncodedOutcome | undefined => {
      if (done !== undefined && done.generation >= generation) return done.outcome
      return run === undefined ? { _tag: "Gone" } : undefined
    })
  return {
    name: env.name,
    add,
    refused,
    cancel: (key, of) => cancelWith(env, key, of),
    get: Effect.fnUntraced(function*(key) {
      const { done, note, run } = yield* readAll(env, key)
      if (run !== undefined) return encoded(key, run, note, yield* surroundings(env))
      if (done === undefined) return undefined
      const { task, version } = parseGroup(done.group)
      return {
        task,
        version,
        key,
        generation: done.generation,
        state: done.state,
        due: done.due,
        attempt: done.attempt,
        worker: undefined,
        payload: done.payload,
        progress: undefined,
        ...done.thread && { thread: done.thread }
      }
    }),
    outcome,
    members: (key, gather, from, to) => membersOf(env, key, gather, from, to),
    awaitOutcome: (key, generation) => listener.awaitOutcome(key, generation, outcome(key, generation)),
    subscribe: (key) => listener.subscribe(key),
    progress: ({ generation, key, token }, value) =>
      Effect.map(
        connection.call("progress", scripts.progress, keysOf(keys, none), [
          ...prefixOf(keys, none),
          key,
          generation,
          token,
          value
        ]),
        (answer) => answer === 1
      ),
    explain: (key) => explainWith(env, key),
    snapshot: Stream.unwrap(Effect.map(snapshotKeys(env), (all) =>
      Stream.fromIterable(all).pipe(
        Stream.grouped(page),
        Stream.mapEffect((keys) => snapshotPage(env, keys)),
        Stream.flatMap(Stream.fromIterable)
      ))),
    counts: countsOf(env),
    deadLetters: (task) => Stream.paginate(0, (from) => deadLetterPage(env, task, from)),
    strike: (strike) =>
      Effect.asVoid(
        connection.use("strike", (client) => client.hset(keys.strikes, strikeField(strike), JSON.stringify(strike)))
      ),
    restore: (strike) =>
      Effect.asVoid(connection.use("restore", (client) => client.hdel(keys.strikes, strikeField(strike)))),
    pause: ({ lane, task }, reason) =>
      Effect.asVoid(
        connection.use("pause", (client) =>
          client.hset(
            keys.pauses,
            pauseField({ lane, task }),
            JSON.stringify({ task: task ?? null, lane: lane ?? null, reason })
          ))
      ),
    resume: (pause) =>
      Effect.gen(function*() {
        yield* connection.use("resume", (client) => client.hdel(keys.pauses, pauseField(pause)))
        // whoever waits for work looks again
        const groups = yield* groupsOf(env)
        yield* connection.use("resume", (client) =>
          Promise.all(Array.from(groups, (group) =>
            client.rpush(keys.group(group)[4]!, "1").then(() =>
              client.pexpire(keys.group(group)[4]!, 60_000)
            ))))
      }),
    clear: clearAll(env),
    attach: (options) => attach(env, options)
  }
}
