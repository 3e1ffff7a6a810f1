import { Docket, Execution, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, MemoryStore, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, Fiber, Latch, Layer, Option, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Ahead } from "../src/internal/worker/ahead.ts"
import * as Kit from "./Kit.ts"

const second = 1000
const minute = 60 * second

class Job extends Task.make("Job", { payload: { id: Schema.Int }, success: Schema.Int, key: ["id"] }) {}
class Other extends Task.make("Other", { lane: "other" }) {}
class Jobs extends TaskGroup.make(Job, Other) {}

type Body = (id: number) => Effect.Effect<void, never, Task.HandlerServices>

const bundle = (body: Body = () => Effect.void) =>
  Kit.live(Jobs, Jobs.toLayer({ Job: ({ id }) => Effect.as(body(id), id), Other: () => Effect.void }))

const addJobs = (n: number, first = 0) =>
  Docket.addAll(Array.from({ length: n }, (_, index) => [Job, { id: first + index }] as const))

/** Counts how many bodies run at once. */
const gauge = () => {
  const self = { now: 0, most: 0, starts: new Map<number, number>() }
  const track = <A, E, R>(id: number, body: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        self.starts.set(id, (self.starts.get(id) ?? 0) + 1)
        self.most = Math.max(self.most, ++self.now)
      }),
      () => body,
      () => Effect.sync(() => self.now--)
    )
  return Object.assign(self, { track })
}

describe("Options of a worker", () => {
  const complaint = (options: Worker.Options<[]>) =>
    Effect.gen(function*() {
      const errors = [
        yield* Effect.flip(Effect.scoped(Layer.build(Worker.layer(Jobs, options)))),
        yield* Effect.flip(Worker.runUntilIdle(Jobs, options)),
        yield* Effect.flip(Worker.runAtMost(Jobs, {}, options))
      ]
      // a drain of the kit does not wait for bodies: it has no use for a drain time
      if (!("drainTimeout" in options)) errors.push(yield* Effect.flip(DocketTest.drain(Jobs, options)))
      const [option] = new Set(errors.map(Kit.invalidOption))
      return option
    })

  const bad: ReadonlyArray<readonly [option: string, options: Worker.Options<[]>]> = [
    ["concurrency", { concurrency: 0 }],
    ["concurrency", { concurrency: -1 }],
    ["concurrency", { concurrency: 1.5 }],
    ["concurrency", { concurrency: Number.NaN }],
    ["concurrency", { concurrency: Infinity }],
    ["concurrency", { concurrency: "5" as unknown as number }],
    ["lease", { lease: 0 }],
    ["lease", { lease: "-1 seconds" }],
    ["lease", { lease: Number.NaN }],
    ["lease", { lease: "soon" as "1 second" }],
    ["drainTimeout", { drainTimeout: -1 }],
    ["lanes", { lanes: [] }],
    ["lanes", { lanes: {} }],
    ["lanes", { lanes: [""] }],
    ["lanes", { lanes: { "": 1 } }],
    ["lanes.fast", { lanes: { fast: 0 } }],
    ["lanes.fast", { lanes: { slow: 1, fast: -1 } }],
    ["lanes.fast", { lanes: { fast: 0.5 } }],
    ["name", { name: "" }]
  ]
  for (const [option, options] of bad) {
    const [[name, value]] = Object.entries(options) as [[string, unknown]]
    it.effect(`${name}: ${typeof value === "number" ? value : JSON.stringify(value)} is refused by name`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* complaint(options), option)
      }).pipe(Effect.provide(bundle())))
  }

  it.effect("limits and lengths of runs are checked as well", () =>
    Effect.gen(function*() {
      for (const limit of [-1, 0.5, Number.NaN]) {
        assert.strictEqual(Kit.invalidOption(yield* Effect.flip(Worker.runAtMost(Jobs, { Job: limit }))), "limits.Job")
      }
      assert.strictEqual(Kit.invalidOption(yield* Effect.flip(DocketTest.drain(Jobs, { for: -1 }))), "for")
    }).pipe(Effect.provide(bundle())))

  it.effect("a docket has to have a name and a prefix", () =>
    Effect.gen(function*() {
      const complaint = (options: DocketEngine.Options) =>
        Effect.map(
          Effect.flip(Effect.scoped(Layer.build(Layer.provide(DocketEngine.layer(options), MemoryStore.layer)))),
          Kit.invalidOption
        )
      assert.strictEqual(yield* complaint({ name: "" }), "name")
      assert.strictEqual(yield* complaint({ name: "x", prefix: "" }), "prefix")
    }))

  it.effect("a worker that was refused leaves nothing behind", () =>
    Effect.gen(function*() {
      yield* addJobs(1)
      yield* Effect.flip(Worker.runUntilIdle(Jobs, { concurrency: 0 }))
      assert.strictEqual((yield* Docket.explain("Job/0"))._tag, "NoWorker")
      assert.deepStrictEqual(yield* Worker.runUntilIdle(Jobs), { succeeded: 1, failed: 0, retried: 0 })
      assert.strictEqual((yield* Docket.explain("Job/0"))._tag, "Finished")
    }).pipe(Effect.provide(bundle())))

  it.effect("workers have names of their own unless they are given one", () =>
    Effect.gen(function*() {
      const names = new Set<string>()
      const events = yield* Docket.events.pipe(
        Stream.runForEach(({ event }) => Effect.sync(() => event._tag === "Started" && names.add(event.worker))),
        Effect.forkChild({ startImmediately: true })
      )
      for (const name of [undefined, undefined, "mine"]) {
        yield* addJobs(1)
        yield* Worker.runUntilIdle(Jobs, { name })
      }
      yield* Kit.settle
      yield* Fiber.interrupt(events)
      assert.strictEqual(names.size, 3)
      assert.isTrue(names.has("mine"))
    }).pipe(Effect.provide(bundle())))
})

describe("A worker", () => {
  it.effect("runs as many bodies at once as its concurrency says, and each body once", () => {
    const seen = gauge()
    return Effect.gen(function*() {
      const runs = yield* addJobs(50)
      const report = yield* DocketTest.drain(Jobs, { concurrency: 5 })
      assert.deepStrictEqual(report, { succeeded: 50, failed: 0, retried: 0 })
      assert.strictEqual(seen.most, 5)
      assert.strictEqual(seen.starts.size, 50)
      assert.deepStrictEqual(new Set(seen.starts.values()), new Set([1]))
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), Array.from({ length: 50 }, (_, id) => id))
      assert.strictEqual(yield* Clock.currentTimeMillis, 10 * second)
    }).pipe(Effect.provide(bundle((id) => seen.track(id, Effect.sleep("1 second")))))
  })

  it.effect("has ten slots by default", () => {
    const seen = gauge()
    return Effect.gen(function*() {
      yield* addJobs(30)
      yield* DocketTest.drain(Jobs)
      assert.strictEqual(seen.most, 10)
    }).pipe(Effect.provide(bundle((id) => seen.track(id, Effect.sleep("1 second")))))
  })

  it.effect("begins the next run when a slot is free, without waiting for anything", () => {
    const gates = Array.from({ length: 3 }, () => Latch.makeUnsafe())
    const started: Array<number> = []
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(Jobs, { concurrency: 1 }))
      yield* addJobs(3)
      for (const [index, gate] of gates.entries()) {
        yield* Kit.settle
        assert.strictEqual(started.length, index + 1)
        yield* gate.open
      }
      yield* Kit.settle
      assert.deepStrictEqual(started, [0, 1, 2])
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    }).pipe(Effect.provide(bundle((id) => Effect.andThen(Effect.sync(() => started.push(id)), gates[id]!.await))))
  })

  it.effect("shares with another one: each body once, and both work", () => {
    const seen = gauge()
    const workers = new Set<string>()
    return Effect.gen(function*() {
      const events = yield* Docket.events.pipe(
        Stream.runForEach(({ event }) => Effect.sync(() => event._tag === "Started" && workers.add(event.worker))),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Kit.start(Worker.layer(Jobs, { concurrency: 5, name: "a" }))
      yield* Kit.start(Worker.layer(Jobs, { concurrency: 5, name: "b" }))
      const runs = yield* addJobs(50)
      yield* Kit.advanceBy("1 second", 5)
      yield* Effect.forEach(runs, (run) => run.await)
      assert.strictEqual(seen.most, 10)
      assert.deepStrictEqual(new Set(seen.starts.values()), new Set([1]))
      assert.deepStrictEqual(workers, new Set(["a", "b"]))
      yield* Fiber.interrupt(events)
    }).pipe(Effect.provide(bundle((id) => seen.track(id, Effect.sleep("1 second")))))
  })

  it.effect("keeps the claim of a body that runs longer than its lease", () => {
    const seen = gauge()
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(Jobs, { lease: "3 seconds", name: "a" }))
      const [run] = yield* addJobs(1)
      yield* Kit.start(Worker.layer(Jobs, { lease: "3 seconds", name: "b" }))
      yield* Kit.advanceBy("1 second", 21)
      assert.strictEqual(yield* run!.await, 0)
      assert.strictEqual(seen.starts.get(0), 1)
    }).pipe(Effect.provide(bundle((id) => seen.track(id, Effect.sleep("20 seconds")))))
  })

  it.effect("goes on when the store is away for a while: says so once, loses nothing, repeats nothing", () => {
    const { at, layer } = Kit.logs()
    const seen = gauge()
    let failures = 0
    const outage = Kit.intercept((session) => ({
      ...session,
      // the reply is lost: the turn was taken every other time
      turn: (request) =>
        failures > 0 && failures < 8
          ? Effect.andThen(
            failures++ % 2 === 0 ? Effect.asVoid(session.turn({ ...request, capacity: 0 })) : Effect.void,
            Effect.fail(Kit.unavailable)
          )
          : session.turn(request)
    }))
    return Effect.gen(function*() {
      yield* Kit.start(Layer.provide(Worker.layer(Jobs, { name: "w" }), outage))
      const [first] = yield* addJobs(1)
      yield* Kit.settle
      failures = 1
      yield* Kit.advanceBy("1 second", 30)
      assert.strictEqual(yield* first!.await, 0)
      const [next] = yield* addJobs(1, 1)
      yield* Kit.advanceBy("1 second", 2)
      assert.strictEqual(yield* next!.await, 1)
      assert.deepStrictEqual(Array.from(seen.starts), [[0, 1], [1, 1]])
      const away = at("Warn").filter(({ message }) => message.includes("connection refused"))
      assert.strictEqual(away.length, 1)
      assert.include(away[0]?.message, "worker w")
      assert.strictEqual(at("Info").filter(({ message }) => message.includes("the store is back")).length, 1)
    }).pipe(Effect.provide(Layer.provideMerge(bundle((id) => seen.track(id, Effect.sleep("1 second"))), layer)))
  })

  it.effect("that could not renew settles too late: nothing changes, a warning says so, and it goes on", () => {
    const { at, layer } = Kit.logs()
    const gate = Latch.makeUnsafe()
    const started: Array<string> = []
    const mute = Kit.intercept((session) => ({ ...session, renew: () => Effect.fail(Kit.unavailable) }))
    const worker = (name: string) => Worker.layer(Jobs, { name, lease: "3 seconds" })
    return Effect.gen(function*() {
      yield* Kit.start(Layer.provide(worker("mute"), mute))
      const [run] = yield* addJobs(1)
      yield* Kit.settle
      assert.deepStrictEqual(started, ["0"])
      yield* Kit.start(worker("other"))
      yield* Kit.advanceBy("1 second", 4)
      assert.strictEqual(started.length, 2)
      yield* gate.open
      assert.strictEqual(yield* run!.await, 0)
      yield* Kit.settle
      assert.isAbove(at("Warn").filter(({ message }) => message.includes("leases could not be renewed")).length, 0)
      const late = at("Warn").filter(({ message }) => message.includes("too late"))
      assert.strictEqual(late.length, 1)
      assert.strictEqual(late[0]?.annotations["key"], "Job/0")
      const [next] = yield* addJobs(1, 1)
      assert.strictEqual(yield* next!.await, 1)
    }).pipe(
      Effect.provide(
        Layer.provideMerge(
          bundle((id) => Effect.andThen(Effect.sync(() => started.push(String(id))), gate.await)),
          layer
        )
      )
    )
  })

  it.effect("that is told its claim is lost interrupts the body and writes nothing", () => {
    const interrupted: Array<number> = []
    const forgetful = Kit.intercept((session) => ({
      ...session,
      renew: (claims) => Effect.succeed(claims.map(() => "Lost" as const))
    }))
    return Effect.gen(function*() {
      yield* Kit.start(Layer.provide(Worker.layer(Jobs, { lease: "3 seconds" }), forgetful))
      const [run] = yield* addJobs(1)
      yield* Kit.advance("1 second")
      assert.deepStrictEqual(interrupted, [0])
      assert.isTrue(Option.isNone(yield* run!.poll))
      assert.strictEqual((yield* Docket.explain("Job/0"))._tag, "Running")
    }).pipe(
      Effect.provide(bundle((id) => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted.push(id)))))
    )
  })

  it.effect("starts and stops any number of times and leaves nothing attached", () =>
    Effect.gen(function*() {
      for (let n = 0; n < 10; n++) {
        const { stop } = yield* Kit.start(Worker.layer(Jobs))
        const [run] = yield* addJobs(1, n)
        if (n % 2 === 0) yield* run!.await
        yield* stop
      }
      yield* Docket.add(Job, { id: 99 })
      assert.strictEqual((yield* Docket.explain("Job/99"))._tag, "NoWorker")
      assert.strictEqual((yield* DocketTest.drain(Jobs)).failed, 0)
    }).pipe(Effect.provide(bundle())))
})

describe("Lanes", () => {
  class Fast extends Task.make("Fast", { lane: "fast", payload: { id: Schema.Int } }) {}
  class Slow extends Task.make("Slow", { lane: "slow", payload: { id: Schema.Int } }) {}
  class Lanes extends TaskGroup.make(Fast, Slow) {}

  const bundle = () => {
    const fast = gauge()
    const slow = gauge()
    const layer = Kit.live(
      Lanes,
      Lanes.toLayer({
        Fast: ({ id }) => fast.track(id, Effect.sleep("1 second")),
        Slow: ({ id }) => slow.track(id, Effect.sleep("1 second"))
      })
    )
    const add = Effect.forEach(
      Array.from({ length: 20 }, (_, id) => id),
      (id) => Docket.addAll([[Fast, { id }], [Slow, { id }]])
    )
    return { fast, slow, layer, add }
  }

  it.effect("are served by the workers that name them, and by no others", () => {
    const { add, fast, layer, slow } = bundle()
    return Effect.gen(function*() {
      yield* add
      assert.deepStrictEqual(yield* DocketTest.drain(Lanes), { succeeded: 0, failed: 0, retried: 0 })
      assert.strictEqual((yield* DocketTest.drain(Lanes, { lanes: ["fast"] })).succeeded, 20)
      assert.strictEqual(slow.starts.size, 0)
      assert.strictEqual((yield* DocketTest.drain(Lanes, { lanes: ["default", "slow"] })).succeeded, 20)
      assert.strictEqual(fast.starts.size, 20)
    }).pipe(Effect.provide(layer))
  })

  it.effect("have the slots that they were given, and no more", () => {
    const { add, fast, layer, slow } = bundle()
    return Effect.gen(function*() {
      yield* add
      yield* DocketTest.drain(Lanes, { lanes: { fast: 4, slow: 1 }, concurrency: 10 })
      assert.deepStrictEqual([fast.most, slow.most], [4, 1])
    }).pipe(Effect.provide(layer))
  })

  it.effect("are within the concurrency of the worker", () => {
    const { add, fast, layer, slow } = bundle()
    return Effect.gen(function*() {
      yield* add
      yield* DocketTest.drain(Lanes, { lanes: { fast: 4, slow: 4 }, concurrency: 5 })
      assert.isAtMost(fast.most, 4)
      assert.isAtMost(slow.most, 4)
      assert.strictEqual(yield* Clock.currentTimeMillis, 40 / 5 * second)
    }).pipe(Effect.provide(layer))
  })

  it.effect("of the group are those of its tasks, unless they name their own", () =>
    Effect.gen(function*() {
      class Plain extends Task.make("Plain") {}
      class Own extends Task.make("Own", { lane: "own" }) {}
      class Group extends TaskGroup.make(Plain, Own).annotateTasks(Task.Lane, "group") {}
      yield* Effect.gen(function*() {
        yield* Docket.addAll([[Plain, undefined], [Own, undefined]])
        const counts = yield* Docket.counts
        assert.deepStrictEqual(counts.map(({ lane, task }) => [task, lane]), [["Plain", "group"], ["Own", "own"]])
        // a slot of a lane is freed by the end of its runs, also where the lane comes from the group
        yield* Effect.forEach(Array.from({ length: 5 }), () => Docket.add(Plain))
        assert.strictEqual((yield* DocketTest.drain(Group, { lanes: { group: 1 } })).succeeded, 6)
      }).pipe(Effect.provide(Kit.live(Group, Group.toLayer({ Plain: () => Effect.void, Own: () => Effect.void }))))
    }))
})

describe("Stopping a worker", () => {
  /** Three runs in two slots; bodies take as long as told. */
  const stopping = (body: Body, options?: Worker.Options<[]>) =>
    Effect.gen(function*() {
      const worker = yield* Kit.start(Worker.layer(Jobs, { concurrency: 2, ...options }))
      const runs = yield* addJobs(3)
      yield* Kit.settle
      const stop = yield* Effect.forkChild(worker.stop, { startImmediately: true })
      yield* Kit.settle
      return { runs, stop }
    }).pipe(Effect.provide(Layer.empty), (effect) => ({ effect, layer: bundle(body) }))

  it.effect("lets bodies end, claims nothing more, and settles what ended", () => {
    const started: Array<number> = []
    const { effect, layer } = stopping((id) =>
      Effect.andThen(Effect.sync(() => started.push(id)), Effect.sleep("20 seconds"))
    )
    return Effect.gen(function*() {
      const { runs, stop } = yield* effect
      assert.isUndefined(stop.pollUnsafe())
      yield* Kit.advance("20 seconds")
      yield* Fiber.join(stop)
      assert.deepStrictEqual(started, [0, 1])
      assert.strictEqual(yield* runs[0]!.await, 0)
      assert.strictEqual(yield* runs[1]!.await, 1)
      assert.isTrue(Option.isNone(yield* runs[2]!.poll))
      assert.strictEqual(yield* Clock.currentTimeMillis, 20 * second)
    }).pipe(Effect.provide(layer))
  })

  it.effect("releases what is not done in time, no attempt counted, for another worker to begin at once", () => {
    const attempts: Array<readonly [id: number, attempt: number]> = []
    const interrupted: Array<number> = []
    let length = "1 hour" as "1 hour" | "1 second"
    const { effect, layer } = stopping((id) =>
      Effect.gen(function*() {
        attempts.push([id, (yield* Execution.CurrentExecution).attempt])
        yield* Effect.onInterrupt(Effect.sleep(length), () => Effect.sync(() => interrupted.push(id)))
      }), { drainTimeout: "10 seconds" })
    return Effect.gen(function*() {
      const { runs, stop } = yield* effect
      yield* Kit.advance("10 seconds")
      yield* Fiber.join(stop)
      assert.deepStrictEqual(interrupted.toSorted(), [0, 1])
      const docket = yield* Docket.Docket
      assert.deepStrictEqual((yield* docket.get("Job/0"))?.attempt, 0)
      length = "1 second"
      yield* Kit.start(Worker.layer(Jobs, { concurrency: 3 }))
      yield* Kit.settle
      const [first, second] = [attempts.slice(0, 2), attempts.slice(2)]
      assert.deepStrictEqual(first, [[0, 1], [1, 1]])
      assert.deepStrictEqual(second.toSorted(([a], [b]) => a - b), [[0, 1], [1, 1], [2, 1]])
      assert.strictEqual(second[2]?.[0], 2)
      yield* Kit.advance("1 second")
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), [0, 1, 2])
    }).pipe(Effect.provide(layer))
  })

  it.effect("keeps the leases of bodies that are given time", () => {
    const starts = gauge()
    const { effect, layer } = stopping((id) => starts.track(id, Effect.sleep("20 seconds")), { lease: "3 seconds" })
    return Effect.gen(function*() {
      const { runs } = yield* effect
      yield* Kit.start(Worker.layer(Jobs, { lease: "3 seconds" }))
      yield* Kit.advanceBy("1 second", 21)
      yield* Effect.forEach(runs, (run) => run.await)
      assert.deepStrictEqual(new Set(starts.starts.values()), new Set([1]))
    }).pipe(Effect.provide(layer))
  })

  it.effect("with a drain time of zero interrupts at once", () => {
    const { effect, layer } = stopping(() => Effect.never, { drainTimeout: 0 })
    return Effect.gen(function*() {
      const { stop } = yield* effect
      yield* Fiber.join(stop)
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.deepStrictEqual((yield* Docket.counts).map(({ ready, running }) => [ready, running]), [[3, 0]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("releases a body that ignores interruption after some seconds, and says so", () => {
    const { at, layer: logs } = Kit.logs()
    const { effect, layer } = stopping(() => Effect.uninterruptible(Effect.never), { drainTimeout: "10 seconds" })
    return Effect.gen(function*() {
      const { stop } = yield* effect
      yield* Kit.advance("10 seconds")
      assert.isUndefined(stop.pollUnsafe())
      yield* Kit.advance("5 seconds")
      yield* Fiber.join(stop)
      assert.strictEqual(at("Error").length, 2)
      assert.include(at("Error")[0]?.message, "ignores interruption (Shutdown)")
      assert.deepStrictEqual((yield* Docket.counts).map(({ ready, running }) => [ready, running]), [[3, 0]])
    }).pipe(Effect.provide(Layer.provideMerge(layer, logs)))
  })

  it.effect("still hears of cancels", () => {
    const { effect, layer } = stopping(() => Effect.never)
    return Effect.gen(function*() {
      const { runs, stop } = yield* effect
      yield* runs[0]!.cancel
      yield* runs[1]!.cancel
      yield* Fiber.join(stop)
      assert.strictEqual(Kit.reasonOf(yield* Effect.flip(runs[0]!.await))._tag, "Cancelled")
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    }).pipe(Effect.provide(layer))
  })

  it.effect("when there is nothing but a run in the future takes no time, and the run stays", () =>
    Effect.gen(function*() {
      const worker = yield* Kit.start(Worker.layer(Jobs))
      const run = yield* Docket.add(Job, { id: 1 }, { after: "1 hour" })
      yield* Kit.settle
      yield* worker.stop
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.strictEqual((yield* Docket.explain(run.key))._tag, "NotDue")
    }).pipe(Effect.provide(bundle())))

  it.effect("does not wait for ever for a store that is away", () => {
    const { at, layer } = Kit.logs()
    let away = false
    const failing = Kit.intercept((session) => ({
      ...session,
      turn: (request) => away ? Effect.fail(Kit.unavailable) : session.turn(request)
    }))
    return Effect.gen(function*() {
      const worker = yield* Kit.start(Layer.provide(Worker.layer(Jobs, { drainTimeout: "1 second" }), failing))
      yield* addJobs(1)
      yield* Kit.settle
      away = true
      const stop = yield* Effect.forkChild(worker.stop, { startImmediately: true })
      yield* Kit.advanceBy("1 second", 20)
      yield* Fiber.join(stop)
      assert.isTrue(at("Warn").some(({ message }) => message.includes("stopped without the store")))
      assert.strictEqual((yield* DocketTest.drain(Jobs, { for: "1 minute" })).succeeded, 0)
    }).pipe(Effect.provide(Layer.provideMerge(bundle(() => Effect.never), layer)))
  })
})

describe("Claiming ahead", () => {
  const ahead = (concurrency: number, turn: number, run: number, times = 500) => {
    const self = new Ahead()
    for (let n = 0; n < times; n++) {
      self.observeTurn(turn)
      self.observeRuns(run, concurrency)
    }
    return self.count
  }

  it("does not happen before anything is known, nor where nothing takes time", () => {
    assert.strictEqual(new Ahead().count, 0)
    assert.strictEqual(ahead(10, 0, 0), 0)
    assert.strictEqual(ahead(10, 0, 1_000_000), 0)
    assert.strictEqual(ahead(10, 1_000_000, 0), 0)
  })

  it("is nothing for handlers that are slower than the store", () => {
    assert.strictEqual(ahead(10, 1_000_000, 1_000_000_000), 0)
    assert.strictEqual(ahead(1, 1_000_000, 2_000_000), 0)
  })

  it("is as many as end while a turn is under way, for fast ones", () => {
    assert.approximately(ahead(10, 1_000_000, 100_000), 100, 1)
    assert.approximately(ahead(1, 1_000_000, 100_000), 10, 1)
  })

  it("is bounded in number, and in the work that may wait", () => {
    assert.strictEqual(ahead(1000, 1_000_000, 1), 500)
    // a turn of ten seconds counts as five milliseconds: two runs of two milliseconds
    assert.strictEqual(ahead(1, 10_000_000_000, 2_000_000), 2)
  })

  it("is not misled by slow ones that end at one moment", () => {
    const self = new Ahead()
    self.observeTurn(1_000_000)
    self.observeRuns(1_000_000_000, 1)
    self.observeRuns(10_000, 9)
    assert.strictEqual(self.count, 0)
  })

  it("follows a change of the load within some turns", () => {
    const self = new Ahead()
    for (let n = 0; n < 500; n++) {
      self.observeTurn(1_000_000)
      self.observeRuns(100_000, 1)
    }
    assert.approximately(self.count, 10, 1)
    for (let n = 0; n < 10; n++) self.observeRuns(1_000_000_000, 1)
    assert.strictEqual(self.count, 0)
  })

  it("begins anew after a guess that was wrong", () => {
    const self = new Ahead()
    self.observeTurn(1_000_000)
    self.observeRuns(1000, 1)
    assert.isAbove(self.count, 0)
    self.forget()
    assert.strictEqual(self.count, 0)
    self.observeRuns(1000, 1)
    assert.isAbove(self.count, 0)
  })

  it.live("gives runs back when a body turns out to be slow", () => {
    const gate = Latch.makeUnsafe()
    const isSlow = Latch.makeUnsafe()
    let waiting = 0
    let started = 0
    let slow: number | undefined
    // a store that takes its time, so that it is worth while
    const distant = Kit.intercept((session) => ({
      ...session,
      turn: (request) =>
        Effect.tap(Effect.delay(session.turn(request), "3 millis"), (reply) =>
          Effect.sync(() => {
            waiting += reply.claimed.length - request.settle.filter(({ change }) => change._tag === "Released").length
          }))
    }))
    const memory = Layer.merge(
      Jobs.toLayer({
        Job: ({ id }) =>
          Effect.suspend(() => {
            waiting--
            // the first that others wait behind, in a worker that has got used to fast ones
            if (++started < 600 || slow !== undefined || waiting <= 0) return Effect.yieldNow
            slow = id
            return Effect.andThen(isSlow.open, gate.await)
          }).pipe(Effect.as(id)),
        Other: () => Effect.void
      }),
      Jobs.client
    ).pipe(Layer.provideMerge(DocketEngine.layerMemory))
    return Effect.gen(function*() {
      const runs = yield* addJobs(3000)
      yield* Kit.start(Layer.provide(Worker.layer(Jobs, { concurrency: 1, name: "slow" }), distant))
      yield* isSlow.await
      const it = runs[slow!]!
      yield* Kit.start(Worker.layer(Jobs, { concurrency: 1, name: "helper" }))
      yield* Effect.forEach(runs.filter((run) => run !== it), (run) => run.await)
      assert.isTrue(Option.isNone(yield* it.poll))
      yield* gate.open
      assert.strictEqual(yield* it.await, slow)
    }).pipe(Effect.provide(memory))
  }, 60_000)
})

describe("Finite workers", () => {
  it.effect("end at once when there is nothing to do", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Worker.runUntilIdle(Jobs), { succeeded: 0, failed: 0, retried: 0 })
      assert.deepStrictEqual(yield* Worker.runAtMost(Jobs, { Job: 3 }), { succeeded: 0, failed: 0, retried: 0 })
    }).pipe(Effect.provide(bundle())))

  it.effect("wait for runs that are due later, and for retries", () => {
    let failures = 0
    return Effect.gen(function*() {
      yield* Docket.add(Job, { id: 1 }, { after: "1 hour" })
      const worker = yield* Effect.forkChild(Worker.runUntilIdle(Jobs))
      yield* Kit.advance("59 minutes")
      assert.isUndefined(worker.pollUnsafe())
      yield* Kit.advance("1 minute")
      yield* Kit.advance("1 second")
      assert.deepStrictEqual(yield* Fiber.join(worker), { succeeded: 1, failed: 0, retried: 1 })
    }).pipe(Effect.provide(bundle(() => failures++ === 0 ? Effect.die("once") : Effect.void)))
  })

  it.effect("wait for what another worker runs, and take it over if that one is lost", () =>
    Effect.gen(function*() {
      yield* addJobs(1)
      const crashed = yield* Kit.crashingWorker({ tasks: ["Job"], lease: 10 * second })
      assert.strictEqual((yield* crashed.claim).length, 1)
      const worker = yield* Effect.forkChild(Worker.runUntilIdle(Jobs))
      yield* Kit.advance("9 seconds")
      assert.isUndefined(worker.pollUnsafe())
      yield* Kit.advance("1 second")
      assert.deepStrictEqual(yield* Fiber.join(worker), { succeeded: 1, failed: 0, retried: 0 })
    }).pipe(Effect.scoped, Effect.provide(bundle())))

  it.effect("ignore what they cannot serve: other tasks, other lanes, newer versions", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      yield* Docket.add(Other)
      yield* docket.addEncoded([
        Kit.encoded({ task: "Unknown", key: "unknown" }),
        Kit.encoded({ task: "Job", key: "newer", version: 2 })
      ], { atomic: true })
      assert.deepStrictEqual(yield* Worker.runUntilIdle(Jobs), { succeeded: 0, failed: 0, retried: 0 })
      assert.strictEqual((yield* Stream.runCollect(Docket.snapshot)).length, 3)
    }).pipe(Effect.provide(bundle())))

  it.effect("run what handlers add, too", () =>
    Effect.gen(function*() {
      class Chain extends Task.make("Chain", { payload: { left: Schema.Int } }) {}
      const group = TaskGroup.make(Chain)
      const handler = Chain.toLayer(({ left }) =>
        left === 0 ? Effect.void : Effect.asVoid(Effect.orDie(Docket.add(Chain, { left: left - 1 })))
      ).pipe(Layer.provide(Chain.client))
      yield* Effect.gen(function*() {
        yield* Docket.add(Chain, { left: 20 })
        assert.strictEqual((yield* Worker.runUntilIdle(group)).succeeded, 21)
      }).pipe(Effect.provide(Kit.live(group, handler)))
    }))

  it.effect("at most: leave the rest of a task that is full, and run the others", () =>
    Effect.gen(function*() {
      yield* addJobs(10)
      yield* Docket.add(Other)
      const report = yield* Worker.runAtMost(Jobs, { Job: 4 }, { lanes: ["default", "other"] })
      assert.strictEqual(report.succeeded, 5)
      assert.deepStrictEqual((yield* Docket.counts).map(({ ready, task }) => [task, ready]), [["Job", 6]])
      assert.strictEqual((yield* Worker.runAtMost(Jobs, { Job: 0 })).succeeded, 0)
    }).pipe(Effect.provide(bundle())))

  it.effect("at most: a run that is retried counts once", () => {
    const starts = gauge()
    return Effect.gen(function*() {
      yield* addJobs(1)
      const report = yield* DocketTest.runAtMost(Jobs, { Job: 1 })
      assert.deepStrictEqual(report, { succeeded: 1, failed: 0, retried: 2 })
    }).pipe(
      Effect.provide(
        bundle((id) =>
          Effect.flatMap(
            Execution.CurrentExecution,
            ({ attempt }) => starts.track(id, attempt < 3 ? Effect.die("again") : Effect.void)
          )
        )
      )
    )
  })
})

describe("Perpetual tasks", () => {
  type TickBody = (n: number) => Effect.Effect<void, never, Task.HandlerServices | Perpetual.Perpetual>

  /** An automatic task, and when each of its runs began. */
  const ticking = <const P extends Perpetual.Options>(
    perpetual: P,
    body: TickBody = () => Effect.void,
    options?: Pick<Task.Options<void, void, never>, "defectRetryPolicy" | "timeout" | "retention">
  ) => {
    const starts: Array<readonly [at: number, attempt: number]> = []
    class Tick extends Task.make("Tick", {
      success: Schema.Int,
      perpetual: { automatic: true, ...(perpetual as Perpetual.Every) },
      ...options
    }) {}
    const group = TaskGroup.make(Tick)
    const handler = Tick.toLayer(() =>
      Effect.gen(function*() {
        const { attempt } = yield* Execution.CurrentExecution
        const n = starts.push([yield* Clock.currentTimeMillis, attempt])
        yield* body(n)
        return n
      })
    )
    return { Tick, group, starts, times: () => starts.map(([at]) => at), layer: Kit.live(group, handler) }
  }

  it.effect("run from start to start, however long a body takes within the interval", () => {
    const { group, layer, times } = ticking({ every: "1 minute" }, (n) => Effect.sleep(n * 10 * second))
    return Effect.gen(function*() {
      const report = yield* DocketTest.runAtMost(group, { Tick: 4 })
      assert.deepStrictEqual(report, { succeeded: 4, failed: 0, retried: 0 })
      assert.deepStrictEqual(times(), [0, minute, 2 * minute, 3 * minute])
    }).pipe(Effect.provide(layer))
  })

  it.effect("follow a body that takes longer than the interval at once", () => {
    const { group, layer, times } = ticking({ every: "1 minute" }, () => Effect.sleep("90 seconds"))
    return Effect.gen(function*() {
      yield* DocketTest.runAtMost(group, { Tick: 3 })
      assert.deepStrictEqual(times(), [0, 90 * second, 180 * second])
    }).pipe(Effect.provide(layer))
  })

  it.effect("run once after a pause, late, without a burst", () => {
    const { group, layer, times } = ticking({ every: "1 minute" })
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "90 seconds" })
      yield* Kit.advance("10 minutes")
      yield* DocketTest.drain(group, { for: "90 seconds" })
      const late = 11.5 * minute
      assert.deepStrictEqual(times(), [0, minute, late, late + minute])
    }).pipe(Effect.provide(layer))
  })

  it.effect("by cron run at its ticks, in its zone, over changes of daylight saving", () => {
    const { group, layer, starts } = ticking({ cron: "30 2 * * *", timeZone: "Europe/Rome" })
    const runs = (from: string, days: number) =>
      Effect.gen(function*() {
        starts.length = 0
        yield* TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe(from)))
        yield* Docket.clear
        yield* DocketTest.drain(group, { for: `${days} days` })
        return starts.map(([at]) => DateTime.formatIso(DateTime.makeUnsafe(at)))
      })
    return Effect.gen(function*() {
      // 02:30 does not exist on the 29th
      assert.deepStrictEqual(yield* runs("2026-03-28T00:00:00Z", 3), [
        "2026-03-28T01:30:00.000Z",
        "2026-03-29T01:30:00.000Z",
        "2026-03-30T00:30:00.000Z"
      ])
      // it comes twice on the 25th
      const autumn = yield* runs("2026-10-24T00:00:00Z", 3)
      assert.deepStrictEqual(autumn.map((time) => time.slice(0, 10)), ["2026-10-24", "2026-10-25", "2026-10-26"])
      assert.strictEqual(autumn[2], "2026-10-26T01:30:00.000Z")
    }).pipe(Effect.provide(layer))
  })

  it.effect("by cron take five fields, six fields, and the usual names", () =>
    Effect.gen(function*() {
      const first = (cron: string) => {
        const { group, layer, times } = ticking({ cron })
        return Effect.gen(function*() {
          const now = yield* Clock.currentTimeMillis
          yield* DocketTest.runAtMost(group, { Tick: 2 })
          return times().map((at) => (at - now) / second)
        }).pipe(Effect.provide(layer))
      }
      yield* TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe("2026-01-01T00:00:00Z")))
      assert.deepStrictEqual(yield* first("*/15 * * * *"), [900, 1800])
      yield* TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe("2026-02-01T00:00:00Z")))
      assert.deepStrictEqual(yield* first("*/10 * * * * *"), [10, 20])
      yield* TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe("2026-03-01T00:00:00Z")))
      assert.deepStrictEqual(yield* first("@daily"), [86_400, 2 * 86_400])
      yield* TestClock.setTime(DateTime.toEpochMillis(DateTime.makeUnsafe("2026-04-01T00:00:00Z")))
      assert.deepStrictEqual(yield* first("@hourly"), [3600, 7200])
    }))

  it.effect("obey their handler: after, at, cancel", () => {
    const { group, layer, times } = ticking(
      { every: "1 minute" },
      (n) =>
        Perpetual.Perpetual.use((perpetual) =>
          n === 1
            ? perpetual.after("5 seconds")
            : n === 2
            ? perpetual.at(DateTime.makeUnsafe(100 * second))
            : n === 4
            ? perpetual.cancel
            : Effect.void
        )
    )
    return Effect.gen(function*() {
      assert.strictEqual((yield* DocketTest.drain(group)).succeeded, 4)
      assert.deepStrictEqual(times(), [0, 5 * second, 100 * second, 160 * second])
      assert.deepStrictEqual(yield* Docket.counts, [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("count `after` from the end of the body, and take the last word", () => {
    const { group, layer, times } = ticking(
      { every: "1 minute" },
      () =>
        Perpetual.Perpetual.use((perpetual) =>
          Effect.andThen(
            Effect.andThen(perpetual.at(DateTime.makeUnsafe(0)), perpetual.after("5 seconds")),
            Effect.sleep("7 seconds")
          )
        )
    )
    return Effect.gen(function*() {
      yield* DocketTest.runAtMost(group, { Tick: 2 })
      assert.deepStrictEqual(times(), [0, 12 * second])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that fail have exactly one successor, which follows what the body asked for, attempts from 1 again", () => {
    const { Tick, group, layer, starts } = ticking({ every: "1 minute" }, (n) =>
      Effect.andThen(
        n === 1 ? Perpetual.Perpetual.use(({ after }) => after("10 minutes")) : Effect.void,
        Effect.die("boom")
      ), { defectRetryPolicy: Schedule.recurs(1) })
    return Effect.gen(function*() {
      const report = yield* DocketTest.runAtMost(group, { Tick: 3 })
      assert.deepStrictEqual(report, { succeeded: 0, failed: 3, retried: 3 })
      // what an attempt asks for ends with it: the second attempt decided
      assert.deepStrictEqual(starts, [[0, 1], [0, 2], [minute, 1], [minute, 2], [2 * minute, 1], [2 * minute, 2]])
      assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
      void Tick
    }).pipe(Effect.provide(layer))
  })

  it.effect("that fail at once after they chose a time keep it", () => {
    const { group, layer, times } = ticking(
      { every: "1 minute" },
      () => Effect.andThen(Perpetual.Perpetual.use(({ after }) => after("10 minutes")), Effect.die("boom")),
      {
        defectRetryPolicy: Schedule.recurs(0)
      }
    )
    return Effect.gen(function*() {
      yield* DocketTest.runAtMost(group, { Tick: 2 })
      assert.deepStrictEqual(times(), [0, 10 * minute])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that time out have exactly one successor", () => {
    const { group, layer, times } = ticking({ every: "1 minute" }, () => Effect.never, {
      timeout: "10 seconds",
      defectRetryPolicy: Schedule.recurs(0)
    })
    return Effect.gen(function*() {
      assert.strictEqual((yield* DocketTest.runAtMost(group, { Tick: 3 })).failed, 3)
      assert.deepStrictEqual(times(), [0, minute, 2 * minute])
    }).pipe(Effect.provide(layer))
  })

  it.effect("whose worker dies are redelivered, and have one successor", () => {
    const { group, layer, starts } = ticking({ every: "1 minute" })
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "30 seconds" })
      const crashed = yield* Kit.crashingWorker({ tasks: ["Tick"], lease: 5 * second })
      yield* Kit.advance("30 seconds")
      assert.strictEqual((yield* crashed.claim).length, 1)
      yield* DocketTest.drain(group, { for: "100 seconds" })
      assert.deepStrictEqual(starts, [[0, 1], [minute + 5 * second, 2], [2 * minute + 5 * second, 1]])
      assert.strictEqual((yield* Stream.runCollect(Docket.snapshot)).length, 1)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("give who waits the value of this cycle", () => {
    const { Tick, group, layer } = ticking({ every: "1 minute" })
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "30 seconds" })
      const handle = Option.getOrThrow(yield* Docket.get(Tick, "Tick"))
      const value = yield* Effect.forkChild(handle.await)
      yield* DocketTest.drain(group, { for: "10 minutes" })
      assert.strictEqual(yield* Fiber.join(value), 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("keep one record under one key over many cycles", () => {
    const { group, layer, starts } = ticking({ every: "1 second" })
    return Effect.gen(function*() {
      yield* DocketTest.drain(group, { for: "100 seconds" })
      assert.isAtLeast(starts.length, 100)
      const pending = yield* Stream.runCollect(Docket.snapshot)
      assert.deepStrictEqual(pending.map(({ key, state }) => [key, state]), [["Tick", "Scheduled"]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("replaced while they run take the time of the replacement", () => {
    const gate = Latch.makeUnsafe()
    const { Tick, group, layer, times } = ticking({ every: "1 minute" }, (n) => n === 1 ? gate.await : Effect.void)
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(group))
      yield* Kit.settle
      yield* Docket.replace(Tick, undefined, { key: "Tick", after: "20 seconds" })
      yield* gate.open
      yield* Kit.advance("20 seconds")
      yield* Kit.advance("40 seconds")
      assert.deepStrictEqual(times(), [0, 20 * second])
      yield* Kit.advance("20 seconds")
      assert.deepStrictEqual(times(), [0, 20 * second, 80 * second])
    }).pipe(Effect.provide(layer))
  })

  it.effect("cancelled while they run end", () => {
    const { group, layer, starts } = ticking({ every: "1 minute" }, () => Effect.never)
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(group))
      yield* Kit.settle
      assert.isTrue(yield* Docket.cancel("Tick"))
      yield* Kit.advance("10 minutes")
      assert.strictEqual(starts.length, 1)
      assert.deepStrictEqual(yield* Docket.counts, [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that are automatic are seeded once, however many workers start", () => {
    const { group, layer, starts } = ticking({ every: "1 minute" })
    return Effect.gen(function*() {
      yield* Effect.forEach(Array.from({ length: 20 }), () => Kit.start(Worker.layer(group)), {
        concurrency: "unbounded"
      })
      yield* Kit.advanceBy("1 minute", 3)
      assert.deepStrictEqual(starts.map(([at]) => at), [0, minute, 2 * minute, 3 * minute])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that are automatic come back under a live worker when their chain is severed", () => {
    const { group, layer, starts } = ticking({ every: "1 minute" })
    return Effect.gen(function*() {
      yield* Kit.start(Worker.layer(group))
      yield* Kit.settle
      assert.strictEqual(starts.length, 1)
      assert.strictEqual(yield* Docket.clear, 1)
      yield* Kit.advanceBy("10 seconds", 6)
      assert.deepStrictEqual(starts.map(([at]) => at), [0, 30 * second])
      // ended by hand it stays ended, also when its record is gone
      assert.isTrue(yield* Docket.cancel("Tick"))
      yield* Kit.advance("30 seconds")
      yield* Kit.advance("2 days")
      yield* Kit.advance("1 hour")
      assert.strictEqual((yield* Docket.explain("Tick"))._tag, "Unknown")
      assert.strictEqual(starts.length, 2)
    }).pipe(Effect.provide(layer))
  })

  describe("with a payload", () => {
    class Count extends Task.make("Count", {
      payload: { left: Schema.Int, note: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("none"))) },
      success: Schema.Int,
      perpetual: { every: "1 minute" }
    }) {}
    class Counts extends TaskGroup.make(Count, Job) {}
    type CountBody = (
      payload: typeof Count.payloadSchema.Type
    ) => Effect.Effect<number, never, Perpetual.Perpetual | Task.HandlerServices>

    const layer = (body: CountBody, seed = 3, key?: string) => {
      const handlers = Counts.toLayer({ Count: body, Job: () => Effect.succeed(0) })
      const seeds = Perpetual.layer(Count, { left: seed }, { key }).pipe(Layer.provide(Count.client))
      return Layer.merge(handlers, seeds).pipe(Layer.provideMerge(Counts.client), Layer.provideMerge(DocketTest.layer))
    }

    const counting: CountBody = ({ left, note }) =>
      Effect.gen(function*() {
        notes.push(note)
        const perpetual = yield* Perpetual.Perpetual
        yield* left === 0 ? perpetual.cancel : perpetual.next(Count, { left: left - 1 })
        return left
      })
    const notes: Array<string> = []

    it.effect("get the next one from their handler, defaults applied", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* DocketTest.drain(Counts), { succeeded: 4, failed: 0, retried: 0 })
        assert.deepStrictEqual(new Set(notes), new Set(["none"]))
        assert.strictEqual(yield* Clock.currentTimeMillis, 3 * minute)
      }).pipe(Effect.provide(layer(counting))))

    it.effect("keep the old one when the handler says nothing", () => {
      const seen: Array<number> = []
      return Effect.gen(function*() {
        yield* DocketTest.runAtMost(Counts, { Count: 3 })
        assert.deepStrictEqual(seen, [7, 7, 7])
      }).pipe(Effect.provide(layer(({ left }) => Effect.sync(() => seen.push(left)), 7)))
    })

    it.effect("are seeded by `Perpetual.layer` under the key that it is given, and again when they are missing", () => {
      const starts: Array<number> = []
      return Effect.gen(function*() {
        yield* Kit.start(Worker.layer(Counts))
        yield* Kit.settle
        assert.strictEqual(starts.length, 1)
        assert.strictEqual((yield* Docket.explain("mine"))._tag, "NotDue")
        yield* Docket.clear
        yield* Kit.advance("30 seconds")
        assert.strictEqual(starts.length, 2)
      }).pipe(Effect.provide(layer(({ left }) => Effect.sync(() => starts.push(left)), 3, "mine")))
    })

    it.effect("are not seeded again after their handler has ended them", () => {
      const starts: Array<number> = []
      return Effect.gen(function*() {
        yield* Kit.start(Worker.layer(Counts))
        yield* Kit.advanceBy("30 seconds", 20)
        assert.deepStrictEqual(starts, [1])
        yield* Kit.advance("2 days")
        yield* Kit.advance("1 hour")
        assert.strictEqual((yield* Docket.explain("Count"))._tag, "Unknown")
        assert.deepStrictEqual(starts, [1])
      }).pipe(
        Effect.provide(
          layer(() => Effect.andThen(Perpetual.Perpetual.use((p) => p.cancel), Effect.sync(() => starts.push(1))))
        )
      )
    })

    it.effect("die of the payload of another task, of a payload that does not fit, and of a time that is none", () =>
      Effect.gen(function*() {
        const reasons: Array<string> = []
        const failing = (body: (p: Perpetual.Perpetual["Service"]) => Effect.Effect<void>) =>
          Effect.gen(function*() {
            const handle = yield* Docket.get(Count, "Count")
            yield* DocketTest.runAtMost(Counts, { Count: 1 }, { defectRetryPolicy: Schedule.recurs(0) })
            reasons.push(Kit.defectOf(yield* Effect.flip(Option.getOrThrow(handle).await)))
          }).pipe(Effect.provide(layer(() => Effect.as(Perpetual.Perpetual.use(body), 1))))
        yield* failing((p) => p.next(Job as unknown as typeof Count, { left: 1 }))
        yield* failing((p) => p.next(Count, { left: 0.5 }))
        yield* failing((p) => p.after("soon" as "1 second"))
        yield* failing((p) => p.after("Infinity"))
        yield* failing((p) => p.at("never"))
        assert.include(reasons[0], "Perpetual.next: the task that runs is \"Count\", not \"Job\"")
        assert.include(reasons[1], "the next payload of task \"Count\" is invalid")
        assert.include(reasons[1], "[\"left\"]")
        for (const reason of reasons.slice(2)) assert.include(reason, "not a time or a finite duration")
      }))
  })
})
