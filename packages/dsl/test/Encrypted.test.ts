import { Encrypted, Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, DateTime, Effect, Layer, Option, Redacted, Schema } from "effect"

const secretOf = (byte: number) => Redacted.make(Buffer.alloc(32, byte).toString("base64"))
const old: Encrypted.Key = { id: "2025", secret: secretOf(1) }
const recent: Encrypted.Key = { id: "2026", secret: secretOf(2) }

const Token = Encrypted.make("Login.token", Schema.Redacted(Schema.String))
class Login extends Task.make("Login", { payload: { user: Schema.String, token: Token } }) {}
const codec = Interpreter.codec(Login)
const input = { user: "ada", token: Redacted.make("s3cr3t") }

const withKeys = (...keys: readonly [Encrypted.Key, ...ReadonlyArray<Encrypted.Key>]) =>
  Effect.provide(Encrypted.layer(keys))

/** What is stored of the token. */
const stored = (json: string): string => (JSON.parse(json) as { readonly token: string }).token // as it was encoded

const encode = Effect.map(codec.encodePayload(input), ({ json }) => json)
const decode = (json: string) => codec.decodePayload(json, 1)

/** The token as it came back. */
const tokenOf = (payload: unknown) => Redacted.value((payload as typeof input).token) // decoded with the schema of the task

/** What is said of a text that does not decode; the secret is not in it. */
const refusal = (json: string) =>
  Effect.map(Effect.flip(decode(json)), (message) => {
    assert.notInclude(message, "s3cr3t")
    assert.notInclude(message, stored(json))
    return message
  })

const replaceToken = (json: string, token: string) => JSON.stringify({ ...JSON.parse(json) as object, token })

describe("An encrypted field", () => {
  it.effect("is stored as a text that names its key, and comes back as it was", () =>
    Effect.gen(function*() {
      const json = yield* encode
      assert.notInclude(json, "s3cr3t")
      assert.match(stored(json), /^v1\.2026\.[\w-]{16}\.[\w-]+$/)
      assert.strictEqual(tokenOf(yield* decode(json)), "s3cr3t")
    }).pipe(withKeys(recent)))

  it.effect("is another text each time", () =>
    Effect.gen(function*() {
      const texts = yield* Effect.forEach(Array.from({ length: 200 }), () => Effect.map(encode, stored))
      assert.strictEqual(new Set(texts).size, 200)
      assert.strictEqual(new Set(texts.map((text) => text.split(".")[2])).size, 200)
    }).pipe(withKeys(recent)))

  it.effect("may have any schema, wherever it stands", () =>
    Effect.gen(function*() {
      class Card extends Schema.Class<Card>("Card")({ number: Schema.NonEmptyString, until: Schema.DateTimeUtc }) {}
      const nested = Schema.Struct({
        card: Encrypted.make("card", Card),
        pins: Schema.Array(Encrypted.make("pin", Schema.Struct({ code: Schema.Redacted(Schema.BigInt) }))),
        note: Schema.optionalKey(Encrypted.make("note", Schema.Option(Schema.RedactedFromValue(Schema.String))))
      })
      const value = {
        card: new Card({ number: "4242", until: DateTime.makeUnsafe(0) }),
        pins: [{ code: Redacted.make(9876n) }, { code: Redacted.make(5432n) }],
        note: Option.some(Redacted.make("whisper"))
      }
      const { decodePayload, encodePayload } = Interpreter.codec(Task.make("Nested", { payload: nested }))
      const { json } = yield* encodePayload(value)
      for (const text of ["4242", "9876", "5432", "whisper"]) assert.notInclude(json, text)
      assert.isTrue(Schema.toEquivalence(nested)((yield* decodePayload(json, 1)) as typeof value, value))
      const without = yield* encodePayload({ card: value.card, pins: [] })
      assert.notProperty(yield* decodePayload(without.json, 1), "note")
    }).pipe(withKeys(recent)))

  it.effect("keeps its old values readable when the keys are rotated", () =>
    Effect.gen(function*() {
      const before = yield* encode.pipe(withKeys(old))
      const after = yield* encode.pipe(withKeys(recent, old))
      assert.match(stored(before), /^v1\.2025\./)
      assert.match(stored(after), /^v1\.2026\./)
      for (const json of [before, after]) {
        assert.strictEqual(tokenOf(yield* decode(json).pipe(withKeys(recent, old))), "s3cr3t")
      }
      assert.include(
        yield* refusal(before).pipe(withKeys(recent)),
        "encrypted field \"Login.token\": it was encrypted with the key \"2025\", which the keyring does not have"
      )
    }))

  it.effect("does not decode with another key of the same id", () =>
    Effect.gen(function*() {
      const json = yield* encode.pipe(withKeys(recent))
      const message = yield* refusal(json).pipe(withKeys({ ...old, id: "2026" }))
      assert.include(message, "it does not decrypt with the key \"2026\"")
    }))

  it.effect("does not decode when anything of it was changed", () =>
    Effect.gen(function*() {
      const json = yield* encode
      const text = stored(json)
      // the last character of a part may hold bits that decode to nothing
      const places = Array.from(text.matchAll(/[\w-](?=[\w-])/g), ({ index }) => index).filter((index) => index > 7)
      for (const index of places) {
        const other = text[index] === "A" ? "B" : "A"
        const message = yield* refusal(replaceToken(json, text.slice(0, index) + other + text.slice(index + 1)))
        assert.include(message, "it does not decrypt")
      }
      for (
        const bad of [
          "",
          "v1",
          "s3cr3",
          "v2" + text.slice(2),
          `${text}.x`,
          text.slice(3),
          "v1.a b.AAAA.AAAA",
          "v1.2026..A"
        ]
      ) {
        assert.include(yield* Effect.flip(decode(replaceToken(json, bad))), "it is not an encrypted text")
      }
      assert.include(yield* Effect.flip(decode(replaceToken(json, "v1.2026.AAAA.AAAA"))), "it does not decrypt")
    }).pipe(withKeys(recent)))

  it.effect("does not decode in the place of another one", () =>
    Effect.gen(function*() {
      const json = yield* encode
      const other = Interpreter.codec(
        Task.make("Other", { payload: { token: Encrypted.make("Other.token", Schema.Redacted(Schema.String)) } })
      )
      const message = yield* Effect.flip(other.decodePayload(json, 1))
      assert.include(message, "encrypted field \"Other.token\": it does not decrypt")
    }).pipe(withKeys(recent)))

  it.effect("whose content does not fit (any more) is a message without it", () =>
    Effect.gen(function*() {
      const keyring = yield* Encrypted.Keyring
      const json = yield* encode
      const number = Interpreter.codec(
        Task.make("N", { payload: { token: Encrypted.make("Login.token", Schema.Int) } })
      )
      const message = yield* Effect.flip(number.decodePayload(json, 1))
      assert.include(message, "[\"token\"]")
      assert.include(message, "its content does not fit the schema, and is not shown")
      assert.notInclude(message, "s3cr3t")
      const broken = replaceToken(json, yield* keyring.encrypt("Login.token", "s3cr3t{"))
      assert.include(yield* Effect.flip(decode(broken)), "its content does not fit the schema")
    }).pipe(withKeys(recent)))

  it.effect("without a keyring is a message, never a defect", () =>
    Effect.gen(function*() {
      const json = yield* encode.pipe(withKeys(recent))
      // what the types refuse
      assert.include(yield* refusal(json), "Keyring")
      assert.include(yield* Effect.flip(encode), "Keyring")
    }))

  it.effect("of another keyring than ours", () =>
    Effect.gen(function*() {
      const json = yield* encode
      assert.strictEqual(stored(json), "Login.token/\"s3cr3t\"")
      assert.strictEqual(tokenOf(yield* decode(json)), "s3cr3t")
    }).pipe(Effect.provideService(Encrypted.Keyring, {
      encrypt: (field, text) => Effect.succeed(`${field}/${text}`),
      decrypt: (field, encrypted) => Effect.succeed(encrypted.slice(field.length + 1))
    })))
})

describe("A keyring", () => {
  const complaint = (layer: Layer.Layer<Encrypted.Keyring, unknown>) =>
    Effect.map(Effect.flip(Effect.scoped(Layer.build(layer))), String)

  it.effect("refuses keys that are none, and does not show them", () =>
    Effect.gen(function*() {
      const short = Redacted.make(Buffer.alloc(31, 7).toString("base64"))
      for (const key of [{ id: "k", secret: short }, { id: "k", secret: Redacted.make("no base64 !") }]) {
        const message = yield* complaint(Encrypted.layer([key]))
        assert.include(message, "the secret of key 1 has to be 32 bytes in base64")
        assert.notInclude(message, Redacted.value(key.secret))
      }
      assert.include(
        yield* complaint(Encrypted.layer([old, { ...recent, id: "2025" }])),
        "key 2 has the id of another one"
      )
      assert.include(yield* complaint(Encrypted.layer([{ ...old, id: "a.b" }])), "the id of key 1 has to be")
    }))

  it.effect("comes from configuration", () =>
    Effect.gen(function*() {
      const layer = Encrypted.layerConfig(Config.Redacted("DOCKET_KEYS"))
      const from = (DOCKET_KEYS: string) =>
        layer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ DOCKET_KEYS }))))
      const text = (key: Encrypted.Key) => `${key.id}:${Redacted.value(key.secret)}`
      const json = yield* Effect.provide(encode, from(`${text(recent)}, ${text(old)}`))
      assert.match(stored(json), /^v1\.2026\./)
      const urlSafe = Redacted.value(recent.secret).replaceAll("+", "-").replaceAll("/", "_").replace("=", "")
      assert.strictEqual(tokenOf(yield* Effect.provide(decode(json), from(`2026:${urlSafe}`))), "s3cr3t")
      assert.include(yield* complaint(from(",")), "the id of key 1 has to be")
      assert.include(yield* complaint(from("2026:abc")), "the secret of key 1 has to be 32 bytes in base64")
      // a secret without its id, and before it
      for (const secret of [Redacted.value(recent.secret), urlSafe]) {
        for (const text of [secret, `${secret}:2026`]) assert.notInclude(yield* complaint(from(text)), secret)
      }
    }))
})
