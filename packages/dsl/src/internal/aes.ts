/**
 * AES-256-GCM through Web Crypto, over texts. The key stays inside the platform: it is imported as one that cannot be read
 * back.
 *
 * Each text has an initialisation vector of its own, 96 random bits from the platform's generator: with the same one twice
 * under one key, GCM gives both texts away. `Random` is none for this, it can be seeded.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"

/** A key of the platform. */
export interface CryptoKey {
  readonly algorithm: object
}

interface Parameters {
  readonly name: "AES-GCM"
  readonly iv: Uint8Array
  readonly additionalData: Uint8Array
}

/** What is used of the platform: the compiler knows of none, so that this package runs on each. */
interface Platform {
  readonly crypto: {
    readonly getRandomValues: (bytes: Uint8Array) => Uint8Array
    readonly subtle: {
      readonly importKey: (
        format: "raw",
        key: Uint8Array,
        algorithm: "AES-GCM",
        extractable: boolean,
        usages: ReadonlyArray<string>
      ) => Promise<CryptoKey>
      readonly encrypt: (parameters: Parameters, key: CryptoKey, data: Uint8Array) => Promise<ArrayBuffer>
      readonly decrypt: (parameters: Parameters, key: CryptoKey, data: Uint8Array) => Promise<ArrayBuffer>
    }
  }
  readonly TextEncoder: new() => { readonly encode: (text: string) => Uint8Array }
  readonly TextDecoder: new(
    encoding: "utf-8",
    options: { readonly ignoreBOM: boolean }
  ) => { readonly decode: (bytes: ArrayBuffer) => string }
}

const { TextDecoder, TextEncoder, crypto } = globalThis as unknown as Platform // Web Crypto is in Node, Deno, Bun and browsers

const encoder = new TextEncoder()
// a mark at the beginning is a part of the text
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const ivBytes = 12

const toBase64Url = Schema.encodeSync(Schema.Uint8ArrayFromBase64Url)
const fromBase64Url = Schema.decodeUnknownExit(Schema.Uint8ArrayFromBase64Url)

/** The bytes of a text in base64url; `undefined` if it is none. */
export const bytesOf = (text: string): Uint8Array | undefined => {
  const bytes = fromBase64Url(text)
  return Exit.isSuccess(bytes) ? bytes.value : undefined
}

/** Imports a key of 32 bytes. */
export const importKey = (bytes: Uint8Array): Effect.Effect<CryptoKey> =>
  Effect.promise(() => crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]))

/** What a text was encrypted to, in base64url. */
export interface Sealed {
  readonly iv: string
  readonly data: string
}

const parameters = (iv: Uint8Array, context: string): Parameters => ({
  name: "AES-GCM",
  iv,
  additionalData: encoder.encode(context)
})

/** Encrypts a text. Only who knows its context can decrypt it. */
export const seal = (key: CryptoKey, text: string, context: string): Effect.Effect<Sealed> =>
  Effect.suspend(() => {
    const iv = crypto.getRandomValues(new Uint8Array(ivBytes))
    return Effect.map(
      Effect.promise(() => crypto.subtle.encrypt(parameters(iv, context), key, encoder.encode(text))),
      (data) => ({ iv: toBase64Url(iv), data: toBase64Url(new Uint8Array(data)) })
    )
  })

/** Decrypts a text; `undefined` if the key, the context or the text is not the one that it was encrypted with. */
export const open = (key: CryptoKey, { data, iv }: Sealed, context: string): Effect.Effect<string | undefined> => {
  const vector = bytesOf(iv)
  const bytes = bytesOf(data)
  if (vector?.length !== ivBytes || bytes === undefined) return Effect.undefined
  return Effect.orElseSucceed(
    Effect.tryPromise(() => crypto.subtle.decrypt(parameters(vector, context), key, bytes)).pipe(
      Effect.map((plain) => decoder.decode(plain))
    ),
    () => undefined
  )
}
