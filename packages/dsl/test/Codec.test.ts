// @effect-diagnostics schemaNumber:off -- numbers that are not finite have a form on the wire as well
import { DocketError, Task, TaskFailure } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Equal, Exit, Option, Redacted, Schema, SchemaGetter } from "effect"

class Tree extends Schema.Class<Tree>("Tree")({
  name: Schema.String,
  children: Schema.Array(
    Schema.suspend((): Schema.Codec<Tree, unknown> => Tree as unknown as Schema.Codec<Tree, unknown>)
  ) // it names itself
}) {}
class Circle extends Schema.TaggedClass<Circle>()("Circle", { radius: Schema.Finite }) {}
class Square extends Schema.TaggedClass<Square>()("Square", { side: Schema.BigInt }) {}
class Refused
  extends Schema.TaggedError<Refused>()("Refused", { at: Schema.DateTimeUtc, note: Schema.optionalKey(Schema.String) })
{}

const Rich = Schema.Struct({
  text: Schema.String,
  number: Schema.Finite,
  big: Schema.BigInt,
  flag: Schema.Boolean,
  at: Schema.DateTimeUtc,
  date: Schema.Date,
  length: Schema.Duration,
  option: Schema.Option(Schema.Option(Schema.Int)),
  shape: Schema.Union([Circle, Square]),
  map: Schema.ReadonlyMap(Schema.BigInt, Schema.Array(Schema.String)),
  set: Schema.ReadonlySet(Schema.Int),
  bytes: Schema.Uint8Array,
  tuple: Schema.Tuple([Schema.Null, Schema.UndefinedOr(Schema.Int)]),
  note: Schema.optionalKey(Schema.String)
})

const codecOf = <P extends Schema.Top>(payload: P) => Interpreter.codec(Task.make("Codec", { payload }))

/** What comes back after a value was written and read. */
const roundTrip = <P extends Schema.Top>(schema: P, value: P["Type"]) => {
  const codec = codecOf(schema)
  return Effect.gen(function*() {
    const { json, value: constructed } = yield* codec.encodePayload(value)
    JSON.parse(json)
    return { json, constructed, decoded: yield* codec.decodePayload(json, 1) }
  })
}

const message = <A, R>(effect: Effect.Effect<A, string, R>) => Effect.flip(effect)

describe("A payload", () => {
  it.effect.prop(
    "of any kind comes back as it was",
    { value: Rich },
    ({ value }) =>
      Effect.map(
        roundTrip(Rich, value),
        ({ decoded }) => Schema.toEquivalence(Rich)(decoded as typeof Rich.Type, value)
      ),
    {
      arbitrary: { runs: 100, seed: 1 }
    }
  )

  it.effect("keeps what JSON has no form for", () =>
    Effect.gen(function*() {
      const same = Effect.fnUntraced(function*<P extends Schema.Top>(schema: P, value: P["Type"]) {
        assert.deepStrictEqual((yield* roundTrip(schema, value)).decoded, value)
      })
      for (const number of [Number.NaN, Infinity, -Infinity, 5e-324, Number.MAX_SAFE_INTEGER, 0.1]) {
        yield* same(Schema.Number, number)
      }
      for (const text of ["", "\ud800", "\0\n\"\\", "ü🙂", "__proto__"]) {
        yield* same(Schema.String, text)
      }
      yield* same(Schema.Void, undefined)
      yield* same(Schema.Null, null)
      yield* same(Schema.NullOr(Schema.Int), null)
      yield* same(Schema.Unknown, { a: [1, "x", null] })
      yield* same(Schema.Record(Schema.String, Schema.Int), { constructor: 1, toString: 2 })
      yield* same(Schema.Option(Schema.Void), Option.some(undefined))
      yield* same(Schema.Duration, Duration.infinity)
      yield* same(Schema.Duration, Duration.nanos(3n))
      const zoned = DateTime.makeZonedUnsafe(5, { timeZone: "Europe/Rome" })
      const { decoded } = yield* roundTrip(Schema.DateTimeZoned, zoned)
      assert.isTrue(Equal.equals(decoded, zoned))
      yield* same(Schema.Uint8Array, new Uint8Array(1000).fill(255))
      yield* same(Schema.URL, new URL("https://example.com/?a=ü"))
      yield* same(Schema.Array(Schema.UndefinedOr(Schema.Int)), [1, undefined, 2])
      yield* same(Tree, new Tree({ name: "root", children: [new Tree({ name: "leaf", children: [] })] }))
    }))

  it.effect("is instances of the classes that it was made of", () =>
    Effect.gen(function*() {
      const { decoded } = yield* roundTrip(Schema.Union([Circle, Square]), new Square({ side: 3n }))
      assert.instanceOf(decoded, Square)
    }))

  it.effect("is written with its defaults, and read without them", () =>
    Effect.gen(function*() {
      const codec = codecOf(Schema.Struct({
        id: Schema.Int,
        retries: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(3))),
        tags: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed([])))
      }))
      const { json, value } = yield* codec.encodePayload({ id: 1, tags: ["x"] })
      assert.deepStrictEqual(value, { id: 1, retries: 3, tags: ["x"] })
      assert.strictEqual(json, "{\"id\":1,\"retries\":3,\"tags\":[\"x\"]}")
      // what an older process wrote
      assert.deepStrictEqual(yield* codec.decodePayload("{\"id\":1,\"retries\":2}", 1), { id: 1, retries: 2, tags: [] })
      assert.include(yield* message(codec.decodePayload("{\"id\":1}", 1)), "[\"retries\"]")
    }))

  it.effect("that may be built from nothing may be left out", () =>
    Effect.gen(function*() {
      const withDefaults = codecOf(
        Schema.Struct({ n: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(1))) })
      )
      assert.deepStrictEqual((yield* withDefaults.encodePayload(undefined)).value, { n: 1 })
      assert.strictEqual((yield* codecOf(Schema.Void).encodePayload(undefined)).value, undefined)
      assert.include(yield* message(codecOf(Schema.Struct({ n: Schema.Int })).encodePayload(undefined)), "[\"n\"]")
    }))

  it.effect("that does not fit is refused with its path", () =>
    Effect.gen(function*() {
      const codec = codecOf(Schema.Struct({ list: Schema.Array(Schema.Struct({ n: Schema.Int })) }))
      assert.include(yield* message(codec.encodePayload({ list: [{ n: 1 }, { n: "x" }] })), "[\"list\"][1][\"n\"]")
      assert.include(yield* message(codec.decodePayload("{\"list\":[{\"n\":0.5}]}", 1)), "[\"list\"][0][\"n\"]")
      assert.include(yield* message(codec.decodePayload("{", 1)), "the stored text is not JSON")
    }))

  it.effect("whose schema throws, dies or fails is a message, never a defect", () =>
    Effect.gen(function*() {
      const through = (encode: SchemaGetter.Getter<string, string>) =>
        codecOf(Schema.String.pipe(Schema.decodeTo(Schema.String, { decode: encode, encode })))
      const throwing = through(SchemaGetter.transform((): string => {
        throw new Error("thrown")
      }))
      const dying = through(SchemaGetter.transformEffect(() => Effect.die(new Error("died"))))
      assert.include(yield* message(throwing.encodePayload("x")), "thrown")
      assert.include(yield* message(throwing.decodePayload("\"x\"", 1)), "thrown")
      assert.include(yield* message(dying.encodePayload("x")), "died")
      assert.include(yield* message(dying.decodePayload("\"x\"", 1)), "died")
      const cycle: Record<string, unknown> = {}
      cycle["self"] = cycle
      for (const value of [cycle, { f: () => 1 }, { s: Symbol("s") }, { big: 1n }]) {
        const exit = yield* Effect.exit(codecOf(Schema.Unknown).encodePayload(value))
        assert.isFalse(Exit.hasDies(exit))
      }
    }))

  it.effect("with a secret in clear is refused; the message does not show it", () =>
    Effect.gen(function*() {
      const secret = Redacted.make("s3cr3t")
      const fields = { token: Schema.Redacted(Schema.String) }
      class Login extends Schema.Class<Login>("Login")({ token: Schema.RedactedFromValue(Schema.String) }) {}
      for (
        const [schema, value] of [
          [Schema.Struct(fields), { token: secret }],
          [Schema.Array(Schema.Union([Schema.Int, Schema.Struct(fields)])), [{ token: secret }]],
          [Schema.Option(Schema.Redacted(Schema.String)), Option.some(secret)],
          [Schema.Record(Schema.String, Schema.Redacted(Schema.String)), { token: secret }],
          [Schema.Struct({ token: Schema.RedactedFromValue(Schema.String) }), { token: secret }],
          [Login, new Login({ token: secret })]
        ] as const
      ) {
        const text = yield* message(codecOf(schema).encodePayload(value))
        assert.include(text, "Redacted")
        assert.notInclude(text, "s3cr3t")
      }
    }))
})

describe("A version", () => {
  const calls: Array<readonly [unknown, number]> = []
  class Versioned extends Task.make("Versioned", {
    payload: {
      id: Schema.Int,
      at: Schema.DateTimeUtc,
      n: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(3)))
    },
    version: 3,
    migrate: (stored, version) => {
      calls.push([stored, version])
      return { id: version, at: DateTime.makeUnsafe(0) }
    }
  }) {}
  const codec = Interpreter.codec(Versioned)

  it.effect("older than the task's is migrated to constructor input, and no other one", () =>
    Effect.gen(function*() {
      const expected = { id: 2, at: DateTime.makeUnsafe(0), n: 3 }
      assert.deepStrictEqual(yield* codec.decodePayload("{\"old\":true}", 2), expected)
      assert.deepStrictEqual(calls, [[{ old: true }, 2]])
      const current = "{\"id\":9,\"at\":\"1970-01-01T00:00:00.000Z\",\"n\":1}"
      assert.deepStrictEqual(yield* codec.decodePayload(current, 3), { ...expected, id: 9, n: 1 })
      assert.strictEqual(calls.length, 1)
    }))

  it.effect("of a task without `migrate` is read as it is", () =>
    Effect.gen(function*() {
      class Lenient extends Task.make("Lenient", { payload: { id: Schema.Int }, version: 2 }) {}
      assert.deepStrictEqual(yield* Interpreter.codec(Lenient).decodePayload("{\"id\":1,\"more\":2}", 1), { id: 1 })
    }))
})

describe("An outcome", () => {
  class Pay
    extends Task.make("Pay", { success: Schema.Struct({ at: Schema.DateTimeUtc, big: Schema.BigInt }), error: Refused })
  {}
  const codec = Interpreter.codec(Pay)
  const outcome = Schema.fromJsonString(Schema.toCodecJson(
    Schema.Exit(Pay.successSchema, Schema.Union([Refused, TaskFailure.TaskFailure]), Schema.Defect())
  ))
  const success = { at: DateTime.makeUnsafe(5), big: 12n }
  const failure = (reason: TaskFailure.Reason) => new TaskFailure.TaskFailure({ task: "Pay", key: "k", reason })
  const reasons: ReadonlyArray<TaskFailure.Reason> = [
    new TaskFailure.Defect({ defect: new Error("boom") }),
    new TaskFailure.Defect({ defect: "text" }),
    new TaskFailure.Defect({ defect: { a: 1 } }),
    new TaskFailure.Timeout({ limit: Duration.minutes(3) }),
    new TaskFailure.Cancelled(),
    new TaskFailure.Struck({ reason: "no" }),
    new TaskFailure.Expired({ dueAt: DateTime.makeUnsafe(0) }),
    new TaskFailure.Lost({ attempts: 3 }),
    new TaskFailure.Undecodable({ message: "m" }),
    new TaskFailure.Gone()
  ]

  it.effect("has the form of `Schema.Exit`, to the letter", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* codec.encodeSuccess(success),
        yield* Schema.encodeEffect(outcome)(Exit.succeed(success))
      )
      for (const error of [new Refused({ at: DateTime.makeUnsafe(1) }), ...reasons.map(failure)]) {
        assert.strictEqual(yield* codec.encodeFailure(error), yield* Schema.encodeEffect(outcome)(Exit.fail(error)))
      }
    }))

  it.effect("comes back as the success, the declared error, or the failure that it was", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* Effect.flatMap(codec.encodeSuccess(success), codec.decodeExit),
        Exit.succeed(success)
      )
      const refused = new Refused({ at: DateTime.makeUnsafe(1), note: "n" })
      const declared = yield* Effect.flatMap(codec.encodeFailure(refused), codec.decodeExit)
      const error = yield* Effect.flip(declared)
      assert.instanceOf(error, Refused)
      for (const reason of reasons) {
        const exit = yield* Effect.flatMap(codec.encodeFailure(failure(reason)), codec.decodeExit)
        const decoded = yield* Effect.flip(exit)
        assert.instanceOf(decoded, TaskFailure.TaskFailure)
        assert.strictEqual(decoded.reason._tag, reason._tag)
        assert.strictEqual(decoded.message, failure(reason).message)
      }
    }))

  it.effect("that its schema refuses is a message", () =>
    Effect.gen(function*() {
      assert.include(yield* message(codec.encodeSuccess({ at: 3 })), "[\"at\"]")
      yield* message(codec.encodeFailure(new Error("undeclared")))
      yield* message(codec.decodeExit("{}"))
      yield* message(codec.decodeExit("nothing"))
    }))
})

describe("Messages of failures", () => {
  it("say what happened, to which key", () => {
    const message = (reason: TaskFailure.Reason) =>
      new TaskFailure.TaskFailure({ task: "Pay", key: "a\"b", reason }).message
    const start = "task \"Pay\", key \"a\\\"b\": "
    assert.strictEqual(
      message(new TaskFailure.Timeout({ limit: Duration.seconds(90) })),
      `${start}it ran longer than its timeout of 1m 30s`
    )
    assert.strictEqual(message(new TaskFailure.Cancelled()), `${start}it was cancelled`)
    assert.strictEqual(message(new TaskFailure.Struck({ reason: "why" })), `${start}it is struck: why`)
    assert.strictEqual(message(new TaskFailure.Defect({ defect: new Error("x") })), `${start}the handler died: x`)
    assert.strictEqual(message(new TaskFailure.Defect({ defect: 3 })), `${start}the handler died: 3`)
  })

  it("of the docket say what to do", () => {
    const message = (reason: DocketError.Reason) =>
      new DocketError.DocketError({ operation: "Docket.add", reason }).message
    assert.strictEqual(
      message(new DocketError.StoreUnavailable({ cause: new Error("refused") })),
      "Docket.add: the store cannot be reached (refused); it may or may not have been applied, repeating it with the same key is safe"
    )
    assert.strictEqual(
      message(new DocketError.KeyExists({ key: "k" })),
      "Docket.add: a pending or running execution has the key \"k\"; nothing was written"
    )
    assert.strictEqual(
      message(new DocketError.LimitExceeded({ limit: 3, option: "x" })),
      "Docket.add: more than the limit of 3 for x; nothing was written"
    )
  })
})
