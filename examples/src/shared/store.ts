/**
 * The store that a program is given on its command line.
 */
import type { DocketError } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { type DocketStore, MemoryStore } from "@effect-docket/runtime"
import { type Duration, type Layer, Option, type Redacted, Schema } from "effect"
import { Flag } from "effect/cli"
import { Problem } from "./program.ts"

/** `--store URL`. Redacted, so that no message repeats a password. */
export const storeFlag = Flag.Redacted("store").pipe(Flag.withMetavar("url"))

/** `--lease SECONDS`. */
export const leaseFlag = Flag.Finite("lease").pipe(
  Flag.withMetavar("seconds"),
  Flag.withSchema(Schema.Finite.check(Schema.isBetween({ minimum: 0.1, maximum: 3600 })))
)

/** Seconds as a duration. */
export const seconds = (value: number): Duration.Input => value * 1000

/** A `DocketError` at the start of a program, in words of its user. */
export const toProblem = ({ message, reason }: DocketError.DocketError): Problem => {
  switch (reason._tag) {
    case "StoreUnavailable": {
      const cause = reason.cause instanceof Error ? reason.cause.message : String(reason.cause)
      return new Problem({ message: `--store: cannot connect to ${cause}`, code: 1 })
    }
    case "InvalidOption":
      return new Problem({ message: `--store: ${reason.message.replace("option `url`: ", "")}`, code: 2 })
    default:
      return new Problem({ message: `--store: ${message}`, code: 1 })
  }
}

/** The store at a URL, or one in memory. */
export const layerStore = (
  url: Option.Option<Redacted.Redacted<string>>
): Layer.Layer<DocketStore.DocketStore, DocketError.DocketError> =>
  Option.match(url, {
    onNone: () => MemoryStore.layer,
    onSome: (url) => RedisStore.layer({ url })
  })
