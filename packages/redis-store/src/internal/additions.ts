/**
 * Additions on their way to the server. What fibers add one by one at about the same time goes in one script call: a call
 * of one costs the server, and this process, many times what one of a hundred costs.
 */
import { type Docket, DocketError } from "@effect-docket/dsl"
import { refusalReason } from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import { type Connection, script, unreadable } from "./connection.ts"
import { groupId, type Keys, keysOf, nameMore, prefixOf, readMore } from "./layout.ts"
import { readAdded, readRefused } from "./outcomes.ts"
import { headArgs, parentArgs } from "./parts.ts"
import { gatesText } from "./records.ts"
import { add, addOne } from "./scripts/add.ts"

type Added = ReadonlyArray<Docket.EncodedAdded>
type Refused = ReadonlyArray<Docket.EncodedRefusal | undefined>

const scripts = { add: script(add), addOne: script(addOne) }

// Additions of one script call: 500 take about two milliseconds of the server.
const chunk = 500

// What is added one by one is joined to so many, and to about so many characters of payload. With more than that, the
// server works on some while this process prepares the others.
const joined = 50
const joinedText = 500_000

// Calls under way at once: the server works on one while this process prepares the next.
const underway = 2

/** A due time as the scripts read it. */
export const dueOf = (due: Docket.Due): string => "at" in due ? `at${due.at}` : `in${due.after}`

/** What a script is given of additions. Those in a row that differ in key and payload only share the rest. */
interface Call {
  readonly groups: Set<string>
  /** Keys of the flows that they are members of, or that are redriven. */
  readonly flows: Set<string>
  readonly kinds: ReadonlyArray<string | number>
  readonly kindCount: number
  readonly rows: ReadonlyArray<string | number>
  readonly rowCount: number
  readonly pairs: ReadonlyArray<string>
  readonly redriven: ReadonlyArray<string>
}

const debounceOf = (gates: Docket.EncodedGates | undefined): string => {
  if (gates?.debounce === undefined) return ""
  const { for: wait, keepsFirst, max } = gates.debounce
  return `${wait}/${max ?? ""}/${keepsFirst ? 1 : 0}`
}

const isSameKind = (a: Docket.EncodedAddition, b: Docket.EncodedAddition): boolean =>
  a.task === b.task && a.lane === b.lane && a.version === b.version && a.onExisting === b.onExisting &&
  a.priority === b.priority && a.retention.success === b.retention.success &&
  a.retention.failure === b.retention.failure && (a.gates === undefined) === (b.gates === undefined) &&
  debounceOf(a.gates) === debounceOf(b.gates)

type Part = Docket.EncodedAddition["thread"]

/** Whether `b` is a part of a flow as `a` is, or the member so many places behind it. */
const isSamePart = (a: Part, b: Part, behind: number): boolean => {
  if (a === undefined || b === undefined) return a === b
  const [of, to] = [a.parent, b.parent]
  return a.state === b.state && a.step === b.step && a.flow === b.flow && a.version === b.version &&
    a.deadline === b.deadline && a.onCancel === b.onCancel &&
    (of === undefined || to === undefined
      ? of === to
      : of.index + behind === to.index && of.key === to.key && of.generation === to.generation &&
        of.gather === to.gather && of.flow?.key === to.flow?.key && of.flow?.generation === to.flow?.generation)
}

/** Whether `b` goes in the row of `a`, so many places behind it. */
const isSameRow = (a: Docket.EncodedAddition, b: Docket.EncodedAddition, behind: number): boolean =>
  ("at" in a.due ? "at" in b.due && a.due.at === b.due.at : "after" in b.due && a.due.after === b.due.after) &&
  a.trace?.spanId === b.trace?.spanId && a.trace?.traceId === b.trace?.traceId && a.redrive === undefined &&
  b.redrive === undefined && isSameKind(a, b) && isSamePart(a.thread, b.thread, behind)

const measured = (text: string): string => `${Buffer.byteLength(text)}:${text}`

const wrapped = ({ gates, payload }: Docket.EncodedAddition): string =>
  gates === undefined ? payload : measured(gatesText(gates)) + payload

const callOf = (keys: Keys, additions: ReadonlyArray<Docket.EncodedAddition>): Call => {
  const groups = new Set<string>()
  const flows = new Set<string>()
  const kindIds = new Map<string, number>()
  const kinds: Array<string | number> = []
  const rows: Array<string | number> = []
  const pairs: Array<string> = []
  const redriven: Array<string> = []
  let rowCount = 0
  for (let at = 0; at < additions.length;) {
    const first = additions[at]!
    const { due, gates, lane, onExisting, priority, redrive, retention, task, thread, trace, version } = first
    const group = groupId(task, version, lane)
    const args = [
      group,
      task,
      onExisting,
      priority,
      retention.success,
      retention.failure,
      (gates === undefined ? 0 : 4) + (thread === undefined ? 0 : 8),
      debounceOf(gates)
    ]
    const id = args.join("\n")
    let kind = kindIds.get(id)
    if (kind === undefined) {
      kindIds.set(id, kind = kindIds.size + 1)
      groups.add(group)
      kinds.push(...args)
    }
    if (redrive !== undefined) {
      redriven.push(keys.done(first.key))
      if (thread !== undefined) flows.add(first.key)
    }
    let n = 0
    do {
      const addition = additions[at + n]!
      pairs.push(addition.key, wrapped(addition))
      n++
    } while (at + n < additions.length && isSameRow(first, additions[at + n]!, n))
    at += n
    rowCount++
    rows.push(n, kind, dueOf(due), trace === undefined ? "" : JSON.stringify(trace), redrive ?? "")
    if (thread === undefined) continue
    rows.push(...headArgs(thread), ...parentArgs(thread.parent))
    if (thread.parent !== undefined) flows.add(thread.parent.key)
  }
  return { groups, flows, kinds, kindCount: kindIds.size, rows, rowCount, pairs, redriven }
}

const argsOf = ({ kindCount, kinds, pairs, rowCount, rows }: Call): ReadonlyArray<string | number> => [
  kindCount,
  ...kinds,
  rowCount,
  ...rows,
  ...pairs
]

/** What a turn is given of the members of a gather. */
export const membersOf = (keys: Keys, members: ReadonlyArray<Docket.EncodedAddition>) => {
  const call = callOf(keys, members)
  return { groups: call.groups, flows: call.flows, args: argsOf(call) }
}

const fail = (reason: DocketError.Reason) => Effect.fail(new DocketError.DocketError({ operation: "add", reason }))

const taken = (key: string) => fail(new DocketError.KeyExists({ key }))

// A script answers with what became of the additions, or with a word and what it is about.
type Reply = readonly [Buffer, ...ReadonlyArray<Buffer>]
const longestWord = 16

// What the script is asked for, as its header says.
type Mode = "write" | "whole" | "ask"

const word = (text: Buffer): string => text.toString("latin1", 0, longestWord)

/** Calls the script. A run that is to be replaced may be in a group that has to be named too, or have gathers. */
const call = Effect.fnUntraced(function*(
  connection: Connection,
  keys: Keys,
  additions: ReadonlyArray<Docket.EncodedAddition>,
  mode: Mode
): Effect.fn.Return<Reply, DocketError.DocketError> {
  const made = callOf(keys, additions)
  const args = argsOf(made)
  while (true) {
    const named = { groups: Array.from(made.groups), flows: Array.from(made.flows) }
    const reply = (yield* connection.call("add", scripts.add, [...keysOf(keys, named), ...made.redriven], [
      ...prefixOf(keys, named),
      mode,
      ...args
    ])) as Reply // what the script replies
    if (word(reply[0]) !== "more") return reply
    if (!nameMore(made, readMore(reply)!)) return yield* unreadable("add")
  }
})

/** Writes additions in one call, or none of them. */
const writeAll = Effect.fnUntraced(function*(
  connection: Connection,
  keys: Keys,
  additions: ReadonlyArray<Docket.EncodedAddition>,
  mode: Mode = "write"
): Effect.fn.Return<Added, DocketError.DocketError> {
  const [text, ...rest] = yield* call(connection, keys, additions, mode)
  switch (word(text)) {
    case "taken":
      return yield* taken(String(rest[0]))
    case "refused": {
      const [first] = readRefused(rest)
      return yield* fail(refusalReason(additions[first!.index]!.key, first!.refusal)) // there is one, or it had been written
    }
    default:
      return readAdded(text, rest)
  }
})

/** What would refuse these additions now, one answer each. */
const ask = Effect.fnUntraced(function*(
  connection: Connection,
  keys: Keys,
  additions: ReadonlyArray<Docket.EncodedAddition>
): Effect.fn.Return<Refused, DocketError.DocketError> {
  const [, ...rest] = yield* call(connection, keys, additions, "ask")
  const answers: Array<Docket.EncodedRefusal | undefined> = additions.map(() => undefined)
  for (const { index, refusal } of readRefused(rest)) answers[index] = refusal
  return answers
})

/** Writes one addition, by the shorter script if that can do it. */
const writeOne = (
  connection: Connection,
  keys: Keys,
  addition: Docket.EncodedAddition
): Effect.Effect<Added, DocketError.DocketError> => {
  const { due, key, lane, onExisting, payload, priority, retention, task, trace, version } = addition
  const group = groupId(task, version, lane)
  const [ready, prio, dues, , wake] = keys.group(group)
  const reply = connection.call("add", scripts.addOne, [...keys.one, ready!, prio!, dues!, wake!], [
    keys.events,
    group,
    onExisting,
    priority,
    retention.success,
    retention.failure,
    dueOf(due),
    trace === undefined ? "" : JSON.stringify(trace),
    key,
    payload
  ])
  return Effect.flatMap(reply, (reply) => {
    const [text, ...rest] = reply as Reply // what the script replies
    switch (word(text)) {
      case "taken":
        return taken(String(rest[0]))
      case "special":
        return writeAll(connection, keys, [addition])
      default:
        return Effect.succeed(readAdded(text, rest))
    }
  })
}

/** Writes additions in one call, or none of them. */
const write = (connection: Connection, keys: Keys, additions: ReadonlyArray<Docket.EncodedAddition>) =>
  additions.length === 1 && additions[0]!.redrive === undefined && additions[0]!.gates === undefined &&
    additions[0]!.thread === undefined
    ? writeOne(connection, keys, additions[0]!)
    : writeAll(connection, keys, additions)

/** Somebody who waits for the answer to what he has added. */
interface Waiter {
  readonly addition: Docket.EncodedAddition
  readonly resume: (answer: Effect.Effect<Added, DocketError.DocketError>) => void
}

/** Whether an addition can go in a call with others: what is refused, or redriven, is so by itself. */
const canJoin = ({ onExisting, redrive }: Docket.EncodedAddition): boolean =>
  onExisting !== "fail" && redrive === undefined

/** What a docket adds. */
export const make = (connection: Connection, keys: Keys) => {
  let waiting: Array<Waiter> = []
  const send = Effect.fnUntraced(function*(waiters: ReadonlyArray<Waiter>) {
    const exit = yield* Effect.exit(write(connection, keys, waiters.map(({ addition }) => addition)))
    for (const [index, { resume }] of waiters.entries()) resume(Effect.map(exit, (added) => [added[index]!]))
  })
  // the fibers that run now add what they have to, then it goes
  const flush = Effect.andThen(
    Effect.yieldNow,
    Effect.suspend(() => {
      const all = waiting
      waiting = []
      return Effect.forEach(chunks(all), send, { concurrency: "unbounded", discard: true })
    })
  )
  const join = (addition: Docket.EncodedAddition): Effect.Effect<Added, DocketError.DocketError> =>
    Effect.withFiber((fiber) =>
      Effect.callback((resume) => {
        const waiter = { addition, resume }
        if (waiting.push(waiter) === 1) Effect.runForkWith(fiber.context)(flush)
        return Effect.sync(() => {
          waiting = waiting.filter((other) => other !== waiter)
        })
      })
    )
  const add = (
    additions: ReadonlyArray<Docket.EncodedAddition>,
    { atomic, onRefused }: Docket.EncodedAddOptions
  ): Effect.Effect<Added, DocketError.DocketError> => {
    if (onRefused === "fail") return writeAll(connection, keys, additions, "whole")
    if (additions.length === 1 && canJoin(additions[0]!)) return join(additions[0]!)
    return atomic ? write(connection, keys, additions) : inParts(additions, (part) => write(connection, keys, part))
  }
  // without strikes, which is most of the time, one command says so
  const refused = Effect.fnUntraced(function*(
    additions: ReadonlyArray<Docket.EncodedAddition>
  ): Effect.fn.Return<Refused, DocketError.DocketError> {
    const strikes = yield* connection.use("refused", (client) => client.exists(keys.strikes))
    return strikes === 0 && additions.every(({ gates }) => gates?.cooldown === undefined)
      ? additions.map(() => undefined)
      : yield* inParts(additions, (part) => ask(connection, keys, part))
  })
  return { add, refused }
}

/** Asks for additions, a bounded number a call. */
const inParts = <A>(
  additions: ReadonlyArray<Docket.EncodedAddition>,
  call: (part: ReadonlyArray<Docket.EncodedAddition>) => Effect.Effect<ReadonlyArray<A>, DocketError.DocketError>
): Effect.Effect<ReadonlyArray<A>, DocketError.DocketError> => {
  if (additions.length <= chunk) return call(additions)
  const parts = Array.from(
    { length: Math.ceil(additions.length / chunk) },
    (_, index) => additions.slice(index * chunk, (index + 1) * chunk)
  )
  return Effect.map(Effect.forEach(parts, call, { concurrency: underway }), (answers) => answers.flat())
}

/** Cuts what is added one by one into calls of a bounded size. */
const chunks = (waiters: ReadonlyArray<Waiter>): ReadonlyArray<ReadonlyArray<Waiter>> => {
  const calls: Array<Array<Waiter>> = []
  let text = 0
  for (const waiter of waiters) {
    const last = calls.at(-1)
    const size = waiter.addition.payload.length + (waiter.addition.thread?.state.length ?? 0)
    if (last === undefined || last.length === joined || text + size > joinedText) {
      calls.push([waiter])
      text = size
    } else {
      last.push(waiter)
      text += size
    }
  }
  return calls
}
