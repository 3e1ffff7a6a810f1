/**
 * Gates of a task: their options, read, and which gate a run has to pass.
 *
 * A producer computes the text that a gate is about, a worker knows how much that gate lets through: so a changed limit
 * applies to what waits already.
 */
import * as Duration from "effect/Duration"
import { integer, invalid, isPart, millis, name as checkName } from "./checks.ts"
import { type AnyKey, keyOf, keyPart } from "./keyOf.ts"
import type { EncodedDebounce, EncodedGates } from "./wire.ts"

/** What a gate is about: a task or a named scope, and of it the runs with one value. */
interface About {
  readonly key: AnyKey | undefined
  readonly scope: string | undefined
}

/** The gates of a task. Durations are milliseconds. */
export interface Gates {
  readonly concurrency: About & { readonly max: number } | undefined
  readonly rateLimit: About & { readonly limit: number; readonly window: number; readonly drops: boolean } | undefined
  readonly cooldown: About & { readonly for: number } | undefined
  readonly debounce: About & Omit<EncodedDebounce, "about"> | undefined
}

/** Most starts per window: a store keeps the time of each of them. */
export const mostStarts = 10_000

/** The options of gates as a task or a group gives them. */
interface Given {
  readonly concurrency: unknown
  readonly rateLimit: unknown
  readonly cooldown: unknown
  readonly debounce: unknown
}

const about = (operation: string, name: string, option: unknown): About => {
  const { key, scope } = isPart(option, "key", "scope") ? option as Partial<About> : {} // the types of the option say so
  if (scope !== undefined) checkName(operation, `${name}.scope`, scope)
  return { key, scope }
}

/** Reads the gates. Throws a `DocketError` with reason `InvalidOption`. */
export const gates = (
  operation: string,
  { concurrency, cooldown, debounce, rateLimit }: Given
): Gates | undefined => {
  if (
    concurrency === undefined && cooldown === undefined && debounce === undefined && rateLimit === undefined
  ) return undefined
  return {
    concurrency: concurrency === undefined ? undefined : {
      max: integer(operation, "concurrency", isPart(concurrency, "max") ? concurrency["max"] : concurrency, 1),
      ...about(operation, "concurrency", concurrency)
    },
    rateLimit: rateLimit === undefined ? undefined : rate(operation, rateLimit),
    cooldown: cooldown === undefined ? undefined : {
      for: time(operation, "cooldown", isPart(cooldown, "for") ? cooldown["for"] : cooldown),
      ...about(operation, "cooldown", cooldown)
    },
    debounce: debounce === undefined ? undefined : settle(operation, debounce)
  }
}

// Redis refuses times to live that are much longer, and with them the turns of every worker.
const longest = Duration.toMillis(Duration.days(36_500))

/** A duration of at least a millisecond, and at most a hundred years. */
const time = (operation: string, option: string, value: unknown): number => {
  const length = Math.ceil(millis(operation, option, value as Duration.Input, 1)) // the types of the options say so
  return length > longest ? invalid(operation, option, "has to be finite, and at most 100 years") : length
}

const settle = (operation: string, option: unknown): Gates["debounce"] => {
  const { max, payload, ...rest } = isPart(option, "for")
    ? option
    : { for: option } as Readonly<Record<string, unknown>>
  if (payload !== undefined && payload !== "first" && payload !== "last") {
    invalid(operation, "debounce.payload", `has to be "first" or "last", it is ${JSON.stringify(payload)}`)
  }
  // what joins a run is run by its handler
  if (rest["scope"] !== undefined) {
    invalid(operation, "debounce.scope", "does not exist: other tasks have runs of their own")
  }
  const wait = time(operation, "debounce", rest["for"])
  const most = max === undefined ? undefined : time(operation, "debounce.max", max)
  if (most !== undefined && most < wait) invalid(operation, "debounce.max", "must not be shorter than `for`")
  return { for: wait, max: most, keepsFirst: payload === "first", ...about(operation, "debounce", option) }
}

const rate = (operation: string, option: unknown): Gates["rateLimit"] => {
  const { excess, limit, window } = option as Readonly<Record<string, unknown>> // the types of the option say so
  if (excess !== undefined && excess !== "wait" && excess !== "drop") {
    invalid(operation, "rateLimit.excess", `has to be "wait" or "drop", it is ${JSON.stringify(excess)}`)
  }
  const most = integer(operation, "rateLimit.limit", limit, 1)
  if (most > mostStarts) {
    invalid(operation, "rateLimit.limit", `has to be at most ${mostStarts}, it is ${most}; take a shorter window`)
  }
  return {
    limit: most,
    window: time(operation, "rateLimit.window", window),
    drops: excess === "drop",
    ...about(operation, "rateLimit", option)
  }
}

// a scope has a form that no task's own text has
const scopeOf = (tag: string, scope: string | undefined): string =>
  scope === undefined ? keyPart(tag) : `:${keyPart(scope)}`

/** The text that a gate is about, for the payload of a run. Equal texts share a gate. */
const textOf = (tag: string, { key, scope }: About, payload: unknown): string => {
  const prefix = scopeOf(tag, scope)
  if (key === undefined) return prefix
  return typeof key === "function" ? `${prefix}/${String(keyOf("", key, payload))}` : keyOf(prefix, key, payload)
}

/** The gates that a run with this payload has to pass. */
export const gatesOf = (tag: string, gates: Gates | undefined, payload: unknown): EncodedGates | undefined =>
  gates && encode(gates, (option) => textOf(tag, option, payload))

/** The same for a payload that is not known any more; what depends on it stays as it was. */
export const gatesAgain = (
  tag: string,
  gates: Gates | undefined,
  before: EncodedGates | undefined
): EncodedGates | undefined =>
  gates && encode(gates, (option, kind) => {
    if (option.key === undefined) return textOf(tag, option, undefined)
    return kind === "debounce" ? before?.debounce?.about : before?.[kind]
  })

const encode = (
  { concurrency, cooldown, debounce, rateLimit }: Gates,
  text: (option: About, kind: keyof Gates) => string | undefined
): EncodedGates => {
  const settling = debounce && text(debounce, "debounce")
  const gates = {
    concurrency: concurrency && text(concurrency, "concurrency"),
    rateLimit: rateLimit && text(rateLimit, "rateLimit"),
    cooldown: cooldown && text(cooldown, "cooldown")
  }
  if (debounce === undefined || settling === undefined) return gates
  const { for: wait, keepsFirst, max } = debounce
  return { ...gates, debounce: { about: settling, for: wait, max, keepsFirst } }
}

/** The texts that gates are about. */
export const textsOf = ({ concurrency, cooldown, debounce, rateLimit }: EncodedGates): ReadonlyArray<string> =>
  [concurrency, rateLimit, cooldown, debounce?.about].filter((text) => text !== undefined)
