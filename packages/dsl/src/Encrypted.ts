/**
 * Fields that are encrypted wherever they are stored: payloads, results, errors and progress hold a text such as
 * `v1.<key id>.<iv>.<data>` in their place, AES-256-GCM through Web Crypto, and nobody without a key of the `Keyring` reads it.
 *
 * The name of a field is bound into what is encrypted: a text that somebody moves to another field, or changes, does not
 * decrypt. The length of a value shows, and so do keys of runs, of gates and defects: keep secrets out of these.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import { DocketError, InvalidOption } from "./DocketError.ts"
import * as aes from "./internal/aes.ts"
import { EncryptedLink } from "./internal/redacted.ts"

const Id = "@effect-docket/dsl/Encrypted"

// ---------------------------------------------------------------------------------------------------------------------
// errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The value was encrypted with a key that the keyring does not have.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownKey extends Schema.TaggedError<UnknownKey>(`${Id}/UnknownKey`)("UnknownKey", {
  keyId: Schema.String
}) {
  override get message(): string {
    return `it was encrypted with the key "${this.keyId}", which the keyring does not have`
  }
}

/**
 * The stored text is not of the form that this module writes.
 *
 * @category errors
 * @since 0.1.0
 */
export class Malformed extends Schema.TaggedError<Malformed>(`${Id}/Malformed`)("Malformed", {}) {
  override get message(): string {
    return "it is not an encrypted text"
  }
}

/**
 * The text was changed, belongs to another field, or was encrypted with another key of the same id.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotAuthentic extends Schema.TaggedError<NotAuthentic>(`${Id}/NotAuthentic`)("NotAuthentic", {
  keyId: Schema.String
}) {
  override get message(): string {
    return `it does not decrypt with the key "${this.keyId}": it was changed, belongs to another field, or the key is another one`
  }
}

/**
 * Every reason for an `EncryptedError`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Reason = Schema.Union([UnknownKey, Malformed, NotAuthentic])
/**
 * Every reason for an `EncryptedError`.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * A value does not decrypt. Neither the value nor what is stored of it is in the message.
 *
 * @category errors
 * @since 0.1.0
 */
export class EncryptedError extends Schema.TaggedError<EncryptedError>(Id)("EncryptedError", {
  field: Schema.String,
  reason: Reason
}) {
  override get message(): string {
    return `encrypted field "${this.field}": ${this.reason.message}`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// keys
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Encrypts and decrypts texts. `layer` makes one of keys; an application may make its own, of a key service for example.
 *
 * @category services
 * @since 0.1.0
 */
export class Keyring extends Context.Service<Keyring, {
  /** Encrypts a text of the field. */
  readonly encrypt: (field: string, text: string) => Effect.Effect<string>
  /** Decrypts what `encrypt` has made for the same field. */
  readonly decrypt: (field: string, encrypted: string) => Effect.Effect<string, EncryptedError>
}>()("@effect-docket/dsl/Encrypted/Keyring") {}

/**
 * A key: 32 random bytes in base64 (`openssl rand -base64 32`), and its name, which is stored with what it encrypts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Key {
  /** Letters, digits, `_` and `-`; at most 64 of them. */
  readonly id: string
  readonly secret: Redacted.Redacted<string>
}

const idPattern = "[A-Za-z0-9_-]{1,64}"
const validId = new RegExp(`^${idPattern}$`)
const form = new RegExp(`^v1\\.(${idPattern})\\.([A-Za-z0-9_-]+)\\.([A-Za-z0-9_-]+)$`)

const keyBytes = 32

// the version is bound as well: another one may read the same parts in another way
const contextOf = (name: string): string => `effect-docket/v1/${name}`

const invalid = (message: string) =>
  new DocketError({ operation: "Encrypted.layer", reason: new InvalidOption({ option: "keys", message }) })

/** Bytes of either form of base64. */
const secretOf = ({ secret }: Key): Uint8Array | undefined =>
  aes.bytesOf(Redacted.value(secret).trim().replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""))

const makeKeyring = Effect.fnUntraced(function*(
  keys: ReadonlyArray<Key>
): Effect.fn.Return<Keyring["Service"], DocketError> {
  const imported = new Map<string, aes.CryptoKey>()
  for (const [index, key] of keys.entries()) {
    // by its place: what is given as an id may be a secret, when somebody has left the id out or swapped the two
    const shown = `key ${index + 1}`
    if (!validId.test(key.id)) {
      return yield* invalid(`the id of ${shown} has to be of up to 64 letters, digits, _ and -`)
    }
    if (imported.has(key.id)) return yield* invalid(`${shown} has the id of another one`)
    const bytes = secretOf(key)
    if (bytes?.length !== keyBytes) {
      return yield* invalid(`the secret of ${shown} has to be ${keyBytes} bytes in base64`)
    }
    imported.set(key.id, yield* aes.importKey(bytes))
  }
  const first = keys[0]?.id
  const current = first === undefined ? undefined : imported.get(first)
  if (current === undefined) return yield* invalid("there has to be a key")
  return Keyring.of({
    encrypt: (name, text) =>
      Effect.map(aes.seal(current, text, contextOf(name)), ({ data, iv }) => `v1.${first}.${iv}.${data}`),
    decrypt: Effect.fnUntraced(function*(name, encrypted) {
      const [, keyId, iv, data] = form.exec(encrypted) ?? []
      if (keyId === undefined || iv === undefined || data === undefined) {
        return yield* new EncryptedError({ field: name, reason: new Malformed() })
      }
      const key = imported.get(keyId)
      if (key === undefined) return yield* new EncryptedError({ field: name, reason: new UnknownKey({ keyId }) })
      const text = yield* aes.open(key, { iv, data }, contextOf(name))
      return text ?? (yield* new EncryptedError({ field: name, reason: new NotAuthentic({ keyId }) }))
    })
  })
})

/**
 * A keyring of keys: the first encrypts, all decrypt. To rotate, deploy the new key as the last one everywhere, then make it
 * the first, and remove the old one when nothing is stored any more that it has encrypted. A key that is none is
 * `InvalidOption`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (keys: readonly [Key, ...ReadonlyArray<Key>]): Layer.Layer<Keyring, DocketError> =>
  Layer.effect(Keyring, makeKeyring(keys))

const parseKeys = (text: string): ReadonlyArray<Key> =>
  text.split(",").map((part) => {
    const [id = "", ...rest] = part.trim().split(":")
    return { id, secret: Redacted.make(rest.join(":")) }
  })

/**
 * `layer` from configuration, `Encrypted.layerConfig(Config.Redacted("DOCKET_KEYS"))`: keys as `id:base64`, separated by
 * commas.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config<Redacted.Redacted<string>>
): Layer.Layer<Keyring, Config.ConfigError | DocketError> =>
  Layer.effect(Keyring, Effect.flatMap(config, (keys) => makeKeyring(parseKeys(Redacted.value(keys)))))

// ---------------------------------------------------------------------------------------------------------------------
// schemas
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A schema whose encoded form is an encrypted text.
 *
 * @category models
 * @since 0.1.0
 */
export interface Encrypted<S extends Schema.Top> extends
  Schema.decodeTo<
    Schema.toType<S>,
    Schema.String,
    Keyring | S["DecodingServices"],
    Keyring | S["EncodingServices"]
  >
{}

const issue = (message: string) => new SchemaIssue.InvalidValue({ message })

const refusedBy = (name: string) => `encrypted field "${name}": its content does not fit the schema, and is not shown`

/**
 * Encrypts the values of a schema: `token: Encrypted.make("Login.token", Schema.Redacted(Schema.String))`. Handlers and
 * producers see the decoded value; give it a `Redacted` schema, and it is hidden from logs and messages as well.
 *
 * @category schemas
 * @since 0.1.0
 */
export const make = <S extends Schema.Top>(name: string, schema: S): Encrypted<S> => {
  const json = Schema.toCodecJson(schema)
  const encode = Schema.encodeUnknownEffect(json)
  const decode = Schema.decodeUnknownEffect(json)
  const hidden = () => issue(refusedBy(name))
  // what a transformation throws may show the value as well
  const hide = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
    Effect.catchDefect(Effect.mapError(effect, hidden), () => Effect.fail(hidden()))
  const transformation = new EncryptedLink<
    S["Type"],
    string,
    Keyring | S["DecodingServices"],
    Keyring | S["EncodingServices"]
  >(
    SchemaGetter.transformEffect((encrypted: string) =>
      Keyring.use((keyring) => keyring.decrypt(name, encrypted)).pipe(
        Effect.mapError(({ message }) => issue(message)),
        Effect.flatMap((text) =>
          Effect.mapError(Effect.fromResult(Result.try(() => JSON.parse(text) as unknown)), hidden)
        ),
        Effect.flatMap((value) => hide(Effect.suspend(() => decode(value))))
      )
    ),
    SchemaGetter.transformEffect((value: S["Type"]) =>
      hide(Effect.suspend(() => encode(value))).pipe(
        Effect.flatMap((encoded) => Keyring.use((keyring) => keyring.encrypt(name, JSON.stringify(encoded))))
      )
    )
  )
  return Schema.String.pipe(Schema.decodeTo(Schema.toType(schema), transformation))
}
