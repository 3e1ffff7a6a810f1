/**
 * Gates: concurrency per task, per value and per scope.
 */
import { Docket, Execution, Perpetual, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { DateTime, Effect, Exit, Layer, Random, Schema, Scope } from "effect"
import type { Change, Claim, Settlement } from "../../src/DocketStore.ts"
import { type Kit, live, longLease, now, shortLease, signal, start, stateOf, stored } from "./kit.ts"
import { add, addition, attach, exit, failure, type SeamWorker } from "./seam.ts"

class One extends Task.make("One", {
  payload: { customer: Schema.String, n: Schema.Int },
  concurrency: { max: 1, key: ["customer"] }
}) {}
class Ones extends TaskGroup.make(One) {}

const range = (count: number) => Array.from({ length: count }, (_, index) => index)

/** Limits of the task "T". */
const limits = (concurrency: number) => ({ gates: new Map([["T", { concurrency }]]) })

const gated = (key: string, concurrency: string, options?: Partial<Docket.EncodedAddition>) =>
  add(key, { gates: { concurrency }, ...options })

const keysOf = (claims: ReadonlyArray<{ readonly key: string }>) => claims.map(({ key }) => key)

/** Claims and completes until nothing is left to claim; the keys in their order. */
const finish = Effect.fnUntraced(function*(worker: SeamWorker) {
  const seen: Array<string> = []
  while (true) {
    const claims = yield* worker.claim()
    if (claims.length === 0) return seen
    seen.push(...keysOf(claims))
    for (const claim of claims) yield* worker.complete(claim)
  }
})

/** The tests of this part. */
export const gates = ({ drain, pass, passing, test }: Kit): void => {
  test("limit 1 per value, five runs with it → strictly one after the other, in order of arrival; others beside them", () => {
    const seen: Array<string> = []
    let running = 0
    let most = 0
    const begun = signal()
    const other = signal()
    return Effect.gen(function*() {
      const five = yield* Docket.addAll(range(5).map((n) => [One, { customer: "a", n }] as const))
      yield* start(Ones, { concurrency: 10 })
      yield* begun.await
      // the first of "a" waits for the one of "b", which comes after all of "a"
      const beside = yield* Docket.add(One, { customer: "b", n: 9 })
      yield* beside.await
      yield* Effect.forEach(five, ({ await: ended }) => ended)
      assert.deepStrictEqual(seen, ["b9", "a0", "a1", "a2", "a3", "a4"])
      assert.strictEqual(most, 1)
    }).pipe(Effect.provide(live(One, ({ customer, n }) =>
      Effect.gen(function*() {
        if (customer === "b") {
          seen.push(`b${n}`)
          yield* other.open
          return
        }
        most = Math.max(most, ++running)
        yield* begun.open
        if (n === 0) yield* other.await
        yield* Effect.yieldNow
        seen.push(`a${n}`)
        running--
      }))))
  })

  test("limit 3 over several workers → never more than 3, all run", () => {
    class Three extends Task.make("Three", { payload: { n: Schema.Int }, concurrency: 3 }) {}
    class Threes extends TaskGroup.make(Three) {}
    let running = 0
    let most = 0
    let begun = 0
    const full = signal()
    return Effect.gen(function*() {
      for (const name of ["x", "y", "z"]) yield* start(Threes, { name, concurrency: 5 })
      const all = yield* Docket.addAll(range(40).map((n) => [Three, { n }] as const))
      yield* Effect.forEach(all, ({ await: ended }) => ended, { concurrency: "unbounded" })
      assert.deepStrictEqual([begun, most], [40, 3])
    }).pipe(Effect.provide(live(Three, () =>
      Effect.gen(function*() {
        begun++
        most = Math.max(most, ++running)
        if (running === 3) yield* full.open
        yield* full.await
        yield* Effect.yieldNow
        running--
      }))))
  })

  test("a holder that dies frees its slot after one lease, with nothing else arriving", () =>
    Effect.gen(function*() {
      yield* gated("k1", "v")
      yield* gated("k2", "v")
      const crashed = yield* attach({ worker: "crashed", lease: shortLease, ...limits(1) })
      assert.deepStrictEqual(keysOf(yield* crashed.claim(1)), ["k1"])
      const worker = yield* attach({ worker: "worker", ...limits(1) })
      // the one that was given back comes first
      const again = yield* passing(worker.next)
      assert.deepStrictEqual([again.key, again.lost], ["k1", 1])
      yield* worker.complete(again)
      yield* worker.complete(yield* worker.next)
    }))

  test("held run → visible as held with the gate that holds it; cancel → gone; the next one goes on", () =>
    Effect.gen(function*() {
      const store = yield* stored
      for (const key of ["k1", "k2", "k3"]) yield* gated(key, "v")
      const worker = yield* attach(limits(1))
      const first = yield* worker.claimOne
      for (const [key, position] of [["k2", 0], ["k3", 1]] as const) {
        assert.strictEqual(yield* stateOf(key), "Held")
        assert.deepStrictEqual(yield* store.explain(key), { _tag: "Limited", by: "concurrency", position })
      }
      assert.deepStrictEqual(yield* store.counts, [
        { task: "T", lane: "default", scheduled: 0, ready: 0, held: 2, running: 1 }
      ])
      assert.isTrue(yield* store.cancel("k2"))
      assert.strictEqual(yield* stateOf("k2"), "Cancelled")
      assert.deepStrictEqual(yield* store.explain("k3"), { _tag: "Limited", by: "concurrency", position: 0 })
      yield* worker.complete(first)
      yield* worker.complete(yield* worker.claimOne)
      assert.strictEqual(yield* stateOf("k3"), "Completed")
    }))

  test("one that has room again is cancelled, replaced or struck → the next one goes on", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits(1))
      for (
        const [round, leave] of [
          (key: string) => store.cancel(key),
          (key: string) => gated(key, "elsewhere", { onExisting: "replace", due: { after: longLease } }),
          () =>
            store.strike({
              task: "T",
              where: [{ field: "n", operator: "equals", values: [2], bigint: false }],
              reason: "",
              until: undefined
            })
        ].entries()
      ) {
        for (const n of [1, 2, 3]) yield* gated(`${round}k${n}`, "v", { payload: JSON.stringify({ n }) })
        const first = yield* worker.claimOne
        // a turn without room for claims: the second is ready, and nobody has it
        yield* worker.complete(first)
        assert.strictEqual(yield* stateOf(`${round}k2`), "Ready")
        assert.strictEqual(yield* stateOf(`${round}k3`), "Held")
        yield* leave(`${round}k2`)
        const next = yield* worker.next
        assert.strictEqual(next.key, `${round}k3`)
        yield* worker.complete(next)
      }
      yield* store.clear
      yield* store.restore({ task: "T", where: [{ field: "n", operator: "equals", values: [2], bigint: false }] })
    }))

  test("every way out of running frees the slot", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits(1))
      const leave: ReadonlyArray<(claim: Parameters<SeamWorker["complete"]>[0]) => Effect.Effect<unknown, unknown>> = [
        (claim) => worker.complete(claim),
        (claim) => worker.settle(claim, { _tag: "Failed", exit: failure }),
        (claim) => worker.settle(claim, { _tag: "Retry", after: longLease, exit: failure, failures: "[]" }),
        (claim) => worker.settle(claim, { _tag: "Snooze", after: longLease }),
        (claim) => Effect.andThen(store.cancel(claim.key), worker.settle(claim, { _tag: "Cancelled" })),
        (claim) =>
          worker.settle(claim, { _tag: "Completed", exit: exit(1) }, {
            due: { after: longLease },
            payload: "{}",
            version: 1
          })
      ]
      for (const [index, settle] of leave.entries()) {
        yield* gated(`k${index}`, "v")
        yield* gated(`next${index}`, "v")
        const claim = yield* worker.claimOne
        assert.strictEqual(claim.key, `k${index}`)
        yield* settle(claim)
        const next = yield* worker.claimOne
        assert.strictEqual(next.key, `next${index}`)
        yield* worker.complete(next)
      }
      assert.strictEqual(yield* store.clear, 3)
    }))

  test("a running run is replaced → its claim keeps the slot until it is settled, or its lease is over", () =>
    Effect.gen(function*() {
      const worker = yield* attach(limits(1))
      const dying = yield* attach({ worker: "dying", lease: shortLease, ...limits(1) })
      for (const ends of ["settled", "abandoned"]) {
        yield* gated("k", "v")
        const old = yield* worker.claimOne
        yield* gated("next", "v")
        yield* gated("k", "elsewhere", { onExisting: "replace" })
        const replacement = yield* worker.claimOne
        assert.strictEqual(replacement.key, "k")
        assert.deepStrictEqual(yield* worker.claim(1), [], "its body may still be running")
        if (ends === "settled") assert.strictEqual(yield* worker.complete(old), "Lost")
        // its lease has been a long one until now
        else assert.strictEqual(yield* dying.renew(old), "Replaced")
        const next = yield* passing(worker.next)
        assert.strictEqual(next.key, "next")
        yield* worker.complete(next)
        yield* worker.complete(replacement)
      }
    }))

  test(
    "a running run is replaced, and its worker dies with all that serve its task → the slot is free for the other task",
    () =>
      Effect.gen(function*() {
        const gone = yield* Scope.fork(yield* Effect.scope)
        const attachBriefly = (options: Parameters<typeof attach>[0]) =>
          Effect.provideService(attach({ ...options, ...limits(1) }), Scope.Scope, gone)
        const crashed = yield* attachBriefly({ worker: "crashed" })
        const dying = yield* attachBriefly({ worker: "dying", lease: shortLease })
        yield* gated("k", ":s")
        const old = yield* crashed.claimOne
        assert.strictEqual(old.key, "k")
        yield* gated("k", ":s", { onExisting: "replace", due: { after: longLease } })
        yield* gated("u", ":s", { task: "U" })
        const worker = yield* attach({
          worker: "worker",
          tasks: new Map([["U", 1]]),
          gates: new Map([["U", { concurrency: 1 }]])
        })
        assert.deepStrictEqual(yield* worker.claim(), [])
        // its lease has been a long one until now
        assert.strictEqual(yield* dying.renew(old), "Replaced")
        yield* Scope.close(gone, Exit.void)
        const claim = yield* passing(worker.next)
        assert.strictEqual(claim.key, "u")
        yield* worker.complete(claim)
      }),
    { pending: 1 }
  )

  test("what is released comes before what arrived later, and a retry waits for its turn", () =>
    Effect.gen(function*() {
      const worker = yield* attach(limits(1))
      for (const key of ["k1", "k2", "k3"]) yield* gated(key, "v")
      yield* worker.settle(yield* worker.claimOne, { _tag: "Released" })
      const first = yield* worker.claimOne
      assert.strictEqual(first.key, "k1")
      yield* worker.settle(first, { _tag: "Retry", after: 0, exit: failure, failures: "[]" })
      assert.deepStrictEqual(yield* finish(worker), ["k2", "k3", "k1"])
    }))

  test("two tasks with the same value → independent, unless they name the same scope", () => {
    const make = <const Tag extends string>(tag: Tag, scope?: string) =>
      Task.make(tag, {
        payload: { customer: Schema.String },
        concurrency: { max: 1, key: ["customer"], ...scope !== undefined && { scope } }
      })
    const [A, B, C, D] = [make("A"), make("B"), make("C", "api"), make("D", "api")] as const
    const group = TaskGroup.make(A, B, C, D)
    const running = new Set<string>()
    const together = new Set<string>()
    const two = signal()
    const body = Effect.gen(function*() {
      const { task } = yield* Execution.CurrentExecution
      running.add(task)
      for (const other of running) together.add(other < task ? `${other}${task}` : `${task}${other}`)
      if (together.has("AB")) yield* two.open
      if (task === "A" || task === "B") yield* two.await
      else yield* Effect.yieldNow
      running.delete(task)
    })
    return Effect.gen(function*() {
      for (const task of [A, B, C, D]) yield* Docket.add(task, { customer: "c-1" })
      assert.strictEqual((yield* drain(group, { concurrency: 4 })).succeeded, 4)
      assert.isTrue(together.has("AB"))
      assert.isFalse(together.has("CD"))
    }).pipe(
      Effect.provide(Layer.mergeAll(
        group.toLayer({
          A: () => body,
          B: () => body,
          C: () => body,
          D: () => body
        }),
        group.client
      ))
    )
  })

  test("a scope of two tasks with workers of their own → each goes on when the other is done, nobody waits for who is gone", () =>
    Effect.gen(function*() {
      const shared = { gates: new Map([["T", { concurrency: 1 }], ["U", { concurrency: 1 }]]) }
      const ofT = yield* attach({ worker: "t", ...shared })
      const ofU = yield* attach({ worker: "u", tasks: new Map([["U", 1]]), ...shared })
      yield* gated("t1", ":s")
      const first = yield* ofT.claimOne
      yield* gated("u1", ":s", { task: "U" })
      yield* gated("t2", ":s")
      yield* gated("u2", ":s", { task: "U" })
      assert.deepStrictEqual(yield* ofU.claim(), [])
      yield* ofT.complete(first)
      // both may go on, and the first who comes does
      const second = yield* ofU.next
      assert.strictEqual(second.key, "u1")
      assert.deepStrictEqual(yield* ofT.claim(), [])
      yield* ofU.complete(second)
      const third = yield* ofU.next
      assert.strictEqual(third.key, "u2")
      yield* ofU.complete(third)
      yield* ofT.complete(yield* ofT.next)
    }))

  test("a changed limit applies to what waits", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const old = yield* attach(limits(1))
        for (const n of range(8)) yield* gated(`k${n}`, "v")
        yield* old.complete(yield* old.claimOne)
      }))
      const worker = yield* attach(limits(3))
      const first = yield* worker.claim()
      const second = yield* worker.claim()
      const claims = [...first, ...second]
      assert.deepStrictEqual(keysOf(claims), ["k1", "k2", "k3"])
      for (const claim of claims) yield* worker.complete(claim)
      // a task without the gate: everything that waits runs
      const free = yield* attach({ worker: "free" })
      assert.deepStrictEqual(yield* finish(free), ["k4", "k5", "k6", "k7"])
    }))

  test("20,000 held runs of one value do not delay a run of another", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits(1))
      yield* gated("first", "a")
      const first = yield* worker.claimOne
      yield* store.add(range(20_000).map((n) => addition(`a${n}`, { gates: { concurrency: "a" } })), { atomic: false })
      yield* gated("other", "b")
      const other = yield* worker.next
      assert.strictEqual(other.key, "other")
      assert.strictEqual((yield* store.counts)[0]!.held, 20_000)
      yield* worker.complete(other)
      assert.strictEqual(yield* store.clear, 20_000)
      yield* worker.complete(first)
    }))

  test("limit idle → nothing of it is left, and the next run starts at once", () =>
    Effect.gen(function*() {
      const worker = yield* attach(limits(2))
      for (const n of range(6)) yield* gated(`k${n}`, "v")
      assert.strictEqual((yield* finish(worker)).length, 6)
      yield* gated("again", "v")
      assert.deepStrictEqual(yield* finish(worker), ["again"])
    }))

  test("a perpetual run passes the gate of its new payload, one run after the other", () => {
    class Poll extends Task.make("Poll", {
      payload: { customer: Schema.String, n: Schema.Int },
      concurrency: { max: 1, key: ["customer"] },
      perpetual: { every: "10 millis" }
    }) {}
    class Polls extends TaskGroup.make(Poll) {}
    const seen: Array<string> = []
    const running: Array<string> = []
    let most = 0
    return Effect.gen(function*() {
      yield* Docket.add(Poll, { customer: "a", n: 1 }, { key: "p" })
      yield* Docket.add(Poll, { customer: "a", n: 1 }, { key: "q" })
      yield* drain(Polls)
      assert.deepStrictEqual(seen.toSorted(), ["a1", "a1", "b2", "b2", "c3", "c3"])
      assert.strictEqual(most, 1)
    }).pipe(Effect.provide(live(Poll, ({ customer, n }) =>
      Effect.gen(function*() {
        seen.push(`${customer}${n}`)
        running.push(customer)
        most = Math.max(most, running.filter((one) => one === customer).length)
        yield* Effect.yieldNow
        running.splice(running.indexOf(customer), 1)
        const perpetual = yield* Perpetual.Perpetual
        if (n === 3) return yield* perpetual.cancel
        yield* perpetual.next(Poll, { customer: n === 1 ? "b" : "c", n: n + 1 })
      }))))
  })

  test("from 1,000 to 4,000 runs behind a limit, as many turns per run", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits(2))
      const turnsFor = Effect.fnUntraced(function*(count: number) {
        yield* store.add(range(count).map((n) => addition(`${count}/${n}`, { gates: { concurrency: "v" } })), {
          atomic: false
        })
        let turns = 0
        let done = 0
        let settle: ReadonlyArray<Settlement> = []
        while (done < count) {
          turns++
          const { claimed } = yield* worker.turn({ settle, capacity: 10 })
          done += claimed.length
          settle = claimed.map(({ generation, key, token }) => ({
            key,
            generation,
            token,
            change: { _tag: "Completed", exit: exit(null) },
            successor: undefined
          }))
        }
        yield* worker.turn({ settle })
        return turns
      })
      const few = yield* turnsFor(1000)
      assert.isAtMost(few, 510)
      assert.isAtMost(yield* turnsFor(4000), 4 * few + 10)
    }))

  for (const seed of ["one", "two", "three"]) {
    test(`whatever happens, in any order → never more than the limits, and in the end everything has run (${seed})`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        const rateLimit = { limit: 4, window: 30, drops: false }
        const shared = { gates: new Map([["T", { concurrency: 2, rateLimit }], ["U", { concurrency: 1, rateLimit }]]) }
        const workers = [
          yield* attach({ worker: "both", tasks: new Map([["T", 1], ["U", 1]]), ...shared }),
          yield* attach({ worker: "t", ...shared }),
          yield* attach({ worker: "u", tasks: new Map([["U", 1]]), ...shared })
        ]
        const held: Array<{ readonly claim: Claim; readonly worker: SeamWorker; readonly text: string }> = []
        const all = new Map<string, Docket.EncodedGates>()
        const starts: Array<number> = []
        const pick = <A>(of: ReadonlyArray<A>) =>
          Effect.map(Random.nextIntBetween(0, of.length - 1), (index) => of[index]!)
        const running = (text: string) => held.filter((one) => one.text === text)
        const changes: ReadonlyArray<Change> = [
          { _tag: "Completed", exit: exit(1) },
          { _tag: "Completed", exit: exit(1) },
          { _tag: "Failed", exit: failure },
          { _tag: "Retry", after: 0, exit: failure, failures: "[]" },
          { _tag: "Snooze", after: 0 },
          { _tag: "Released" }
        ]
        const claim = Effect.fnUntraced(function*(worker: SeamWorker, capacity: number) {
          for (const claim of yield* worker.claim(capacity)) {
            const { concurrency: text = "", rateLimit } = all.get(claim.key)!
            held.push({ claim, worker, text })
            if (rateLimit !== undefined) starts.push(claim.startedAt)
            if (claim.task === "U") assert.strictEqual(running(text).length, 1, text)
            else assert.isAtMost(running(text).length, 2, text)
          }
        })
        for (let step = 0; step < 400; step++) {
          const what = yield* Random.nextIntBetween(0, 9)
          if (what < 4) {
            const key = `k${yield* Random.nextIntBetween(0, 30)}`
            const text = yield* pick(["v", "w", "x"])
            if (held.some((one) => one.claim.key === key)) continue
            const task = yield* pick(["T", "U"])
            const priority = yield* pick([0, 0, 1])
            const debounce = { about: text, for: 5, max: 20, keepsFirst: false }
            const gates: Docket.EncodedGates = {
              concurrency: text,
              ...yield* pick([{}, { rateLimit: "r" }, { rateLimit: "r" }, {
                debounce: { ...debounce, about: `${task}${text}` }
              }])
            }
            const added = yield* add(key, { onExisting: "replace", task, priority, gates })
            all.set(added.key ?? key, gates)
          } else if (what < 6) {
            yield* claim(yield* pick(workers), yield* pick([1, 2, 5]))
          } else if (what < 9 && held.length > 0) {
            const one = yield* pick(held)
            held.splice(held.indexOf(one), 1)
            yield* one.worker.settle(one.claim, yield* pick(changes))
          } else if (what === 9 && step % 4 === 0) {
            yield* pass(5)
          } else {
            const key = `k${yield* Random.nextIntBetween(0, 30)}`
            if (!held.some((one) => one.claim.key === key)) yield* store.cancel(key)
          }
        }
        // a worker that serves all of them finishes them, and nobody is forgotten
        for (let idle = 0; idle < 3;) {
          for (const one of held.splice(0)) yield* one.worker.complete(one.claim)
          yield* claim(workers[0]!, 5)
          idle = held.length === 0 ? idle + 1 : 0
          // the window has to move on
          if (held.length === 0) yield* pass(rateLimit.window)
        }
        for (const [index, at] of starts.entries()) {
          if (index >= rateLimit.limit) assert.isAtLeast(at - starts[index - rateLimit.limit]!, rateLimit.window)
        }
      }).pipe(Random.withSeed(seed)))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // rate limit
  // -------------------------------------------------------------------------------------------------------------------

  const rate = (limit: number, window: number, drops = false) => ({
    gates: new Map([["T", { rateLimit: { limit, window, drops } }]])
  })

  test("rate 2 per 200 ms, 20 runs → all run, no window has more than 2, with turns in proportion", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(rate(2, 200))
      yield* store.add(range(20).map((n) => addition(`k${n}`, { gates: { rateLimit: "v" } })), { atomic: true })
      const starts: Array<number> = []
      const seen: Array<string> = []
      yield* passing(Effect.gen(function*() {
        for (let turns = 0; seen.length < 20; turns++) {
          assert.isAtMost(turns, 80)
          const claims = yield* worker.claim()
          seen.push(...keysOf(claims))
          starts.push(...claims.map(({ startedAt }) => startedAt))
          for (const claim of claims) yield* worker.complete(claim)
          if (claims.length > 0) continue
          const [state, why] = [yield* stateOf("k19"), yield* store.explain("k19")]
          // a machine that took longer than that has seen the end of the window
          if ((yield* now) < starts.at(-2)! + 200) {
            assert.strictEqual(state, "Held")
            assert.deepStrictEqual(why, { _tag: "Limited", by: "rateLimit", position: 19 - seen.length })
          }
          yield* worker.woken
        }
      }))
      assert.deepStrictEqual(seen, range(20).map((n) => `k${n}`))
      for (const [index, at] of starts.entries()) {
        if (index >= 2) assert.isAtLeast(at - starts[index - 2]!, 200)
      }
    }))

  test("a rate per value, by a worker → all run, no window of a value has more", () => {
    class Call extends Task.make("Call", {
      payload: { api: Schema.String, n: Schema.Int },
      rateLimit: { limit: 2, window: "100 millis", key: ["api"] }
    }) {}
    class Calls extends TaskGroup.make(Call) {}
    const starts = new Map<string, Array<number>>()
    return Effect.gen(function*() {
      yield* Docket.addAll(range(12).map((n) => [Call, { api: n % 3 === 0 ? "a" : "b", n }] as const))
      assert.strictEqual((yield* drain(Calls)).succeeded, 12)
      assert.deepStrictEqual([starts.get("a")!.length, starts.get("b")!.length], [4, 8])
      for (const times of starts.values()) {
        for (const [index, at] of times.toSorted((a, b) => a - b).entries()) {
          if (index >= 2) assert.isAtLeast(at - times[index - 2]!, 100)
        }
      }
    }).pipe(Effect.provide(live(Call, ({ api }) =>
      Effect.map(Execution.CurrentExecution, ({ startedAt }) => {
        starts.set(api, [...starts.get(api) ?? [], DateTime.toEpochMillis(startedAt)])
      }))))
  })

  test("drop → the rest is skipped, with its own state", () => {
    class Ping extends Task.make("Ping", {
      payload: { n: Schema.Int },
      rateLimit: { limit: 2, window: "1 minute", excess: "drop" }
    }) {}
    class Pings extends TaskGroup.make(Ping) {}
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const runs = yield* Docket.addAll(range(5).map((n) => [Ping, { n }] as const))
      assert.strictEqual((yield* drain(Pings)).succeeded, 2)
      assert.deepStrictEqual(seen, [0, 1])
      for (const run of runs.slice(2)) {
        const error = yield* Effect.flip(run.await)
        assert.deepStrictEqual(error.reason, new TaskFailure.Limited({ by: "rateLimit" }))
        assert.strictEqual(yield* stateOf(run.key), "Skipped")
      }
    }).pipe(Effect.provide(live(Ping, ({ n }) =>
      Effect.sync(() => {
        seen.push(n)
      }))))
  })

  test("a perpetual run that is dropped → goes on with its next tick, one successor", () => {
    class Tick extends Task.make("Tick", {
      rateLimit: { limit: 1, window: "250 millis", excess: "drop" },
      perpetual: { every: "100 millis" }
    }) {}
    class Ticks extends TaskGroup.make(Tick) {}
    let count = 0
    const third = signal()
    return Effect.gen(function*() {
      yield* Docket.add(Tick, undefined, { key: "tick" })
      const worker = yield* start(Ticks)
      yield* passing(third.await)
      yield* worker.stop
      assert.isAtMost((yield* (yield* stored).counts).reduce((sum, one) => sum + one.scheduled + one.ready, 0), 1)
      yield* (yield* stored).clear
    }).pipe(Effect.provide(live(Tick, () => Effect.suspend(() => ++count === 3 ? third.open : Effect.void))))
  })

  test("refused by one gate → no other gate is charged", () =>
    Effect.gen(function*() {
      const both = (concurrency: string, rateLimit: string) => ({ gates: { concurrency, rateLimit } })
      const worker = yield* attach({
        gates: new Map([["T", { concurrency: 1, rateLimit: { limit: 1, window: longLease, drops: false } }]])
      })
      yield* add("holder", both("c1", "r1"))
      const holder = yield* worker.claimOne
      // refused by the slot: the rate of r2 stays whole
      yield* add("slot", both("c1", "r2"))
      // refused by the rate: the slot of c2 stays free
      yield* add("rate", both("c2", "r1"))
      assert.deepStrictEqual(yield* worker.claim(), [])
      const store = yield* stored
      assert.strictEqual((yield* store.explain("slot"))._tag, "Limited")
      assert.strictEqual((yield* store.explain("rate"))._tag, "Limited")
      yield* add("free", both("c2", "r3"))
      const free = yield* worker.claimOne
      assert.strictEqual(free.key, "free")
      yield* worker.complete(free)
      yield* add("whole", both("c3", "r2"))
      const whole = yield* worker.claimOne
      assert.strictEqual(whole.key, "whole")
      yield* worker.complete(whole)
      yield* worker.complete(holder)
      // the slot is free now, the rate of r2 is not any more
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.deepStrictEqual(yield* store.explain("slot"), { _tag: "Limited", by: "rateLimit", position: 0 })
      assert.strictEqual(yield* store.clear, 2)
    }))

  test("held by a rate, and the task loses the gate → everything that waits runs", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const old = yield* attach(rate(1, 100))
        for (const n of range(4)) yield* add(`k${n}`, { gates: { rateLimit: "v" } })
        yield* old.complete(yield* old.claimOne)
      }))
      const worker = yield* attach({ worker: "free" })
      assert.deepStrictEqual(yield* finish(worker), ["k1", "k2", "k3"])
    }))

  test("held by a rate, and nobody works → a worker that comes later goes on", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const first = yield* attach(rate(1, 50))
        for (const n of range(3)) yield* add(`k${n}`, { gates: { rateLimit: "v" } })
        yield* first.complete(yield* first.claimOne)
      }))
      yield* pass(200)
      const worker = yield* attach(rate(1, 50))
      const second = yield* passing(worker.next)
      const third = yield* passing(worker.next)
      assert.deepStrictEqual(keysOf([second, third]), ["k1", "k2"])
      yield* worker.complete(second)
      yield* worker.complete(third)
    }))

  test("a rate that two tasks share, each with a window of its own → the short one forgets nothing of the long one", () =>
    Effect.gen(function*() {
      const worker = yield* attach({
        tasks: new Map([["T", 1], ["U", 1]]),
        gates: new Map([
          ["T", { rateLimit: { limit: 2, window: longLease, drops: true } }],
          ["U", { rateLimit: { limit: 100, window: 10, drops: false } }]
        ])
      })
      const start = Effect.fnUntraced(function*(key: string, task: string) {
        yield* add(key, { task, gates: { rateLimit: ":s" } })
        const claim = yield* worker.claimOne
        yield* worker.complete(claim)
        return claim.droppedBy
      })
      assert.isUndefined(yield* start("t1", "T"))
      yield* pass(20)
      assert.isUndefined(yield* start("u1", "U"))
      // when the short window is over as well, somebody looks for what is to be forgotten
      yield* pass(20)
      assert.deepStrictEqual(yield* worker.claim(), [])
      assert.strictEqual(yield* start("t2", "T"), "rateLimit", "two have started in its window")
    }))

  // -------------------------------------------------------------------------------------------------------------------
  // cooldown
  // -------------------------------------------------------------------------------------------------------------------

  const cooling = (cooldown: number) => ({ gates: new Map([["T", { cooldown }]]) })

  test(
    "cooldown → what is added before the start is kept, after it ignored, and added again when it is over",
    () =>
      Effect.gen(function*() {
        const cool = (key: string, about: string) => add(key, { gates: { cooldown: about } })
        const worker = yield* attach(cooling(longLease))
        assert.strictEqual((yield* cool("k1", "v")).disposition, "Added")
        assert.strictEqual((yield* cool("k2", "v")).disposition, "Added")
        const claims = yield* worker.claim()
        assert.deepStrictEqual(keysOf(claims), ["k1", "k2"])
        assert.deepInclude(yield* cool("k3", "v"), { disposition: "Limited", generation: 0 })
        assert.isUndefined(yield* stateOf("k3"))
        assert.strictEqual((yield* cool("k1", "v")).disposition, "Existing")
        assert.strictEqual((yield* cool("other", "w")).disposition, "Added")
        for (const claim of [...claims, yield* worker.claimOne]) yield* worker.complete(claim)
        const brief = yield* attach({ worker: "brief", ...cooling(300) })
        yield* cool("b1", "b")
        const first = yield* brief.claimOne
        yield* brief.complete(first)
        const early = yield* cool("b2", "b")
        // when it was added: a machine that took longer than that has seen the end
        if (early.due < first.startedAt + 300) assert.strictEqual(early.disposition, "Limited")
        yield* pass(300)
        yield* cool("b2", "b")
        assert.strictEqual((yield* brief.claimOne).key, "b2")
      }),
    { running: 1 }
  )

  test("a retry or a redelivery is not blocked by the run's own cooldown, and does not begin it anew", () =>
    Effect.gen(function*() {
      yield* add("k", { gates: { cooldown: "v" } })
      const worker = yield* attach({ worker: "worker", ...cooling(longLease) })
      yield* worker.settle(yield* worker.claimOne, { _tag: "Retry", after: 0, exit: failure, failures: "[]" })
      const crashed = yield* attach({ worker: "crashed", lease: shortLease, ...cooling(longLease) })
      assert.deepStrictEqual((yield* crashed.claim(1)).map(({ attempt }) => attempt), [2])
      const again = yield* passing(worker.next)
      assert.deepStrictEqual([again.attempt, again.lost], [3, 1])
      yield* worker.complete(again)
      assert.strictEqual((yield* add("k", { gates: { cooldown: "v" } })).disposition, "Limited")
    }))

  test("a cooldown that two tasks share, each with a length of its own → the longer one holds", () =>
    Effect.gen(function*() {
      const worker = yield* attach({
        tasks: new Map([["T", 1], ["U", 1]]),
        gates: new Map([["T", { cooldown: longLease }], ["U", { cooldown: 10 }]])
      })
      const cool = (key: string, task: string) => add(key, { task, gates: { cooldown: ":s" } })
      yield* cool("t", "T")
      yield* cool("u", "U")
      for (const key of ["t", "u"]) {
        const [claim] = yield* worker.claim(1)
        assert.strictEqual(claim!.key, key)
        yield* worker.complete(claim!)
      }
      yield* pass(20)
      yield* worker.claim()
      assert.strictEqual((yield* cool("again", "T")).disposition, "Limited")
    }))

  test("an addition that a cooldown ignores → says so, its handle fails with Limited, redriving is not ignored", () => {
    class Alert extends Task.make("Alert", {
      payload: { host: Schema.String },
      error: Schema.String,
      cooldown: { for: "10 minutes", key: ["host"] }
    }) {}
    class Alerts extends TaskGroup.make(Alert) {}
    let tries = 0
    return Effect.gen(function*() {
      const first = yield* Docket.add(Alert, { host: "a" }, { key: "first" })
      assert.strictEqual((yield* drain(Alerts)).failed, 1)
      assert.strictEqual(yield* Effect.flip(first.await), "no")
      const second = yield* Docket.add(Alert, { host: "a" }, { key: "second" })
      assert.strictEqual(second.disposition, "Limited")
      const error = yield* Effect.flip(second.await)
      assert.deepStrictEqual(
        typeof error === "string" ? error : error.reason,
        new TaskFailure.Limited({ by: "cooldown" })
      )
      assert.isFalse(yield* second.cancel)
      assert.strictEqual((yield* Docket.add(Alert, { host: "b" })).disposition, "Added")
      assert.strictEqual(yield* Docket.redrive(Alert), 1)
      assert.strictEqual((yield* drain(Alerts)).succeeded, 2)
    }).pipe(Effect.provide(live(Alert, () => Effect.suspend(() => ++tries === 1 ? Effect.fail("no") : Effect.void))))
  })

  // -------------------------------------------------------------------------------------------------------------------
  // debounce
  // -------------------------------------------------------------------------------------------------------------------

  const settling = (wait: number, options?: Partial<Docket.EncodedDebounce>): Partial<Docket.EncodedAddition> => ({
    gates: { debounce: { about: "v", for: wait, max: undefined, keepsFirst: false, ...options } }
  })

  for (const [name, keepsFirst, payload] of [["last", false, "3"], ["first", true, "1"]] as const) {
    test(`debounce: a burst → one run, the settle time after the last, with the ${name} payload`, () =>
      Effect.gen(function*() {
        const store = yield* stored
        const worker = yield* attach()
        const first = yield* add("k1", { ...settling(200, { keepsFirst }), payload: "1" })
        assert.strictEqual(first.disposition, "Added")
        yield* pass(50)
        const second = yield* add("k2", { ...settling(200, { keepsFirst }), payload: "2" })
        yield* pass(50)
        const before = yield* now
        const third = yield* add("k3", { ...settling(200, { keepsFirst }), payload: "3" })
        assert.deepInclude(third, {
          disposition: keepsFirst ? "Existing" : "Replaced",
          key: "k1",
          generation: first.generation
        })
        // one that was due already stays so: the machine took longer than that
        if (third.due < before + 200) assert.isAtLeast(yield* now, second.due)
        const [counts] = yield* store.counts
        assert.strictEqual(counts!.scheduled + counts!.ready + counts!.held, 1)
        const claim = yield* passing(worker.next)
        assert.deepInclude(claim, { key: "k1", payload })
        assert.isAtLeast(claim.startedAt, third.due)
        // it has begun: the next one is a run of its own
        assert.strictEqual((yield* add("k4", settling(200))).disposition, "Added")
        yield* worker.complete(claim)
        yield* store.clear
      }))
  }

  test("debounce with a maximum → starts at the maximum, although more came", () =>
    Effect.gen(function*() {
      const worker = yield* attach()
      const first = yield* add("k1", settling(200, { max: 300 }))
      for (const n of range(4)) {
        yield* pass(50)
        const next = yield* add(`next${n}`, settling(200, { max: 300 }))
        // on a machine that took so long that the maximum is over, it is due at once
        assert.isAtMost(next.due, Math.max(first.due + 100, yield* now))
      }
      const claim = yield* passing(worker.next)
      assert.strictEqual(claim.key, "k1")
      yield* worker.complete(claim)
    }))

  test("debounce: the winner cancelled → the next submission runs", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach()
      yield* add("k1", settling(100))
      yield* add("k2", settling(100))
      assert.isTrue(yield* store.cancel("k1"))
      assert.strictEqual((yield* add("k3", settling(100))).disposition, "Added")
      const claim = yield* passing(worker.next)
      assert.strictEqual(claim.key, "k3")
      yield* worker.complete(claim)
      // the same after all of them were cleared
      yield* add("k4", settling(100))
      assert.strictEqual(yield* store.clear, 1)
      assert.strictEqual((yield* add("k5", settling(100))).disposition, "Added")
      assert.strictEqual(yield* store.clear, 1)
    }))

  test("debounce: what is due and waits for a slot is still joined, replaced runs are replaced", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const worker = yield* attach(limits(1))
      yield* gated("holder", "c")
      const holder = yield* worker.claimOne
      const both = (about: string): Partial<Docket.EncodedAddition> => ({
        gates: { concurrency: "c", debounce: { about, for: 10, max: undefined, keepsFirst: false } }
      })
      yield* add("k", { ...both("v"), payload: "1" })
      yield* pass(20)
      yield* worker.claim()
      assert.strictEqual(yield* stateOf("k"), "Held")
      assert.deepInclude(yield* add("other", { ...both("v"), payload: "2" }), { disposition: "Replaced", key: "k" })
      assert.strictEqual(yield* stateOf("k"), "Held")
      yield* worker.complete(holder)
      const claim = yield* worker.next
      assert.deepInclude(claim, { key: "k", payload: "2" })
      yield* worker.complete(claim)
      const before = yield* add("again", { ...both("w"), payload: "1" })
      const after = yield* add("again", { ...both("w"), payload: "2", onExisting: "replace" })
      assert.deepInclude(after, { disposition: "Replaced" })
      assert.isAbove(after.generation, before.generation)
      assert.strictEqual(yield* store.clear, 1)
    }))

  test("debounced additions → each handle has the outcome of the one run, also of one batch", () => {
    class Save extends Task.make("Save", {
      payload: { document: Schema.String, text: Schema.String },
      success: Schema.String,
      debounce: { for: "50 millis", max: "1 second", key: ["document"] }
    }) {}
    class Saves extends TaskGroup.make(Save) {}
    const seen: Array<string> = []
    return Effect.gen(function*() {
      const first = yield* Docket.add(Save, { document: "a", text: "1" })
      const more = yield* Docket.addAll([
        [Save, { document: "a", text: "2" }],
        [Save, { document: "b", text: "3" }],
        [Save, { document: "a", text: "4" }],
        [Save, { document: "b", text: "5" }]
      ])
      const runs = [first, ...more]
      assert.strictEqual(new Set(runs.map(({ key }) => key)).size, 2)
      assert.strictEqual((yield* drain(Saves)).succeeded, 2)
      assert.deepStrictEqual(yield* Effect.forEach(runs, (run) => run.await), ["4", "4", "5", "4", "5"])
      assert.deepStrictEqual(seen.toSorted(), ["a4", "b5"])
    }).pipe(Effect.provide(live(Save, ({ document, text }) =>
      Effect.sync(() => {
        seen.push(document + text)
        return text
      }))))
  })
}
