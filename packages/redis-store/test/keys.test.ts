/**
 * What the scripts do to the server: they touch no key that they were not given, and nothing that they do grows with the
 * backlog.
 */
import { Docket, type DocketError, Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import type { DocketStore } from "@effect-docket/runtime"
import { DocketStore as Stores, Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Latch, Layer, Stream } from "effect"
import type { Redis } from "ioredis"
import { createConnection } from "node:net"
import { addition, attachTo, exit, failure } from "../../runtime/test/contract/seam.ts"
import { docketAt, logs, range, uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

/** A script call, and the commands of the script. */
interface Call {
  readonly keys: ReadonlySet<string>
  readonly commands: Array<ReadonlyArray<string>>
}

const yardstick = "local all = {} " +
  "for i = 1, 500 do all[i * 2 - 1] = i; all[i * 2] = string.rep('x', 100) .. i end " +
  "redis.call('HSET', KEYS[1], unpack(all)) return redis.call('DEL', KEYS[1])"

// How many times as long as that a call may take, with what the server needs to read and answer it. It is about 20
// milliseconds on a machine on which that takes 0.65.
const budget = 30

class Later extends Task.make("Later") {}
class Paused extends Task.make("Paused") {}
class Gated extends Task.make("Gated", { concurrency: 1 }) {}
class Waiting extends TaskGroup.make(Later, Paused, Gated) {}
/** Nobody serves it. */
class Unknown extends Task.make("Unknown") {}

const server = servers.shared(servers.start())

/** How many microseconds of a processor the thread of the scripts has had. */
const spent = (admin: Redis) =>
  Effect.map(Effect.promise(() => admin.info("cpu")), (text) => {
    // before Redis 7.0 a server has no more than one thread that matters
    const own = Array.from(text.matchAll(/^used_cpu_(?:sys|user)_main_thread:([\d.]+)/gm), ([, seconds]) =>
      Number(seconds))
    const all = Array.from(text.matchAll(/^used_cpu_(?:sys|user):([\d.]+)/gm), ([, seconds]) =>
      Number(seconds))
    return (own.length > 0 ? own : all).reduce((sum, seconds) => sum + seconds * 1_000_000, 0)
  })

/** How many scripts a server has run. */
const scriptCalls = (admin: Redis) =>
  Effect.map(
    Effect.promise(() => admin.info("commandstats")),
    (text) =>
      Array.from(text.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)).reduce(
        (sum, [, calls]) => sum + Number(calls),
        0
      )
  )

const docket = Effect.gen(function*() {
  const { url } = yield* server
  const context = yield* Layer.build(RedisStore.layer({ url }))
  return yield* Effect.provide(
    Stores.DocketStore.use((store) => store.docket({ name: uniqueName(), prefix: "docket" })),
    context
  )
})

// These have no keys: a channel, or nothing.
const keyless = new Set(["time", "publish"])

interface Line {
  readonly source: string
  readonly args: ReadonlyArray<string>
}

/** Reads a line of MONITOR: `+1700000000.000000 [0 127.0.0.1:1234] "get" "key"`. Texts stay escaped. */
const readLine = (line: string): Line | undefined => {
  const match = /^\+\d+\.\d+ \[\d+ (?<source>[^\]]+)\] (?<args>.*)$/.exec(line)
  if (match === null) return undefined
  const { args = "", source = "" } = match.groups as Readonly<Record<string, string | undefined>> // those of the pattern
  return { source, args: Array.from(args.matchAll(/"((?:[^"\\]|\\.)*)"/g), ([, text]) => text!) }
}

/** Everything that a server does, from now on. A client of ioredis may take the first line for the reply. */
const monitor = Effect.fnUntraced(function*(port: number, told: (line: Line) => void) {
  const ready = Latch.makeUnsafe()
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => createConnection({ host: "127.0.0.1", port })),
    (socket) => Effect.sync(() => socket.destroy())
  )
  let rest = ""
  socket.setEncoding("latin1").on("data", (text: string) => {
    ready.openUnsafe()
    const lines = (rest + text).split("\r\n")
    rest = lines.pop()!
    for (const line of lines) {
      const read = readLine(line)
      if (read !== undefined) told(read)
    }
  })
  socket.write("MONITOR\r\n")
  yield* ready.await
})

/** The script calls, and the commands of all, while an effect runs. */
const monitored = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const { admin, port } = yield* server
  const calls: Array<Call> = []
  const others: Array<ReadonlyArray<string>> = []
  let last = false
  yield* monitor(port, ({ args, source }) => {
    const name = args[0]!.toLowerCase()
    if (source === "lua") calls.at(-1)!.commands.push([name, ...args.slice(1)])
    else if (name === "evalsha" || name === "eval") {
      const count = Number(args[2])
      calls.push({ keys: new Set(args.slice(3, 3 + count)), commands: [] })
    } else if (name === "echo") last = true
    else others.push([name, ...args.slice(1)])
  })
  yield* effect
  yield* Effect.promise(() => admin.echo("done"))
  yield* servers.until(Effect.sync(() => last))
  return { calls, others }
}, Effect.scoped)

/**
 * A worker without work says next to nothing: a heartbeat every three seconds, and a look at what nobody serves. No more of
 * them than time has passed for, which may be more than it sleeps.
 */
const saysLittle = Effect.gen(function*() {
  const begin = yield* Clock.currentTimeMillis
  const { calls, others } = yield* monitored(Effect.sleep("3500 millis"))
  const millis = (yield* Clock.currentTimeMillis) - begin
  const beats = others.filter(([name, key]) => name === "hset" && key!.endsWith(":workers")).length
  assert.deepStrictEqual(calls, [])
  assert.isAtMost(beats, 1 + millis / 3000)
  assert.isAtMost(others.length, 6 * (beats + 1))
})

/** Something of everything that a store does. */
const everything = (store: DocketStore.StoredDocket): Effect.Effect<void, DocketError.DocketError> =>
  Effect.scoped(Effect.gen(function*() {
    const events = yield* store.subscribe(undefined)
    const worker = yield* attachTo(store, { tasks: new Map([["T", 2]]), lanes: ["default", "side"], lease: 60_000 })
    const crashing = yield* attachTo(store, { worker: "crashing", lease: 1 })
    const add = (key: string, options?: Partial<Docket.EncodedAddition>) =>
      Effect.map(store.add([addition(key, options)], { atomic: true }), (added) => added[0]!)
    const claimOf = (key: string) => Effect.map(worker.claim(), (claims) => claims.find((claim) => claim.key === key)!)
    // adding
    yield* store.add(
      range(600).map((n) => addition(`bulk${n}`, { priority: n % 3, lane: n % 2 === 0 ? "side" : "default" })),
      {
        atomic: false
      }
    )
    yield* store.clear
    yield* add("later", { due: { after: 100_000 } })
    yield* add("later", { onExisting: "replace", due: { after: 50_000 }, version: 2 })
    yield* add("later", { onExisting: "replace", lane: "side" })
    yield* Effect.exit(add("later", { onExisting: "fail" }))
    yield* add("traced", { trace: { traceId: "1", spanId: "2", sampled: true } })
    // settling
    const traced = yield* claimOf("traced")
    yield* store.progress(traced, "1")
    yield* worker.settle(traced, { _tag: "Retry", after: 0, exit: failure, failures: "[]" })
    yield* worker.settle(yield* claimOf("traced"), { _tag: "Snooze", after: 0 })
    yield* worker.settle(yield* claimOf("traced"), { _tag: "Released" })
    const failed = yield* claimOf("traced")
    yield* worker.renew(failed)
    yield* worker.settle(failed, { _tag: "Failed", exit: failure })
    yield* worker.settle(failed, { _tag: "Failed", exit: failure })
    yield* Stream.runCollect(store.deadLetters("T"))
    yield* add("traced", { redrive: failed.generation })
    yield* worker.settle(yield* claimOf("traced"), { _tag: "Completed", exit: exit(1) }, {
      due: { after: 0 },
      payload: "{}",
      version: 2
    })
    const successor = yield* claimOf("traced")
    yield* store.cancel("traced")
    yield* worker.settle(successor, { _tag: "Cancelled" })
    yield* add("forgotten", { retention: { success: 0, failure: 0 } })
    yield* worker.complete(yield* claimOf("forgotten"))
    // cancelling
    for (const key of ["now", "ranked", "due"]) {
      yield* add(key, { due: { after: key === "due" ? 50_000 : 0 }, priority: key === "ranked" ? 1 : 0 })
      yield* store.cancel(key)
    }
    // what is taken over; a strike; a pause
    yield* add("abandoned")
    yield* crashing.claim()
    yield* Effect.sleep(5)
    yield* worker.complete(yield* claimOf("abandoned"))
    yield* add("struck", { payload: "{\"n\":1}" })
    const strike = { task: "T", where: [{ field: "n", operator: "equals" as const, values: [1], bigint: false }] }
    yield* store.strike({ ...strike, reason: "no", until: undefined })
    yield* worker.claim()
    yield* add("struck", { payload: "{\"n\":1}" })
    yield* store.refused([addition("struck", { payload: "{\"n\":1}" }), addition("free")])
    yield* Effect.exit(
      store.add([addition("struck", { payload: "{\"n\":1}" })], { atomic: true, onRefused: "fail" })
    )
    yield* add("explained")
    yield* store.explain("explained")
    yield* store.restore(strike)
    yield* store.pause({ task: "T", lane: undefined }, "lunch")
    yield* worker.claim()
    yield* store.get("explained")
    yield* Stream.runCollect(store.snapshot)
    yield* store.counts
    yield* store.resume({ task: "T", lane: undefined })
    yield* store.outcome("explained", 1)
    yield* store.clear
    // gates
    const scope = { gates: new Map([["T", { concurrency: 1 }], ["U", { concurrency: 1 }]]) }
    const gated = yield* attachTo(store, { worker: "gated", ...scope })
    const ofOthers = yield* attachTo(store, { worker: "others", tasks: new Map([["U", 1]]), ...scope })
    for (const key of ["g1", "g2", "g3", "g4"]) yield* add(key, { gates: { concurrency: "v" } })
    yield* add("g5", { gates: { concurrency: "v" }, task: "U" })
    const first = (yield* gated.claim())[0]!
    yield* ofOthers.claim()
    yield* store.explain("g2")
    yield* store.cancel("g2")
    yield* add("g3", { gates: { concurrency: "w" }, onExisting: "replace" })
    yield* gated.settle(first, { _tag: "Retry", after: 0, exit: failure, failures: "[]" })
    yield* ofOthers.claim()
    for (const claim of yield* gated.claim()) {
      yield* add(claim.key, { gates: { concurrency: "x" }, onExisting: "replace" })
      yield* gated.complete(claim)
    }
    yield* store.clear
    const rateLimit = { limit: 1, window: 20, drops: false }
    const slow = yield* attachTo(store, { worker: "slow", gates: new Map([["T", { rateLimit }]]) })
    for (const key of ["r1", "r2", "r3"]) yield* add(key, { gates: { rateLimit: "v" } })
    yield* slow.claim()
    yield* Effect.sleep(25)
    yield* slow.claim()
    yield* store.cancel("r3")
    const quick = yield* attachTo(store, {
      worker: "quick",
      gates: new Map([["T", { rateLimit: { ...rateLimit, drops: true } }]])
    })
    yield* add("r4", { gates: { rateLimit: "v" } })
    for (const claim of yield* quick.claim()) yield* quick.settle(claim, { _tag: "Skipped", by: "rateLimit" })
    yield* Effect.sleep(25)
    yield* slow.claim()
    // two gates: who waits goes from the one to the other, leaves, comes back, is cleared
    const both = { gates: { concurrency: "two", rateLimit: "two" } }
    const double = yield* attachTo(store, { worker: "double", gates: new Map([["T", { concurrency: 1, rateLimit }]]) })
    for (const key of ["b1", "b2", "b3", "b4", "b5"]) yield* add(key, both)
    const before = yield* double.claim()
    yield* double.claim()
    yield* store.explain("b3")
    for (const claim of before) yield* double.complete(claim)
    yield* store.explain("b3")
    yield* store.cancel("b2")
    yield* Effect.sleep(25)
    for (const claim of yield* double.claim(1)) yield* double.settle(claim, { _tag: "Released" })
    yield* double.claim()
    yield* store.clear
    const cold = yield* attachTo(store, { worker: "cold", gates: new Map([["T", { cooldown: 20 }]]) })
    for (const key of ["c1", "c2"]) {
      yield* add(key, { gates: { cooldown: "v" } })
      yield* cold.claim()
    }
    const debounce = { about: "v", for: 10, max: 50, keepsFirst: false }
    for (const key of ["d1", "d2"]) yield* add(key, { gates: { debounce }, version: key === "d1" ? 2 : 1 })
    yield* store.cancel("d1")
    yield* add("d3", { gates: { debounce } })
    yield* Effect.sleep(25)
    yield* cold.claim()
    yield* add("d4", { gates: { debounce } })
    yield* store.clear
    yield* everyFlow(store)
    void events
  }))

const thread = (options?: Partial<Docket.EncodedThread>): Docket.EncodedThread => ({
  flow: "F",
  version: 1,
  step: "0",
  state: "{}",
  deadline: undefined,
  onCancel: "interpret",
  ...options
})

const member = (parent: DocketStore.Fence, gather: string, index: number, options?: Partial<Docket.EncodedAddition>) =>
  addition(`${parent.key}/${gather}/${index}`, {
    retention: { success: 0, failure: 60_000 },
    thread: {
      ...thread({ onCancel: "end" }),
      parent: { key: parent.key, generation: parent.generation, gather, index }
    },
    ...options
  })

/** The same with flows: an interpreter, and workers that know nothing of them. */
const everyFlow = (store: DocketStore.StoredDocket): Effect.Effect<void, DocketError.DocketError> =>
  Effect.scoped(Effect.gen(function*() {
    const worker = yield* attachTo(store, { worker: "steps", lease: 60_000 })
    const dying = yield* attachTo(store, { worker: "dying", lease: 1 })
    const interpreter = yield* attachTo(store, {
      worker: "interpreter",
      tasks: new Map(),
      flows: new Map([["F", new Set([1])]]),
      lease: 60_000
    })
    const between = Effect.map(interpreter.turn({ between: 10 }), ({ claimed }) => claimed)
    const add = (key: string, options?: Partial<Docket.EncodedAddition>) =>
      store.add([addition(key, { thread: thread(), ...options })], { atomic: true })
    const goOn = (
      of: typeof worker,
      { generation, key, token }: DocketStore.Fence,
      to: DocketStore.Destination,
      members?: ReadonlyArray<Docket.EncodedAddition>,
      options?: Partial<Docket.EncodedThread> & { readonly forget?: string }
    ) => {
      const { forget, ...rest } = options ?? {}
      return of.turn({
        settle: [{
          key,
          generation,
          token,
          change: { _tag: "Continue", thread: thread(rest), to, forget },
          successor: undefined,
          members
        }]
      })
    }
    const step = (lane = "default", after = 0): DocketStore.Destination => ({
      _tag: "Step",
      task: "T",
      version: 1,
      lane,
      priority: 0,
      payload: "{}",
      gates: { concurrency: "v" },
      due: { after }
    })
    const gather = (id: string, n: number): DocketStore.Destination => ({
      _tag: "Gather",
      gather: { id, succeeded: n, failed: n, ended: n }
    })
    // steps in other lanes, sleeps, hand-overs
    yield* add("f")
    yield* goOn(worker, yield* worker.claimOne, { _tag: "Between", due: { after: 1 } })
    yield* Effect.sleep(5)
    yield* goOn(interpreter, (yield* between)[0]!, step("side"))
    const side = yield* attachTo(store, { worker: "side", lanes: ["side"] })
    yield* side.settle(yield* side.claimOne, { _tag: "HandOver", exit: "1", expired: false })
    // gathers: members that are added with the settlement and before it, replaced, tried again
    const claim = (yield* between)[0]!
    yield* goOn(interpreter, claim, gather("g", 4), range(2).map((n) => member(claim, "g", n)))
    yield* store.add(range(3).map((n) => member(claim, "g", n)), { atomic: false })
    yield* store.add([member(claim, "g", 3, { due: { after: 60_000 }, gates: { concurrency: "v" } })], {
      atomic: false
    })
    for (const one of yield* worker.claim()) yield* worker.settle(one, { _tag: "Failed", exit: failure })
    yield* store.explain("f")
    yield* store.members("f", "g", 0, 4)
    yield* store.add([member(claim, "g", 0, { onExisting: "replace" })], { atomic: false })
    yield* worker.complete(yield* worker.claimOne)
    yield* store.cancel("f/g/3")
    const gathered = (yield* between)[0]!
    yield* goOn(interpreter, gathered, gather("h", 1), [member(gathered, "h", 0)], { forget: "", deadline: 1 })
    // a deadline while it gathers, seen by a worker without the flow; what is left of it is replaced
    yield* worker.turn()
    const late = (yield* between)[0]!
    yield* goOn(interpreter, late, step(), [], { deadline: 1 })
    yield* worker.turn()
    const later = (yield* between)[0]!
    yield* goOn(interpreter, later, gather("i", 2), range(2).map((n) => member(later, "i", n)))
    for (const one of yield* worker.claim(1)) yield* worker.complete(one)
    yield* add("f", { onExisting: "replace" })
    const again = (yield* worker.claim()).find(({ key }) => key === "f")!
    yield* goOn(worker, again, gather("i", 2), range(2).map((n) => member(again, "i", n)))
    // a member whose worker has died, and that was cancelled; a flow that was
    yield* dying.claim(1)
    yield* store.cancel("f/i/0")
    yield* Effect.sleep(5)
    yield* worker.claim()
    yield* store.cancel("f")
    yield* interpreter.settle((yield* between)[0]!, { _tag: "Failed", exit: failure })
    yield* store.get("f")
    yield* Stream.runCollect(store.deadLetters("F"))
    yield* add("f", { redrive: again.generation })
    yield* store.clear
    // abandoned, with a deadline, and cancelled; cleared while it gathers
    yield* add("l", { thread: thread({ deadline: 2 }) })
    yield* dying.claim()
    yield* Effect.sleep(5)
    yield* worker.turn()
    yield* goOn(interpreter, (yield* between)[0]!, { _tag: "Between", due: { after: 0 } })
    const last = (yield* between)[0]!
    yield* store.add(range(2).map((n) => member(last, "m", n)), { atomic: false })
    yield* worker.complete((yield* worker.claim(1))[0]!)
    yield* store.clear
    yield* goOn(interpreter, last, gather("m", 9))
    yield* store.clear
  }))

describe("what the scripts touch", () => {
  it.live("no script touches a key that it was not given", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const { calls } = yield* monitored(everything(store))
      assert.isAtLeast(calls.length, 50)
      const names = new Set(calls.flatMap(({ commands }) => commands.map(([name]) => name!)))
      // the test reaches what it is about
      for (
        const name of ["lpush", "rpush", "zadd", "zrem", "hincrby", "ltrim", "hdel", "publish", "set", "del", "pttl"]
      ) {
        assert.isTrue(names.has(name), name)
      }
      const undeclared = calls.flatMap(({ commands, keys }) =>
        commands.filter(([name, key]) => !keyless.has(name!) && !keys.has(key!)).map((command) =>
          command.join(" ").slice(0, 100)
        )
      )
      assert.deepStrictEqual(undeclared, [])
    }).pipe(Effect.scoped))

  const gated = (key: string, gates: Docket.EncodedGates) => addition(key, { gates })
  const complete = ({ generation, key, token }: DocketStore.Claim) => ({
    key,
    generation,
    token,
    change: { _tag: "Completed", exit: "1" } as const,
    successor: undefined
  })
  it.live("50,000 runs due at one instant → no command of a turn is given or asked for more than a batch", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const { admin } = yield* server
      const due = { at: Number((yield* Effect.promise(() => admin.time()))[0]) * 1000 + 5000 }
      yield* store.add(range(50_000).map((n) => addition(`k${n}`, { due })), { atomic: false })
      const worker = yield* attachTo(store)
      yield* worker.turn({ capacity: 1 })
      yield* servers.until(
        Effect.map(Effect.promise(() => admin.time()), ([seconds]) => Number(seconds) * 1000 > due.at)
      )
      const scheduled = Effect.promise(() => admin.zcard(`docket:{${store.name}}:g:1/default/T:due`))
      // what a slow machine added later was ready at once
      const before = yield* scheduled
      const { calls } = yield* monitored(Effect.gen(function*() {
        for (let turn = 0; turn < 20; turn++) {
          const claims = yield* worker.claim(100)
          yield* worker.turn({
            settle: claims.map(({ generation, key, token }) => ({
              key,
              generation,
              token,
              change: { _tag: "Completed", exit: "1" } as const,
              successor: undefined
            }))
          })
        }
      }))
      assert.strictEqual(calls.length, 40)
      for (const { commands } of calls) {
        // a batch of 500 is promoted, a hundred are claimed or settled: a key, and a field and a value for each
        for (const command of commands) assert.isAtMost(command.length, 2 + 2 * 600, command[0])
        const perRun = commands.filter(([name]) => name === "set" || name === "publish").length
        assert.isAtMost(perRun, 100)
        assert.isAtMost(commands.length - perRun, 60)
      }
      assert.isAtLeast(before, 20_000)
      assert.isAtLeast(yield* scheduled, before - 20_000)
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("no script call takes the server longer than its budget, by its own statistics", () =>
    Effect.gen(function*() {
      const { admin } = yield* server
      const unit: Array<number> = []
      const calls: Array<number> = []
      /** Notes the time of the processor that the server spends on each script call of an effect: nobody else takes of that. */
      const timed = Effect.fnUntraced(function*<A, E>(times: Array<number>, effect: Effect.Effect<A, E>) {
        const callsBefore = yield* scriptCalls(admin)
        const before = yield* spent(admin)
        const value = yield* effect
        const micros = (yield* spent(admin)) - before
        const count = (yield* scriptCalls(admin)) - callsBefore
        for (let n = 0; n < count; n++) times.push(micros / count)
        return value
      })
      // what a batch costs at least, on this machine: 500 fields are written and removed
      const measure = timed(unit, Effect.promise(() => admin.eval(yardstick, 1, "docket:yardstick")))
      const store = yield* docket
      const limits = { concurrency: 200, rateLimit: { limit: 2000, window: 60_000, drops: false } }
      const worker = yield* attachTo(store, {
        flows: new Map([["F", new Set([1])]]),
        gates: new Map([["T", limits]])
      })
      const workOff = (turns: number) =>
        Effect.gen(function*() {
          let settle: ReadonlyArray<DocketStore.Settlement> = []
          for (let n = 0; n < turns; n++) {
            const { claimed } = yield* timed(calls, worker.turn({ settle, capacity: 500 }))
            settle = claimed.map(complete)
            yield* measure
          }
          yield* timed(calls, worker.turn({ settle }))
        })
      const add = (additions: ReadonlyArray<Docket.EncodedAddition>) =>
        timed(calls, store.add(additions, { atomic: false }))
      yield* store.add([addition("f", { thread: thread() })], { atomic: true })
      const flow = yield* worker.claimOne
      yield* add(range(3000).map((n) => member(flow, "g", n)))
      yield* workOff(8)
      yield* timed(
        calls,
        worker.settle(flow, {
          _tag: "Continue",
          thread: thread(),
          to: { _tag: "Gather", gather: { id: "g", succeeded: 3000, failed: 1, ended: 3000 } }
        })
      )
      yield* add(range(5000).map((n) => addition(`due${n}`, { due: { after: 1 } })))
      yield* workOff(12)
      const both = { concurrency: "v", rateLimit: "v" }
      yield* add(range(3000).map((n) => gated(`held${n}`, both)))
      yield* workOff(8)
      yield* timed(calls, store.clear)
      assert.isAtLeast(unit.length, 28)
      assert.isAtLeast(calls.length, 50)
      const ascending = (times: ReadonlyArray<number>) => times.toSorted((a, b) => a - b)
      // one of them may come when the server has something else to do, or its caches are cold
      const most = ascending(calls)[Math.floor(calls.length * 0.95)]!
      const typical = ascending(unit)[Math.floor(unit.length / 2)]!
      assert.isAtMost(most, budget * typical, `${calls.length} calls, the yardstick takes ${typical} microseconds`)
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  /** Commands of scripts while an effect runs. */
  const commandsOf = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
    Effect.map(monitored(effect), ({ calls }) => calls.reduce((sum, { commands }) => sum + commands.length, 0))

  it.live("1,200 members: no command grows with them; forgotten, nothing of them is left", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const { admin } = yield* server
      const worker = yield* attachTo(store, { flows: new Map([["F", new Set([1])]]) })
      yield* store.add([addition("f", { thread: thread() })], { atomic: true })
      const claim = yield* worker.claimOne
      const flowKey = `docket:{${store.name}}:flow:f`
      const count = 1200
      const goOn = (fence: DocketStore.Fence, change: Partial<Extract<DocketStore.Change, { _tag: "Continue" }>>) =>
        worker.settle(fence, {
          _tag: "Continue",
          thread: thread(),
          to: { _tag: "Between", due: { after: 0 } },
          ...change
        })
      const { calls } = yield* monitored(Effect.gen(function*() {
        yield* store.add(range(count).map((n) => member(claim, "c/g", n)), { atomic: false })
        yield* store.add([member(claim, "h", 0)], { atomic: false })
        for (let n = 0; n <= count; n += 100) {
          const claims = yield* worker.claim(100)
          yield* worker.turn({ settle: claims.map(complete) })
        }
        yield* goOn(claim, { to: { _tag: "Gather", gather: { id: "c/g", succeeded: count, failed: 1, ended: count } } })
      }))
      for (const { commands } of calls) {
        // a run has a key, a field and a value, and its flow a place
        for (const command of commands) assert.isAtMost(command.length, 2 + 2 * 600, command[0])
        assert.isAtMost(commands.length, 60 + 3 * 100)
      }
      // two of the flow, one of each gather, and the members
      assert.strictEqual(yield* Effect.promise(() => admin.hlen(flowKey)), 2 + 2 + count + 1)
      const [gathered] = (yield* worker.turn({ between: 1 })).claimed
      assert.deepStrictEqual(gathered?.thread?.gathered, { succeeded: count, failed: 0 })
      yield* goOn(gathered!, { forget: "c" })
      assert.deepStrictEqual(yield* store.members("f", "c/g", 0, 1), [undefined])
      assert.deepStrictEqual(yield* store.members("f", "h", 0, 1), [{ _tag: "Done", text: "1" }])
      assert.strictEqual(yield* Effect.promise(() => admin.hlen(flowKey)), 2 + 1 + 1)
      yield* worker.complete((yield* worker.turn({ between: 1 })).claimed[0]!)
      assert.isAtLeast(yield* Effect.promise(() => admin.pttl(flowKey)), 1)
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("20,000 held runs of one value → the claim of another takes as many commands as with none", () =>
    Effect.gen(function*() {
      const claimOf = Effect.fnUntraced(function*(held: number) {
        const store = yield* docket
        const worker = yield* attachTo(store, { gates: new Map([["T", { concurrency: 1 }]]) })
        yield* store.add([gated("holder", { concurrency: "a" })], { atomic: true })
        yield* worker.claim(1)
        yield* store.add(range(held).map((n) => gated(`k${n}`, { concurrency: "a" })), { atomic: false })
        yield* worker.claim(1)
        yield* worker.claim(1)
        yield* store.add([gated("other", { concurrency: "b" })], { atomic: true })
        const claims: Array<string> = []
        const commands = yield* commandsOf(
          Effect.map(worker.claim(1), (found) => {
            claims.push(...found.map(({ key }) => key))
          })
        )
        assert.deepStrictEqual(claims, ["other"])
        return commands
      })
      assert.strictEqual(yield* claimOf(20_000), yield* claimOf(1))
      const { admin } = yield* server
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("runs that a gate holds cost no command while they wait, and as many per run whether 1,000 wait or 4,000", () =>
    Effect.gen(function*() {
      const perRun = Effect.fnUntraced(function*(count: number, gates: Docket.EncodedGates) {
        const store = yield* docket
        const limits = { concurrency: 2, rateLimit: { limit: 100, window: 60_000, drops: false } }
        const worker = yield* attachTo(store, { gates: new Map([["T", limits]]) })
        yield* store.add(range(count).map((n) => gated(`k${n}`, gates)), { atomic: false })
        let settle = (yield* worker.claim(10)).map(complete)
        // what was added before a worker came is held by its first turns
        while ((yield* worker.claim(10)).length > 0 || (yield* store.counts)[0]!.ready > 0) yield* Effect.void
        assert.deepStrictEqual((yield* monitored(Effect.sleep(500))).calls, [])
        const runs = 100
        const commands = yield* commandsOf(Effect.gen(function*() {
          for (let n = 0; n < runs / 2; n++) {
            settle = (yield* worker.turn({ settle, capacity: 10 })).claimed.map(complete)
            assert.strictEqual(settle.length, n === runs / 2 - 1 && gates.rateLimit !== undefined ? 0 : 2)
          }
        }))
        return commands / runs
      })
      for (const gates of [{ concurrency: "a" }, { concurrency: "a", rateLimit: "r" }]) {
        const few = yield* perRun(1000, gates)
        assert.isAtMost(yield* perRun(4000, gates), few * 1.05)
        // a turn of two runs has some twenty without gates
        assert.isAtMost(few, 40)
      }
      const { admin } = yield* server
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("two gates that take turns → as many words per run whether 2,000 are held or 20,000", () =>
    Effect.gen(function*() {
      const window = 300
      const limits = { concurrency: 1, rateLimit: { limit: 10, window, drops: false } }
      const wordsPerRun = Effect.fnUntraced(function*(held: number) {
        const store = yield* docket
        const worker = yield* attachTo(store, { gates: new Map([["T", limits]]) })
        const gates = { concurrency: "a", rateLimit: "r" }
        yield* store.add(range(held).map((n) => gated(`k${n}`, gates)), { atomic: false })
        const seen: Array<string> = []
        /** Claims and completes until the window is full, and is over again. */
        const round = Effect.gen(function*() {
          let settle: ReadonlyArray<DocketStore.Settlement> = []
          do {
            const { claimed } = yield* worker.turn({ settle, capacity: 10 })
            seen.push(...claimed.map(({ key }) => key))
            settle = claimed.map(complete)
          } while (settle.length > 0)
          yield* Effect.sleep(window)
        })
        // what was added is held by the first turns
        do yield* round
        while ((yield* store.counts)[0]!.ready > 0)
        const before = seen.length
        const { calls } = yield* monitored(Effect.repeat(round, { times: 2 }))
        const runs = seen.length - before
        assert.isAtLeast(runs, 30)
        assert.deepStrictEqual(seen, range(seen.length).map((n) => `k${n}`))
        const words = calls.flatMap(({ commands }) => commands).reduce((sum, command) => sum + command.length, 0)
        return words / runs
      })
      const few = yield* wordsPerRun(2000)
      assert.isAtMost(few, 400)
      // a heartbeat may come between
      assert.isAtMost(yield* wordsPerRun(20_000), few * 1.2)
      const { admin } = yield* server
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("cooldowns and windows of many values → what is over is forgotten as fast as it comes", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const limits = { cooldown: 20, rateLimit: { limit: 1, window: 20, drops: false } }
      const worker = yield* attachTo(store, { gates: new Map([["T", limits]]) })
      let settle: ReadonlyArray<DocketStore.Settlement> = []
      for (let round = 0; round < 10; round++) {
        const additions = range(100).map((n) => {
          const value = `${round}/${n}`
          return gated(value, { cooldown: value, rateLimit: value })
        })
        yield* store.add(additions, { atomic: false })
        const { claimed } = yield* worker.turn({ settle, capacity: 100 })
        assert.strictEqual(claimed.length, 100)
        settle = claimed.map(complete)
        yield* Effect.sleep(25)
      }
      yield* worker.turn({ settle })
      const { admin } = yield* server
      for (const key of ["ends", "starts"]) {
        const left = yield* Effect.promise(() => admin.zcard(`docket:{${encodeURIComponent(store.name)}}:${key}`))
        assert.isAtMost(left, 200, key)
      }
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("runs that wait cost a worker no command: scheduled, paused, behind a gate, without a handler", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* server
      const said = logs()
      const started = Latch.makeUnsafe()
      const busy = Effect.andThen(started.open, Effect.never)
      const live = Waiting.toLayer({ Later: () => Effect.void, Paused: () => Effect.void, Gated: () => busy })
      yield* Effect.gen(function*() {
        yield* Docket.pause({ task: Paused })
        // renewals would be commands
        yield* Layer.build(Layer.provide(Worker.layer(Waiting, { drainTimeout: 0, lease: "1 hour" }), live))
        yield* Docket.add(Gated)
        yield* started.await
        for (const task of [Later, Paused, Gated, Unknown]) {
          yield* Docket.addAll(
            range(1000).map(() => [task, undefined, { after: task === Later ? "1 hour" : 0 }] as const)
          )
        }
        const waits = { task: "", lane: "default", scheduled: 0, ready: 0, held: 0, running: 0 }
        const expected = [
          { ...waits, task: "Gated", held: 1000, running: 1 },
          { ...waits, task: "Later", scheduled: 1000 },
          { ...waits, task: "Paused", held: 1000 },
          { ...waits, task: "Unknown", held: 1000 }
        ]
        const counts = Effect.map(Docket.counts, (all) => all.toSorted((a, b) => a.task < b.task ? -1 : 1))
        yield* servers.until(Effect.map(counts, ([gated]) => gated?.held === 1000))
        yield* servers.until(Effect.sync(() => said.count("no worker has a handler") === 1))
        // as without them, see below
        yield* saysLittle
        assert.deepStrictEqual(yield* counts, expected)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.mergeAll(Waiting.client, Unknown.client, said.layer).pipe(
            Layer.provideMerge(docketAt(url, uniqueName()))
          )
        )
      )
      yield* Effect.promise(() => admin.flushdb())
    }).pipe(Effect.scoped))

  it.live("a worker without work sends next to nothing", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const worker = yield* attachTo(store)
      yield* worker.turn({ capacity: 1 })
      yield* saysLittle
    }).pipe(Effect.scoped))

  it.live("who waits is told of the end of a run, and of nothing else; nobody is told of members", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const { admin } = yield* server
      const worker = yield* attachTo(store, { flows: new Map([["F", new Set([1])]]) })
      /** A run, and a flow with two members, to their ends; what is published meanwhile. */
      const published = Effect.gen(function*() {
        const { calls } = yield* monitored(Effect.gen(function*() {
          yield* store.add([addition("a"), addition("f", { thread: thread() })], { atomic: true })
          const [plain, flow] = yield* worker.claim()
          yield* worker.turn({ settle: [complete(plain!)] })
          yield* worker.turn({
            settle: [{
              ...complete(flow!),
              change: {
                _tag: "Continue",
                thread: thread(),
                to: { _tag: "Gather", gather: { id: "g", succeeded: 2, failed: 1, ended: 2 } }
              },
              members: range(2).map((n) => member(flow!, "g", n))
            }]
          })
          yield* worker.turn({ settle: (yield* worker.claim()).map(complete) })
          yield* worker.complete((yield* worker.turn({ between: 1 })).claimed[0]!)
        }))
        return calls.flatMap(({ commands }) => commands.filter(([name]) => name === "publish")).length
      })
      assert.strictEqual(yield* published, 0)
      const { generation } = (yield* store.add([addition("z", { due: { after: 60_000 } })], { atomic: true }))[0]!
      const waiting = yield* Effect.forkChild(store.awaitOutcome("z", generation))
      yield* servers.until(
        Effect.map(Effect.promise(() => admin.exists(`docket:{${store.name}}:waits`)), (n) => n === 1)
      )
      assert.strictEqual(yield* published, 2)
      yield* store.cancel("z")
      assert.deepStrictEqual(yield* Fiber.join(waiting), { _tag: "Cancelled" })
    }).pipe(Effect.scoped))

  it.live("a slot frees while a worker waits for flows → it is woken for a new run, and the other way round", () =>
    Effect.gen(function*() {
      const store = yield* docket
      const worker = yield* attachTo(store, { flows: new Map([["F", new Set([1])]]) })
      // it waits for the one before it has room for the other
      const room = (capacity: number, between: number) =>
        Effect.andThen(worker.turn({ capacity, between }), Effect.sleep(100))
      const seconds = Effect.flatMap(
        server,
        ({ admin }) => Effect.promise(() => admin.time().then(([at]) => Number(at)))
      )
      const begun = yield* seconds
      yield* room(0, 1)
      yield* room(1, 1)
      yield* store.add([addition("k")], { atomic: true })
      yield* worker.woken
      yield* room(1, 0)
      yield* room(0, 1)
      yield* store.add([addition("f", { task: "F", lane: "", thread: thread({ step: undefined }) })], { atomic: true })
      yield* worker.woken
      // one that waits at the wrong list looks for itself after ten seconds
      assert.isBelow((yield* seconds) - begun, 9)
    }).pipe(Effect.scoped))

  it.live("one new run wakes one of a hundred idle workers", () =>
    Effect.gen(function*() {
      const store = yield* docket
      let woken = 0
      yield* Effect.forEach(range(100), (n) =>
        Effect.flatMap(
          attachTo(store, {
            worker: `w${n}`,
            onWake: () => {
              woken++
            }
          }),
          (worker) => worker.turn({ capacity: 1 })
        ), { concurrency: 20 })
      yield* Effect.sleep(200)
      woken = 0
      yield* store.add([addition("k")], { atomic: true })
      yield* servers.until(Effect.sync(() => woken > 0))
      yield* Effect.sleep(200)
      assert.strictEqual(woken, 1)
    }).pipe(Effect.scoped))
})
