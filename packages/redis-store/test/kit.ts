/**
 * Helpers of the tests of this package: a task, a docket in a server, and what was logged.
 */
import { Docket, type DocketError } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, type DocketStore } from "@effect-docket/runtime"
import { assert } from "@effect/vitest"
import { Effect, Layer, Logger, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { Work } from "./work.ts"

/** A name that no other test uses. */
export const uniqueName = (): string => `t${randomUUID().slice(0, 8)}`

/** A docket in a store. */
export const docketIn = <E>(store: Layer.Layer<DocketStore.DocketStore, E>, name: string) =>
  Layer.fresh(DocketEngine.layer({ name }).pipe(Layer.provide(store)))

/** A docket at a URL. */
export const docketAt = (url: string, name: string) => docketIn(RedisStore.layer({ url }), name)

/** Catches what is logged, as `Level: message`. */
export const logs = () => {
  const lines: Array<string> = []
  const layer = Logger.layer([
    Logger.make<unknown, void>(({ logLevel, message }) => {
      lines.push(`${logLevel}: ${(Array.isArray(message) ? message : [message]).map(String).join(" ")}`)
    })
  ])
  return { lines, layer, count: (text: string) => lines.filter((line) => line.includes(text)).length }
}

/** The message of a `StoreUnavailable`. */
export const unavailable = (error: DocketError.DocketError): string => {
  assert.strictEqual(error.reason._tag, "StoreUnavailable", error.message)
  return error.message
}

/** Does something again for as long as the store is away, as a producer with a key may. */
export const insist = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { while: (error) => error._tag === "DocketError", schedule: Schedule.spaced(50) })

/** Adds a run under the key of its number. */
export const addWork = (n: number, millis: number, options?: Docket.AddOptions) =>
  Docket.add(Work, { n, millis }, { ...options, key: String(n) })

/** The numbers below one. */
export const range = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i)
