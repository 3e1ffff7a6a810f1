import { Docket, DocketError, Execution, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  DateTime,
  Duration,
  Effect,
  Exit,
  Layer,
  Option,
  Schedule,
  Schema,
  SchemaGetter,
  Stream
} from "effect"
import { defectOf, encoded, invalidOption, live, reasonOf, settle } from "../../runtime/test/Kit.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { at: Schema.DateTimeUtc }) {}
class Plain extends Task.make("Plain", { payload: { id: Schema.Int }, success: Schema.Int }) {}
class Keyed extends Task.make("Keyed", {
  payload: { a: Schema.String, b: Schema.Union([Schema.String, Schema.Int]) },
  key: ["a", "b"]
}) {}
class Named extends Task.make("Named", { payload: Schema.String, key: (name) => name }) {}
class Failing extends Task.make("Failing", {
  payload: { id: Schema.Int, fails: Schema.Boolean },
  success: Schema.Int,
  error: Refused,
  key: ["id"],
  defectRetryPolicy: Schedule.recurs(0)
}) {}
class All extends TaskGroup.make(Plain, Keyed, Named, Failing) {}

const layer = live(
  All,
  All.toLayer({
    Plain: ({ id }) => Effect.succeed(id),
    Keyed: () => Effect.void,
    Named: () => Effect.void,
    Failing: ({ fails, id }) => fails ? Effect.fail(new Refused({ at: DateTime.makeUnsafe(id) })) : Effect.succeed(id)
  })
)

const dateOf = (millis: number) => DateTime.toDateUtc(DateTime.makeUnsafe(millis))
const stored = Stream.runCollect(Docket.snapshot)
const keys = Effect.map(stored, (runs) => runs.map(({ key }) => key))
const drain = DocketTest.drain(All)

/** The reason why an operation fails; nothing may be written. */
const refusal = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = (yield* stored).length
    const error = yield* Effect.flip(effect)
    assert.strictEqual((yield* stored).length, before)
    assert.instanceOf(error, DocketError.DocketError)
    return error
  })

const invalidPayload = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(refusal(effect), (error) => {
    assert.strictEqual(error.reason._tag, "InvalidPayload")
    return error.message
  })

describe("Docket.add", () => {
  it.effect("gives a handle that knows its run", () =>
    Effect.gen(function*() {
      const run = yield* Docket.add(Plain, { id: 7 }, { after: "1 minute" })
      assert.isTrue(Execution.isExecution(run))
      assert.strictEqual(run.task, "Plain")
      assert.match(run.key, /^Plain\/[0-9A-Z]{26}$/)
      assert.strictEqual(run.disposition, "Added")
      assert.strictEqual(DateTime.toEpochMillis(run.scheduledAt), 60_000)
      assert.deepStrictEqual(yield* run.poll, Option.none())
      assert.strictEqual(run.pipe((self) => self.task), "Plain")
      yield* drain
      assert.strictEqual(yield* run.await, 7)
      assert.deepStrictEqual(yield* run.poll, Option.some(Exit.succeed(7)))
      assert.isFalse(yield* run.cancel)
    }).pipe(Effect.provide(layer)))

  it.effect("refuses a payload that does not fit: the error names task and field, nothing is written", () =>
    Effect.gen(function*() {
      const message = yield* invalidPayload(Docket.add(Plain, { id: 0.5 }))
      assert.include(message, "Docket.add: the payload of task \"Plain\" is invalid")
      assert.include(message, "[\"id\"]")
      const wrong = { id: "1" } as unknown as { readonly id: number } // past the types on purpose
      assert.include(yield* invalidPayload(Docket.add(Plain, wrong)), "[\"id\"]")
      const missing = {} as { readonly id: number } // past the types on purpose
      assert.include(yield* invalidPayload(Docket.add(Plain, missing)), "[\"id\"]")
      const untouchable = new Proxy({ id: 1 }, {
        get: () => {
          throw new Error("do not touch")
        }
      })
      yield* invalidPayload(Docket.add(Plain, untouchable))
      yield* invalidPayload(Docket.replace(Plain, { id: 0.5 }))
      yield* invalidPayload(Docket.addAll([[Plain, { id: 1 }], [Plain, { id: 0.5 }]]))
      assert.deepStrictEqual(yield* stored, [])
    }).pipe(Effect.provide(layer)))

  it.effect("refuses a time that is none", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<Docket.AddOptions> = [
        { at: "never" },
        { at: Number.NaN },
        { at: Infinity },
        { at: 1e17 },
        { after: "soon" as "1 second" },
        { after: "Infinity" },
        { after: Duration.millis(1e17) }
      ]
      for (const options of bad) {
        assert.strictEqual(invalidOption(yield* refusal(Docket.add(Plain, { id: 1 }, options))), "at")
      }
    }).pipe(Effect.provide(layer)))

  it.effect("takes times in any form, and what is past means now", () =>
    Effect.gen(function*() {
      const dueOf = (options: Docket.AddOptions) =>
        Effect.map(Docket.add(Plain, { id: 1 }, options), ({ scheduledAt }) => DateTime.toEpochMillis(scheduledAt))
      assert.strictEqual(yield* dueOf({ at: DateTime.toDateUtc(DateTime.makeUnsafe(5000)) }), 5000)
      assert.strictEqual(yield* dueOf({ at: 5000 }), 5000)
      assert.strictEqual(yield* dueOf({ at: "1970-01-01T00:00:05Z" }), 5000)
      assert.strictEqual(yield* dueOf({ at: DateTime.makeZonedUnsafe(5000, { timeZone: "Europe/Rome" }) }), 5000)
      assert.strictEqual(yield* dueOf({ after: "5 seconds" }), 5000)
      assert.strictEqual(yield* dueOf({ after: Duration.seconds(5) }), 5000)
      assert.strictEqual(yield* dueOf({ after: -5 }), 0)
      assert.strictEqual(yield* dueOf({}), 0)
      const past = yield* Docket.add(Plain, { id: 3 }, { at: -5000 })
      yield* DocketTest.drain(All, { for: 0 })
      assert.strictEqual(yield* past.await, 3)
    }).pipe(Effect.provide(layer)))

  it.effect("applies constructor defaults; handlers see decoded values of every kind", () =>
    Effect.gen(function*() {
      class Point extends Schema.Class<Point>("Point")({ x: Schema.Int, y: Schema.Int }) {
        get sum() {
          return this.x + this.y
        }
      }
      const Rich = Schema.Struct({
        at: Schema.DateTimeUtc,
        date: Schema.Date,
        big: Schema.BigInt,
        option: Schema.Option(Schema.Int),
        point: Point,
        map: Schema.ReadonlyMap(Schema.String, Schema.Date),
        bytes: Schema.Uint8Array,
        length: Schema.Duration,
        number: Schema.Finite,
        note: Schema.optionalKey(Schema.String),
        maybe: Schema.UndefinedOr(Schema.String),
        retries: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(3)))
      })
      class Everything extends Task.make("Everything", { payload: Rich, success: Rich }) {}
      const group = TaskGroup.make(Everything)
      const seen: Array<typeof Rich.Type> = []
      const given = {
        at: DateTime.makeUnsafe(5),
        date: dateOf(6),
        big: 12345678901234567890n,
        option: Option.some(1),
        point: new Point({ x: 1, y: 2 }),
        map: new Map([["a", dateOf(7)]]),
        bytes: new Uint8Array([0, 127, 255]),
        length: Duration.seconds(3),
        number: -0.5,
        maybe: undefined
      }
      yield* Effect.gen(function*() {
        const run = yield* Docket.add(Everything, given)
        yield* DocketTest.drain(group)
        const result = yield* run.await
        for (const value of [result, ...seen]) {
          assert.deepStrictEqual(value, { ...given, retries: 3 })
          assert.instanceOf(value.point, Point)
          assert.strictEqual(value.point.sum, 3)
        }
        assert.strictEqual(seen.length, 1)
      }).pipe(
        Effect.provide(live(group, Everything.toLayer((payload) => Effect.sync(() => (seen.push(payload), payload)))))
      )
    }))

  it.effect("uses the services of the schemas, on either side", () =>
    Effect.gen(function*() {
      class Cipher extends Context.Service<Cipher, { readonly turn: (text: string) => string }>()("test/Cipher") {}
      const Sealed = Schema.String.pipe(Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect((text: string) => Effect.map(Cipher, ({ turn }) => turn(text))),
        encode: SchemaGetter.transformEffect((text: string) => Effect.map(Cipher, ({ turn }) => turn(text)))
      }))
      class Secret extends Task.make("Secret", { payload: { text: Sealed }, success: Sealed }) {}
      const group = TaskGroup.make(Secret)
      const cipher = Layer.succeed(Cipher, { turn: (text) => Array.from(text).toReversed().join("") })
      yield* Effect.gen(function*() {
        const run = yield* Docket.add(Secret, { text: "abc" })
        assert.deepStrictEqual((yield* stored).map(({ payload }) => payload), [{ text: "cba" }])
        yield* DocketTest.drain(group)
        assert.strictEqual(yield* run.await, "abc!")
      }).pipe(
        Effect.provide(Layer.merge(live(group, Secret.toLayer(({ text }) => Effect.succeed(`${text}!`))), cipher))
      )
    }))
})

describe("Keys", () => {
  const keyOf = (a: string, b: string | number) => Effect.map(Docket.add(Keyed, { a, b }), ({ key }) => key)

  it.effect("of fields are the tag and its parts, each URI-encoded", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* keyOf("c-1", "2026-01-01"), "Keyed/c-1/2026-01-01")
      assert.strictEqual(yield* keyOf("a/b", "c"), "Keyed/a%2Fb/c")
      assert.strictEqual(yield* keyOf("a", "b/c"), "Keyed/a/b%2Fc")
      assert.strictEqual(yield* keyOf("", ""), "Keyed//")
      assert.strictEqual(yield* keyOf("{x}", 5), "Keyed/%7Bx%7D/5")
      assert.strictEqual(yield* keyOf("\"\\\n\0 %", "ü🙂"), "Keyed/%22%5C%0A%00%20%25/%C3%BC%F0%9F%99%82")
      assert.strictEqual(yield* keyOf("\ud800x", "\udc00"), "Keyed/%uD800x/%uDC00")
      yield* drain
    }).pipe(Effect.provide(layer)))

  it.effect("of a function, and given ones, are used as they are, whatever is in them", () =>
    Effect.gen(function*() {
      const odd = [
        "a/b c",
        "\"'\\",
        "\n\r\t\0",
        "{}{tag}",
        "🙂",
        "__proto__",
        "constructor",
        "docket:ready",
        "*",
        "x".repeat(4096)
      ]
      for (const key of odd) {
        assert.strictEqual((yield* Docket.add(Named, key)).key, key)
        assert.strictEqual((yield* Docket.add(Named, key)).disposition, "Existing")
        assert.isTrue(Option.isSome(yield* Docket.get(Named, key)))
      }
      assert.strictEqual((yield* stored).length, odd.length)
      // UTF-8 has no bytes for it: a store would take it for another key
      const { reason } = yield* Effect.flip(Docket.add(Named, "half \ud83d"))
      assert.strictEqual(reason._tag, "InvalidOption")
      assert.include(reason.message, "half of a surrogate pair")
      assert.strictEqual((yield* Docket.add(Named, "other", { key: "given" })).key, "given")
      assert.strictEqual((yield* drain).succeeded, odd.length + 1)
    }).pipe(Effect.provide(layer)))

  it.effect("may be 4096 bytes long, in any script", () =>
    Effect.gen(function*() {
      for (const longest of ["x".repeat(4096), "ü".repeat(2048), "€".repeat(1365), "🙂".repeat(1024)]) {
        assert.strictEqual((yield* Docket.add(Named, "n", { key: longest })).key, longest)
        const error = yield* refusal(Docket.add(Named, "n", { key: `${longest}xx` }))
        assert.strictEqual(error.reason._tag, "LimitExceeded")
        assert.include(error.message, "4096")
        assert.include(error.message, "Named")
      }
    }).pipe(Effect.provide(layer)))

  it.effect("that are empty, no text, or cannot be computed are refused", () =>
    Effect.gen(function*() {
      assert.strictEqual(invalidOption(yield* refusal(Docket.add(Named, ""))), "key")
      assert.strictEqual(invalidOption(yield* refusal(Docket.add(Named, "n", { key: "" }))), "key")
      const add = (options: Task.Options<void, void, never>) => {
        class Bad extends Task.make("Bad", options) {}
        return refusal(Docket.add(Bad)).pipe(Effect.provide(Bad.client))
      }
      for (const key of [undefined, null, 3, {}]) {
        assert.strictEqual(invalidOption(yield* add({ key: (() => key) as unknown as () => string })), "key") // past the types on purpose
      }
      for (const priority of [Number.NaN, 0.5, Infinity, "1" as unknown as number]) {
        assert.strictEqual(invalidOption(yield* add({ priority: () => priority })), "priority")
      }
      const throwing = yield* add({
        key: () => {
          throw new Error("no key today")
        }
      })
      assert.strictEqual(throwing.reason._tag, "InvalidPayload")
      assert.include(throwing.message, "no key today")
    }).pipe(Effect.provide(layer)))

  it.effect("that nobody gives are unique and ascend", () =>
    Effect.gen(function*() {
      const runs = yield* Docket.addAll(Array.from({ length: 10_000 }, (_, id) => [Plain, { id }] as const))
      const made = runs.map(({ key }) => key)
      assert.strictEqual(new Set(made).size, 10_000)
      assert.deepStrictEqual(made.toSorted(), made)
      assert.isTrue(made.every((key) => /^Plain\/[0-9A-HJKMNP-TV-Z]{26}$/.test(key)))
      const later = yield* Effect.forEach(Array.from({ length: 10 }, (_, id) => id), (id) => Docket.add(Plain, { id }))
      assert.isTrue(later.every(({ key }) => key > made.at(-1)!))
    }).pipe(Effect.provide(layer)))
})

describe("Docket.addAll", () => {
  it.effect("gives one handle per entry, in their order, of their tasks and times", () =>
    Effect.gen(function*() {
      yield* Docket.add(Named, "taken")
      const [plain, named, keyed] = yield* Docket.addAll([
        [Plain, { id: 1 }, { after: "1 hour" }],
        [Named, "taken"],
        [Keyed, { a: "x", b: 1 }, { key: "mine" }]
      ])
      assert.deepStrictEqual([plain, named, keyed].map(({ disposition, task }) => [task, disposition]), [
        ["Plain", "Added"],
        ["Named", "Existing"],
        ["Keyed", "Added"]
      ])
      assert.strictEqual(keyed.key, "mine")
      assert.strictEqual(DateTime.toEpochMillis(plain.scheduledAt), 3_600_000)
      yield* drain
      assert.strictEqual(yield* plain.await, 1)
      assert.isUndefined(yield* keyed.await)
    }).pipe(Effect.provide(layer)))

  it.effect("of nothing does nothing", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Docket.addAll([]), [])
      assert.deepStrictEqual(yield* stored, [])
    }).pipe(Effect.provide(layer)))

  it.effect("writes nothing when one entry is refused, wherever it stands", () =>
    Effect.gen(function*() {
      yield* Docket.add(Named, "taken")
      const fine = [Named, "free"] as const
      yield* invalidPayload(Docket.addAll([fine, [Plain, { id: 0.5 }]]))
      yield* refusal(Docket.addAll([fine, [Named, "x", { key: "k".repeat(5000) }]]))
      const error = yield* refusal(Docket.addAll([fine, [Named, "taken", { onExisting: "fail" }]]))
      assert.deepStrictEqual(error.reason._tag === "KeyExists" ? error.reason.key : "", "taken")
      assert.deepStrictEqual(yield* keys, ["taken"])
    }).pipe(Effect.provide(layer)))

  it.effect("meets itself where it names a key twice", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Docket.addAll([[Named, "same"], [Named, "same"]])
      assert.deepStrictEqual([one.disposition, two.disposition], ["Added", "Existing"])
    }).pipe(Effect.provide(layer)))
})

describe("Docket.replace", () => {
  it.effect("puts another payload and time in the place of a pending run, and adds where there is none", () =>
    Effect.gen(function*() {
      const first = yield* Docket.replace(Failing, { id: 1, fails: true }, { after: "1 hour" })
      const second = yield* Docket.replace(Failing, { id: 1, fails: false }, { after: "2 hours" })
      assert.deepStrictEqual([first.disposition, second.disposition], ["Added", "Replaced"])
      assert.deepStrictEqual(
        (yield* stored).map(({ payload, scheduledAt }) => [payload, DateTime.toEpochMillis(scheduledAt)]),
        [
          [{ id: 1, fails: false }, 7_200_000]
        ]
      )
      yield* drain
      // a handle follows its key
      assert.strictEqual(yield* first.await, 1)
    }).pipe(Effect.provide(layer)))
})

describe("Docket.get", () => {
  it.effect("finds a run by its key, pending, running or settled", () =>
    Effect.gen(function*() {
      yield* Docket.add(Failing, { id: 1, fails: true }, { after: "1 minute" })
      const pending = Option.getOrThrow(yield* Docket.get(Failing, "Failing/1"))
      assert.strictEqual(DateTime.toEpochMillis(pending.scheduledAt), 60_000)
      yield* drain
      const settled = Option.getOrThrow(yield* Docket.get(Failing, "Failing/1"))
      for (const handle of [pending, settled]) {
        const error = yield* Effect.flip(handle.await)
        assert.isTrue(error._tag === "Refused" && DateTime.toEpochMillis(error.at) === 1)
      }
    }).pipe(Effect.provide(layer)))

  it.effect("finds none where nothing is known, or where the key is that of another task", () =>
    Effect.gen(function*() {
      yield* Docket.add(Named, "n")
      assert.deepStrictEqual(yield* Docket.get(Named, "unknown"), Option.none())
      assert.deepStrictEqual(yield* Docket.get(Plain, "n"), Option.none())
    }).pipe(Effect.provide(layer)))

  it.effect("a handle whose run is forgotten says so", () =>
    Effect.gen(function*() {
      class Brief extends Task.make("Brief", { retention: 0, success: Schema.Int, key: () => "brief" }) {}
      const group = TaskGroup.make(Brief)
      yield* Effect.gen(function*() {
        const run = yield* Docket.add(Brief)
        const waiting = yield* Effect.forkChild(run.await, { startImmediately: true })
        yield* DocketTest.drain(group)
        // who waited before has the value, who comes later is told
        assert.strictEqual(yield* Effect.flatten(Effect.sync(() => waiting.pollUnsafe() ?? Exit.die("not yet"))), 5)
        assert.strictEqual(reasonOf(yield* Effect.flip(run.await))._tag, "Gone")
        assert.deepStrictEqual(yield* Docket.get(Brief, "brief"), Option.none())
      }).pipe(Effect.provide(live(group, Brief.toLayer(() => Effect.succeed(5)))))
    }))
})

describe("Keys by field", () => {
  class Named extends Task.make("Named", { payload: { name: Schema.NullOr(Schema.String) }, key: ["name"] }) {}

  it.effect("are different for different payloads: nothing and its name, names that are not well-formed", () =>
    Effect.gen(function*() {
      const names = [null, "null", "%null", "\udcfe", "\udcff", "\ufffd", "", "a/b", "a%2Fb"]
      const runs = yield* Docket.addAll(names.map((name) => [Named, { name }] as const))
      assert.strictEqual(new Set(runs.map(({ key }) => key)).size, names.length)
      assert.deepStrictEqual(runs.map(({ disposition }) => disposition), names.map(() => "Added"))
    }).pipe(Effect.provide(Named.client.pipe(Layer.provideMerge(DocketTest.layer)))))
})

describe("Dead letters", () => {
  const failThree = Effect.gen(function*() {
    yield* Docket.addAll([
      [Failing, { id: 1, fails: true }],
      [Failing, { id: 2, fails: true }, { after: "1 second" }],
      [Failing, { id: 3, fails: true }, { after: "2 seconds" }],
      [Failing, { id: 4, fails: false }]
    ])
    yield* drain
  })
  const letters = Stream.runCollect(Docket.deadLetters(Failing))
  const ids = Effect.map(letters, (list) => list.map(({ payload }) => payload.id))

  it.effect("are the failed runs with payload, error, attempts and time, oldest first", () =>
    Effect.gen(function*() {
      yield* failThree
      const list = yield* letters
      assert.deepStrictEqual(
        list.map(({ attempts, failedAt, key, payload }) => [key, payload, attempts, DateTime.toEpochMillis(failedAt)]),
        [
          ["Failing/1", { id: 1, fails: true }, 1, 0],
          ["Failing/2", { id: 2, fails: true }, 1, 1000],
          ["Failing/3", { id: 3, fails: true }, 1, 2000]
        ]
      )
      const [first] = list
      assert.isTrue(first?.error._tag === "Refused" && DateTime.toEpochMillis(first.error.at) === 1)
    }).pipe(Effect.provide(layer)))

  it.effect("are driven again with the payload they had; a second time finds nothing to do", () =>
    Effect.gen(function*() {
      yield* failThree
      assert.strictEqual(yield* Docket.redrive(Failing), 3)
      assert.deepStrictEqual(yield* letters, [])
      assert.strictEqual(yield* Docket.redrive(Failing), 0)
      assert.deepStrictEqual((yield* stored).map(({ attempt, payload }) => [payload, attempt]), [
        [{ id: 1, fails: true }, 0],
        [{ id: 2, fails: true }, 0],
        [{ id: 3, fails: true }, 0]
      ])
      assert.deepStrictEqual(yield* drain, { succeeded: 0, failed: 3, retried: 0 })
      assert.strictEqual((yield* ids).length, 3)
    }).pipe(Effect.provide(layer)))

  it.effect("with a filter, a repaired payload and a limit", () =>
    Effect.gen(function*() {
      yield* failThree
      assert.strictEqual(yield* Docket.redrive(Failing, { filter: ({ payload }) => payload.id === 99 }), 0)
      const repaired = yield* Docket.redrive(Failing, {
        filter: ({ error, payload }) => error._tag === "Refused" && payload.id > 1,
        map: ({ payload }) => ({ ...payload, fails: false }),
        limit: 1
      })
      assert.strictEqual(repaired, 1)
      const run = Option.getOrThrow(yield* Docket.get(Failing, "Failing/2"))
      assert.deepStrictEqual(yield* drain, { succeeded: 1, failed: 0, retried: 0 })
      assert.strictEqual(yield* run.await, 2)
      assert.deepStrictEqual(yield* ids, [1, 3])
    }).pipe(Effect.provide(layer)))

  it.effect("run by the priority of the repaired payload", () => {
    const order: Array<number> = []
    class Ranked extends Task.make("Ranked", {
      payload: { rank: Schema.Int },
      error: Schema.String,
      priority: ({ rank }) => rank
    }) {}
    const group = TaskGroup.make(Ranked)
    return Effect.gen(function*() {
      yield* Docket.addAll([[Ranked, { rank: 1 }], [Ranked, { rank: 2 }], [Ranked, { rank: 3 }]])
      yield* DocketTest.drain(group, { concurrency: 1 })
      order.length = 0
      yield* Docket.redrive(Ranked, { map: ({ payload }) => ({ rank: 10 - payload.rank }) })
      yield* DocketTest.drain(group, { concurrency: 1 })
      assert.deepStrictEqual(order, [9, 8, 7])
    }).pipe(Effect.provide(
      Layer.mergeAll(
        Ranked.toLayer(({ rank }) => Effect.andThen(Effect.sync(() => order.push(rank)), Effect.fail("no"))),
        group.client
      ).pipe(Layer.provideMerge(DocketTest.layer))
    ))
  })

  it.effect("whose repaired payload does not fit are left where they are", () =>
    Effect.gen(function*() {
      yield* failThree
      const message = yield* invalidPayload(
        Docket.redrive(Failing, { map: ({ payload }) => ({ ...payload, id: 0.5 }) })
      )
      assert.include(message, "Docket.redrive")
      assert.deepStrictEqual(yield* ids, [1, 2, 3])
    }).pipe(Effect.provide(layer)))

  it.effect("with a limit that makes no sense are refused", () =>
    Effect.gen(function*() {
      yield* failThree
      assert.strictEqual(yield* Docket.redrive(Failing, { limit: 0 }), 0)
      assert.strictEqual((yield* ids).length, 3)
    }).pipe(Effect.provide(layer)))

  it.effect("that do not decode show their text, and can be repaired", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      yield* docket.addEncoded([encoded({ task: "Failing", key: "odd", payload: "{\"id\":\"one\"}" })], {
        atomic: true
      })
      yield* drain
      const [letter] = yield* letters
      assert.strictEqual(letter?.payload as unknown, "{\"id\":\"one\"}")
      assert.strictEqual(reasonOf(letter?.error)._tag, "Undecodable")
      assert.strictEqual(yield* Docket.redrive(Failing, { map: () => ({ id: 5, fails: false }) }), 1)
      assert.deepStrictEqual(yield* drain, { succeeded: 1, failed: 0, retried: 0 })
    }).pipe(Effect.provide(layer)))
})

describe("Strikes", () => {
  it.effect("answer additions as struck, with the reason on the handle, until they are restored", () =>
    Effect.gen(function*() {
      yield* Docket.strike(Plain, { reason: "broken" })
      const struck = yield* Docket.add(Plain, { id: 1 })
      assert.strictEqual(struck.disposition, "Struck")
      assert.strictEqual(reasonOf(yield* Effect.flip(struck.await)).message, "it is struck: broken")
      assert.isFalse(yield* struck.cancel)
      const events = yield* Stream.runCollect(struck.changes)
      assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["Finished"])
      yield* Docket.restore(Plain)
      assert.strictEqual((yield* Docket.add(Plain, { id: 1 })).disposition, "Added")
    }).pipe(Effect.provide(layer)))

  it.effect("until a time that is none, or by a value that does not fit, are refused", () =>
    Effect.gen(function*() {
      assert.strictEqual(invalidOption(yield* refusal(Docket.strike(Plain, { until: "never" }))), "until")
      const message = yield* invalidPayload(Docket.strike(Plain, { where: { id: 0.5 } }))
      assert.include(message, "id")
    }).pipe(Effect.provide(layer)))
})

describe("Handles", () => {
  it.effect("keep apart what a declared error, a defect and a cancel are", () =>
    Effect.gen(function*() {
      class Odd
        extends Task.make("Odd", { payload: Schema.Literals(["die", "cancel"]), defectRetryPolicy: Schedule.recurs(0) })
      {}
      const group = TaskGroup.make(Odd)
      yield* Effect.gen(function*() {
        const died = yield* Docket.add(Odd, "die")
        const cancelled = yield* Docket.add(Odd, "cancel", { after: "1 hour" })
        assert.isTrue(yield* cancelled.cancel)
        yield* DocketTest.drain(group)
        assert.include(defectOf(yield* Effect.flip(died.await)), "boom")
        const error = yield* Effect.flip(cancelled.await)
        assert.strictEqual(reasonOf(error)._tag, "Cancelled")
        assert.strictEqual(error.task, "Odd")
        assert.strictEqual(error.key, cancelled.key)
        const caught = yield* Effect.catchReason(died.await, "TaskFailure", "Defect", () => Effect.succeed("caught"))
        assert.strictEqual(caught, "caught")
      }).pipe(Effect.provide(live(group, Odd.toLayer(() => Effect.die(new Error("boom"))))))
    }))

  it.effect("wait from any number of fibers, before and after the end", () =>
    Effect.gen(function*() {
      const run = yield* Docket.add(Plain, { id: 3 })
      const waiting = yield* Effect.forkChild(
        Effect.all(Array.from({ length: 3 }, () => run.await), { concurrency: "unbounded" })
      )
      yield* settle
      yield* Layer.build(Worker.layer(All))
      assert.deepStrictEqual(
        yield* Effect.flatten(Effect.andThen(settle, Effect.sync(() => waiting.pollUnsafe() ?? Exit.die("not yet")))),
        [3, 3, 3]
      )
      assert.strictEqual(yield* run.await, 3)
    }).pipe(Effect.provide(layer)))
})
