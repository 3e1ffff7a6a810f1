/**
 * Runs of flows at the seam, in Redis and in memory: random commands, the same answers, and the same to be seen after each.
 * `DOCKET_THREADS_RUNS` and `DOCKET_THREADS_SEED` choose other sequences.
 */
import type { Docket } from "@effect-docket/dsl"
import { type DocketStore, DocketStore as Stores, MemoryStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Config, Context, Effect, Layer, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { epoch } from "../../runtime/test/contract/comparison.ts"
import { addition } from "../../runtime/test/contract/seam.ts"
import { range } from "./kit.ts"
import * as servers from "./server.ts"
import * as simulated from "./simulated.ts"

const server = servers.shared(servers.start({ config: ["appendonly yes", "appendfsync no"] }))

// ---------------------------------------------------------------------------------------------------------------------
// chance
// ---------------------------------------------------------------------------------------------------------------------

/** Chance that is the same again: mulberry32. */
class Chance {
  #state: number
  constructor(seed: number) {
    this.#state = seed
  }
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * n)
  }
  of<A>(...all: ReadonlyArray<A>): A {
    return all[this.below(all.length)]!
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// both stores
// ---------------------------------------------------------------------------------------------------------------------

const workers = [
  { worker: "steps", tasks: new Map([["T", 1]]), lanes: ["default"], lease: 60 },
  {
    worker: "all",
    tasks: new Map([["T", 1]]),
    lanes: ["default", "side"],
    flows: new Map([["F", new Set([1])]]),
    lease: 5000
  },
  { worker: "flows", tasks: new Map<string, number>(), lanes: [], flows: new Map([["F", new Set([1])]]), lease: 5000 }
] as const

const parents = ["p", "q"]
const gathers = ["c/g", "h"]
const indexes = 3
const keys = [
  ...parents,
  ...parents.flatMap((key) => gathers.flatMap((gather) => range(indexes).map((n) => `${key}/${gather}/${n}`)))
]
const plain = "plain"

/** One of the stores. */
interface Side {
  readonly docket: DocketStore.StoredDocket
  readonly sessions: ReadonlyArray<DocketStore.WorkerSession>
  readonly events: Queue.Dequeue<DocketStore.StoredEvent>
  /** Claims that are not settled, as both sides made them. */
  claims: Array<DocketStore.Claim>
  /** The latest generation of each key. */
  readonly generations: Map<string, number>
}

const attach = Effect.fnUntraced(function*(docket: DocketStore.StoredDocket) {
  const sessions: Array<DocketStore.WorkerSession> = []
  for (const options of workers) sessions.push(yield* docket.attach({ ...options, onWake: () => {} }))
  const side: Side = {
    docket,
    sessions,
    events: yield* docket.subscribe(undefined),
    claims: [],
    generations: new Map()
  }
  return side
})

const sides = Effect.gen(function*() {
  const open = (layer: Layer.Layer<DocketStore.DocketStore, unknown>) =>
    Effect.flatMap(Layer.build(Layer.fresh(layer)), (context) =>
      Effect.flatMap(
        Context.get(context, Stores.DocketStore).docket({ name: "threads", prefix: "docket" }),
        attach
      ))
  return [yield* open(MemoryStore.layer), yield* open(simulated.storeIn(server))] as const
})

// ---------------------------------------------------------------------------------------------------------------------
// what is to be seen
// ---------------------------------------------------------------------------------------------------------------------

const threadOf = (thread: Docket.EncodedThread | undefined) => {
  if (thread === undefined) return undefined
  const { deadline, flow, onCancel, state, step, version } = thread
  return { deadline, flow, onCancel, state, step, version }
}

const together = { concurrency: "unbounded" } as const

const seen = Effect.fnUntraced(function*({ docket, generations }: Side) {
  const ofKey = Effect.fnUntraced(function*(key: string) {
    const run = yield* docket.get(key)
    if (run === undefined) return [key, (yield* docket.explain(key))._tag]
    const { generation, thread, ...rest } = run
    generations.set(key, generation)
    return [key, rest, threadOf(thread), yield* docket.explain(key), yield* docket.outcome(key, generation)]
  })
  const lettersOf = (task: string) =>
    Effect.map(
      Stream.runCollect(docket.deadLetters(task)),
      (letters) => letters.map(({ exit, key, thread }) => [key, exit, threadOf(thread)]).toSorted()
    )
  return yield* Effect.all([
    Effect.forEach([...keys, plain], ofKey, together),
    Effect.forEach(
      parents.flatMap((key) => gathers.map((gather) => [key, gather] as const)),
      ([key, gather]) => docket.members(key, gather, 0, indexes),
      together
    ),
    Effect.forEach(["T", "F"], lettersOf, together),
    Effect.map(docket.counts, (counts) => counts.map((count) => JSON.stringify(count)).toSorted()),
    Effect.map(Stream.runCollect(docket.snapshot), (runs) => runs.map(({ key }) => key).toSorted())
  ], together)
})

const shown = ({ startedAt: _startedAt, thread, token: _token, ...rest }: DocketStore.Claim) => ({
  ...rest,
  generation: 0,
  thread: thread && {
    ...threadOf(thread),
    between: thread.between,
    gathered: thread.gathered,
    exit: thread.exit,
    stopped: thread.stopped,
    parent: thread.parent && { ...thread.parent, generation: 0 }
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// commands
// ---------------------------------------------------------------------------------------------------------------------

type Command = (side: Side) => Effect.Effect<unknown, unknown>

const thread = (chance: Chance): Docket.EncodedThread => ({
  flow: "F",
  version: 1,
  step: chance.of("0", "1", undefined),
  state: chance.of("{}", "\"é\"", "long ".repeat(20)),
  deadline: chance.of(undefined, undefined, undefined, 30, 80),
  onCancel: chance.of("end", "interpret", "interpret", "ignore")
})

const place = (chance: Chance) =>
  chance.of<Pick<Docket.EncodedAddition, "task" | "lane">>(
    { task: "T", lane: "default" },
    { task: "T", lane: "default" },
    { task: "T", lane: "side" },
    { task: "F", lane: "" }
  )

const addFlow = (chance: Chance): Command => {
  const key = chance.of(...parents)
  const options = {
    ...place(chance),
    thread: thread(chance),
    due: { after: chance.of(0, 0, 20) },
    onExisting: chance.of("keep", "keep", "replace"),
    retention: { success: chance.of(0, 200), failure: chance.of(0, 200) }
  } as const
  const redrives = chance.below(4) === 0
  return Effect.fnUntraced(function*({ docket, generations }) {
    // what is redriven was a letter
    const redrive = redrives && (yield* docket.get(key)) !== undefined ? generations.get(key) : undefined
    return yield* add(docket, addition(key, { ...options, redrive }))
  })
}

const addPlain = (chance: Chance): Command => {
  const options = {
    due: { after: chance.of(0, 20) },
    onExisting: chance.of("keep", "replace"),
    ...place(chance)
  } as const
  const key = chance.of(plain, ...parents)
  return options.lane === "" ? addFlow(chance) : ({ docket }) => add(docket, addition(key, options))
}

const add = (docket: DocketStore.StoredDocket, ...additions: ReadonlyArray<Docket.EncodedAddition>) =>
  Effect.map(
    docket.add(additions, { atomic: false }),
    (added) => added.map(({ disposition, due, generation }) => [disposition, due, generation === 0])
  )

/** Members of a gather: some, each with a place of its own. */
const membersFor = (chance: Chance, key: string, gather = chance.of(...gathers)) => {
  const options = range(chance.below(indexes + 1)).map((index) => ({
    index,
    ...place(chance),
    due: { after: chance.of(0, 0, 20) },
    onExisting: chance.of("keep", "keep", "replace"),
    thread: thread(chance),
    flow: chance.of(undefined, undefined, { key: "top", generation: 7 }, { key: "ö/1", generation: 2 })
  } as const))
  return (generation: number) =>
    options.map(({ flow, index, thread, ...rest }) =>
      addition(`${key}/${gather}/${index}`, {
        ...rest,
        retention: { success: 0, failure: 200 },
        thread: { ...thread, parent: { key, generation, gather, index, ...flow && { flow } } }
      })
    )
}

const addMembers = (chance: Chance): Command => {
  const key = chance.of(...parents)
  const members = membersFor(chance, key)
  const stale = chance.below(6) === 0
  return Effect.fnUntraced(function*({ docket, generations }) {
    const run = yield* docket.get(key)
    // whoever adds members holds their parent
    if (run === undefined || run.state !== "Running") return []
    return yield* add(docket, ...members(stale ? 1 : generations.get(key) ?? 0))
  })
}

type Change = (now: number, claim: DocketStore.Claim) => Pick<DocketStore.Settlement, "change" | "members">

const changeOf = (chance: Chance): Change => {
  const after = chance.of(0, 0, 20)
  const otherwise = chance.of<DocketStore.Change>(
    { _tag: "Completed", exit: "done" },
    { _tag: "Failed", exit: "failed" },
    { _tag: "Cancelled" },
    { _tag: "Retry", after, exit: "failed", failures: "1" },
    { _tag: "Snooze", after },
    { _tag: "Released" }
  )
  const goes = chance.below(4)
  const next = thread(chance)
  const where = chance.of("Step", "Between", "Gather", "Gather", "HandOver")
  const gather = {
    id: chance.of(...gathers),
    succeeded: chance.of(1, 2),
    failed: chance.of(1, 2),
    ended: chance.of(2, 3)
  }
  const lane = chance.of("default", "side")
  const forget = chance.of(undefined, undefined, undefined, "", "c")
  const handOver = { exit: chance.of(undefined, "text"), expired: chance.of(true, false) }
  const members = new Map(parents.map((key) => [key, membersFor(chance, key, gather.id)]))
  return (now, { generation, key, thread }) => {
    if (thread === undefined || goes === 0) return { change: otherwise }
    if (where === "HandOver") return { change: { _tag: "HandOver", ...handOver } }
    const to: DocketStore.Destination = where === "Gather"
      ? { _tag: where, gather }
      : where === "Between"
      ? { _tag: where, due: { after } }
      : { _tag: where, task: "T", version: 1, lane, priority: 0, payload: "next", gates: undefined, due: { after } }
    const deadline = next.deadline === undefined ? undefined : now + next.deadline
    return {
      change: { _tag: "Continue", thread: { ...next, deadline }, to, forget },
      members: where === "Gather" ? members.get(key)?.(generation) : undefined
    }
  }
}

const turn = (chance: Chance, count: number): Command => {
  const worker = chance.below(workers.length)
  const changes = range(count).map(() => changeOf(chance))
  const first = chance.below(4)
  const [capacity, between] = [chance.of(0, 1000), chance.of(0, 1000)]
  return Effect.fnUntraced(function*(side) {
    const own = side.claims.filter((claim) => holders.get(claim.key) === worker).slice(first, first + count)
    const settle = own.map((claim, index): DocketStore.Settlement => {
      const { generation, key, token } = claim
      return { key, generation, token, successor: undefined, ...changes[index]!(clock.now, claim) }
    })
    const isCompletion = ({ change }: DocketStore.Settlement) => change._tag === "Completed"
    const reply = yield* side.sessions[worker]!.turn({
      // a script settles completions before the others
      settle: [...settle.filter(isCompletion), ...settle.filter((one) => !isCompletion(one))],
      capacity,
      between,
      lanes: undefined,
      except: undefined
    })
    side.claims = side.claims.filter((claim) => !own.includes(claim))
    const claimed = reply.claimed.toSorted((a, b) => a.key < b.key ? -1 : 1)
    side.claims.push(...claimed)
    pending.push(() => claimed.forEach(({ key }) => holders.set(key, worker)))
    return [reply.settled, reply.now, claimed.map(shown)]
  })
}

const cancel = (chance: Chance): Command => {
  const key = chance.of(...keys, plain)
  // a lazy store settles one that was cancelled and whose worker has died when somebody claims it
  return ({ claims, docket }) =>
    claims.some((claim) => claim.key === key && holders.get(key) === 0) ? Effect.succeed(false) : docket.cancel(key)
}

const other = (chance: Chance): Command => {
  const pause = chance.of({ task: "T", lane: undefined }, { task: "F", lane: undefined })
  const strike = { task: "T", where: [] }
  const fence = chance.below(3)
  return chance.of<Command>(
    ({ docket }) => docket.strike({ ...strike, reason: "no", author: "me", until: undefined }),
    ({ docket }) => docket.restore(strike),
    ({ docket }) => docket.restore(strike),
    ({ docket }) => docket.pause(pause, "lunch"),
    ({ docket }) => docket.resume(pause),
    ({ docket }) => docket.resume(pause),
    ({ docket }) => docket.clear,
    ({ claims, docket }) => claims[fence] === undefined ? Effect.void : docket.progress(claims[fence], "1"),
    ({ docket }) => docket.refused(parents.map((key) => addition(key, { thread: thread(chance) })))
  )
}

const commandOf = (chance: Chance): Command => {
  const n = chance.below(20)
  if (n < 3) return addFlow(chance)
  if (n === 3) return addPlain(chance)
  if (n < 6) return addMembers(chance)
  if (n < 11) return turn(chance, 0)
  if (n < 17) return turn(chance, 1 + chance.below(3))
  return n === 17 ? other(chance) : cancel(chance)
}

// what one side says is written down when both have answered
const holders = new Map<string, number>()
const clock = { now: epoch }
let pending: Array<() => void> = []

const nothing = { settle: [], lanes: undefined, except: undefined, capacity: 0 } as const

/** Time passes, a little at a time: nothing runs in the server, so the workers come by for what is due. */
const pass = Effect.fnUntraced(function*(millis: number, [, inRedis]: readonly [Side, Side]) {
  for (let n = 0; n < millis; n += 10) {
    clock.now += 10
    yield* TestClock.adjust(10)
    yield* simulated.advance(server, 10)
    for (const session of inRedis.sessions) yield* session.turn(nothing)
  }
})

const last = "the last"

/** What was told of each key: what a lazy store tells as well, whenever that is. */
const told = Effect.fnUntraced(function*({ docket, events }: Side) {
  yield* docket.restore({ task: "T", where: [] })
  yield* docket.add([addition(last, { due: { after: 60_000 } })], { atomic: true })
  yield* docket.cancel(last)
  const all = new Map<string, Array<unknown>>()
  while (true) {
    const { event, key } = yield* Queue.take(events)
    if (key === last && event._tag === "Finished") return all
    if (event._tag === "Scheduled" || event._tag === "Ready" || event._tag === "Started") continue
    const { at: _, ...rest } = event
    const ofKey = all.get(key)
    if (ofKey === undefined) all.set(key, [rest])
    else ofKey.push(rest)
  }
})

const play = Effect.fnUntraced(function*(seed: number) {
  const chance = new Chance(seed)
  holders.clear()
  clock.now = epoch
  yield* TestClock.setTime(epoch)
  const both = yield* sides
  const said = (what: string) => `DOCKET_THREADS_SEED=${seed} DOCKET_THREADS_RUNS=1: ${what}`
  for (const n of range(40)) {
    const at = `command ${n}`
    if (chance.below(5) === 0) yield* pass(chance.of(20, 50, 100), both)
    else {
      pending = []
      const command = commandOf(chance)
      const [inMemory, inRedis] = yield* Effect.forEach(both, command)
      for (const write of pending) write()
      assert.deepStrictEqual(inRedis, inMemory, said(`the answer to ${at}`))
    }
    const [inMemory, inRedis] = yield* Effect.forEach(both, seen)
    assert.deepStrictEqual(inRedis, inMemory, said(`what is seen after ${at}`))
  }
  const [inMemory, inRedis] = yield* Effect.forEach(both, told)
  assert.deepStrictEqual(inRedis, inMemory, said("what was told"))
}, Effect.scoped)

const settings = Config.all({
  runs: Config.withDefault(Config.Int("DOCKET_THREADS_RUNS"), 25),
  seed: Config.withDefault(Config.Int("DOCKET_THREADS_SEED"), 1)
})

describe("runs of flows in Redis and in memory", () => {
  it.effect("random commands → the same answers, and the same to be seen", () =>
    Effect.gen(function*() {
      const { runs, seed } = yield* settings
      for (const n of range(runs)) yield* play(seed + n)
    }), 60_000)
})
