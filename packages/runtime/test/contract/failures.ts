/**
 * Retries, timeouts, failures, dead letters, versions of payloads.
 */
import { Docket, Execution, Retry, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { DateTime, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import type { Change, StoredDocket } from "../../src/DocketStore.ts"
import {
  Boom,
  type Kit,
  live,
  logged,
  shortLease,
  signal,
  start,
  stateOf,
  stored,
  telling,
  Work,
  Works,
  wrapped
} from "./kit.ts"
import { add, addition, attach } from "./seam.ts"

const attempt = Execution.CurrentExecution.useSync((current) => current.attempt)

class Flaky extends Task.make("Flaky", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Boom,
  retry: Schedule.exponential("20 millis").pipe(Schedule.upTo({ times: 3 }))
}) {}

class Jittery extends Task.make("Jittery", {
  error: Boom,
  retry: Schedule.exponential("1 hour").pipe(Schedule.jittered)
}) {}

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}
class Later extends Schema.TaggedError<Later>()("Later", { millis: Schema.Int }) {}
class Ruled extends Task.make("Ruled", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Schema.Union([Boom, Busy, Later]),
  retry: {
    Boom: Retry.never,
    Busy: Schedule.recurs(1),
    Later: ({ millis }) => millis > 0 ? Retry.snooze(millis) : Retry.after(0)
  }
}) {}

class Slow extends Task.make("Slow", {
  success: Schema.Int,
  timeout: "100 millis",
  defectRetryPolicy: Schedule.recurs(1)
}) {}

class Frail extends Task.make("Frail", {
  payload: { n: Schema.Int },
  success: Schema.Int.check(Schema.isGreaterThan(0)),
  error: Boom,
  defectRetryPolicy: Schedule.recurs(0)
}) {}

class Killer extends Task.make("Killer", { success: Schema.Int, defectRetryPolicy: Schedule.recurs(1) }) {}

class Versioned extends Task.make("Versioned", {
  payload: { fullName: Schema.NonEmptyString },
  success: Schema.String,
  version: 2,
  migrate: (stored, version) => {
    if (version !== 1) throw new Error(`no migration from ${version}`)
    return { fullName: (stored as { readonly name: string }).name.toUpperCase() } // what version 1 wrote
  }
}) {}

const reasonOf = (error: unknown): TaskFailure.Reason => {
  assert.instanceOf(error, TaskFailure.TaskFailure)
  return error.reason
}

/** A store that tells what its workers settle. */
const settling = (told: (change: Change) => void) => (store: StoredDocket): StoredDocket => ({
  ...store,
  attach: (options) =>
    Effect.map(store.attach(options), (session) => ({
      ...session,
      turn: (request) => {
        for (const { change } of request.settle) told(change)
        return session.turn(request)
      }
    }))
})

/** A store whose workers settle nothing: what they say never arrives, and then they claim nothing more. */
const deaf = (store: StoredDocket): StoredDocket => ({
  ...store,
  attach: (options) =>
    Effect.map(store.attach(options), (session) => {
      let over = false
      return {
        ...session,
        turn: (request) => {
          over ||= request.settle.length > 0
          return Effect.map(
            session.turn({ ...request, settle: [], capacity: over ? 0 : request.capacity }),
            (reply) => ({
              ...reply,
              settled: request.settle.map(() => "Lost" as const)
            })
          )
        }
      }
    })
})

/** The tests of this part. */
export const failures = ({ drain, eventually, isLive, pass, passing, test }: Kit): void => {
  test("failing body → state failed, typed error from the handle, the worker lives", () =>
    Effect.gen(function*() {
      yield* start(Works)
      const run = yield* Docket.add(Work, { n: 0 })
      assert.deepStrictEqual(yield* Effect.flip(run.await), new Boom({ n: 0 }))
      assert.strictEqual(yield* stateOf(run.key), "Failed")
      assert.strictEqual(yield* (yield* Docket.add(Work, { n: 1 })).await, 1)
    }).pipe(Effect.provide(live(Work, ({ n }) => n === 0 ? Effect.fail(new Boom({ n })) : Effect.succeed(n)))))

  test("retry by a schedule with 3 recurrences → attempts 1 to 4, delays as it says, each attempt in another process", () => {
    const attempts: Array<number> = []
    const starts: Array<number> = []
    const delays: Array<number> = []
    const ended = Array.from({ length: 4 }, signal)
    const engine = wrapped(settling((change) => {
      if (change._tag === "Retry") delays.push(change.after)
      ended[attempts.length - 1]!.openUnsafe()
    }))
    return Effect.gen(function*() {
      const run = yield* Docket.add(Flaky, { n: 1 })
      for (const one of ended) {
        const worker = yield* start(TaskGroup.make(Flaky))
        yield* passing(one.await)
        yield* worker.stop
      }
      assert.deepStrictEqual(yield* Effect.flip(run.await), new Boom({ n: 4 }))
      assert.deepStrictEqual(attempts, [1, 2, 3, 4])
      assert.deepStrictEqual(delays, [20, 40, 80])
      delays.forEach((delay, i) => assert.isAtLeast(starts[i + 1]! - starts[i]!, delay))
    }).pipe(Effect.provide(
      live(Flaky, () =>
        Effect.gen(function*() {
          const current = yield* Execution.CurrentExecution
          attempts.push(current.attempt)
          starts.push(DateTime.toEpochMillis(current.startedAt))
          return yield* new Boom({ n: current.attempt })
        })).pipe(Layer.provideMerge(engine))
    ))
  })

  test("retry → the events say when, and with which error", () => {
    const subscribed = signal()
    return Effect.gen(function*() {
      const run = yield* Docket.add(Flaky, { n: 1 })
      const events = yield* Effect.forkChild(Stream.runCollect(run.changes))
      yield* subscribed.await
      yield* drain(TaskGroup.make(Flaky))
      const retrying = (yield* Fiber.join(events)).filter((event) => event._tag === "Retrying")
      assert.deepStrictEqual(retrying.map(({ attempt, error }) => [attempt, error]), [
        [1, new Boom({ n: 1 })],
        [2, new Boom({ n: 2 })]
      ])
      assert.strictEqual(yield* run.await, 3)
    }).pipe(Effect.provide(
      live(Flaky, () => Effect.filterOrFail(attempt, (n) => n >= 3, (n) => new Boom({ n }))).pipe(
        Layer.provideMerge(telling(subscribed))
      )
    ))
  })

  test("jitter → equal in every process for the same run", () => {
    const delays: Array<number> = []
    const failing = live(Jittery, () => Effect.fail(new Boom({ n: 1 })))
    const note = (change: Change) => {
      if (change._tag === "Retry") delays.push(change.after)
      ended.openUnsafe()
    }
    const ended = signal()
    const process = (store: (store: StoredDocket) => StoredDocket) =>
      Effect.gen(function*() {
        yield* start(TaskGroup.make(Jittery), { lease: shortLease })
        yield* passing(ended.await)
        yield* ended.close
      }).pipe(
        Effect.scoped,
        Effect.provide(failing.pipe(Layer.provideMerge(wrapped((inner) => settling(note)(store(inner))))))
      )
    return Effect.gen(function*() {
      yield* Docket.add(Jittery, undefined, { key: "k" })
      // the first one works out a delay and is never heard of again
      yield* process(deaf)
      yield* process((store) => store)
      assert.strictEqual(delays.length, 2)
      assert.strictEqual(delays[0], delays[1])
      const hours = delays[0]! / 3_600_000
      assert.isTrue(hours >= 0.8 && hours <= 1.2 && hours !== 1, String(hours))
    }).pipe(Effect.provide(failing))
  }, { pending: 1 })

  test("retry rules by error tag → only the tags that say retry are; snooze costs no attempt; never fails at once", () => {
    const attempts = new Map<number, Array<number>>()
    return Effect.gen(function*() {
      const [never, busy, later, once] = yield* Docket.addAll([1, 2, 3, 4].map((n) => [Ruled, { n }] as const))
      yield* drain(TaskGroup.make(Ruled))
      assert.deepStrictEqual(yield* Effect.flip(never!.await), new Boom({ n: 1 }))
      assert.deepStrictEqual(yield* Effect.flip(busy!.await), new Busy())
      assert.strictEqual(yield* later!.await, 3)
      assert.deepStrictEqual(yield* Effect.flip(once!.await), new Boom({ n: 4 }))
      assert.deepStrictEqual(Array.from(attempts.values()), [[1], [1, 2], [1, 1, 1], [1, 2]])
    }).pipe(Effect.provide(live(Ruled, ({ n }) =>
      Effect.gen(function*() {
        const seen = attempts.get(n) ?? []
        attempts.set(n, [...seen, yield* attempt])
        switch (n) {
          case 1:
            return yield* new Boom({ n })
          case 2:
            return yield* new Busy()
          case 3:
            return seen.length < 2 ? yield* new Later({ millis: 20 }) : n
          default:
            return seen.length === 0 ? yield* new Later({ millis: 0 }) : yield* new Boom({ n })
        }
      }))))
  })

  test("timeout 100 ms → interrupted, reason Timeout, counts as an attempt, the retry rule applies", () => {
    const attempts: Array<number> = []
    let interrupted = 0
    return Effect.gen(function*() {
      const run = yield* Docket.add(Slow)
      yield* drain(TaskGroup.make(Slow))
      const reason = reasonOf(yield* Effect.flip(run.await))
      assert.strictEqual(reason._tag, "Timeout")
      assert.include(reason.message, "100ms")
      assert.deepStrictEqual([attempts, interrupted], [[1, 2], 2])
    }).pipe(Effect.provide(live(Slow, () =>
      Effect.flatMap(attempt, (n) => {
        attempts.push(n)
        return Effect.onInterrupt(Effect.as(Effect.sleep("1 hour"), n), () => Effect.sync(() => interrupted++))
      }))))
  })

  test("a handler extends its own timeout → honoured", () =>
    Effect.gen(function*() {
      const run = yield* Docket.add(Slow)
      yield* drain(TaskGroup.make(Slow))
      assert.strictEqual(yield* run.await, 1)
    }).pipe(Effect.provide(live(Slow, () =>
      Effect.gen(function*() {
        const current = yield* Execution.CurrentExecution
        yield* current.extendTimeout("1 minute")
        yield* Effect.sleep(150)
        return current.attempt
      })))))

  // it takes five seconds, and no store has a part in it
  if (!isLive) {
    test("a body that ignores its timeout → settled without it, the worker lives", () => {
      const gate = signal()
      return Effect.gen(function*() {
        const worker = yield* start(TaskGroup.make(Slow).add(Work))
        const run = yield* Docket.add(Slow)
        const exit = yield* passing(Effect.exit(run.await))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(yield* (yield* Docket.add(Work, { n: 1 })).await, 1)
        yield* gate.open
        yield* worker.stop
        assert.strictEqual(yield* logged("Error", "ignores interruption"), 1)
      }).pipe(Effect.provide(Layer.merge(
        live(
          Slow,
          () =>
            Effect.flatMap(
              attempt,
              (n) => n === 1 ? Effect.die("at once") : Effect.as(Effect.uninterruptible(gate.await), n)
            )
        ),
        live(Work, ({ n }) => Effect.succeed(n))
      )))
    })
  }

  const cyclic: { self?: unknown; readonly call: () => void } = { call: () => {} }
  cyclic.self = cyclic
  for (
    const [name, defect, text] of [
      ["an error", new TypeError("x is not a function"), "x is not a function"],
      ["a text", "oh no", "oh no"],
      ["a value with a cycle and a function", cyclic, ""],
      ["nothing", undefined, ""],
      ["a symbol", Symbol("s"), ""],
      ["a bigint", 1n, ""]
    ] as const
  ) {
    test(`defect (${name}) → TaskFailure with reason Defect, the worker lives`, () =>
      Effect.gen(function*() {
        yield* start(TaskGroup.make(Frail))
        const run = yield* Docket.add(Frail, { n: 0 })
        const reason = reasonOf(yield* Effect.flip(run.await))
        assert.strictEqual(reason._tag, "Defect")
        assert.include(reason.message, text)
        assert.strictEqual(yield* (yield* Docket.add(Frail, { n: 1 })).await, 1)
      }).pipe(Effect.provide(live(Frail, ({ n }) => n === 0 ? Effect.die(defect) : Effect.succeed(n)))))
  }

  test("success or error that does not fit its schema → failed with the schema issue, the worker lives", () =>
    Effect.gen(function*() {
      yield* start(TaskGroup.make(Frail))
      const [success, error, good] = yield* Docket.addAll([[Frail, { n: 0 }], [Frail, { n: 1 }], [Frail, { n: 2 }]])
      assert.include(reasonOf(yield* Effect.flip(success.await)).message, "its success does not fit the schema")
      assert.include(reasonOf(yield* Effect.flip(error.await)).message, "its error does not fit the schema")
      assert.strictEqual(yield* good.await, 2)
    }).pipe(Effect.provide(live(Frail, ({ n }) =>
      n === 1
        ? Effect.fail(Object.assign(Object.create(Boom.prototype) as Boom, { n: "one" })) // as a careless cast would make it
        : Effect.succeed(n)))))

  test("a handler that throws before it returns an effect → Defect, the worker lives", () =>
    Effect.gen(function*() {
      yield* start(TaskGroup.make(Frail))
      const run = yield* Docket.add(Frail, { n: 0 })
      assert.include(reasonOf(yield* Effect.flip(run.await)).message, "thrown")
      assert.strictEqual(yield* (yield* Docket.add(Frail, { n: 1 })).await, 1)
    }).pipe(Effect.provide(live(Frail, ({ n }) => {
      if (n === 0) throw new Error("thrown")
      return Effect.succeed(n)
    }))))

  test("a finalizer that dies after the body succeeded → logged; the run stays completed, the body ran once", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const run = yield* Docket.add(Work, { n: 1 })
      yield* drain(Works)
      assert.strictEqual(yield* run.await, 1)
      assert.deepStrictEqual(seen, [1])
      assert.strictEqual(yield* logged("Error", "a finalizer died"), 1)
    }).pipe(Effect.provide(live(Work, ({ n }) =>
      Effect.gen(function*() {
        yield* Effect.addFinalizer(() => Effect.die("in a finalizer"))
        seen.push(n)
        return n
      }))))
  })

  test("a failed run → among the dead letters with payload, attempts and cause; redrive runs it, repaired, once", () => {
    const seen: Array<number> = []
    return Effect.gen(function*() {
      const run = yield* Docket.add(Flaky, { n: -1 }, { key: "k" })
      yield* Docket.add(Flaky, { n: 1 })
      yield* drain(TaskGroup.make(Flaky))
      const letters = yield* Stream.runCollect(Docket.deadLetters(Flaky))
      assert.deepStrictEqual(
        letters.map(({ attempts, error, key, payload }) => ({ attempts, error, key, payload })),
        [{ attempts: 4, error: new Boom({ n: -1 }), key: "k", payload: { n: -1 } }]
      )
      const redrive = Docket.redrive(Flaky, { map: ({ payload }) => ({ n: -payload.n }) })
      assert.strictEqual(yield* Docket.redrive(Flaky, { filter: ({ key }) => key !== "k" }), 0)
      const [once, twice] = yield* Effect.all([redrive, redrive], { concurrency: 2 })
      assert.deepStrictEqual([once, twice].toSorted(), [0, 1])
      assert.deepStrictEqual(yield* Stream.runCollect(Docket.deadLetters(Flaky)), [])
      yield* drain(TaskGroup.make(Flaky))
      assert.deepStrictEqual(seen.filter((n) => n > 0), [1, 1])
      assert.strictEqual(
        Option.getOrThrow(yield* Effect.flatMap(Docket.get(Flaky, "k"), (found) => Option.getOrThrow(found).poll)).pipe(
          Exit.isSuccess
        ),
        true
      )
      assert.deepStrictEqual(
        yield* Effect.flip(run.await).pipe(Effect.orElseSucceed(() => "it follows its key")),
        "it follows its key"
      )
    }).pipe(Effect.provide(live(Flaky, ({ n }) => {
      seen.push(n)
      return n < 0 ? Effect.fail(new Boom({ n })) : Effect.succeed(n)
    })))
  })

  test("redrive without a repair keeps the stored payload; of a run that was added again meanwhile, or is forgotten, nothing", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const fail = Effect.gen(function*() {
        const worker = yield* attach()
        yield* worker.settle(yield* worker.claimOne, { _tag: "Failed", exit: "{}" })
      }).pipe(Effect.scoped)
      const first = yield* add("k", { payload: "{\"n\":1}" })
      yield* fail
      const letter = (yield* Stream.runCollect(store.deadLetters("T")))[0]!
      assert.deepStrictEqual([letter.key, letter.payload, letter.attempt, letter.exit], ["k", "{\"n\":1}", 1, "{}"])
      yield* add("k", { payload: "{\"n\":2}" })
      const stale = yield* add("k", { payload: letter.payload, redrive: first.generation })
      assert.strictEqual(stale.disposition, "Existing")
      yield* fail
      const late = yield* add("k", { payload: letter.payload, redrive: first.generation })
      assert.strictEqual(late.disposition, "Existing", "that generation is not the latest any more")
      assert.deepStrictEqual((yield* store.get("k"))!.state, "Failed")
      const gone = yield* add("gone", { retention: { success: 0, failure: 0 } })
      yield* fail
      const forgotten = yield* add("gone", { redrive: gone.generation })
      assert.deepStrictEqual([forgotten.disposition, yield* store.get("gone")], ["Existing", undefined])
    }))

  for (
    const [name, payload] of [["garbage", "\u0000{"], ["of another schema", "{\"n\":\"one\"}"], [
      "a huge nest",
      "[".repeat(50_000)
    ]] as const
  ) {
    test(`stored payload that cannot be decoded (${name}) → dead letter with the issue after one claim, others go on`, () => {
      const seen: Array<number> = []
      return Effect.gen(function*() {
        const store = yield* stored
        yield* store.add([addition("bad", { task: "Work", payload })], { atomic: true })
        const good = yield* Docket.add(Work, { n: 1 })
        yield* drain(Works)
        assert.strictEqual(yield* good.await, 1)
        const bad = yield* Effect.flatMap(Docket.get(Work, "bad"), Effect.fromOption)
        assert.strictEqual(reasonOf(yield* Effect.flip(bad.await))._tag, "Undecodable")
        const letters = yield* Stream.runCollect(store.deadLetters("Work"))
        assert.deepStrictEqual(letters.map((letter) => [letter.key, letter.attempt, letter.payload]), [[
          "bad",
          1,
          payload
        ]])
        assert.deepStrictEqual(seen, [1])
      }).pipe(Effect.provide(live(Work, ({ n }) => Effect.sync(() => seen.push(n) && n))))
    })
  }

  for (const deaths of [1, 2]) {
    test(`a body that kills its process ${deaths} time(s), one redelivery allowed → ${deaths === 1 ? "runs" : "dead letter, body never starts again"}`, () => {
      let starts = 0
      return Effect.gen(function*() {
        const run = yield* Docket.add(Killer)
        for (let death = 0; death < deaths; death++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const victim = yield* attach({ tasks: new Map([["Killer", 1]]), lease: shortLease })
            assert.strictEqual((yield* victim.claimOne).lost, death)
          }))
          yield* pass(shortLease)
        }
        yield* drain(TaskGroup.make(Killer))
        const exit = yield* Effect.result(run.await)
        if (exit._tag === "Success") assert.strictEqual(exit.success, deaths + 1)
        else assert.deepStrictEqual(reasonOf(exit.failure), new TaskFailure.Lost({ attempts: 2 }))
        assert.deepStrictEqual([starts, exit._tag], deaths === 1 ? [1, "Success"] : [0, "Failure"])
      }).pipe(Effect.provide(live(Killer, () => Effect.tap(attempt, () => Effect.sync(() => starts++)))))
    })
  }

  test("payload of an older version → migrated; of a newer one → held, not failed", () =>
    Effect.gen(function*() {
      const store = yield* stored
      const task = { task: "Versioned", payload: "{\"name\":\"ada\"}" }
      yield* store.add([addition("old", task), addition("new", { ...task, version: 3 })], { atomic: true })
      const worker = yield* start(TaskGroup.make(Versioned))
      const old = yield* Effect.flatMap(Docket.get(Versioned, "old"), Effect.fromOption)
      assert.strictEqual(yield* old.await, "ADA")
      yield* eventually(Effect.map(logged("Warn", "Versioned"), (count) => count > 0))
      assert.strictEqual(yield* logged("Warn", "Versioned"), 1)
      assert.strictEqual(yield* stateOf("new"), "Held")
      yield* worker.stop
      // a finite worker leaves what it has no handler for
      yield* drain(TaskGroup.make(Versioned))
      const newer = yield* attach({ tasks: new Map([["Versioned", 3]]) })
      const claim = yield* newer.claimOne
      assert.deepStrictEqual([claim.key, claim.attempt, claim.version], ["new", 1, 3])
      yield* newer.complete(claim)
    }).pipe(Effect.provide(live(Versioned, ({ fullName }) => Effect.succeed(fullName)))))

  test("an older version without a migration that fits → dead letter with the message", () =>
    Effect.gen(function*() {
      const store = yield* stored
      yield* store.add([addition("old", { task: "Versioned", payload: "{}" })], { atomic: true })
      yield* drain(TaskGroup.make(Versioned))
      const old = yield* Effect.flatMap(Docket.get(Versioned, "old"), Effect.fromOption)
      assert.strictEqual(reasonOf(yield* Effect.flip(old.await))._tag, "Undecodable")
    }).pipe(Effect.provide(live(Versioned, ({ fullName }) => Effect.succeed(fullName)))))
}
