/**
 * Additions on their way to the server. What fibers add one by one at about the same time goes in one script call: a call
 * of one costs the server, and this process, many times what one of a hundred costs.
 */
import { type Docket, DocketError } from "@effect-docket/dsl"
import * as Effect from "effect/Effect"
import { type Connection, script } from "./connection.ts"
import { groupId, type Keys, keysOf, prefixOf, readAdded } from "./layout.ts"
import { add } from "./scripts/add.ts"

type Added = ReadonlyArray<Docket.EncodedAdded>

const scripts = { add: script(add) }

// Additions of one script call: 500 take about two milliseconds of the server.
const chunk = 500

// What is added one by one is joined to so many, and about so many characters of payload.
const joined = 100
const joinedText = 500_000

// Calls under way at once: the server works on one while this process prepares the next.
const underway = 2

const dueOf = (due: Docket.Due): string => "at" in due ? `at${due.at}` : `in${due.after}`

/** Additions of the same kind, that differ in key and payload only. */
interface Row {
  readonly head: ReadonlyArray<string | number>
  readonly id: string
  n: number
}

interface Call {
  readonly groups: Set<string>
  readonly kinds: Map<string, number>
  readonly kindArgs: Array<string | number>
  readonly rows: Array<Row>
  readonly pairs: Array<string>
  readonly redriven: Array<string>
}

const callOf = (keys: Keys, additions: ReadonlyArray<Docket.EncodedAddition>): Call => {
  const call: Call = { groups: new Set(), kinds: new Map(), kindArgs: [], rows: [], pairs: [], redriven: [] }
  for (const { due, key, lane, onExisting, payload, priority, redrive, retention, task, trace, version } of additions) {
    const group = groupId(task, version, lane)
    const kindId = `${group}\n${onExisting}\n${priority}\n${retention.success}\n${retention.failure}`
    let kind = call.kinds.get(kindId)
    if (kind === undefined) {
      call.kinds.set(kindId, kind = call.kinds.size + 1)
      call.groups.add(group)
      call.kindArgs.push(group, task, onExisting, priority, retention.success, retention.failure)
    }
    if (redrive !== undefined) call.redriven.push(keys.done(key))
    const when = dueOf(due)
    const traced = trace === undefined ? "" : JSON.stringify(trace)
    const id = `${kind}\n${when}\n${redrive ?? ""}\n${traced}`
    const last = call.rows.at(-1)
    if (last?.id === id) last.n++
    else call.rows.push({ id, head: [kind, when, traced, redrive ?? ""], n: 1 })
    call.pairs.push(key, payload)
  }
  return call
}

/** Writes additions in one call, or none of them. A run that is to be replaced may be in a group that has to be named too. */
const write = Effect.fnUntraced(function*(
  connection: Connection,
  keys: Keys,
  additions: ReadonlyArray<Docket.EncodedAddition>
): Effect.fn.Return<Added, DocketError.DocketError> {
  const { groups, kindArgs, kinds, pairs, redriven, rows } = callOf(keys, additions)
  while (true) {
    const ids = Array.from(groups)
    const [text, ...rest] = (yield* connection.call("add", scripts.add, [...keysOf(keys, ids), ...redriven], [
      ...prefixOf(keys, ids),
      kinds.size,
      ...kindArgs,
      rows.length,
      ...rows.flatMap(({ head, n }) => [n, ...head]),
      ...pairs
    ])) as readonly [Buffer, ...ReadonlyArray<Buffer>] // what the script replies
    switch (text.toString("latin1", 0, 16)) {
      case "taken":
        return yield* new DocketError.DocketError({
          operation: "add",
          reason: new DocketError.KeyExists({ key: String(rest[0]) })
        })
      case "elsewhere":
        groups.add(String(rest[0]))
        break
      default:
        return readAdded(text, rest)
    }
  }
})

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
  return (
    additions: ReadonlyArray<Docket.EncodedAddition>,
    atomic: boolean
  ): Effect.Effect<Added, DocketError.DocketError> => {
    if (additions.length === 1 && canJoin(additions[0]!)) return join(additions[0]!)
    if (atomic || additions.length <= chunk) return write(connection, keys, additions)
    const parts = Array.from(
      { length: Math.ceil(additions.length / chunk) },
      (_, index) => additions.slice(index * chunk, (index + 1) * chunk)
    )
    return Effect.map(
      Effect.forEach(parts, (part) => write(connection, keys, part), { concurrency: underway }),
      (answers) => answers.flat()
    )
  }
}

/** Cuts what is added one by one into calls of a bounded size. */
const chunks = (waiters: ReadonlyArray<Waiter>): ReadonlyArray<ReadonlyArray<Waiter>> => {
  const calls: Array<Array<Waiter>> = []
  let text = 0
  for (const waiter of waiters) {
    const last = calls.at(-1)
    const size = waiter.addition.payload.length
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
